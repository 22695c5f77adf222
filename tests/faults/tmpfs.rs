//! A small disk that a test can fill and make read-only.
//!
//! A helper process in a mount namespace of its own holds a tmpfs; the test reaches it through `/proc/<pid>/root`. That also works
//! for ordinary users, and the disk goes with the helper, however this process ends. PostgreSQL under another user cannot reach
//! it and needs [`Disk::shared`].

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Runs one command a line, until its standard input ends.
const HELPER: &str = r#"mount -t tmpfs -o "size=$1,mode=0755" none /mnt && echo ready
while read -r line; do sh -c "$line" >&2 && echo done || echo failed; done"#;

const NEEDED: &str = "this test needs a disk of its own: root with CAP_SYS_ADMIN, or user namespaces for ordinary \
                      users (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)";

/// Set for the child of [`run_in_a_namespace`].
const INSIDE: &str = "ANDON_FAULT_IN_NAMESPACE";

/// True for an ordinary user, who may mount only in a namespace of its own.
pub fn must_enter_a_namespace() -> bool {
    let own_uid = std::fs::metadata("/proc/self").unwrap().uid();
    own_uid != 0 && std::env::var_os(INSIDE).is_none()
}

/// Runs one test of this binary in a namespace where this user may mount, and fails if it fails.
pub fn run_in_a_namespace(test: &str) {
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(INSIDE, "1")
        .status();
    assert!(status.expect("unshare runs").success(), "{test} in a namespace of its own; {NEEDED}");
}

/// A tmpfs of a given size.
pub struct Disk {
    path: PathBuf,
    holder: Holder,
}

enum Holder {
    Namespace { helper: Child, commands: ChildStdin, answers: BufReader<ChildStdout> },
    Mount(tempfile::TempDir),
}

impl Disk {
    /// Makes a disk that this user's processes can reach.
    pub fn new(bytes: u64) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", HELPER, "helper", &bytes.to_string()]);
        let mut helper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare runs");
        let commands = helper.stdin.take().expect("its standard input is a pipe");
        let mut answers = BufReader::new(helper.stdout.take().expect("its standard output is a pipe"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("the helper's answer");
        assert_eq!(line.trim(), "ready", "{NEEDED}");
        let path = PathBuf::from(format!("/proc/{}/root/mnt", helper.id()));
        Self { path, holder: Holder::Namespace { helper, commands, answers } }
    }

    /// Makes a disk that processes of other users can reach, if this process is root; otherwise the same as [`Disk::new`].
    pub fn shared(bytes: u64) -> Self {
        let directory = tempfile::Builder::new().prefix("andon-disk-").tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0777"), "none"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            return Self::new(bytes);
        }
        Self { path: directory.path().to_owned(), holder: Holder::Mount(directory) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills the disk to the last byte, also while others write.
    pub fn fill(&self) {
        let mut balloon = std::fs::OpenOptions::new().append(true).create(true).open(self.balloon()).unwrap();
        let mut piece = vec![0_u8; 64 * 1024];
        while !piece.is_empty() {
            match balloon.write(&piece) {
                Ok(written) if written > 0 => {}
                _ => piece.truncate(piece.len() / 2),
            }
        }
    }

    /// Frees what [`Disk::fill`] took.
    pub fn free(&self) {
        std::fs::remove_file(self.balloon()).unwrap();
    }

    /// Remounts the disk. No file may be open for writing.
    pub fn set_read_only(&mut self, read_only: bool) {
        let mode = if read_only { "ro" } else { "rw" };
        match &mut self.holder {
            Holder::Namespace { commands, answers, .. } => {
                writeln!(commands, "mount -o remount,{mode} /mnt").unwrap();
                let mut line = String::new();
                answers.read_line(&mut line).unwrap();
                assert_eq!(line.trim(), "done", "remount {mode}");
            }
            Holder::Mount(directory) => {
                let remount = ["-o", &format!("remount,{mode}")];
                let status = Command::new("mount").args(remount).arg(directory.path()).status();
                assert!(status.unwrap().success(), "remount {mode}");
            }
        }
    }

    fn balloon(&self) -> PathBuf {
        self.path.join("balloon")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        match &mut self.holder {
            Holder::Namespace { helper, .. } => {
                let _ended = helper.kill();
                let _reaped = helper.wait();
            }
            Holder::Mount(directory) => {
                // Lazily: a process that is ending may still have a file open.
                let _unmounted = Command::new("umount").arg("-l").arg(directory.path()).status();
            }
        }
    }
}
