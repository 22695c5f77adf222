//! A private Mosquitto on a free port of loopback.

use std::collections::hash_map::RandomState;
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Limit for the start.
const START_MAX: Duration = Duration::from_secs(30);
/// The default ones, and each packet (`debug`).
const LOG_TYPES: &str =
    "log_type error\nlog_type warning\nlog_type notice\nlog_type information\nlog_type debug\n";

/// A broker; killed and removed when dropped. Sessions and retained messages survive [`Mosquitto::stop`]
/// and [`Mosquitto::restart`], not [`Mosquitto::kill`].
pub struct Mosquitto {
    directory: TempDir,
    port: FreePort,
    /// Port of the second listener, if there is one.
    second_port: FreePort,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts a broker that queues without limit and, unless `config_extra` names a password file, admits every client.
    pub fn start(config_extra: &str) -> Self {
        Self::start_with(|_| config_extra.to_owned())
    }

    /// As [`Self::start`], with a second listener on `address`, configured by `listener_extra`; the first one is plain.
    pub fn start_with_listener(address: &str, listener_extra: &str) -> Self {
        Self::start_with(|port| format!("listener {port} {address}\n{listener_extra}"))
    }

    fn start_with(config_extra: impl Fn(u16) -> String) -> Self {
        let directory = tempfile::Builder::new().prefix("andon-mosquitto-").tempdir().unwrap();
        let mut broker =
            Self { directory, port: FreePort::find(), second_port: FreePort::find(), child: None };
        for _ in 0..20 {
            broker.configure(&config_extra(broker.second_port()));
            if broker.launch() {
                return broker;
            }
            broker.port = FreePort::find();
            broker.second_port = FreePort::find();
        }
        panic!("mosquitto does not start:\n{}", broker.log());
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn second_port(&self) -> u16 {
        self.second_port.number()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    /// Returns the log of the present run, with each packet.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Returns the logs of all runs, oldest first.
    pub fn history(&self) -> String {
        let earlier = fs::read_to_string(self.directory.path().join("log-before")).unwrap_or_default();
        earlier + &self.log()
    }

    /// Sends SIGTERM and waits: the broker saves its sessions.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.reap();
    }

    /// Sends SIGKILL: the broker loses what it has not saved.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.reap();
    }

    /// Starts again on the same port, after [`Self::stop`] or [`Self::kill`] (or stops first).
    pub fn restart(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
        assert!(self.launch(), "mosquitto does not start again:\n{}", self.log());
    }

    /// Deletes sessions and retained messages, between [`Self::stop`] and [`Self::restart`].
    pub fn forget(&self) {
        // Without sessions there is no file.
        let _absent = fs::remove_file(self.directory.path().join("mosquitto.db"));
    }

    /// Sends SIGSTOP: connections stay open without an answer.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn configure(&self, config_extra: &str) {
        let home = self.directory.path();
        let anonymous = if config_extra.contains("password_file") { "false" } else { "true" };
        // As root it would switch to the user mosquitto, which may not write here.
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous {anonymous}\nuser root\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\n{LOG_TYPES}{config_extra}\n",
            self.port(),
            home.display()
        );
        fs::write(home.join("mosquitto.conf"), config).unwrap();
    }

    /// Returns false if the process ends at once, because another process took the port.
    fn launch(&mut self) -> bool {
        let home = self.directory.path();
        fs::write(home.join("log-before"), self.history()).unwrap();
        let log = File::create(home.join("log")).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(home.join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            if ended {
                self.child = None;
                return false;
            }
            // The port alone could belong to another broker.
            if self.log().contains(" running") && TcpStream::connect(("127.0.0.1", self.port())).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let status = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
            assert!(status.unwrap().success());
        }
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself. That is fine.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(4000);
            eprintln!("--- mosquitto ---\n{}", log.get(tail..).unwrap_or(&log));
        }
    }
}

fn program() -> PathBuf {
    let usual = Path::new("/usr/sbin/mosquitto");
    if usual.exists() { usual.to_path_buf() } else { PathBuf::from("mosquitto") }
}

/// A free loopback port, reserved while this value lives: no other test takes it, also while its holder does not listen. Below
/// the range that the system uses for outgoing connections.
pub struct FreePort {
    number: u16,
    /// An abstract socket name: only one process can hold it, and it goes with its holder.
    _taken: UnixListener,
}

impl FreePort {
    pub fn find() -> Self {
        loop {
            let seed = RandomState::new().build_hasher().finish();
            let number = 20_000 + u16::try_from(seed % 12_000).unwrap();
            let name = SocketAddr::from_abstract_name(format!("andon-test-port-{number}")).unwrap();
            let taken = UnixListener::bind_addr(&name);
            if let (Ok(taken), Ok(_free)) = (taken, TcpListener::bind(("127.0.0.1", number))) {
                return Self { number, _taken: taken };
            }
        }
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Display for FreePort {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.number.fmt(formatter)
    }
}

#[test]
fn a_held_port_is_given_to_no_other_test() {
    let held = FreePort::find();
    let name = SocketAddr::from_abstract_name(format!("andon-test-port-{}", held.number())).unwrap();
    assert!(UnixListener::bind_addr(&name).is_err(), "another test gets the port");
    drop(held);
    assert!(UnixListener::bind_addr(&name).is_ok(), "the port stays reserved");
}
