//! Keeps an abandoned incarnation of liveness from publishing outdated statuses.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::actors::supervisor::Generation;

/// The oldest generation that may publish. Survives restarts of both actors.
#[derive(Debug, Default)]
pub struct PublishFence(AtomicU64);

impl PublishFence {
    /// Lets only `generation` and its successors publish from now on.
    pub fn raise(&self, generation: Generation) {
        self.0.fetch_max(generation, Ordering::SeqCst);
    }

    /// Returns whether `generation` may publish.
    #[must_use]
    pub fn admits(&self, generation: Generation) -> bool {
        generation >= self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_generation_may_not_publish() {
        let fence = PublishFence::default();
        fence.raise(2);
        assert!(!fence.admits(1) && fence.admits(2) && fence.admits(3));
        fence.raise(1);
        assert!(!fence.admits(1), "the fence is never lowered");
    }
}
