//! When each stage of the pipeline last made progress, and whether the writer has a batch. The health checks use it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock::{Mono, mono_now};

/// Times on the monotonic clock, written by the stages and read by any thread. `None` before the first progress.
#[derive(Debug, Default)]
pub struct Progress {
    parsed_at: AtomicU64,
    committed_at: AtomicU64,
    with_writer: AtomicBool,
}

impl Progress {
    /// Records that the parser has read records.
    pub fn parsed(&self) {
        stamp(&self.parsed_at);
    }

    /// Records that the parser has handed a batch to the writer.
    pub fn handed_over(&self) {
        stamp(&self.parsed_at);
        self.with_writer.store(true, Ordering::Relaxed);
    }

    /// Records that the writer has committed its batch.
    pub fn committed(&self) {
        stamp(&self.committed_at);
        self.with_writer.store(false, Ordering::Relaxed);
    }

    /// Records that the writer has returned its batch without a commit.
    pub fn given_back(&self) {
        self.with_writer.store(false, Ordering::Relaxed);
    }

    /// Returns when the parser last read records.
    #[must_use]
    pub fn parsed_at(&self) -> Option<Mono> {
        time_of(&self.parsed_at)
    }

    /// Returns when the writer last committed a batch.
    #[must_use]
    pub fn committed_at(&self) -> Option<Mono> {
        time_of(&self.committed_at)
    }

    /// True while the writer has a batch.
    #[must_use]
    pub fn is_with_writer(&self) -> bool {
        self.with_writer.load(Ordering::Relaxed)
    }
}

fn stamp(at: &AtomicU64) {
    // 0 is "never".
    at.store(mono_now().0.max(1), Ordering::Relaxed);
}

fn time_of(at: &AtomicU64) -> Option<Mono> {
    Some(Mono(at.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_has_a_batch_until_it_commits_or_returns_it() {
        let progress = Progress::default();
        assert_eq!(
            (progress.parsed_at(), progress.committed_at(), progress.is_with_writer()),
            (None, None, false)
        );
        progress.handed_over();
        assert!(progress.is_with_writer() && progress.parsed_at().is_some());
        progress.given_back();
        assert!(!progress.is_with_writer() && progress.committed_at().is_none());
        progress.handed_over();
        progress.committed();
        assert!(!progress.is_with_writer() && progress.committed_at().is_some());
    }
}
