//! The barriers that the bytes of one connection wait for.

use std::sync::Arc;

use super::Barrier;

#[derive(Clone)]
struct Mark {
    barrier: Arc<dyn Barrier>,
    upto: u64,
}

/// One mark for each barrier, the farthest.
#[derive(Clone, Default)]
pub(super) struct Barriers(Vec<Mark>);

impl Barriers {
    pub(super) fn add(&mut self, barrier: &Arc<dyn Barrier>, upto: u64) {
        match self.0.iter_mut().find(|mark| Arc::ptr_eq(&mark.barrier, barrier)) {
            Some(mark) => mark.upto = mark.upto.max(upto),
            None => self.0.push(Mark { barrier: Arc::clone(barrier), upto }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for all of them.
    pub(super) fn pass(&self) {
        for mark in &self.0 {
            mark.barrier.pass(mark.upto);
        }
    }

    /// Those of `passed` are not waited for any more; a mark that was moved on meanwhile stays.
    pub(super) fn remove(&mut self, passed: &Self) {
        self.0.retain(|mark| {
            let same = |other: &&Mark| Arc::ptr_eq(&other.barrier, &mark.barrier);
            passed.0.iter().find(same).is_none_or(|passed| passed.upto < mark.upto)
        });
    }
}
