//! What liveness still has to tell: transitions to the database, statuses to the broker.

use std::collections::{HashSet, VecDeque};

use crate::domain::{MachineId, Seq, Transition};

/// Transitions kept while the database is away; beyond it the oldest are given up (and counted).
pub const TRANSITIONS_MAX: usize = 200_000;

/// Transitions that are not known to be in the database, in order.
#[derive(Debug, Default)]
pub struct TransitionOutbox {
    pending: VecDeque<(u64, Transition)>,
    newest_order: u64,
    given_up: u64,
}

impl TransitionOutbox {
    /// Adds the newest transition.
    pub fn push(&mut self, transition: Transition) {
        if self.pending.len() >= TRANSITIONS_MAX {
            self.pending.pop_front();
            self.given_up += 1;
        }
        self.newest_order += 1;
        self.pending.push_back((self.newest_order, transition));
    }

    /// The oldest transitions of records up to `seq_max`, at most `count_max`, and the order of the last of them (0 if
    /// there are none). They stay until [`Self::recorded`].
    #[must_use]
    pub fn oldest(&self, seq_max: Seq, count_max: usize) -> (Vec<Transition>, u64) {
        let eligible = self.pending.iter().take_while(|(_, transition)| transition.seq <= seq_max);
        let taken: Vec<_> = eligible.take(count_max).cloned().collect();
        let upto = taken.last().map_or(0, |(order, _)| *order);
        (taken.into_iter().map(|(_, transition)| transition).collect(), upto)
    }

    /// Whether there are transitions of records up to `seq_max` past the one of order `upto`.
    #[must_use]
    pub fn has_after(&self, upto: u64, seq_max: Seq) -> bool {
        let first_after = self.pending.iter().find(|(order, _)| *order > upto);
        first_after.is_some_and(|(_, transition)| transition.seq <= seq_max)
    }

    /// Everything up to `upto` is in the database.
    pub fn recorded(&mut self, upto: u64) {
        while self.pending.front().is_some_and(|(order, _)| *order <= upto) {
            self.pending.pop_front();
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// How many were given up since the start; each is an event missing from the database.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

/// Machines whose published status is out of date, in the order they became so.
#[derive(Debug, Default)]
pub struct StatusOutbox {
    queue: VecDeque<MachineId>,
    queued: HashSet<MachineId>,
}

impl StatusOutbox {
    /// This machine's status has to be published.
    pub fn push(&mut self, machine_id: MachineId) {
        if self.queued.insert(machine_id.clone()) {
            self.queue.push_back(machine_id);
        }
    }

    /// Takes up to `count_max` machines out.
    pub fn take(&mut self, count_max: usize) -> Vec<MachineId> {
        let taken: Vec<_> = self.queue.drain(..count_max.min(self.queue.len())).collect();
        for machine_id in &taken {
            self.queued.remove(machine_id);
        }
        taken
    }

    /// Puts machines back in front, because they could not be published.
    pub fn put_back(&mut self, machines: Vec<MachineId>) {
        for machine_id in machines.into_iter().rev() {
            if self.queued.insert(machine_id.clone()) {
                self.queue.push_front(machine_id);
            }
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MachineStatus, Timestamp, TransitionReason};

    fn machine(name: &str) -> MachineId {
        MachineId::parse(name).expect("a valid id")
    }

    fn transition(name: &str) -> Transition {
        transition_at(name, 1)
    }

    fn transition_at(name: &str, seq: u64) -> Transition {
        Transition {
            machine_id: machine(name),
            status: MachineStatus::Online,
            previous_status: None,
            reason: TransitionReason::FirstSeen,
            occurred_at: Timestamp::from_micros(1),
            last_seen_at: None,
            seq: Seq(seq),
        }
    }

    #[test]
    fn transitions_stay_until_they_are_recorded() {
        let mut outbox = TransitionOutbox::default();
        for name in ["a", "b", "c"] {
            outbox.push(transition(name));
        }
        let (taken, upto) = outbox.oldest(Seq(1), 2);
        assert!(outbox.has_after(upto, Seq(1)));
        assert_eq!(taken.len(), 2);
        assert_eq!(outbox.len(), 3, "taking is not recording");
        outbox.recorded(upto);
        assert_eq!(outbox.oldest(Seq(1), 9).0, [transition("c")]);
        assert_eq!(TransitionOutbox::default().oldest(Seq(1), 9), (Vec::new(), 0));
    }

    #[test]
    fn a_transition_waits_for_the_position_of_its_record() {
        let mut outbox = TransitionOutbox::default();
        outbox.push(transition_at("a", 5));
        outbox.push(transition_at("b", 9));
        let (taken, upto) = outbox.oldest(Seq(5), 9);
        assert_eq!(taken, [transition_at("a", 5)]);
        assert!(!outbox.has_after(upto, Seq(8)) && outbox.has_after(upto, Seq(9)));
        assert_eq!(outbox.oldest(Seq(4), 9), (Vec::new(), 0));
    }

    #[test]
    fn a_machine_waits_once_and_goes_back_in_front() {
        let mut outbox = StatusOutbox::default();
        for name in ["a", "b", "a", "c"] {
            outbox.push(machine(name));
        }
        assert_eq!(outbox.take(2), [machine("a"), machine("b")]);
        outbox.push(machine("b"));
        outbox.put_back(vec![machine("a"), machine("b")]);
        assert_eq!(outbox.take(9), [machine("a"), machine("c"), machine("b")]);
        assert!(outbox.is_empty());
    }
}
