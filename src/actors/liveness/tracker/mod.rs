//! Who is on the floor: the state machine behind every machine's status.
//!
//! It owns what is known about each machine and the deadlines. It receives records ([`Tracker::observe`]), the
//! state of the broker link ([`Tracker::link_up`], [`Tracker::link_down`]) and proofs that the link was alive
//! ([`Tracker::advance`]); it returns [`Transition`]s. It never reads a clock, never waits, never does I/O, and
//! never forgets a machine.
//!
//! Rules, cited by asserts and tests:
//! - **TRK-1** A transition changes the recorded status: online and offline alternate. A message makes an offline or
//!   unheard-of machine online (`first_seen` if it is its first ever, else `message`).
//! - **TRK-2** Silence is a fact only when it is proven: a machine falls silent at its deadline, and only if the link
//!   was up from the start of the wait beyond the deadline, it is proven alive at the deadline or later, and
//!   every record received before the proof has been looked at.
//! - **TRK-3** The deadline is `offline_after` past the machine's newest message; if sight was broken since then (link
//!   down, hold, restart), `offline_after` past the moment sight came back. `occurred_at` is that message's
//!   `received_at`, or that moment's wall time, plus `offline_after`, to the microsecond. The monotonic clock
//!   decides, the wall clock only labels. `advance` emits in the order of the deadlines.
//! - **TRK-4** The board shows a status only while sight is open and the status was learned over the link of the present
//!   stretch, or, for a machine recorded as offline, once sight is proven to have lasted `offline_after` without
//!   a word from it. Otherwise it shows `unknown`. (It is true of all machines:
//!   a machine that was offline may have come back where we could not see it. The recorded status does not
//!   change by blindness, and makes no event.)
//! - **TRK-5** `occurred_at` is the wall clock's, and goes back with it: the order of events is that in which they happened. Only of two
//!   changes within a millisecond the second is one microsecond past the first, so that each has a name of its own.
//! - **TRK-6** A last will makes a machine that is recorded as online offline at once. On any other machine it does
//!   nothing. It is no sign of life.
//! - **TRK-7** An expected machine that the database does not know gets one `never_seen`, `offline_after` past the
//!   moment sight began; a machine the database knows, never.
//! - **TRK-8** What a record does is a function of the state before it and the record alone. Records count once, in the
//!   order of (seq, element); what is not past the newest one is ignored. A record from before this process that
//!   is older than what the database knows of its machine (a journal restored from a copy) proves nothing.
//! - **TRK-9** Above `machines_max` no new machine is tracked; those tracked, and the expected ones, go on.
//! - **TRK-10** A machine flaps while more than `flapping.changes` of its changes lie within the last `flapping.window` of the monotonic
//!   clock; those of an earlier process's life are as old as the wall clock said when this one began. It makes no event.
//! - **TRK-11** While the broker refuses a filter, machines whose newest message came through it alone cannot be seen: they are
//!   unknown on the board, and their silence is none. So are machines of which no message is known in this process, while any
//!   filter is refused. When it is granted, each gets `offline_after` to speak (TRK-3), even if a record from before shows that
//!   it came through another filter after all: a deadline never moves to an earlier instant. Nothing changes for the others.
//!
//! Cost: a message of a known machine is one hash look-up and a few stores (see [`timing_wheel`]).

mod counts;
mod deadline;
mod flapping;
mod input;
mod machine;
mod machine_table;
mod packed;
mod timeouts;
mod timing_wheel;
mod view;
mod visibility;

#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use crate::clock::Mono;
use crate::domain::{FilterSet, MachineId, Seq, Timestamp, Transition};

pub use self::flapping::FlappingRule;
pub use self::input::{KnownMachine, MachineRule, Sighting, SightingKind, TrackerOptions};
pub use self::view::{StatusCounts, View};
pub use self::visibility::TimePoint;

use self::counts::Counts;
use self::deadline::{deadline_of, real_deadline};
use self::flapping::{ChangedAt, Flapping};
use self::machine::{Change, Machine, Recorded};
use self::machine_table::{MachineTable, Slot};
use self::timeouts::Patiences;
use self::timing_wheel::Deadlines;
use self::visibility::Visibility;

/// How many sightings are looked up together; their machines fit into the processor's first cache.
const LOOKED_UP_TOGETHER: usize = 64;

/// The state machine of all machines of a site.
#[derive(Debug)]
pub struct Tracker {
    machines: MachineTable,
    deadlines: Deadlines,
    sight: Visibility,
    counts: Counts,
    flapping: Flapping,
    /// As the clocks stood when it began: by it, records of an earlier process's life are dated (TRK-10).
    began: Option<TimePoint>,
    patiences: Patiences,
    machines_max: usize,
    /// The newest record looked at, and its element (TRK-8).
    looked_at: (Seq, u32),
    /// The newest receipt observed, or deadline passed.
    newest_evidence: Option<Mono>,
    untracked_sightings: u64,
    /// Kept for its memory.
    slots: Vec<Option<Slot>>,
}

