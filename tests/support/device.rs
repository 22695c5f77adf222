//! A machine that speaks five times a second, whatever the test waits for meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::publisher::Single;

/// Ends when dropped.
pub struct Device {
    thread: Option<JoinHandle<u64>>,
    over: Arc<AtomicBool>,
}

impl Device {
    /// Each message has an instant of its own, and is acknowledged by the broker before the next.
    pub fn start(port: u16, machine: &'static str) -> Self {
        Self::start_on(port, "factory", machine)
    }

    /// As [`Self::start`], on a topic below `root`.
    pub fn start_on(port: u16, root: &'static str, machine: &'static str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut single = Single::connect(port);
            let topic = format!("{root}/machine/{machine}/telemetry");
            let mut said = 0;
            while !is_over.load(Ordering::Relaxed) {
                let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ");
                let payload = format!(r#"{{"machine_id":"{machine}","temperature":20,"timestamp":"{now}"}}"#);
                single.publish(&topic, payload.as_bytes(), 1);
                said += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            said
        });
        Self { thread: Some(thread), over }
    }

    /// Ends it; returns how often it has spoken.
    pub fn stop(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("stopped once").join().expect("the talker has spoken")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
