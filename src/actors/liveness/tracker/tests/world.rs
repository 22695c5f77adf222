//! The surroundings of the tracker in the random tests: two clocks, the journal, the database and crashes;
//! and the [`Model`], which is compared with the tracker after each operation.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::model::{self, MACHINES, Model, options};
use crate::domain::{DisplayStatus, TransitionReason};

/// Microseconds by which the wall clock is ahead of the monotonic one at the start.
const EPOCH: i64 = 1_800_000_000_000_000;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A record is journaled.
    Receive {
        machine: usize,
        kind: SightingKind,
    },
    /// The parser observes at most this many more records.
    Observe(usize),
    /// Both clocks advance.
    Pass(u64),
    /// The wall clock is set.
    Jump(i64),
    /// The link came up, this long ago as far as possible, having delivered this long before that.
    LinkUp {
        ago: u64,
        heard: u64,
    },
    LinkDown,
    /// The broker refuses these of two filters; the others have delivered for this long.
    Refuse {
        filters: u8,
        heard: u64,
    },
    /// The link is proven (or was, this long ago), and every record is observed.
    Prove {
        ago: u64,
    },
    /// The writer commits some of the observed records, and some of the deadlines behind the last of them.
    Commit {
        records: usize,
        deadlines: usize,
    },
    /// kill -9 and a new process.
    Crash,
    /// The newest records are observed again.
    Replay(usize),
}

