//! A private PostgreSQL for one test process: starts and ends with the test.
//!
//! `initdb` runs once for all tests; its result is kept beside the build and copied for each server. The server is the child of a
//! small shell that waits on a pipe: when this process ends, in whatever way, the pipe closes, and the shell stops the server and
//! removes its directory.
//!
//! Needs only `std` and `tempfile`. If this process is root, the server runs as user `postgres`, as it refuses to run as root.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Stops the server when standard input ends, and removes the directory unless it reads "keep".
const WATCHER: &str = r#"
directory=$1; shift
"$@" </dev/null >>"$directory/log" 2>&1 &
server=$!
echo $server
read -r word
kill -CONT $server 2>/dev/null
if [ "$word" = keep ]; then kill -INT $server 2>/dev/null; else kill -QUIT $server 2>/dev/null; fi
wait $server 2>/dev/null
[ "$word" = keep ] || rm -rf "$directory"
"#;

/// One server on a Unix socket and a free loopback port. Its data survives a kill, but not a power cut (fsync is off).
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
    fsync: bool,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    watcher: Child,
    leash: ChildStdin,
    pid: u32,
}

impl Postgres {
    /// Starts a server with an empty database `postgres` and a superuser `postgres` without a password.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start, with its log.
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// The same with the server's default durability, for measurements.
    pub fn start_durable() -> Self {
        Self::start_with(true)
    }

    fn start_with(fsync: bool) -> Self {
        let programs = find_programs();
        let owner = unprivileged_user();
        let directory = tempfile::Builder::new()
            .prefix("andon-postgres-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        copy_tree(&template(&programs, owner), &directory.join("data"), owner)
            .expect("a copy of the template cluster");
        give(&directory, owner).expect("to own the directory");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("a readable directory");
        let mut server = Self { directory, programs, owner, port: 0, fsync, running: None };
        server.launch();
        server
    }

    /// Returns the URL of the database `postgres`, over the Unix socket.
    pub fn url(&self) -> String {
        self.database_url("postgres")
    }

    /// Returns the URL of a database, over the Unix socket.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}&port={}", self.directory.display(), self.port)
    }

    /// Returns the URL of a database over TCP on loopback.
    pub fn tcp_url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns the port on 127.0.0.1; [`restart`](Self::restart) keeps it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database and returns its URL.
    pub fn create_database(&self, name: &str) -> String {
        self.psql("postgres", &format!("CREATE DATABASE \"{name}\""));
        self.database_url(name)
    }

    /// Returns the server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Makes the server's user the owner of a directory.
    pub fn own(&self, directory: &Path) {
        give(directory, self.owner).expect("to give the directory away");
    }

