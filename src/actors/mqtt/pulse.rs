//! The newest proof that the broker link was alive.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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

/// Longer than this neither our own clock stands still nor one message takes while all is well: the process was stopped, or the
/// disk is slow. What was sent meanwhile is still to come.
pub(super) const STANDSTILL_MIN: Mono = Mono(500_000);

#[derive(Debug, Default)]
struct Beats {
    heard: Option<Beat>,
    proof: Option<Beat>,
    doubted: bool,
    /// When the mqtt actor last said that we run.
    running_at: Option<Mono>,
    /// The longest standstill since then that a message, or a proof, has met.
    stalled: Option<Mono>,
}

impl Beats {
    /// For how long, up to `now`, if for long.
    fn stood_still(&self, now: Mono) -> Option<Mono> {
        long(self.running_at?, now)
    }

    /// Doubts from now on, and keeps it for [`LinkPulse::running`]: whoever asks for the proof has to hear of it.
    fn note_still(&mut self, still: Option<Mono>) {
        self.doubted |= still.is_some();
        self.stalled = self.stalled.max(still);
    }

    fn prove(&mut self, beat: Beat) {
        let is_newer = |known: Option<Beat>| known.is_none_or(|known| known.at <= beat.at);
        if is_newer(self.heard) {
            self.heard = Some(beat);
        }
        if !self.doubted && is_newer(self.proof) {
            self.proof = Some(beat);
        }
    }
}

/// The time from `since` to `now`, if it is more than [`STANDSTILL_MIN`].
fn long(since: Mono, now: Mono) -> Option<Mono> {
    let still = Mono(now.0.saturating_sub(since.0));
    (still > STANDSTILL_MIN).then_some(still)
}

impl LinkPulse {
    /// A message that came into the callback at `began` is journaled.
    pub fn received(&self, began: Mono, beat: Beat) {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let still = long(began, beat.at).max(beats.stood_still(beat.at));
        beats.note_still(still);
        beats.prove(beat);
    }

    /// Replaces the proof by a newer one; older ones are ignored, and all while there is doubt. After a standstill of our own
    /// there is: what is received then was sent long ago, and more of it is to come.
    pub fn prove(&self, beat: Beat) {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let still = beats.stood_still(beat.at);
        beats.note_still(still);
        beats.prove(beat);
    }

    /// We run. If we, or a message in the callback, had stood still for a while: for how long, and there is doubt from now on.
    pub fn running(&self, now: Mono) -> Option<Duration> {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        let still = beats.stood_still(now);
        beats.note_still(still);
        let stood_still = beats.stalled.take();
        beats.running_at = Some(now);
        stood_still.map(|still| Duration::from_micros(still.0))
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

    #[test]
    fn m8_after_a_standstill_of_our_own_nothing_is_a_proof_until_it_is_asked_for() {
        let pulse = LinkPulse::default();
        let beat = |at| Beat { at: Mono(at), upto: Seq(at) };
        assert_eq!(pulse.running(Mono(1_000_000)), None);
        pulse.prove(beat(1_100_000));
        assert_eq!(pulse.running(Mono(1_200_000)), None);
        // The callback may be the first to run again.
        pulse.prove(beat(9_000_000));
        assert_eq!(pulse.newest(), Some(beat(1_100_000)));
        assert_eq!(pulse.running(Mono(9_000_001)), Some(Duration::from_micros(7_800_001)));
        pulse.prove(beat(9_000_002));
        assert_eq!((pulse.newest(), pulse.heard()), (Some(beat(1_100_000)), Some(beat(9_000_002))));
        assert_eq!(pulse.running(Mono(9_500_000)), None, "said once");
        pulse.trust();
        pulse.prove(beat(9_500_001));
        assert_eq!(pulse.newest(), Some(beat(9_500_001)));
    }

    #[test]
    fn m8_after_a_message_that_took_long_nothing_is_a_proof_until_it_is_asked_for() {
        let pulse = LinkPulse::default();
        let beat = |at| Beat { at: Mono(at), upto: Seq(at) };
        pulse.received(Mono(1_000_000), beat(1_400_000));
        assert_eq!((pulse.newest(), pulse.running(Mono(1_400_000))), (Some(beat(1_400_000)), None));
        assert_eq!(pulse.running(Mono(1_800_000)), None);
        pulse.received(Mono(1_400_001), beat(1_900_002));
        pulse.received(Mono(1_900_002), beat(1_900_003));
        assert_eq!(pulse.newest(), Some(beat(1_400_000)), "what was sent meanwhile is still to come");
        assert_eq!(pulse.running(Mono(1_900_004)), Some(Duration::from_micros(500_001)));
        pulse.trust();
        assert_eq!(pulse.running(Mono(1_900_005)), None, "said once");
        pulse.received(Mono(1_900_005), beat(1_900_006));
        assert_eq!(pulse.newest(), Some(beat(1_900_006)));
    }
}
