//! What the tracker can be asked. Nothing here changes a status.

use super::deadline::real_deadline;
use super::machine::Machine;
use super::machine_table::Slot;
use super::view;
use super::{StatusCounts, TimePoint, Tracker, View};
use crate::clock::Mono;
use crate::domain::{MachineId, Seq};

impl Tracker {
    /// Returns the earliest instant up to which a proof of the link would change something: a machine that
    /// stays silent falls silent, or a machine recorded as offline is confirmed. `None` while the link is
    /// down, and if there is nothing to wait for. Meant to be called once a tick, not once a message.
    pub fn next_deadline(&mut self) -> Option<Mono> {
        if !self.visibility.is_open() {
            return None;
        }
        let Self { deadlines, machines, visibility, timeouts, .. } = self;
        let silence = deadlines.earliest(|slot| real_deadline(machines.get_mut(slot), visibility, timeouts));
        self.counts.confirmations(&self.visibility).chain(silence).min()
    }

    /// Returns what is known about one machine.
    #[must_use]
    pub fn status_of(&self, machine_id: &str) -> Option<View<'_>> {
        self.machines
            .find(machine_id)
            .map(|slot| self.view(slot, self.machines.id(slot), self.machines.get(slot)))
    }

    /// Returns all tracked machines, in no meaningful order.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.machines.iter().map(|(slot, machine_id, machine)| self.view(slot, machine_id, machine))
    }

    /// Returns the tracked machines with numbers from `first` on, each with its number. A machine keeps its number;
    /// a new one may get that of a forgotten one.
    pub fn views_from(&self, first: usize) -> impl Iterator<Item = (usize, View<'_>)> {
        self.machines
            .iter_from(first)
            .map(|(slot, machine_id, machine)| (slot.number(), self.view(slot, machine_id, machine)))
    }

    /// Returns all tracked machines, ordered by id. Cheap if none was added since the last call.
    pub fn views_in_order(&mut self) -> impl Iterator<Item = View<'_>> {
        let Self { machines, visibility, timeouts, flapping, .. } = self;
        machines.iter_in_order().map(|(slot, machine_id, machine)| {
            view::view(machine_id, machine, visibility, timeouts, flapping.is_flapping(slot))
        })
    }

    /// Returns how many machines show which status. Costs the same for any number of machines.
    #[must_use]
    pub fn counts(&self) -> StatusCounts {
        self.counts.counts(&self.visibility)
    }

    /// Returns the newest observed record.
    #[must_use]
    pub fn observed_upto(&self) -> Seq {
        self.observed.0
    }

    /// Returns since when the link is up without a break; `None` while it is down.
    #[must_use]
    pub fn visible_since(&self) -> Option<TimePoint> {
        self.visibility.since().filter(|_| self.visibility.is_open())
    }

    /// Returns the number of sightings of machines that are not tracked because of `machines_max` (TRK-9).
    #[must_use]
    pub fn untracked_sightings(&self) -> u64 {
        self.untracked_sightings
    }

    /// Returns whether `machines_max` keeps a machine from being tracked (TRK-9).
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.untracked_sightings > 0
    }

    /// Returns the machines that started (`true`) or stopped flapping up to `now`, in order, each once
    /// (TRK-10).
    pub fn take_flapping_changes(&mut self, now: Mono) -> Vec<(MachineId, bool)> {
        self.flapping.advance(now.into());
        let changes = self.flapping.take_changes().into_iter();
        changes.map(|(slot, flaps)| (self.machines.id(slot).clone(), flaps)).collect()
    }

    /// Returns how many machines flap.
    #[must_use]
    pub fn flapping_count(&self) -> u64 {
        self.flapping.count()
    }

    fn view<'a>(&self, slot: Slot, machine_id: &'a MachineId, machine: &Machine) -> View<'a> {
        view::view(machine_id, machine, &self.visibility, &self.timeouts, self.flapping.is_flapping(slot))
    }
}
