//! The socket of a service manager: what Andon reports to it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::poll::WAIT_MAX;

/// A bound `NOTIFY_SOCKET`, and every line that arrived.
pub struct NotifySocket {
    directory: TempDir,
    socket: UnixDatagram,
    lines: Vec<String>,
    /// Lines before this one have been looked at.
    next: usize,
}

impl NotifySocket {
    pub fn bind() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { directory, socket, lines: Vec::new(), next: 0 }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// Receives for `time`; returns what arrived then.
    pub fn listen(&mut self, time: Duration) -> Vec<String> {
        let before = self.lines.len();
        let deadline = Instant::now() + time;
        while self.receive(deadline) {}
        self.next = self.lines.len();
        self.lines[before..].to_vec()
    }

    /// Returns the next line that begins with `prefix`.
    pub fn wait_for(&mut self, prefix: &str) -> String {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let found = self.lines[self.next..].iter().position(|line| line.starts_with(prefix));
            if let Some(at) = found {
                self.next += at + 1;
                return self.lines[self.next - 1].clone();
            }
            self.next = self.lines.len();
            assert!(self.receive(deadline), "no {prefix:?} in {:#?}", self.lines);
        }
    }

    /// Every line so far.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Receives one datagram; false at the deadline.
    fn receive(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        self.socket.set_read_timeout(Some(left)).unwrap();
        let mut datagram = [0; 4096];
        let Ok(length) = self.socket.recv(&mut datagram) else { return false };
        let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
        self.lines.extend(text.lines().map(str::to_owned));
        true
    }
}