impl Tracker {
    /// A tracker that is blind until [`Self::link_up`].
    ///
    /// `known` is the state after all records up to `position` (the committed position of the journal), and
    /// possibly some transitions by silence after them.
    #[must_use]
    pub fn new(options: TrackerOptions, known: Vec<KnownMachine>, position: Seq) -> Self {
        let patiences = Patiences::new(&options);
        let mut tracker = Self {
            machines: MachineTable::with_capacity(known.len()),
            deadlines: Deadlines::new(),
            sight: Visibility::default(),
            counts: Counts::new(patiences.all_micros()),
            flapping: Flapping::new(options.flapping),
            began: None,
            patiences,
            machines_max: options.machines_max,
            looked_at: (position, u32::MAX),
            newest_evidence: None,
            untracked_sightings: 0,
            slots: Vec::with_capacity(LOOKED_UP_TOGETHER),
        };
        for row in known {
            tracker.add_known(row);
        }
        let mut expected: Vec<MachineId> =
            options.machines.into_iter().filter(|(_, rule)| rule.expected).map(|(id, _)| id).collect();
        expected.sort_unstable();
        for machine_id in expected {
            if tracker.machines.find(machine_id.as_str()).is_none() {
                let machine = Machine::unheard_of(tracker.patiences.of(&machine_id));
                tracker.add_machine(machine_id, machine);
            }
        }
        tracker
    }

    /// Changes of the past, of machines that are known, in the order in which they happened (TRK-10), as the clocks stand `now`. To be
    /// told before anything else. That some of them flap is no news.
    pub fn remember_changes(&mut self, changes: &[(MachineId, Timestamp)], now: TimePoint) {
        self.began = Some(now);
        for (machine_id, occurred_at) in changes {
            if let Some(slot) = self.machines.find(machine_id.as_str())
                && let Some(at) = ChangedAt::before(now, *occurred_at)
            {
                self.flapping.record(slot, at);
            }
        }
        self.flapping.take_news();
    }

    /// Machines that began (`true`) or ceased to flap up to `now`, in order (TRK-10).
    pub fn take_flapping_news(&mut self, now: Mono) -> Vec<(MachineId, bool)> {
        self.flapping.advance(now.into());
        let news = self.flapping.take_news().into_iter();
        news.map(|(slot, flaps)| (self.machines.id(slot).clone(), flaps)).collect()
    }

    /// How many machines flap.
    #[must_use]
    pub fn flapping_count(&self) -> u64 {
        self.flapping.count()
    }

    /// Visibility begins anew at `now`: the link came up, or catching up after a start has ended (TRK-3). Called while
    /// sight is open it means that there was a break. Give the instant of the event itself, not of the call.
    ///
    /// What was received from `heard_from` on, at most `now`, came over this link (TRK-4).
    pub fn link_up(&mut self, now: TimePoint, heard_from: Mono) {
        let was_even = self.sight.is_even();
        self.sight.open(now, heard_from);
        if !was_even {
            return self.look_anew();
        }
        self.counts.uncover_all();
        if self.sight.covers(self.newest_evidence) {
            // Records of this link were observed before we heard of it.
            self.recount();
        }
    }

    /// The broker refuses these filters, from `now` on (TRK-11). A new link begins with none. What was received from `heard_from` on
    /// may have come through those that are refused no longer.
    pub fn refuse(&mut self, refused: FilterSet, now: TimePoint, heard_from: Mono) {
        if self.sight.refuse(refused, now, heard_from) {
            self.look_anew();
        }
    }

    /// Visibility ends at `now`: the link went down, or is about to be given up. Deadlines at or after `now` are void (TRK-2).
    pub fn link_down(&mut self, now: TimePoint) {
        self.sight.close(now.mono);
    }

    /// Looks at one sighting. The transition, if there is one, depends on the state and the sighting alone (TRK-8).
    ///
    /// `received` is when the record was received, or any later instant up to now, but not past a later
    /// `link_down`; `None` if that was before this process began. It must not decrease from record to record.
    pub fn observe(&mut self, sighting: &Sighting, received: Option<Mono>) -> Option<Transition> {
        let slot = self.machines.find(sighting.machine_id.as_str());
        self.observe_at(slot, sighting, received)
    }

