//! Machines that change their status too often (rule TRK-10).
//!
//! Changes are counted on the monotonic clock, so that a jump of the wall clock neither makes a machine flap
//! nor hides that it does. Changes from before this process are dated by the wall clock at its start.
//!
//! Only machines that changed within the window cost memory: an entry with their newest changes, at most one
//! more than allowed, and an entry in the queue of what leaves the window next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::machine_table::Slot;
use super::visibility::TimePoint;
use crate::clock::Mono;
use crate::domain::{Timestamp, signed_micros};

/// When a machine flaps: more than `changes` changes of its status within `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlappingRule {
    /// So many changes are still allowed; at least 1.
    pub changes: usize,
    /// The window.
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
        Self(self.0.saturating_add(signed_micros(duration)))
    }

    /// Dates a change from before this process, with both clocks as they stand `now`. `None`: by the wall
    /// clock it lies in the future, so its age is unknown.
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

/// The changes within the window, of all machines that have any.
#[derive(Debug)]
pub(super) struct Flapping {
    rule: FlappingRule,
    histories: HashMap<Slot, History>,
    /// One entry for each history, at the instant its oldest change leaves the window, or earlier.
    due: BinaryHeap<Reverse<(ChangedAt, Slot)>>,
    count: u64,
    /// Machines that started (`true`) or stopped flapping, in order.
    changes: Vec<(Slot, bool)>,
}

impl Flapping {
    pub(super) fn new(rule: FlappingRule) -> Self {
        Self { rule, histories: HashMap::new(), due: BinaryHeap::new(), count: 0, changes: Vec::new() }
    }

    /// Records a change at `at`. It counts as no earlier than the machine's previous change, whatever the
    /// wall clock said.
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
        self.update(slot, at);
    }

    /// Drops the changes that have left the window by `now`.
    pub(super) fn advance(&mut self, now: ChangedAt) {
        while let Some(&Reverse((at, slot))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            self.update(slot, now);
            match self.histories.get(&slot).and_then(|history| history.times.front()) {
                Some(oldest) => self.due.push(Reverse((oldest.plus(self.rule.window), slot))),
                None => {
                    self.histories.remove(&slot);
                }
            }
        }
        if self.histories.is_empty() {
            // Release the memory that a storm of changes took.
            self.histories.shrink_to_fit();
            self.due.shrink_to_fit();
        }
    }

    /// Replaces the rule. Older changes than the old rule kept do not come back.
    pub(super) fn set_rule(&mut self, rule: FlappingRule, now: ChangedAt) {
        if rule == self.rule {
            return;
        }
        self.rule = rule;
        let mut slots: Vec<Slot> = self.histories.keys().copied().collect();
        slots.sort_unstable();
        for slot in slots {
            if let Some(history) = self.histories.get_mut(&slot) {
                let surplus = history.times.len().saturating_sub(rule.changes + 1);
                history.times.drain(..surplus);
            }
            self.update(slot, now);
        }
        // An empty one is removed when it is due.
        let due = |(slot, history): (&Slot, &History)| {
            let oldest = history.times.front().copied().unwrap_or(now);
            Reverse((oldest.plus(rule.window), *slot))
        };
        self.due = self.histories.iter().map(due).collect();
    }

    /// Forgets a machine's changes, without a report that it stopped flapping.
    pub(super) fn forget(&mut self, slot: Slot) {
        if self.histories.remove(&slot).is_some_and(|history| history.flaps) {
            self.count -= 1;
        }
        self.changes.retain(|(changed, _)| *changed != slot);
    }

    pub(super) fn is_flapping(&self, slot: Slot) -> bool {
        // Usually no machine flaps: save the look-up.
        self.count > 0 && self.histories.get(&slot).is_some_and(|history| history.flaps)
    }

    /// Returns how many machines flap.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the machines that started (`true`) or stopped flapping since the last call, in order.
    pub(super) fn take_changes(&mut self) -> Vec<(Slot, bool)> {
        std::mem::take(&mut self.changes)
    }

    fn update(&mut self, slot: Slot, now: ChangedAt) {
        let Some(history) = self.histories.get_mut(&slot) else { return };
        while history.times.front().is_some_and(|oldest| oldest.plus(self.rule.window) <= now) {
            history.times.pop_front();
        }
        let flaps = history.times.len() > self.rule.changes;
        if flaps != history.flaps {
            history.flaps = flaps;
            self.changes.push((slot, flaps));
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

    /// Proves TRK-10.
    #[test]
    fn one_change_more_than_allowed_flaps_until_the_oldest_leaves_the_window() {
        let mut flapping = Flapping::new(RULE);
        flapping.record(slot(1), at(0));
        flapping.record(slot(1), at(10));
        assert!(!flapping.is_flapping(slot(1)), "this many are allowed");
        flapping.record(slot(1), at(99));
        flapping.record(slot(2), at(99));
        assert!(flapping.is_flapping(slot(1)) && !flapping.is_flapping(slot(2)));
        assert_eq!(flapping.take_changes(), [(slot(1), true)]);
        flapping.advance(at(99));
        assert_eq!((flapping.count(), flapping.take_changes()), (1, vec![]), "reported once");
        flapping.advance(at(100));
        assert_eq!((flapping.count(), flapping.take_changes()), (0, vec![(slot(1), false)]));
    }

    /// Proves TRK-10.
    #[test]
    fn changes_far_enough_apart_never_flap() {
        let mut flapping = Flapping::new(RULE);
        (0..50).for_each(|n| flapping.record(slot(1), at(n * 50)));
        assert_eq!(flapping.take_changes(), []);
        (50..60).for_each(|n| flapping.record(slot(1), at(n * 50 - n)));
        assert_eq!(flapping.take_changes().first(), Some(&(slot(1), true)));
    }

    /// Proves TRK-10.
    #[test]
    fn changes_from_before_this_process_are_dated_by_the_wall_clock() {
        let now = TimePoint { mono: Mono(7), wall: Timestamp::from_micros(1_000) };
        let before = |wall| ChangedAt::before(now, Timestamp::from_micros(wall));
        assert_eq!((before(1_000), before(900), before(1_001)), (Some(at(7)), Some(at(-93)), None));
    }

    /// Proves TRK-10.
    #[test]
    fn a_change_dated_before_its_predecessor_counts_as_simultaneous() {
        let mut flapping = Flapping::new(RULE);
        [50, 60, 20].into_iter().for_each(|when| flapping.record(slot(1), at(when)));
        assert!(flapping.is_flapping(slot(1)));
        flapping.advance(at(149));
        assert!(flapping.is_flapping(slot(1)));
        flapping.advance(at(150));
        assert!(!flapping.is_flapping(slot(1)));
    }

    /// Proves TRK-10.
    #[test]
    fn a_machine_at_rest_costs_no_memory() {
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
