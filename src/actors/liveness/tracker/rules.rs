//! A change of the rules while machines are watched (TRK-12), and machines that are no longer watched.

use std::collections::HashSet;

use super::machine::Machine;
use super::machine_table::Slot;
use super::timeouts::Timeouts;
use super::{TimePoint, Tracker, TrackerOptions};
use crate::domain::MachineId;

impl Tracker {
    /// Replaces the rules from `now` on (TRK-12). Makes no transition by itself. Costs a look at every machine.
    pub fn set_rules(&mut self, options: &TrackerOptions, now: TimePoint) {
        let mut timeouts = Timeouts::new(options);
        let mut has_changed = self.take_timeouts(&timeouts);
        let expected: HashSet<&MachineId> =
            options.machines.iter().filter(|(_, rule)| rule.expected).map(|(id, _)| id).collect();
        self.remove_unexpected(&expected);
        let mut new: Vec<&MachineId> =
            expected.into_iter().filter(|id| self.machines.find(id.as_str()).is_none()).collect();
        new.sort_unstable();
        has_changed |= !new.is_empty();
        timeouts.set_changed_at(if has_changed { Some(now) } else { self.timeouts.changed_at() });
        self.timeouts = timeouts;
        self.machines_max = options.machines_max;
        self.flapping.set_rule(options.flapping, now.mono.into());
        self.recount();
        for machine_id in new {
            let mut machine = Machine::new_unknown(self.timeouts.of(machine_id));
            machine.set_timeout(machine.timeout(), true);
            self.add_machine(machine_id.clone(), machine);
        }
        // A deadline may have moved to an earlier instant, where it has no entry yet.
        self.deadlines.clear();
        for slot in self.machines.slots() {
            self.machines.get_mut(slot).set_armed(false);
            self.arm(slot);
        }
    }

    /// Stops watching a machine; it is new when it sends again. Returns false if it is not watched.
    pub fn forget(&mut self, machine_id: &MachineId) -> bool {
        let slot = self.machines.find(machine_id.as_str());
        slot.map(|slot| self.remove(slot)).is_some()
    }

    /// Gives each machine its entry in `timeouts`. Returns whether any has another value than before.
    fn take_timeouts(&mut self, timeouts: &Timeouts) -> bool {
        let mut any_is_new = false;
        let changed_before = self.timeouts.changed_at().map(|at| at.mono);
        for slot in self.machines.slots() {
            let (machine_id, machine) = self.machines.with_id_mut(slot);
            let timeout = timeouts.of(machine_id);
            let is_new = timeouts.micros(timeout) != self.timeouts.micros(machine.timeout());
            // It has not sent since the change before this one.
            let still_new = machine.has_new_rule() && machine.evidence() < changed_before;
            machine.set_timeout(timeout, is_new || still_new);
            any_is_new |= is_new;
        }
        any_is_new
    }

    /// Removes machines that were only expected and no longer are.
    fn remove_unexpected(&mut self, expected: &HashSet<&MachineId>) {
        let is_only_expected = |machine: &Machine| machine.recorded().is_none();
        let only_expected = self.machines.iter().filter(|(_, _, machine)| is_only_expected(machine));
        let gone: Vec<Slot> =
            only_expected.filter(|(_, id, _)| !expected.contains(id)).map(|(slot, _, _)| slot).collect();
        gone.into_iter().for_each(|slot| self.machines.remove(slot));
    }

    fn remove(&mut self, slot: Slot) {
        self.counts.remove(self.machines.get(slot), &self.visibility);
        self.flapping.forget(slot);
        self.machines.remove(slot);
    }
}
