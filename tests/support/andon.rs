//! The program under test, as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::poll::{WAIT_MAX, wait_until};

/// The directory of one site: configuration, journal, SQLite file and the log of every run.
pub struct Site {
    dir: TempDir,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    runs: std::cell::Cell<u32>,
}

impl Site {
    /// Makes a site with the broker on `port` and an SQLite file of its own.
    pub fn new(port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("config/sites")).unwrap();
        std::fs::write(dir.path().join("config/sites/test.toml"), "[site]\nid = \"test\"\n").unwrap();
        let url = format!("sqlite://{}", dir.path().join("andon.db").display());
        let journal = dir.path().join("journal");
        let settings = vec![
            format!("mqtt.port={port}"),
            "mqtt.host=127.0.0.1".to_owned(),
            "mqtt.backoff_min=50ms".to_owned(),
            "mqtt.backoff_max=500ms".to_owned(),
            "store.backoff_min=50ms".to_owned(),
            "store.backoff_max=500ms".to_owned(),
            format!("store.url={url}"),
            format!("journal.dir={}", journal.display()),
            "log.status_interval=1s".to_owned(),
            "http.bind=127.0.0.1:0".to_owned(),
            "log.level=debug".to_owned(),
        ];
        Self { dir, settings, environment: Vec::new(), runs: std::cell::Cell::new(0) }
    }

    /// Adds (or overrides) `key=value`.
    pub fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// Removes every setting of a key.
    pub fn without(mut self, key: &str) -> Self {
        self.settings.retain(|setting| setting.split('=').next() != Some(key));
        self
    }

    /// Adds an environment variable; the environment is empty otherwise.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Appends to the site's configuration file.
    pub fn configure(self, toml: &str) -> Self {
        let file = self.dir.path().join("config/sites/test.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{text}\n{toml}\n")).unwrap();
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn journal_dir(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    pub fn sqlite_url(&self) -> String {
        format!("sqlite://{}", self.dir.path().join("andon.db").display())
    }

    /// Returns the program with the site's options, for any command.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_with("log.format=text", arguments)
    }

    fn command_with(&self, setting: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_andon"));
        command.arg("--site").arg("test").arg("--config-dir").arg(self.dir.path().join("config"));
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command
            .arg("--set")
            .arg(setting)
            .args(arguments)
            .stdin(Stdio::null())
            .env_clear()
            .current_dir(self.dir.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts `andon run`.
    pub fn run(&self) -> Andon {
        self.run_with("")
    }

    /// Starts `andon run` with failpoints armed (`name=action;…`).
    pub fn run_with(&self, failpoints: &str) -> Andon {
        self.run_with_format(failpoints, "text")
    }

    /// As [`Self::run_with`], with that `log.format`.
    pub fn run_with_format(&self, failpoints: &str, format: &str) -> Andon {
        let mut command = self.command_with(&format!("log.format={format}"), &["run"]);
        if !failpoints.is_empty() {
            command.env("FAILPOINTS", failpoints);
        }
        Andon::start(command, self.next_log())
    }

    /// Starts `andon run --replace`.
    pub fn replace(&self) -> Andon {
        Andon::start(self.command(&["run", "--replace"]), self.next_log())
    }

    fn next_log(&self) -> PathBuf {
        self.runs.set(self.runs.get() + 1);
        self.dir.path().join(format!("run-{}.log", self.runs.get()))
    }
}

/// A running `andon run`; killed when dropped.
pub struct Andon {
    child: Child,
    log: PathBuf,
}

impl Andon {
    /// Starts a command that runs the service, and writes what it says to `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + WAIT_MAX;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in the log:\n{}", self.log());
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(
                    self.log().contains(text),
                    "andon ended with {status} before {text:?}:\n{}",
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for HTTP and returns `http://127.0.0.1:port` of the newest start.
    pub fn wait_for_http(&mut self) -> String {
        self.wait_for_log("url: http://");
        let log = self.log();
        let address = log.rsplit("url: http://").next().and_then(|rest| rest.split('/').next());
        format!("http://{}", address.unwrap())
    }

    pub fn wait_until_connected(&mut self) {
        self.wait_for_log("connected to the broker");
    }

    /// Returns how often Andon has connected since its start.
    pub fn connections(&self) -> usize {
        self.log().matches("connected to the broker").count()
    }

    /// Waits until Andon is connected and liveness knows the recorded past: from here silence counts from a machine's last message.
    pub fn wait_until_seeing(&mut self) {
        self.wait_until_connected();
        self.wait_for_log("recovering the machines' states, component: liveness, without_history: false");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status();
        assert!(status.unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_until("andon to end", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Andon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // It may end between the two lines. That is fine.
            let _ended = self.child.kill();
            let _reaped = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.log.display(), self.log());
        }
    }
}
