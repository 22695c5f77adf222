//! Machines that change their status too often (rule TRK-10).
//!
//! Counted on the monotonic clock, so that a jump of the wall clock neither makes a machine flap nor hides that it does. What changed
//! before this process began is as old as the wall clock said when it began.
//!
//! Only machines that changed within the window cost anything: an entry with their newest changes, at most one more than
//! are allowed, and a place among the entries that are due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::machine_table::Slot;
use super::visibility::TimePoint;
use crate::clock::Mono;
use crate::domain::Timestamp;

/// When a machine flaps: more than `changes` changes of its status within `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlappingRule {
    /// So many changes are not too many; at least 1.
    pub changes: usize,
    /// Within this.
    pub window: Duration,
}

/// Microseconds on the monotonic clock; negative before this process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChangedAt(i64);

impl From<Mono> for ChangedAt {
    fn from(at: Mono) -> Self {
        Self(i64::try_from(at.0).unwrap_or(i64::MAX))
    }
}

impl ChangedAt {
    fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// When a change of an earlier process's life occurred, as the clocks stand `now`. `None`: by the wall clock it is still to come,
    /// so that nobody knows how old it is.
    pub(super) fn before(now: TimePoint, occurred_at: Timestamp) -> Option<Self> {
        let age = now.wall.as_micros().saturating_sub(occurred_at.as_micros());
        (age >= 0).then(|| Self(Self::from(now.mono).0.saturating_sub(age)))
    }
}

/// The newest changes of one machine, oldest first.
#[derive(Debug, Default)]
struct History {
    times: VecDeque<ChangedAt>,
    flaps: bool,
}

/// The changes within the window, of the machines that have any.
#[derive(Debug)]
pub(super) struct Flapping {
    rule: FlappingRule,
    histories: HashMap<Slot, History>,
    /// One entry for each history, armed for the instant at which its oldest change leaves the window, or earlier.
    due: BinaryHeap<Reverse<(ChangedAt, Slot)>>,
    count: u64,
    /// Machines that began (`true`) or ceased to flap, in order.
    news: Vec<(Slot, bool)>,
}

impl Flapping {
    pub(super) fn new(rule: FlappingRule) -> Self {
        Self { rule, histories: HashMap::new(), due: BinaryHeap::new(), count: 0, news: Vec::new() }
    }

    /// A change at `at`, the next of its machine: it is no earlier than the one before, whatever a wall clock said of them.
    pub(super) fn record(&mut self, slot: Slot, at: ChangedAt) {
        let newest = self.histories.get(&slot).and_then(|history| history.times.back().copied());
        let at = newest.map_or(at, |newest| newest.max(at));
        if !self.histories.contains_key(&slot) {
            self.due.push(Reverse((at.plus(self.rule.window), slot)));
        }
        let history = self.histories.entry(slot).or_default();
        history.times.push_back(at);
        if history.times.len() > self.rule.changes + 1 {
            history.times.pop_front();
        }
        self.settle(slot, at);
    }

    /// It is `now`: changes leave the window.
    pub(super) fn advance(&mut self, now: ChangedAt) {
        while let Some(&Reverse((at, slot))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            self.settle(slot, now);
            match self.histories.get(&slot).and_then(|history| history.times.front()) {
                Some(oldest) => self.due.push(Reverse((oldest.plus(self.rule.window), slot))),
                None => {
                    self.histories.remove(&slot);
                }
            }
        }
        if self.histories.is_empty() {
            // After a storm the memory goes, too.
            self.histories.shrink_to_fit();
            self.due.shrink_to_fit();
        }
    }

    pub(super) fn is_flapping(&self, slot: Slot) -> bool {
        // Most of the time nobody does.
        self.count > 0 && self.histories.get(&slot).is_some_and(|history| history.flaps)
    }

    /// How many machines flap.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Machines that began (`true`) or ceased to flap since the last call, in order.
    pub(super) fn take_news(&mut self) -> Vec<(Slot, bool)> {
        std::mem::take(&mut self.news)
    }

    fn settle(&mut self, slot: Slot, now: ChangedAt) {
        let Some(history) = self.histories.get_mut(&slot) else { return };
        while history.times.front().is_some_and(|oldest| oldest.plus(self.rule.window) <= now) {
            history.times.pop_front();
        }
        let flaps = history.times.len() > self.rule.changes;
        if flaps != history.flaps {
            history.flaps = flaps;
            self.news.push((slot, flaps));
            self.count = if flaps { self.count + 1 } else { self.count - 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine_table::tests::slot;
    use super::*;

    const RULE: FlappingRule = FlappingRule { changes: 2, window: Duration::from_micros(100) };

    fn at(micros: i64) -> ChangedAt {
        ChangedAt(micros)
    }

    #[test]
    fn t10_one_change_more_than_allowed_flaps_until_the_oldest_of_them_leaves_the_window() {
        let mut flapping = Flapping::new(RULE);
        flapping.record(slot(1), at(0));
        flapping.record(slot(1), at(10));
        assert!(!flapping.is_flapping(slot(1)), "so many are allowed");
        flapping.record(slot(1), at(99));
        flapping.record(slot(2), at(99));
        assert!(flapping.is_flapping(slot(1)) && !flapping.is_flapping(slot(2)));
        assert_eq!(flapping.take_news(), [(slot(1), true)]);
        flapping.advance(at(99));
        assert_eq!((flapping.count(), flapping.take_news()), (1, vec![]), "said once");
        flapping.advance(at(100));
        assert_eq!((flapping.count(), flapping.take_news()), (0, vec![(slot(1), false)]));
    }

    #[test]
    fn t10_changes_that_are_far_enough_apart_never_flap() {
        let mut flapping = Flapping::new(RULE);
        (0..50).for_each(|n| flapping.record(slot(1), at(n * 50)));
        assert_eq!(flapping.take_news(), []);
        (50..60).for_each(|n| flapping.record(slot(1), at(n * 50 - n)));
        assert_eq!(flapping.take_news().first(), Some(&(slot(1), true)));
    }

    #[test]
    fn t10_what_was_before_this_process_is_as_old_as_the_wall_clock_says() {
        let now = TimePoint { mono: Mono(7), wall: Timestamp::from_micros(1_000) };
        let before = |wall| ChangedAt::before(now, Timestamp::from_micros(wall));
        assert_eq!((before(1_000), before(900), before(1_001)), (Some(at(7)), Some(at(-93)), None));
    }

    #[test]
    fn t10_a_change_that_seems_earlier_than_the_one_before_is_as_late_as_that() {
        let mut flapping = Flapping::new(RULE);
        [50, 60, 20].into_iter().for_each(|when| flapping.record(slot(1), at(when)));
        assert!(flapping.is_flapping(slot(1)));
        flapping.advance(at(149));
        assert!(flapping.is_flapping(slot(1)));
        flapping.advance(at(150));
        assert!(!flapping.is_flapping(slot(1)));
    }

    #[test]
    fn t10_a_machine_at_rest_costs_nothing() {
        let mut flapping = Flapping::new(RULE);
        for machine in 0..1000 {
            (0..20).for_each(|n| flapping.record(slot(machine), at(i64::from(machine) + n)));
        }
        assert!(
            flapping.histories.values().all(|history| history.times.len() == 3),
            "bounded while it flaps"
        );
        assert_eq!(flapping.due.len(), 1000, "one entry each, however often they change");
        flapping.advance(at(2_000));
        assert_eq!((flapping.histories.len(), flapping.due.len(), flapping.count()), (0, 0, 0));
    }
}