    /// [`Self::observe`] for each of `sightings` in turn; the transitions are appended to `out`. Costs much less
    /// than one at a time when there are many machines.
    pub fn observe_all(&mut self, sightings: &[Sighting], received: Option<Mono>, out: &mut Vec<Transition>) {
        for group in sightings.chunks(LOOKED_UP_TOGETHER) {
            let mut slots = std::mem::take(&mut self.slots);
            self.machines.find_all(group.iter().map(|sighting| sighting.machine_id.as_str()), &mut slots);
            for (sighting, slot) in group.iter().zip(&slots) {
                // A machine that was not there may have been added by a sighting just before.
                let slot = slot.or_else(|| self.machines.find(sighting.machine_id.as_str()));
                out.extend(self.observe_at(slot, sighting, received));
            }
            self.slots = slots;
        }
    }

    fn observe_at(
        &mut self,
        slot: Option<Slot>,
        sighting: &Sighting,
        received: Option<Mono>,
    ) -> Option<Transition> {
        let place = (sighting.seq, sighting.element);
        if place <= self.looked_at {
            return None;
        }
        self.looked_at = place;
        self.newest_evidence = self.newest_evidence.max(received);
        match (slot, sighting.kind) {
            (Some(slot), _) => self.observe_tracked(slot, sighting, received),
            (None, SightingKind::LastWill) => None,
            (None, SightingKind::Message) if self.machines.len() >= self.machines_max => {
                self.untracked_sightings = self.untracked_sightings.saturating_add(1);
                None
            }
            (None, SightingKind::Message) => {
                let machine = Machine::unheard_of(self.patiences.of(&sighting.machine_id));
                let slot = self.add_machine(sighting.machine_id.clone(), machine);
                self.observe_tracked(slot, sighting, received)
            }
        }
    }

    /// Every record up to `upto` has been looked at, whether or not it had a sighting.
    pub fn looked_at(&mut self, upto: Seq) {
        self.looked_at = self.looked_at.max((upto, u32::MAX));
    }

    /// Appends the transitions of all deadlines that have passed for certain, in their order.
    ///
    /// At `proven_until`, or later, the link was alive, and every record received before `proven_until` has been
    /// observed. Only the part before the last `link_down` counts (TRK-2).
    pub fn advance(&mut self, proven_until: Mono, out: &mut Vec<Transition>) {
        let Some(horizon) = self.sight.prove(proven_until) else { return };
        while let Some((at, slot)) = self.pop_due(horizon) {
            debug_assert!(at <= horizon, "TRK-2: a deadline fires only when it is proven to have passed");
            out.push(self.fall_silent(slot));
        }
    }

    /// The earliest instant up to which a proof would make a difference: a machine that stays silent falls
    /// silent, or one that is recorded as offline is confirmed on the board. `None` while blind, and if there
    /// is nothing to wait for. Meant to be asked once a tick, not once a message.
    pub fn next_deadline(&mut self) -> Option<Mono> {
        if !self.sight.is_open() {
            return None;
        }
        let Self { deadlines, machines, sight, patiences, .. } = self;
        let silence = deadlines.earliest(|slot| real_deadline(machines.get_mut(slot), sight, patiences));
        self.counts.confirmations(&self.sight).chain(silence).min()
    }

