//! Measures how long a disk call has been waiting, while it still waits.
//!
//! A stalled disk is not an error: the call returns when the disk answers. Until then only this measurement tells a stall
//! from a hang. It takes no lock, so it works whatever hangs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Kinds of disk calls. One call of each kind is measured at a time; there are rarely more.
#[derive(Debug, Clone, Copy)]
pub(super) enum DiskCall {
    Append,
    Sync,
    Read,
    Meta,
}

const CALLS: usize = 4;

pub(super) struct DiskStallClock {
    started: Instant,
    /// When the call of each kind began, in µs since `started`, plus 1; 0: none is under way.
    since: [AtomicU64; CALLS],
}

/// A call under way; dropping the guard ends it.
pub(super) struct CallGuard<'a>(Option<&'a AtomicU64>);

impl DiskStallClock {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), since: Default::default() }
    }

    /// Begins a call.
    pub(super) fn enter(&self, what: DiskCall) -> CallGuard<'_> {
        let since = &self.since[what as usize];
        let is_first = since.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        CallGuard(is_first.then_some(since))
    }

    /// Returns how long the oldest call under way has taken so far; zero if there is none.
    pub(super) fn busy_for(&self) -> Duration {
        let since = self.since.iter().map(|since| since.load(Ordering::Relaxed)).filter(|since| *since != 0);
        Duration::from_micros(since.min().map_or(0, |since| self.now().saturating_sub(since)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1
    }
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.0 {
            since.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_call_counts_until_it_is_over() {
        let clock = DiskStallClock::new();
        assert_eq!(clock.busy_for(), Duration::ZERO);
        let sync = clock.enter(DiskCall::Sync);
        std::thread::sleep(Duration::from_millis(20));
        let append = clock.enter(DiskCall::Append);
        let of_sync = clock.busy_for();
        assert!(of_sync >= Duration::from_millis(20));
        drop(clock.enter(DiskCall::Sync));
        assert!(clock.busy_for() >= of_sync, "a second of a kind changes nothing");
        drop(sync);
        assert!(clock.busy_for() < Duration::from_millis(20));
        drop(append);
        assert_eq!(clock.busy_for(), Duration::ZERO);
    }
}
