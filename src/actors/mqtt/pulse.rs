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
    beats: Mutex<Beats>,
}

#[derive(Debug, Default)]
struct Beats {
    heard: Option<Beat>,
    proof: Option<Beat>,
    doubted: bool,
}

impl LinkPulse {
    /// Replaces the proof by a newer one; older ones are ignored, and all while there is doubt.
    pub fn prove(&self, beat: Beat) {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |known: Option<Beat>| known.is_none_or(|known| known.at <= beat.at);
        if is_newer(beats.heard) {
            beats.heard = Some(beat);
        }
        if !beats.doubted && is_newer(beats.proof) {
            beats.proof = Some(beat);
        }
    }

    /// From now on a word of the broker is no proof that it has nothing else to tell.
    pub fn doubt(&self) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).doubted = true;
    }

    /// The end of [`Self::doubt`].
    pub fn trust(&self) {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).doubted = false;
    }

    /// The newest proof, if there ever was one.
    #[must_use]
    pub fn newest(&self) -> Option<Beat> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).proof
    }

    /// The newest word of the broker, whether or not it proves anything.
    #[must_use]
    pub fn heard(&self) -> Option<Beat> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m8_while_there_is_doubt_the_broker_is_heard_and_proves_nothing() {
        let pulse = LinkPulse::default();
        let beat = |at| Beat { at: Mono(at), upto: Seq(at) };
        pulse.prove(beat(1));
        pulse.doubt();
        pulse.prove(beat(2));
        assert_eq!((pulse.newest(), pulse.heard()), (Some(beat(1)), Some(beat(2))));
        pulse.trust();
        assert_eq!(pulse.newest(), Some(beat(1)), "what came in doubt stays no proof");
        pulse.prove(beat(3));
        pulse.prove(beat(2));
        assert_eq!((pulse.newest(), pulse.heard()), (Some(beat(3)), Some(beat(3))));
    }
}