    /// What is known about one machine.
    #[must_use]
    pub fn status_of(&self, machine_id: &str) -> Option<View<'_>> {
        self.machines
            .find(machine_id)
            .map(|slot| self.view(slot, self.machines.id(slot), self.machines.get(slot)))
    }

    /// All tracked machines, in no meaningful order.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.machines.iter().map(|(slot, machine_id, machine)| self.view(slot, machine_id, machine))
    }

    /// All tracked machines from the `first` on, in the order in which they came; it never changes.
    pub fn views_from(&self, first: usize) -> impl Iterator<Item = View<'_>> {
        self.machines.iter_from(first).map(|(slot, machine_id, machine)| self.view(slot, machine_id, machine))
    }

    /// All tracked machines, in order of their ids. Cheap if none was added since the last call.
    pub fn views_in_order(&mut self) -> impl Iterator<Item = View<'_>> {
        let Self { machines, sight, patiences, flapping, .. } = self;
        machines.iter_in_order().map(|(slot, machine_id, machine)| {
            view::view(machine_id, machine, sight, patiences, flapping.is_flapping(slot))
        })
    }

    /// How many machines the board shows in which status; costs the same for any number of machines.
    #[must_use]
    pub fn counts(&self) -> StatusCounts {
        self.counts.counts(&self.sight)
    }

    /// The newest record looked at.
    #[must_use]
    pub fn observed_upto(&self) -> Seq {
        self.looked_at.0
    }

    /// Since when sight is unbroken; `None` while blind.
    #[must_use]
    pub fn sight_since(&self) -> Option<TimePoint> {
        self.sight.since().filter(|_| self.sight.is_open())
    }

    /// Sightings of machines that are not tracked because of `machines_max` (TRK-9).
    #[must_use]
    pub fn untracked_sightings(&self) -> u64 {
        self.untracked_sightings
    }

    /// Whether there are machines that are not tracked because of `machines_max` (TRK-9).
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.untracked_sightings > 0
    }

    fn observe_tracked(
        &mut self,
        slot: Slot,
        sighting: &Sighting,
        received: Option<Mono>,
    ) -> Option<Transition> {
        let machine = self.machines.get_mut(slot);
        let is_message = sighting.kind == SightingKind::Message;
        if received.is_none() && machine.has_outlived(sighting.received_at, is_message) {
            return None;
        }
        let place = if is_message { self.sight.place_of(sighting.filters) } else { machine.place() };
        let covers = |evidence| self.sight.covers_for(place, evidence);
        let stays_online = is_message && machine.is_online() && machine.place() == place;
        if stays_online && covers(machine.evidence()) == covers(received) {
            // The usual case: no count changes, and the deadline's entry comes up by itself.
            let change = machine.speak(sighting.received_at, received);
            debug_assert_eq!(change, None, "TRK-1: a message of an online machine is no change");
            return None;
        }
        self.counts.remove(machine, &self.sight);
        machine.set_place(place);
        machine.set_late(machine.is_late() || self.sight.is_late(place));
        let change = match sighting.kind {
            SightingKind::Message => machine.speak(sighting.received_at, received),
            SightingKind::LastWill => machine.die(sighting.received_at, received),
        };
        self.counts.add(machine, &self.sight);
        self.watch(slot);
        let happened = match received {
            Some(received) => Some(received.into()),
            None => self.began.and_then(|began| ChangedAt::before(began, sighting.received_at)),
        };
        change.map(|change| self.transition(slot, change, happened))
    }

    fn pop_due(&mut self, horizon: Mono) -> Option<(Mono, Slot)> {
        let Self { deadlines, machines, sight, patiences, .. } = self;
        deadlines.pop_due(horizon, |slot| real_deadline(machines.get_mut(slot), sight, patiences))
    }

    fn fall_silent(&mut self, slot: Slot) -> Transition {
        let machine = self.machines.get_mut(slot);
        machine.set_armed(false);
        let deadline = deadline_of(machine, &self.sight, &self.patiences);
        let deadline = deadline.expect("TRK-1: a deadline that is due belongs to a watched machine");
        self.counts.remove(machine, &self.sight);
        let change = machine.fall_silent(deadline.mono, deadline.wall);
        self.newest_evidence = self.newest_evidence.max(Some(deadline.mono));
        self.counts.add(machine, &self.sight);
        self.transition(slot, change, Some(deadline.mono.into()))
    }

    fn transition(&mut self, slot: Slot, change: Change, happened: Option<ChangedAt>) -> Transition {
        if let Some(happened) = happened {
            self.flapping.record(slot, happened);
        }
        Transition {
            machine_id: self.machines.id(slot).clone(),
            status: change.status,
            previous_status: change.previous_status,
            reason: change.reason,
            occurred_at: change.occurred_at,
            last_seen_at: change.last_seen_at,
            seq: self.looked_at.0,
        }
    }

    /// Makes sure that a machine whose silence matters has an entry among the deadlines.
    fn watch(&mut self, slot: Slot) {
        let machine = self.machines.get_mut(slot);
        if machine.is_armed() {
            return;
        }
        if let Some(at) = real_deadline(machine, &self.sight, &self.patiences) {
            self.deadlines.arm(at, slot);
        }
    }

    fn add_known(&mut self, row: KnownMachine) {
        let recorded = Recorded {
            status: row.status,
            status_since: row.status_since,
            reason: row.reason,
            first_seen: row.first_seen_at,
            last_seen: row.last_seen_at,
        };
        let machine = Machine::known(recorded, self.patiences.of(&row.machine_id));
        self.add_machine(row.machine_id, machine);
    }

    fn add_machine(&mut self, machine_id: MachineId, machine: Machine) -> Slot {
        self.counts.add(&machine, &self.sight);
        let slot = self.machines.add(machine_id, machine);
        self.watch(slot);
        slot
    }

    /// Which machines can be seen has changed: it is rare enough to look at each.
    fn look_anew(&mut self) {
        for slot in self.machines.slots() {
            let machine = self.machines.get_mut(slot);
            // In a new stretch all are alike again.
            let was_late = machine.is_late() && !self.sight.is_even();
            machine.set_late(was_late || self.sight.is_late(machine.place()));
            self.watch(slot);
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.counts = Counts::new(self.patiences.all_micros());
        for (_, _, machine) in self.machines.iter() {
            self.counts.add(machine, &self.sight);
        }
    }

    fn view<'a>(&self, slot: Slot, machine_id: &'a MachineId, machine: &Machine) -> View<'a> {
        view::view(machine_id, machine, &self.sight, &self.patiences, self.flapping.is_flapping(slot))
    }
}
