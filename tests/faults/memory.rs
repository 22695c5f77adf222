//! Reads the memory of a process from `/proc`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Returns a line of `/proc/<pid>/status` in KiB; `None` once the process has ended.
pub fn status_kib(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Polls the peak RSS of a process until it ends: afterwards `/proc` has nothing of it.
pub struct PeakWatch {
    thread: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    peak_kib: Arc<AtomicU64>,
}

impl PeakWatch {
    pub fn start(pid: u32) -> Self {
        let (over, peak_kib) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, peak) = (Arc::clone(&over), Arc::clone(&peak_kib));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed)
                && let Some(kib) = status_kib(pid, "VmHWM")
            {
                peak.fetch_max(kib, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { thread: Some(thread), over, peak_kib }
    }

    /// Returns the peak so far.
    pub fn kib(&self) -> u64 {
        self.peak_kib.load(Ordering::Relaxed)
    }
}

impl Drop for PeakWatch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _watched = thread.join();
        }
    }
}
