//! Keeps an incarnation of liveness that was given up from publishing what is not so any more.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::actors::supervisor::Generation;

/// The newest generation that may publish; survives restarts of both ends.
#[derive(Debug, Default)]
pub struct PublishFence(AtomicU64);

impl PublishFence {
    /// From now on only `generation` and its successors may publish.
    pub fn raise(&self, generation: Generation) {
        self.0.fetch_max(generation, Ordering::SeqCst);
    }

    /// Whether `generation` may publish.
    #[must_use]
    pub fn admits(&self, generation: Generation) -> bool {
        generation >= self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_replaced_may_not_publish_any_more() {
        let fence = PublishFence::default();
        fence.raise(2);
        assert!(!fence.admits(1) && fence.admits(2) && fence.admits(3));
        fence.raise(1);
        assert!(!fence.admits(1), "the fence is never lowered");
    }
}