    /// Returns the directory of `psql`, `pg_dump` and the others.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Runs SQL as superuser and returns its output, unaligned and without headers.
    ///
    /// # Panics
    /// If the SQL fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(self.database_url(database))
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "psql failed on {sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Returns the process id of the postmaster.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server runs").pid
    }

    /// Stops the server in order, and cuts connections. The data stays for [`restart`](Self::restart).
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.leash.write_all(b"keep\n");
            let _ = running.watcher.wait();
        }
    }

    /// Kills the postmaster and all its children with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        for pid in self.process_ids() {
            signal("KILL", pid);
        }
        self.stop();
    }

    /// Stops the server if it runs, and starts it again at the same place.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Freezes every process of the server (SIGSTOP): the kernel still accepts connections, the server does not answer.
    pub fn freeze(&self) {
        for pid in self.process_ids() {
            signal("STOP", pid);
        }
    }

    /// Ends a [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        for pid in self.process_ids() {
            signal("CONT", pid);
        }
    }

    /// Returns the process ids of the postmaster and its children.
    pub fn process_ids(&self) -> Vec<u32> {
        let postmaster = self.pid();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let children = processes.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in parentheses may hold anything; the state and the parent follow it.
            let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            (parent == postmaster).then_some(pid)
        });
        std::iter::once(postmaster).chain(children).collect()
    }

    fn launch(&mut self) {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            // Another process may take the free port first, and a killed server may still be ending.
            if self.port == 0 {
                let probe = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
                self.port = probe.local_addr().expect("its address").port();
            }
            let first_start = self.running.is_none() && !self.directory.join("started").exists();
            if self.try_launch(deadline) {
                let _ = File::create(self.directory.join("started"));
                return;
            }
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not start:\n{log}");
            if first_start {
                self.port = 0;
            }
        }
    }

    fn try_launch(&mut self, deadline: Instant) -> bool {
        let data = self.directory.join("data");
        let _ = fs::remove_file(data.join("postmaster.pid"));
        let mut watcher = Command::new("/bin/sh");
        watcher.args(["-c", WATCHER, "watcher"]).arg(&self.directory).arg(self.programs.join("postgres"));
        watcher.arg("-D").arg(&data).arg("-k").arg(&self.directory).arg("-p").arg(self.port.to_string());
        let durable = if self.fsync { "on" } else { "off" };
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("fsync={durable}"),
            &format!("full_page_writes={durable}"),
            "shared_buffers=32MB",
            "max_connections=40",
            "max_wal_size=512MB",
        ] {
            watcher.args(["-c", setting]);
        }
        if let Some((user, group)) = self.owner {
            watcher.uid(user).gid(group);
        }
        watcher.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C reaches the test process only; the server ends by the pipe.
        let mut watcher = watcher.process_group(0).spawn().expect("a shell");
        let leash = watcher.stdin.take().expect("its standard input is a pipe");
        let mut line = String::new();
        let output = watcher.stdout.take().expect("its standard output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("the server's process id");
        let pid = line.trim().parse().expect("a process id");
        self.running = Some(Running { watcher, leash, pid });

        while Instant::now() < deadline {
            if is_ready(&data, pid) {
                return true;
            }
            // A process that has ended, or is a zombie, has no program.
            if !Path::new(&format!("/proc/{pid}/exe")).exists() {
                break;
            }
            thread::sleep(POLL);
        }
        self.stop();
        false
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        match self.running.take() {
            Some(Running { mut watcher, leash, .. }) => {
                drop(leash);
                let _ = watcher.wait();
            }
            None => {
                let _ = fs::remove_dir_all(&self.directory);
            }
        }
    }
}

/// True once the eighth line of the server's pid file says "ready".
fn is_ready(data: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    lines.next() == Some(&pid.to_string()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

fn signal(name: &str, pid: u32) {
    let _ = Command::new("/bin/sh").arg("-c").arg(format!("kill -{name} {pid} 2>/dev/null")).status();
}

/// Returns the directory with `initdb` and `postgres`: the newest version where Debian installs them, else from the path.
fn find_programs() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, programs)| programs.join("initdb").exists())
        .max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest
        .map(|(_, programs)| programs)
        .or_else(|| std::env::split_paths(&path).find(|directory| directory.join("initdb").exists()))
        .expect("PostgreSQL is installed (apt-get install postgresql)")
}

/// Returns user and group for the server, if this process is root.
fn unprivileged_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").expect("proc is mounted").uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let postgres = users.lines().find_map(|line| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    Some(postgres.unwrap_or((65_534, 65_534)))
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    owner.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)))
}

/// Returns a fresh cluster beside the build; the first test makes it.
fn template(programs: &Path, owner: Option<(u32, u32)>) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let target = test.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    let home = target.map_or_else(std::env::temp_dir, |target| target.join("tmp"));
    fs::create_dir_all(&home).expect("the build's temporary directory");
    let version = programs.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let template = home.join(format!("postgres-template-{version}"));

    let lock = File::create(home.join("postgres-template.lock")).expect("the template's lock");
    lock.lock().expect("the template's lock");
    if !template.exists() {
        // The server's user may not reach the build directory: make the cluster elsewhere and copy it.
        let place =
            tempfile::Builder::new().prefix("andon-initdb-").tempdir().expect("a temporary directory");
        give(place.path(), owner).expect("to own the directory");
        let data = place.path().join("data");
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        if let Some((user, group)) = owner {
            initdb.uid(user).gid(group);
        }
        let output = initdb.current_dir("/").output().expect("initdb runs");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        let unfinished = template.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        copy_tree(&data, &unfinished, None).expect("a copy of the cluster");
        fs::rename(&unfinished, &template).expect("the template in its place");
    }
    template
}

fn copy_tree(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &copy, owner)?;
        } else {
            fs::copy(entry.path(), &copy)?;
            give(&copy, owner)?;
        }
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))?;
    give(to, owner)
}
