//! The load: numbered QoS 1 messages, published in the background while a fault strikes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::kinds;
use crate::support::publisher;

/// Messages between two breaths of the publisher.
const WINDOW: usize = 100;

/// Returns topic and payload of message `number`.
pub fn message(number: u64) -> (String, Vec<u8>) {
    let kinds::Sample { topic, payload, .. } = kinds::sample(number);
    (topic, payload)
}

/// Publishes, and returns once the broker has acknowledged all.
pub fn publish(port: u16, numbers: Range<u64>) {
    publisher::publish_each(port, numbers, 1, message);
}

/// A publisher in the background. Joined when dropped, so that it never outlives its broker.
pub struct Load {
    thread: Option<JoinHandle<()>>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// Publishes `numbers`, with a short pause after each hundred, so that the load lasts until the fault strikes.
    pub fn start(port: u16, numbers: Range<u64>, pause: Duration) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(numbers.start));
        let counter = Arc::clone(&acknowledged);
        let thread = std::thread::spawn(move || {
            publisher::publish_windows(port, numbers, 1, WINDOW, message, |last| {
                counter.store(last + 1, Ordering::SeqCst);
                std::thread::sleep(pause);
            });
        });
        Self { thread: Some(thread), acknowledged }
    }

    /// Returns the end of the numbers that the broker has acknowledged, exclusive.
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
            let _reported_by_the_thread = thread.join();
        }
    }
}
