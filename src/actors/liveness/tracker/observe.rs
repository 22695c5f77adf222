//! What a sighting changes (TRK-1, TRK-6, TRK-8, TRK-9).

use super::flapping::ChangedAt;
use super::machine::Machine;
use super::machine_table::Slot;
use super::{Sighting, SightingKind, Tracker};
use crate::clock::Mono;
use crate::domain::{Seq, Transition};

/// Sightings looked up together; their machines fit into the processor's first cache.
pub(super) const LOOKUP_GROUP: usize = 64;

impl Tracker {
    /// Observes one sighting. The transition, if there is one, depends on the state and the sighting alone
    /// (TRK-8).
    ///
    /// `received` is when the record was received, or any later instant up to now but not past a later
    /// `link_down`; `None` if that was before this process began. It must not decrease from record to record.
    pub fn observe(&mut self, sighting: &Sighting, received: Option<Mono>) -> Option<Transition> {
        let slot = self.machines.find(sighting.machine_id.as_str());
        self.observe_at(slot, sighting, received)
    }

    /// Does [`Self::observe`] for each of `sightings` in turn and appends the transitions to `out`. With many
    /// machines this costs much less than one call each.
    pub fn observe_all(&mut self, sightings: &[Sighting], received: Option<Mono>, out: &mut Vec<Transition>) {
        for group in sightings.chunks(LOOKUP_GROUP) {
            let mut slots = std::mem::take(&mut self.slots);
            self.machines.find_all(group.iter().map(|sighting| sighting.machine_id.as_str()), &mut slots);
            for (sighting, slot) in group.iter().zip(&slots) {
                // An earlier sighting of the group may have added the machine.
                let slot = slot.or_else(|| self.machines.find(sighting.machine_id.as_str()));
                out.extend(self.observe_at(slot, sighting, received));
            }
            self.slots = slots;
        }
    }

    /// Marks every record up to `upto` as observed, with or without a sighting.
    pub fn set_observed(&mut self, upto: Seq) {
        self.observed = self.observed.max((upto, u32::MAX));
    }

    fn observe_at(
        &mut self,
        slot: Option<Slot>,
        sighting: &Sighting,
        received: Option<Mono>,
    ) -> Option<Transition> {
        let position = (sighting.seq, sighting.element);
        if position <= self.observed {
            return None;
        }
        self.observed = position;
        self.newest_evidence = self.newest_evidence.max(received);
        match (slot, sighting.kind) {
            (Some(slot), _) => self.observe_tracked(slot, sighting, received),
            (None, SightingKind::LastWill) => None,
            (None, SightingKind::Message) if self.machines.len() >= self.machines_max => {
                self.untracked_sightings = self.untracked_sightings.saturating_add(1);
                None
            }
            (None, SightingKind::Message) => {
                let machine = Machine::new_unknown(self.timeouts.of(&sighting.machine_id));
                let slot = self.add_machine(sighting.machine_id.clone(), machine);
                self.observe_tracked(slot, sighting, received)
            }
        }
    }

    fn observe_tracked(
        &mut self,
        slot: Slot,
        sighting: &Sighting,
        received: Option<Mono>,
    ) -> Option<Transition> {
        let machine = self.machines.get_mut(slot);
        let is_message = sighting.kind == SightingKind::Message;
        if received.is_none() && machine.is_newer_than(sighting.received_at, is_message) {
            return None;
        }
        let filter = if is_message { self.visibility.filter_of(sighting.filters) } else { machine.filter() };
        let covers = |evidence| self.visibility.covers_filter(filter, evidence);
        let stays_online = is_message && machine.is_online() && machine.filter() == filter;
        if stays_online && covers(machine.evidence()) == covers(received) {
            // The usual case: no count changes, and the deadline's entry comes up by itself.
            let change = machine.on_message(sighting.received_at, received);
            debug_assert_eq!(change, None, "TRK-1: a message of an online machine is no change");
            return None;
        }
        self.counts.remove(machine, &self.visibility);
        machine.set_filter(filter);
        machine.set_waits_from_grant(machine.waits_from_grant() || self.visibility.was_granted_late(filter));
        let change = match sighting.kind {
            SightingKind::Message => machine.on_message(sighting.received_at, received),
            SightingKind::LastWill => machine.on_last_will(sighting.received_at, received),
        };
        self.counts.add(machine, &self.visibility);
        self.arm(slot);
        let happened = match received {
            Some(received) => Some(received.into()),
            None => self.began.and_then(|began| ChangedAt::before(began, sighting.received_at)),
        };
        change.map(|change| self.transition(slot, change, happened))
    }
}
