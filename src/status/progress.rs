//! When each stage of the pipeline last moved on, and who has the batch: what health is judged by.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock::{Mono, mono_now};

/// Moments on the monotonic clock, written by the stages, read by anybody. A stage that never moved has none.
#[derive(Debug, Default)]
pub struct Progress {
    parsed_at: AtomicU64,
    committed_at: AtomicU64,
    with_writer: AtomicBool,
}

impl Progress {
    /// The parser has read on.
    pub fn parsed(&self) {
        stamp(&self.parsed_at);
    }

    /// The parser has handed a batch to the writer.
    pub fn handed_over(&self) {
        stamp(&self.parsed_at);
        self.with_writer.store(true, Ordering::Relaxed);
    }

    /// The writer has committed a batch.
    pub fn committed(&self) {
        stamp(&self.committed_at);
        self.with_writer.store(false, Ordering::Relaxed);
    }

    /// The writer has given the batch back without committing it.
    pub fn given_back(&self) {
        self.with_writer.store(false, Ordering::Relaxed);
    }

    /// When the parser last read on.
    #[must_use]
    pub fn parsed_at(&self) -> Option<Mono> {
        moment(&self.parsed_at)
    }

    /// When the writer last committed a batch.
    #[must_use]
    pub fn committed_at(&self) -> Option<Mono> {
        moment(&self.committed_at)
    }

    /// The writer has a batch that is not committed yet.
    #[must_use]
    pub fn is_with_writer(&self) -> bool {
        self.with_writer.load(Ordering::Relaxed)
    }
}

fn stamp(at: &AtomicU64) {
    // 0 is "never".
    at.store(mono_now().0.max(1), Ordering::Relaxed);
}

fn moment(at: &AtomicU64) -> Option<Mono> {
    Some(Mono(at.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_with_the_writer_until_it_is_committed_or_given_back() {
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
