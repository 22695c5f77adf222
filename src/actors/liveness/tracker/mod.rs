//! The state machine behind every machine's status: online, offline, unknown or never seen.
//!
//! The tracker keeps the state and one deadline of each machine. Every message moves the machine's deadline
//! to `offline_after` later. When a deadline has passed, and the link to the broker is proven to have been up
//! for the whole wait, the machine is offline. While the link is down the tracker concludes nothing: it shows
//! `unknown`.
//!
//! It receives sightings ([`Tracker::observe`]), the state of the link ([`Tracker::link_up`],
//! [`Tracker::link_down`], [`Tracker::set_refused`]), proofs that the link was alive ([`Tracker::advance`]),
//! and changes of the rules ([`Tracker::set_rules`]). It returns [`Transition`]s. It reads no clock, does no I/O
//! and forgets a machine only when asked ([`Tracker::forget`]).
//!
//! Invariants
//! - **TRK-1** A transition changes the recorded status, so online and offline alternate; a message makes an
//!   offline or a new machine online, with reason `first_seen` for its first message ever, else `message`.
//! - **TRK-2** A machine falls silent at its deadline only if the link was up without a break from the start
//!   of the wait until past the deadline, was proven alive at the deadline or later, and every record
//!   received before that proof is observed.
//! - **TRK-3** The wait starts at the machine's newest message, or when visibility came back if it was lost
//!   since; the deadline and `occurred_at` are that start plus `offline_after`, to the microsecond, and
//!   transitions come out in the order of their deadlines. The monotonic clock decides; the wall clock only
//!   labels.
//! - **TRK-4** A recorded status is shown only while the link is up and the status was learned over this
//!   link, or, for a machine recorded as offline, once visibility is proven to have lasted `offline_after`;
//!   otherwise the machine is `unknown`. Lost visibility changes no recorded status and makes no event.
//! - **TRK-5** `occurred_at` follows the wall clock, also backwards; of two changes of a machine within a
//!   millisecond the second is one microsecond after the first, so that each event has a key of its own.
//! - **TRK-6** A last will makes a machine recorded as online offline at once; on any other machine it does
//!   nothing, and it is no sign of life.
//! - **TRK-7** An expected machine that the database does not know gets one `never_seen`, `offline_after`
//!   past the start of visibility; a machine that the database knows never gets one.
//! - **TRK-8** The effect of a record depends only on the state before it and on the record: each counts
//!   once, in the order of (seq, element). A record from before this process that is older than what the
//!   database knows of its machine (a journal restored from a copy) has no effect.
//! - **TRK-9** Above `machines_max` no new machine is tracked; tracked and expected machines go on.
//! - **TRK-10** A machine flaps while more than `flapping.changes` of its changes lie within the last
//!   `flapping.window` of the monotonic clock; changes from before this process are dated by the wall clock
//!   at its start. Flapping makes no event.
//! - **TRK-11** While the broker refuses a filter, a machine whose newest message came through that filter
//!   alone is unknown and does not fall silent; the same holds for a machine without a message in this
//!   process while any filter is refused. Once the filter is granted each gets `offline_after` to send
//!   (TRK-3), and no deadline moves to an earlier instant, even if a record from before shows that the
//!   machine comes through another filter. Other machines are not affected.
//! - **TRK-12** A change of the rules makes no transition and hides no status. A machine whose `offline_after`
//!   changes is judged by the new one, but no deadline lies before the change; one that becomes expected gets
//!   its whole `offline_after` from the change on. Other machines are not affected.
//!
//! Cost: a message of a known machine is one hash look-up and a few stores (see [`timing_wheel`]).

mod counts;
mod deadline;
mod flapping;
mod input;
mod machine;
mod machine_table;
mod observe;
mod packed_time;
mod queries;
mod rules;
mod timeouts;
mod timing_wheel;
mod view;
mod visibility;

#[cfg(test)]
mod tests;

use crate::clock::Mono;
use crate::domain::{FilterSet, MachineId, Seq, Timestamp, Transition};

pub use self::flapping::FlappingRule;
pub use self::input::{KnownMachine, Sighting, SightingKind, TrackerOptions};
pub use self::view::{StatusCounts, View};
pub use self::visibility::TimePoint;

use self::counts::Counts;
use self::deadline::{deadline_of, real_deadline};
use self::flapping::{ChangedAt, Flapping};
use self::machine::{Change, Machine, Recorded};
use self::machine_table::{MachineTable, Slot};
use self::timeouts::Timeouts;
use self::timing_wheel::Deadlines;
use self::visibility::Visibility;

/// The state machine of all machines of a site.
#[derive(Debug)]
pub struct Tracker {
    machines: MachineTable,
    deadlines: Deadlines,
    visibility: Visibility,
    counts: Counts,
    flapping: Flapping,
    /// Both clocks at the start, which date the records from before this process (TRK-10).
    began: Option<TimePoint>,
    timeouts: Timeouts,
    machines_max: usize,
    /// Seq and element of the newest observed record (TRK-8).
    observed: (Seq, u32),
    /// The newest receipt observed, or deadline passed.
    newest_evidence: Option<Mono>,
    untracked_sightings: u64,
    /// Buffer of [`Self::observe_all`], kept to save the allocation.
    slots: Vec<Option<Slot>>,
}