/// The surroundings, the tracker and the model.
pub(super) struct World {
    /// The monotonic clock.
    now: u64,
    clock_offset: i64,
    journal: Vec<(Sighting, u64)>,
    /// Records from before this process, and observed records.
    old_records: usize,
    observed: usize,
    /// Transitions that the writer has not committed, each with whether a deadline caused it.
    pending: Vec<(Transition, bool)>,
    rows: BTreeMap<MachineId, KnownMachine>,
    pub(super) events: Vec<Transition>,
    committed: usize,
    tracker: Tracker,
    model: Model,
    /// The flapping machines, by the changes that the tracker returned.
    flapping: BTreeSet<MachineId>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            clock_offset: EPOCH,
            journal: Vec::new(),
            old_records: 0,
            observed: 0,
            pending: Vec::new(),
            rows: BTreeMap::new(),
            events: Vec::new(),
            committed: 0,
            tracker: Tracker::new(options(), Vec::new(), Seq::ZERO),
            model: Model::new(&[], Seq::ZERO, EPOCH),
            flapping: BTreeSet::new(),
        }
    }

    fn wall_at(&self, mono: u64) -> Timestamp {
        Timestamp::from_micros(self.clock_offset + i64::try_from(mono).expect("a short test"))
    }

    pub(super) fn run(&mut self, operation: &Operation) {
        match *operation {
            Operation::Receive { machine, kind } => {
                let sighting = Sighting {
                    machine_id: MachineId::parse(MACHINES[machine].0).expect("a valid id"),
                    received_at: self.wall_at(self.now),
                    seq: Seq(self.journal.len() as u64 + 1),
                    element: 0,
                    kind,
                    filters: model::filters(model::comes_through(MACHINES[machine].0)),
                };
                self.journal.push((sighting, self.now));
            }
            Operation::Observe(records) => self.observe(records),
            Operation::Pass(micros) => self.now += micros,
            Operation::Jump(micros) => self.clock_offset += micros,
            Operation::LinkUp { ago, heard } => {
                let last = self.model.links.last().map_or(0, |(up, down)| down.unwrap_or(up.mono.0));
                let last = last.max(self.model.granted_at.map_or(0, |(at, _)| at.mono.0));
                let at = self.now.saturating_sub(ago).max(last);
                let time_point = TimePoint { mono: Mono(at), wall: self.wall_at(at) };
                let heard_from = at.saturating_sub(heard);
                self.tracker.link_up(time_point, Mono(heard_from));
                self.model.link_up(time_point, heard_from.max(last));
            }
            Operation::LinkDown => {
                self.tracker.link_down(TimePoint { mono: Mono(self.now), wall: self.wall_at(self.now) });
                if let Some((_, down @ None)) = self.model.links.last_mut() {
                    *down = Some(self.now);
                }
            }
            Operation::Refuse { filters, heard } => self.refuse(filters, heard),
            Operation::Prove { ago } => self.prove(self.now.saturating_sub(ago)),
            Operation::Commit { records, deadlines } => self.commit(records, deadlines),
            Operation::Crash => self.crash(),
            Operation::Replay(records) => {
                for (sighting, _) in &self.journal[self.observed.saturating_sub(records)..self.observed] {
                    assert_eq!(
                        self.tracker.observe(sighting, Some(Mono(self.now))),
                        None,
                        "a replay adds nothing"
                    );
                }
            }
        }
        self.compare();
    }

    fn refuse(&mut self, filters: u8, heard: u64) {
        let time_point = TimePoint { mono: Mono(self.now), wall: self.wall_at(self.now) };
        let heard_from = self.now.saturating_sub(heard);
        self.tracker.set_refused(model::filters(filters), time_point, Mono(heard_from));
        self.model.set_refused(filters, time_point, heard_from);
    }

    pub(super) fn observe(&mut self, records: usize) {
        let upto = self.journal.len().min(self.observed.saturating_add(records));
        for index in self.observed..upto {
            let (sighting, received) = &self.journal[index];
            let received = (index >= self.old_records).then_some(*received);
            let expected = self.model.observe(sighting, received);
            let mut together = Vec::new();
            self.tracker.observe_all(std::slice::from_ref(sighting), received.map(Mono), &mut together);
            let transition = together.pop();
            assert_eq!(transition, expected, "record {sighting:?}");
            self.pending.extend(transition.map(|transition| (transition, false)));
            self.tracker.set_observed(sighting.seq);
            self.model.observed_upto = sighting.seq;
        }
        self.observed = upto;
    }

    fn prove(&mut self, proven: u64) {
        self.observe(usize::MAX);
        let expected = self.model.advance(proven);
        let mut transitions = Vec::new();
        self.tracker.advance(Mono(proven), &mut transitions);
        assert_eq!(transitions, expected, "proven until {proven}");
        self.pending.extend(transitions.into_iter().map(|transition| (transition, true)));
    }

    /// One transaction: the next records with all of their transitions, and the first of the deadlines after
    /// them.
    pub(super) fn commit(&mut self, records: usize, deadlines: usize) {
        self.committed = self.observed.min(self.committed + records);
        let position = Seq(self.committed as u64);
        let mut at_position = 0;
        let mut taken = 0;
        for (transition, by_deadline) in &self.pending {
            if transition.seq == position && *by_deadline {
                at_position += 1;
            }
            if transition.seq > position || at_position > deadlines {
                break;
            }
            taken += 1;
        }
        for (transition, _) in self.pending.drain(..taken) {
            let seen_first =
                (transition.reason == TransitionReason::FirstSeen).then_some(transition.occurred_at);
            let earlier = self.rows.get(&transition.machine_id);
            let row = KnownMachine {
                machine_id: transition.machine_id.clone(),
                status: transition.status,
                status_since: transition.occurred_at,
                reason: Some(transition.reason),
                first_seen_at: earlier.and_then(|row| row.first_seen_at).or(seen_first),
                last_seen_at: transition.last_seen_at,
            };
            self.rows.insert(transition.machine_id.clone(), row);
            self.events.push(transition);
        }
        // The writer keeps last_seen_at with the readings; only rows that exist.
        for (sighting, _) in &self.journal[..self.committed] {
            if let Some(row) = self.rows.get_mut(&sighting.machine_id)
                && sighting.kind == SightingKind::Message
            {
                row.last_seen_at = Some(sighting.received_at);
            }
        }
    }

    /// What was observed but not committed is observed again; the monotonic clock of the new process begins
    /// at 0.
    fn crash(&mut self) {
        self.pending.clear();
        self.observed = self.committed;
        self.old_records = self.journal.len();
        self.clock_offset += i64::try_from(self.now).expect("a short test");
        self.now = 0;
        let known: Vec<KnownMachine> = self.rows.values().cloned().collect();
        let position = Seq(self.committed as u64);
        self.tracker = Tracker::new(options(), known.clone(), position);
        let began = self.wall_at(0);
        self.model = Model::new(&known, position, began.as_micros());
        let since = began.as_micros() - 30_000_000;
        let recent: Vec<_> =
            self.events.iter().filter(|event| event.occurred_at.as_micros() >= since).collect();
        let changes = recent.iter().map(|event| (event.machine_id.clone(), event.occurred_at));
        let now = TimePoint { mono: Mono(0), wall: began };
        self.tracker.remember_changes(&changes.collect::<Vec<_>>(), now);
        for event in recent.iter().filter(|event| event.occurred_at <= began) {
            let machine = self.model.machines.iter_mut().find(|machine| machine.name == event.machine_id);
            let ago = began.as_micros() - event.occurred_at.as_micros();
            machine.expect("the model tracks it").remember_change(-ago);
        }
        let flapping = self.tracker.views().filter(|view| view.flapping);
        self.flapping = flapping.map(|view| view.machine_id.clone()).collect();
    }

    /// Compares every view, the counts and the next deadline with the model.
    fn compare(&mut self) {
        self.compare_flapping();
        let mut counts = StatusCounts::default();
        assert_eq!(self.tracker.views().count(), self.model.machines.len());
        let in_order: Vec<_> = self.tracker.views_in_order().map(|view| view.machine_id.clone()).collect();
        assert!(in_order.is_sorted() && in_order.len() == self.model.machines.len(), "{in_order:?}");
        for machine in &self.model.machines {
            let view = self.tracker.status_of(machine.name.as_str()).expect("the model tracks it");
            assert_eq!(view.status, self.model.shown(machine), "{machine:?}");
            assert_eq!(view.recorded, machine.status());
            assert_eq!(view.status_since, machine.recorded.map(|(_, since)| since));
            assert_eq!((view.first_seen, view.last_seen), (machine.first_seen, machine.last_seen));
            match view.status {
                DisplayStatus::Online => counts.online += 1,
                DisplayStatus::Offline => counts.offline += 1,
                DisplayStatus::Unknown => counts.unknown += 1,
                DisplayStatus::NeverSeen => counts.never_seen += 1,
            }
        }
        assert_eq!(self.tracker.counts(), counts);
        assert_eq!(self.tracker.next_deadline(), self.model.next_deadline().map(Mono));
    }

    /// Compares the flapping machines with the model (TRK-10); each start and end is returned once.
    fn compare_flapping(&mut self) {
        for (machine_id, flaps) in self.tracker.take_flapping_changes(Mono(self.now)) {
            let before = self.flapping.remove(&machine_id);
            assert_ne!(before, flaps, "{machine_id}: each change once");
            if flaps {
                self.flapping.insert(machine_id);
            }
        }
        let names: Vec<MachineId> = self.model.machines.iter().map(|machine| machine.name.clone()).collect();
        for name in names {
            let flaps = self.model.flaps(&name, self.now);
            assert_eq!(
                self.tracker.status_of(name.as_str()).map(|view| view.flapping),
                Some(flaps),
                "{name}"
            );
            assert_eq!(self.flapping.contains(&name), flaps, "{name}: the returned changes agree");
        }
        assert_eq!(self.tracker.flapping_count(), self.flapping.len() as u64);
    }

    /// Checks that the database is consistent, across all crashes (TRK-1, TRK-5).
    pub(super) fn check_history(&self) {
        for (machine_id, row) in &self.rows {
            let mut before: Option<&Transition> = None;
            for event in self.events.iter().filter(|event| event.machine_id == *machine_id) {
                assert_eq!(event.previous_status, before.map(|before| before.status), "{:?}", self.events);
                assert_ne!(event.previous_status, Some(event.status), "exactly one event a change");
                assert!(before.is_none_or(|before| before.occurred_at != event.occurred_at), "distinct");
                before = Some(event);
            }
            assert_eq!(
                before.map(|event| (event.status, event.occurred_at)),
                Some((row.status, row.status_since))
            );
        }
    }
}
