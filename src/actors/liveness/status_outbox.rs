//! Machines whose current status has to be published again.

use std::collections::{HashSet, VecDeque};

use crate::domain::MachineId;

/// Machines whose current status has to be published although it did not change, each once, in the order of
/// their requests.
#[derive(Debug, Default)]
pub struct StatusOutbox {
    queue: VecDeque<MachineId>,
    queued: HashSet<MachineId>,
}

impl StatusOutbox {
    /// Adds a machine, unless it is queued already.
    pub fn push(&mut self, machine_id: MachineId) {
        if self.queued.insert(machine_id.clone()) {
            self.queue.push_back(machine_id);
        }
    }

    /// Takes up to `count_max` machines.
    pub fn take(&mut self, count_max: usize) -> Vec<MachineId> {
        let taken: Vec<_> = self.queue.drain(..count_max.min(self.queue.len())).collect();
        for machine_id in &taken {
            self.queued.remove(machine_id);
        }
        taken
    }

    /// Puts back in front the machines that could not be published.
    pub fn put_back(&mut self, machines: Vec<MachineId>) {
        for machine_id in machines.into_iter().rev() {
            if self.queued.insert(machine_id.clone()) {
                self.queue.push_front(machine_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str) -> MachineId {
        MachineId::parse(name).expect("a valid id")
    }

    #[test]
    fn a_machine_is_queued_once_and_goes_back_in_front() {
        let mut outbox = StatusOutbox::default();
        for name in ["a", "b", "a", "c"] {
            outbox.push(machine(name));
        }
        assert_eq!(outbox.take(2), [machine("a"), machine("b")]);
        outbox.push(machine("b"));
        outbox.put_back(vec![machine("a"), machine("b")]);
        assert_eq!(outbox.take(9), [machine("a"), machine("c"), machine("b")]);
        assert_eq!(outbox.take(1), []);
    }
}
