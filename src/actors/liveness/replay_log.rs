//! What happened to the link while the database was away, for [`super::replay`] to replay.
//!
//! The records are in the journal. What the journal lacks is kept here: when the link came up and went down,
//! its proofs, and the offset of the wall clock from the monotonic one, each with its position among the
//! records.

use std::collections::VecDeque;

use super::tracker::TimePoint;
use crate::clock::Mono;
use crate::domain::{FilterSet, Seq, Timestamp};

/// Events kept. Beyond that every second proof is dropped, and a silence that a message soon ended may be
/// missed.
const EVENTS_MAX: usize = 200_000;
/// Microseconds between kept proofs that changed nothing.
pub(super) const PROOF_SPACING: u64 = 1_000_000;
/// Changes of the clock offset up to this, in microseconds, are ignored.
const DRIFT_MAX: i64 = 5_000;

/// What happened to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The link came up; what was received from the second instant on came over it.
    LinkUp(TimePoint, Mono),
    /// The broker refuses exactly these filters from then on; those granted since may have delivered from the
    /// last instant on.
    Refused(TimePoint, FilterSet, Mono),
    /// The link went down; the seq is the newest record in the journal then.
    LinkDown(TimePoint, Seq),
    /// The link was alive then or later, and every record received before then was observed.
    Proven(Mono),
}

/// The log. Each event is kept with the newest record observed when it happened.
#[derive(Debug)]
pub struct ReplayLog {
    began: TimePoint,
    events: VecDeque<(Seq, Event)>,
    /// From which record on the wall clock was how many microseconds ahead of the monotonic one.
    clock_offsets: Vec<(Seq, i64)>,
    links_ended: Vec<(Seq, Mono)>,
    proof_kept: Mono,
    observed: Seq,
}

impl ReplayLog {
    /// Returns an empty log that begins after the record `observed`, at `now`.
    pub fn new(observed: Seq, now: TimePoint) -> Self {
        Self {
            began: now,
            events: VecDeque::new(),
            clock_offsets: vec![(Seq::ZERO, clock_offset(now))],
            links_ended: Vec::new(),
            proof_kept: Mono::default(),
            observed,
        }
    }

    /// Returns when it began.
    pub fn began(&self) -> TimePoint {
        self.began
    }

    /// Records up to `upto` are observed as of `now`.
    pub fn set_observed(&mut self, upto: Seq, now: TimePoint) {
        let clock_offset = clock_offset(now);
        if self
            .clock_offsets
            .last()
            .is_none_or(|(_, known)| clock_offset.abs_diff(*known) > DRIFT_MAX.unsigned_abs())
        {
            self.clock_offsets.push((self.observed.next(), clock_offset));
        }
        self.observed = self.observed.max(upto);
    }

    /// Logs that the link came up, went down, or refuses other filters.
    pub fn link_changed(&mut self, event: Event) {
        if let Event::LinkDown(at, appended) = event {
            self.links_ended.push((appended, at.mono));
        }
        self.push(event);
    }

    /// Logs a proof, if it changed something or the last one kept is old enough.
    pub fn proven(&mut self, until: Mono, changed_something: bool) {
        if changed_something || until.0 >= self.proof_kept.0.saturating_add(PROOF_SPACING) {
            self.proof_kept = until;
            self.push(Event::Proven(until));
        }
    }

    /// Takes the next event, if it happened before any record from `before` on was observed.
    pub fn next_before(&mut self, before: Seq) -> Option<Event> {
        let (after, event) = *self.events.front()?;
        if after >= before {
            return None;
        }
        self.events.pop_front();
        Some(event)
    }

    /// Returns when a record was received, from its `received_at` and the clock offset of that time.
    pub fn received_at(&self, seq: Seq, received_at: Timestamp) -> Mono {
        let index = self.clock_offsets.partition_point(|(from, _)| *from <= seq).saturating_sub(1);
        let clock_offset = self.clock_offsets.get(index).map_or(0, |(_, clock_offset)| *clock_offset);
        let mono = Mono(u64::try_from(received_at.as_micros().saturating_sub(clock_offset)).unwrap_or(0));
        let its_link = self.links_ended.iter().find(|(newest, _)| seq <= *newest);
        its_link.map_or(mono, |(_, ended_at)| mono.min(*ended_at))
    }

    /// Returns the newest record observed while logging.
    pub fn ends_at(&self) -> Seq {
        self.observed
    }

    fn push(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            let mut keep = true;
            self.events.retain(|(_, event)| {
                keep = !keep;
                keep || !matches!(event, Event::Proven(_))
            });
        }
        self.events.push_back((self.observed, event));
    }
}

fn clock_offset(now: TimePoint) -> i64 {
    now.wall.as_micros().saturating_sub(i64::try_from(now.mono.0).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_point(mono: u64, wall: i64) -> TimePoint {
        TimePoint { mono: Mono(mono), wall: Timestamp::from_micros(wall) }
    }

    #[test]
    fn events_come_back_between_the_same_records() {
        let mut replay_log = ReplayLog::new(Seq(10), time_point(0, 1_000));
        replay_log.link_changed(Event::LinkUp(time_point(5, 1_005), Mono(4)));
        replay_log.set_observed(Seq(12), time_point(10, 1_010));
        replay_log.proven(Mono(10), true);
        replay_log.set_observed(Seq(15), time_point(20, 1_020));
        assert_eq!(replay_log.next_before(Seq(11)), Some(Event::LinkUp(time_point(5, 1_005), Mono(4))));
        assert_eq!(replay_log.next_before(Seq(12)), None);
        assert_eq!(replay_log.next_before(Seq(13)), Some(Event::Proven(Mono(10))));
        assert_eq!((replay_log.next_before(Seq(99)), replay_log.ends_at()), (None, Seq(15)));
    }

    #[test]
    fn proofs_that_changed_nothing_are_thinned_and_those_that_did_are_kept() {
        let mut replay_log = ReplayLog::new(Seq(0), time_point(0, 0));
        (1..=100).for_each(|tenth| replay_log.proven(Mono(tenth * 100_000), false));
        assert_eq!(replay_log.events.len(), 10);
        replay_log.proven(Mono(10_000_001), true);
        assert_eq!(replay_log.events.len(), 11);
        (0..2 * EVENTS_MAX as u64).for_each(|n| replay_log.proven(Mono(n), true));
        assert!(replay_log.events.len() <= EVENTS_MAX);
    }

    #[test]
    fn a_record_was_received_when_its_label_says_by_the_clock_of_that_time_and_within_its_link() {
        let mut replay_log = ReplayLog::new(Seq(0), time_point(0, 1_000_000));
        replay_log.set_observed(Seq(5), time_point(100, 1_000_100));
        replay_log.link_changed(Event::LinkDown(time_point(150, 1_000_150), Seq(7)));
        replay_log.set_observed(Seq(9), time_point(200, 9_000_200));
        let received = |seq, wall| replay_log.received_at(Seq(seq), Timestamp::from_micros(wall));
        assert_eq!(received(3, 1_000_070), Mono(70));
        assert_eq!(received(7, 9_000_199), Mono(150), "not after its link ended");
        assert_eq!(received(8, 9_000_190), Mono(190), "the clock had been set");
        assert_eq!(received(8, 0), Mono(0));
    }
}
