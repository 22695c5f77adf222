//! What a watch went through while the past was not known, so that it can go through it again once it is.
//!
//! The records themselves are in the journal. What is not in it is kept here: the link's comings and goings, the proofs of
//! it, and the wall clock's lead over the monotonic one, each with its place among the records.

use std::collections::VecDeque;

use super::tracker::TimePoint;
use crate::clock::Mono;
use crate::domain::{FilterSet, Seq, Timestamp};

/// Events kept. Beyond it every second proof is forgotten: a silence that a message ended soon after may be missed then.
const EVENTS_MAX: usize = 200_000;
/// A proof that changed nothing is worth keeping if the one kept before is this much older.
pub(super) const PROOF_APART: u64 = 1_000_000;
/// Clocks that drift less than this, in microseconds, go together.
const DRIFT_MAX: i64 = 5_000;

/// What happened beside the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The link came up; what was received from this instant on came over it.
    LinkUp(TimePoint, Mono),
    /// The broker refuses these filters from then on; through those that it refuses no longer was heard from this instant on.
    Refused(TimePoint, FilterSet, Mono),
    /// The link went down; the newest record in the journal then.
    LinkDown(TimePoint, Seq),
    /// The link was alive then or later, and every record received before then had been looked at.
    Proven(Mono),
}

/// The diary. Events stand after a record: when everything up to it, and nothing past it, had been looked at.
#[derive(Debug)]
pub struct ReplayLog {
    began: TimePoint,
    events: VecDeque<(Seq, Event)>,
    /// From this record on the wall clock was so many microseconds ahead of the monotonic one.
    leads: Vec<(Seq, i64)>,
    links_ended: Vec<(Seq, Mono)>,
    proof_kept: Mono,
    looked_at: Seq,
}

impl ReplayLog {
    /// A diary that begins after `looked_at`, at `now`.
    pub fn new(looked_at: Seq, now: TimePoint) -> Self {
        Self {
            began: now,
            events: VecDeque::new(),
            leads: vec![(Seq::ZERO, lead(now))],
            links_ended: Vec::new(),
            proof_kept: Mono::default(),
            looked_at,
        }
    }

    /// When it began.
    pub fn began(&self) -> TimePoint {
        self.began
    }

    /// Records up to `upto` have been looked at `now`.
    pub fn looked_at(&mut self, upto: Seq, now: TimePoint) {
        let lead = lead(now);
        if self.leads.last().is_none_or(|(_, known)| lead.abs_diff(*known) > DRIFT_MAX.unsigned_abs()) {
            self.leads.push((self.looked_at.next(), lead));
        }
        self.looked_at = self.looked_at.max(upto);
    }

    /// The link came or went.
    pub fn link_changed(&mut self, event: Event) {
        if let Event::LinkDown(at, appended) = event {
            self.links_ended.push((appended, at.mono));
        }
        self.push(event);
    }

    /// A proof, and whether it changed something.
    pub fn proven(&mut self, until: Mono, changed_something: bool) {
        if changed_something || until.0 >= self.proof_kept.0.saturating_add(PROOF_APART) {
            self.proof_kept = until;
            self.push(Event::Proven(until));
        }
    }

    /// The next event, if it happened when no record from `before` on had been looked at.
    pub fn next_before(&mut self, before: Seq) -> Option<Event> {
        let (after, event) = *self.events.front()?;
        if after >= before {
            return None;
        }
        self.events.pop_front();
        Some(event)
    }

    /// When a record of this diary was received, by its label.
    pub fn received_at(&self, seq: Seq, received_at: Timestamp) -> Mono {
        let place = self.leads.partition_point(|(from, _)| *from <= seq).saturating_sub(1);
        let lead = self.leads.get(place).map_or(0, |(_, lead)| *lead);
        let mono = Mono(u64::try_from(received_at.as_micros().saturating_sub(lead)).unwrap_or(0));
        let link_of_it = self.links_ended.iter().find(|(newest, _)| seq <= *newest);
        link_of_it.map_or(mono, |(_, ended_at)| mono.min(*ended_at))
    }

    /// The last record in it.
    pub fn ends_at(&self) -> Seq {
        self.looked_at
    }

    fn push(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            let mut keep = true;
            self.events.retain(|(_, event)| {
                keep = !keep;
                keep || !matches!(event, Event::Proven(_))
            });
        }
        self.events.push_back((self.looked_at, event));
    }
}

fn lead(now: TimePoint) -> i64 {
    now.wall.as_micros().saturating_sub(i64::try_from(now.mono.0).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(mono: u64, wall: i64) -> TimePoint {
        TimePoint { mono: Mono(mono), wall: Timestamp::from_micros(wall) }
    }

    #[test]
    fn events_come_back_between_the_same_records() {
        let mut replay_log = ReplayLog::new(Seq(10), moment(0, 1_000));
        replay_log.link_changed(Event::LinkUp(moment(5, 1_005), Mono(4)));
        replay_log.looked_at(Seq(12), moment(10, 1_010));
        replay_log.proven(Mono(10), true);
        replay_log.looked_at(Seq(15), moment(20, 1_020));
        assert_eq!(replay_log.next_before(Seq(11)), Some(Event::LinkUp(moment(5, 1_005), Mono(4))));
        assert_eq!(replay_log.next_before(Seq(12)), None);
        assert_eq!(replay_log.next_before(Seq(13)), Some(Event::Proven(Mono(10))));
        assert_eq!((replay_log.next_before(Seq(99)), replay_log.ends_at()), (None, Seq(15)));
    }

    #[test]
    fn proofs_that_changed_nothing_are_thinned_and_those_that_did_are_kept() {
        let mut replay_log = ReplayLog::new(Seq(0), moment(0, 0));
        (1..=100).for_each(|tenth| replay_log.proven(Mono(tenth * 100_000), false));
        assert_eq!(replay_log.events.len(), 10);
        replay_log.proven(Mono(10_000_001), true);
        assert_eq!(replay_log.events.len(), 11);
        (0..2 * EVENTS_MAX as u64).for_each(|n| replay_log.proven(Mono(n), true));
        assert!(replay_log.events.len() <= EVENTS_MAX);
    }

    #[test]
    fn a_record_was_received_when_its_label_says_by_the_clock_of_that_time_and_within_its_link() {
        let mut replay_log = ReplayLog::new(Seq(0), moment(0, 1_000_000));
        replay_log.looked_at(Seq(5), moment(100, 1_000_100));
        replay_log.link_changed(Event::LinkDown(moment(150, 1_000_150), Seq(7)));
        replay_log.looked_at(Seq(9), moment(200, 9_000_200));
        let received = |seq, wall| replay_log.received_at(Seq(seq), Timestamp::from_micros(wall));
        assert_eq!(received(3, 1_000_070), Mono(70));
        assert_eq!(received(7, 9_000_199), Mono(150), "its link had ended");
        assert_eq!(received(8, 9_000_190), Mono(190), "the clock had been set");
        assert_eq!(received(8, 0), Mono(0));
    }
}