impl Tracker {
    /// Returns a tracker that sees nothing until [`Self::link_up`].
    ///
    /// `known` is the state after all records up to `position` (the committed position of the journal), and
    /// possibly after some transitions by silence behind them.
    #[must_use]
    pub fn new(options: TrackerOptions, known: Vec<KnownMachine>, position: Seq) -> Self {
        let timeouts = Timeouts::new(&options);
        let mut tracker = Self {
            machines: MachineTable::with_capacity(known.len()),
            deadlines: Deadlines::new(),
            visibility: Visibility::default(),
            counts: Counts::new(timeouts.all_micros()),
            flapping: Flapping::new(options.flapping),
            began: None,
            timeouts,
            machines_max: options.machines_max,
            observed: (position, u32::MAX),
            newest_evidence: None,
            untracked_sightings: 0,
            slots: Vec::with_capacity(observe::LOOKUP_GROUP),
        };
        for row in known {
            tracker.add_known(row);
        }
        let mut expected: Vec<MachineId> =
            options.machines.into_iter().filter(|(_, rule)| rule.expected).map(|(id, _)| id).collect();
        expected.sort_unstable();
        for machine_id in expected {
            if tracker.machines.find(machine_id.as_str()).is_none() {
                let machine = Machine::new_unknown(tracker.timeouts.of(&machine_id));
                tracker.add_machine(machine_id, machine);
            }
        }
        tracker
    }

    /// Takes past changes of known machines, oldest first, with both clocks as they stand `now` (TRK-10).
    /// Call it before anything else. Machines that flap because of them are not reported as new.
    pub fn remember_changes(&mut self, changes: &[(MachineId, Timestamp)], now: TimePoint) {
        self.began = Some(now);
        for (machine_id, occurred_at) in changes {
            if let Some(slot) = self.machines.find(machine_id.as_str())
                && let Some(at) = ChangedAt::before(now, *occurred_at)
            {
                self.flapping.record(slot, at);
            }
        }
        self.flapping.take_changes();
    }

    /// Starts a new visibility period at `now`: the link came up (TRK-3). If the link counted as up already,
    /// there was a break. Pass the instant of the event, not of the call.
    ///
    /// What was received from `heard_from` on, at most `now`, came over this link (TRK-4).
    pub fn link_up(&mut self, now: TimePoint, heard_from: Mono) {
        let filters_were_alike = self.visibility.filters_are_alike();
        self.visibility.open(now, heard_from);
        if !filters_were_alike {
            return self.reassess_all();
        }
        self.counts.uncover_all();
        if self.visibility.covers(self.newest_evidence) {
            // Records of this link were observed before the report that it is up.
            self.recount();
        }
    }

    /// Replaces the set of filters that the broker refuses, from `now` on (TRK-11). A new link starts with
    /// none refused. What was received from `heard_from` on may have come through the filters that are
    /// granted now.
    pub fn set_refused(&mut self, refused: FilterSet, now: TimePoint, heard_from: Mono) {
        if self.visibility.set_refused(refused, now, heard_from) {
            self.reassess_all();
        }
    }

    /// Ends the visibility period at `now`: the link went down, or is about to be given up. Deadlines at or
    /// after `now` are void (TRK-2).
    pub fn link_down(&mut self, now: TimePoint) {
        self.visibility.close(now.mono);
    }

    /// Appends the transitions of all deadlines that have certainly passed, in their order.
    ///
    /// The link was alive at `proven_until` or later, and every record received before `proven_until` is
    /// observed. Only the part before the last `link_down` counts (TRK-2).
    pub fn advance(&mut self, proven_until: Mono, out: &mut Vec<Transition>) {
        let Some(horizon) = self.visibility.prove(proven_until) else { return };
        while let Some((at, slot)) = self.pop_due(horizon) {
            debug_assert!(at <= horizon, "TRK-2: a deadline fires only when it is proven to have passed");
            out.push(self.fall_silent(slot));
        }
    }

    fn pop_due(&mut self, horizon: Mono) -> Option<(Mono, Slot)> {
        let Self { deadlines, machines, visibility, timeouts, .. } = self;
        deadlines.pop_due(horizon, |slot| real_deadline(machines.get_mut(slot), visibility, timeouts))
    }

    fn fall_silent(&mut self, slot: Slot) -> Transition {
        let machine = self.machines.get_mut(slot);
        machine.set_armed(false);
        let deadline = deadline_of(machine, &self.visibility, &self.timeouts);
        let deadline = deadline.expect("TRK-1: a machine whose deadline is due is not offline");
        self.counts.remove(machine, &self.visibility);
        let change = machine.fall_silent(deadline.mono, deadline.wall);
        self.newest_evidence = self.newest_evidence.max(Some(deadline.mono));
        self.counts.add(machine, &self.visibility);
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
            seq: self.observed.0,
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
        let machine = Machine::known(recorded, self.timeouts.of(&row.machine_id));
        self.add_machine(row.machine_id, machine);
    }

    fn add_machine(&mut self, machine_id: MachineId, machine: Machine) -> Slot {
        self.counts.add(&machine, &self.visibility);
        let slot = self.machines.add(machine_id, machine);
        self.arm(slot);
        slot
    }

    /// Arms the deadline of a machine that can fall silent and has none armed.
    fn arm(&mut self, slot: Slot) {
        let machine = self.machines.get_mut(slot);
        if machine.is_armed() {
            return;
        }
        if let Some(at) = real_deadline(machine, &self.visibility, &self.timeouts) {
            self.deadlines.arm(at, slot);
        }
    }

    /// Recomputes every machine after a change of the refused filters, which is rare.
    fn reassess_all(&mut self) {
        for slot in self.machines.slots() {
            let machine = self.machines.get_mut(slot);
            // In a new visibility period all filters are alike again.
            let waited_from_grant = machine.waits_from_grant() && !self.visibility.filters_are_alike();
            machine.set_waits_from_grant(
                waited_from_grant || self.visibility.was_granted_late(machine.filter()),
            );
            self.arm(slot);
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.counts = Counts::new(self.timeouts.all_micros());
        for (_, _, machine) in self.machines.iter() {
            self.counts.add(machine, &self.visibility);
        }
    }
}
