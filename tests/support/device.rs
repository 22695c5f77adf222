//! A machine that publishes five times a second, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::publisher::Single;

/// The machine; stops when dropped.
pub struct Device {
    thread: Option<JoinHandle<u64>>,
    over: Arc<AtomicBool>,
}

impl Device {
    /// Starts it. Each message has a time of its own, and waits until the broker has acknowledged the previous one.
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
            let mut published = 0;
            while !is_over.load(Ordering::Relaxed) {
                let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ");
                let payload = format!(r#"{{"machine_id":"{machine}","temperature":20,"timestamp":"{now}"}}"#);
                single.publish(&topic, payload.as_bytes(), 1);
                published += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            published
        });
        Self { thread: Some(thread), over }
    }

    /// Stops it and returns how often it published.
    pub fn stop(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("stopped once").join().expect("the device publishes without a panic")
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
