//! The newest proof that the broker link was alive.

use std::sync::{Mutex, PoisonError};

use crate::clock::Mono;
use crate::domain::Seq;

/// At `at` the link was alive, and every message received before `at` has a seq up to `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// When.
    pub at: Mono,
    /// What has to be looked at before anything may be concluded about the time before `at`.
    pub upto: Seq,
}

/// A snapshot written by whoever proves the link (each message, or a round trip of our own), read by the parser.
#[derive(Debug, Default)]
pub struct LinkPulse {
    newest: Mutex<Option<Beat>>,
}

impl LinkPulse {
    /// Replaces the proof by a newer one; older ones are ignored.
    pub fn prove(&self, beat: Beat) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_none_or(|known| known.at <= beat.at) {
            *newest = Some(beat);
        }
    }

    /// The newest proof, if there ever was one.
    #[must_use]
    pub fn newest(&self) -> Option<Beat> {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
