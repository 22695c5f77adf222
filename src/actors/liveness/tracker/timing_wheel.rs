//! Deadlines that cost nothing while machines send: a timing wheel whose entries may be early.
//!
//! Each machine that can fall silent has exactly one entry, at or before its real deadline. A message does
//! not touch the entry. When the entry comes up and the real deadline is later, the entry moves there. So a
//! machine costs one move per `offline_after`, however often it sends and however many machines there are.
//!
//! Far entries lie unordered in the wheel, one bucket for each granule of time. Entries up to the granule at
//! the cursor lie in a heap, ordered by their exact instant. A deadline beyond the wheel's span comes up once
//! a turn, which is early and harmless.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Mono;

use super::machine_table::Slot;

/// A granule of time is 2^16 µs, about 66 ms.
const GRANULE_BITS: u32 = 16;
/// Granules in the wheel, about 67 s.
const BUCKETS: u64 = 1024;

/// The entries. In its methods `real` returns a machine's real deadline, never earlier than its entry; `None`
/// if the machine can no longer fall silent, which drops the entry.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// Entries up to the end of granule `cursor`.
    near: BinaryHeap<Reverse<(Mono, Slot)>>,
    /// Entries of later granules, each at its granule modulo `BUCKETS`.
    far: Vec<Vec<Slot>>,
    far_entries: usize,
    /// The newest granule whose entries are near.
    cursor: u64,
}

impl Deadlines {
    pub(super) fn new() -> Self {
        let far = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self { near: BinaryHeap::new(), far, far_entries: 0, cursor: 0 }
    }

    /// Removes every entry.
    pub(super) fn clear(&mut self) {
        self.near.clear();
        self.far.iter_mut().for_each(Vec::clear);
        self.far_entries = 0;
    }

    /// Adds the entry of a machine that has none.
    pub(super) fn arm(&mut self, at: Mono, slot: Slot) {
        let granule = granule_of(at);
        if granule <= self.cursor {
            self.near.push(Reverse((at, slot)));
        } else {
            self.far[bucket_of(granule)].push(slot);
            self.far_entries += 1;
        }
    }

    /// Removes and returns the earliest entry, if its real deadline is not after `horizon`.
    pub(super) fn pop_due(
        &mut self,
        horizon: Mono,
        real: impl FnMut(Slot) -> Option<Mono>,
    ) -> Option<(Mono, Slot)> {
        let mut real = real;
        self.leap(granule_of(horizon), &mut real);
        loop {
            match self.near.peek() {
                Some(&Reverse((at, slot))) if at <= horizon => {
                    self.near.pop();
                    match real(slot) {
                        Some(deadline) if deadline <= at => return Some((deadline, slot)),
                        Some(deadline) => self.arm(deadline, slot),
                        None => {}
                    }
                }
                _ if self.cursor < granule_of(horizon) => self.turn(&mut real),
                _ => return None,
            }
        }
    }

    /// Returns the earliest real deadline.
    pub(super) fn earliest(&mut self, real: impl FnMut(Slot) -> Option<Mono>) -> Option<Mono> {
        let mut real = real;
        loop {
            match self.near.peek() {
                Some(&Reverse((at, slot))) => match real(slot) {
                    Some(deadline) if deadline <= at => return Some(deadline),
                    Some(deadline) => {
                        self.near.pop();
                        self.arm(deadline, slot);
                    }
                    None => {
                        self.near.pop();
                    }
                },
                None if self.far_entries > 0 => self.turn(&mut real),
                None => return None,
            }
        }
    }

    /// Returns the number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.near.len() + self.far_entries
    }

    /// Moves the cursor to the next granule and rearms that granule's entries.
    fn turn(&mut self, real: &mut impl FnMut(Slot) -> Option<Mono>) {
        self.cursor += 1;
        // Release the bucket's memory: it may once have held all machines.
        let entries = std::mem::take(&mut self.far[bucket_of(self.cursor)]);
        self.rearm(entries, real);
    }

    /// Moves the cursor to `granule` in one step if that is more than a turn of the wheel away.
    fn leap(&mut self, granule: u64, real: &mut impl FnMut(Slot) -> Option<Mono>) {
        if granule.saturating_sub(self.cursor) < BUCKETS {
            return;
        }
        self.cursor = granule;
        for bucket in 0..self.far.len() {
            let entries = std::mem::take(&mut self.far[bucket]);
            self.rearm(entries, real);
        }
    }

    fn rearm(&mut self, entries: Vec<Slot>, real: &mut impl FnMut(Slot) -> Option<Mono>) {
        self.far_entries -= entries.len();
        for slot in entries {
            if let Some(deadline) = real(slot) {
                self.arm(deadline, slot);
            }
        }
    }
}

fn granule_of(at: Mono) -> u64 {
    at.0 >> GRANULE_BITS
}

fn bucket_of(granule: u64) -> usize {
    usize::try_from(granule % BUCKETS).expect("a bucket's index is below BUCKETS")
}

#[cfg(test)]
mod tests {
    use super::super::machine_table::tests::slot;
    use super::*;

    #[test]
    fn after_a_gap_longer_than_the_wheel_each_entry_is_looked_up_a_few_times_only() {
        let mut deadlines = Deadlines::new();
        for number in 0..100 {
            deadlines.arm(Mono(u64::from(number) << GRANULE_BITS), slot(number));
        }
        let much_later = Mono(1 << 40);
        let mut lookups = 0;
        let due = deadlines.pop_due(Mono(much_later.0 - 1), |_| {
            lookups += 1;
            Some(much_later)
        });
        assert_eq!(due, None);
        assert!(lookups <= 300, "{lookups} look-ups of 100 entries");
        let due = deadlines.pop_due(much_later, |_| Some(much_later));
        assert_eq!(due, Some((much_later, slot(0))));
    }

    #[test]
    fn a_deadline_far_beyond_the_wheel_comes_up_once_a_turn() {
        let mut deadlines = Deadlines::new();
        let turns = 100;
        let far = Mono((turns * BUCKETS) << GRANULE_BITS);
        deadlines.arm(far, slot(1));
        let mut lookups = 0;
        for granule in 0..turns * BUCKETS {
            let due = deadlines.pop_due(Mono(granule << GRANULE_BITS), |_| {
                lookups += 1;
                Some(far)
            });
            assert_eq!(due, None);
        }
        assert!(lookups <= turns, "{lookups} look-ups");
        assert_eq!(deadlines.pop_due(far, |_| Some(far)), Some((far, slot(1))));
    }

    #[test]
    fn an_entry_of_a_machine_that_cannot_fall_silent_is_dropped() {
        let mut deadlines = Deadlines::new();
        deadlines.arm(Mono(5), slot(1));
        deadlines.arm(Mono(5 << GRANULE_BITS), slot(2));
        assert_eq!(deadlines.earliest(|_| None), None);
        assert_eq!(deadlines.len(), 0);
    }
}
