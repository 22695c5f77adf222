//! The messages that are counted: QoS 1, numbered, published in the background while a fault strikes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::publisher;

/// Machines that speak; each gets exactly one event, `first_seen`.
pub const MACHINES: u64 = 20;
/// 2026-01-01T00:00:00Z in seconds.
const EPOCH_SECONDS: i64 = 1_767_225_600;
/// Messages between two breaths of the publisher.
const WINDOW: usize = 100;

/// The temperature of message `number`, by which the oracle knows that a row is still what was sent.
pub fn temperature(number: u64) -> f64 {
    20.0 + (number % 100) as f64 / 10.0
}

/// Topic and payload of message `number`. Two messages share machine and instant: only their digest tells them apart.
pub fn message(number: u64) -> (String, String) {
    let machine = format!("press-{:02}", number % MACHINES);
    let seconds = EPOCH_SECONDS + i64::try_from(number / (2 * MACHINES)).unwrap();
    let instant = chrono::DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ");
    let payload = format!(
        r#"{{"machine_id":"{machine}","n":{number},"temperature":{:.1},"vibration":0.42,"timestamp":"{instant}"}}"#,
        temperature(number)
    );
    (format!("factory/machine/{machine}/telemetry"), payload)
}

/// Publishes and returns when the broker has acknowledged all.
pub fn publish(port: u16, numbers: Range<u64>) {
    publisher::publish_each(port, numbers, 1, message);
}

/// A publisher in the background. Joined when dropped, so that it never outlives its broker.
pub struct Load {
    thread: Option<JoinHandle<()>>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// Publishes `numbers`, with a short breath after each hundred, so that the fault has a load to strike into.
    pub fn start(port: u16, numbers: Range<u64>, breath: Duration) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(numbers.start));
        let counter = Arc::clone(&acknowledged);
        let thread = std::thread::spawn(move || {
            publisher::publish_windows(port, numbers, 1, WINDOW, message, |last| {
                counter.store(last + 1, Ordering::SeqCst);
                std::thread::sleep(breath);
            });
        });
        Self { thread: Some(thread), acknowledged }
    }

    /// How far the broker has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end.
    pub fn join(mut self) {
        self.thread.take().expect("joined once").join().expect("the publisher has published everything");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            let _told_by_the_thread = thread.join();
        }
    }
}
