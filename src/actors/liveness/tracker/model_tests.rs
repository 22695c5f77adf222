//! The tracker against a slow, obvious model, in random worlds: messages, last wills, a link that comes and goes,
//! time that passes, a wall clock that jumps, a pipeline that lags, a database that has only part of it, crashes
//! and replays.
//!
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::model::{MACHINES, Model, SECOND, options};
use super::*;
use crate::domain::{DisplayStatus, TransitionReason};

/// The wall clock's lead over the monotonic one at the start.
const EPOCH: i64 = 1_800_000_000_000_000;

#[derive(Debug, Clone)]
enum Operation {
    /// A record is journaled.
    Receive {
        machine: usize,
        kind: SightingKind,
    },
    /// The parser gets to at most this many more records.
    Look(usize),
    /// Both clocks go on.
    Pass(u64),
    /// The wall clock is set.
    Jump(i64),
    /// The link came up, this long ago as far as possible, and could be heard this long before that.
    LinkUp {
        ago: u64,
        heard: u64,
    },
    LinkDown,
    /// The broker refuses these of two filters; through the others was heard since so long ago.
    Refuse {
        filters: u8,
        heard: u64,
    },
    /// The link is proven (or was, this long ago), and everything is looked at.
    Prove {
        ago: u64,
    },
    /// The writer commits records up to a place among those looked at, and some of the deadlines at that place.
    Commit {
        records: usize,
        deadlines: usize,
    },
    /// kill -9 and a new process.
    Crash,
    /// The newest records once more.
    Replay(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let pass = prop::sample::select(vec![
        0,
        1,
        SECOND,
        3 * SECOND,
        5 * SECOND,
        15 * SECOND - 1,
        15 * SECOND,
        99 * SECOND,
    ]);
    let machine = 0..MACHINES.len();
    prop_oneof![
        8 => machine.clone().prop_map(|machine| Operation::Receive { machine, kind: SightingKind::Message }),
        2 => machine.prop_map(|machine| Operation::Receive { machine, kind: SightingKind::LastWill }),
        2 => (0..4_usize).prop_map(Operation::Look),
        8 => pass.prop_map(Operation::Pass),
        1 => prop::sample::select(vec![-3600, -10, 10, 3600]).prop_map(|seconds| Operation::Jump(seconds * 1_000_000)),
        3 => (prop::sample::select(vec![0, SECOND, 20 * SECOND]), prop::sample::select(vec![0, 1, SECOND]))
            .prop_map(|(ago, heard)| Operation::LinkUp { ago, heard }),
        2 => Just(Operation::LinkDown),
        2 => (0..4_u8, prop::sample::select(vec![0, 1, SECOND]))
            .prop_map(|(filters, heard)| Operation::Refuse { filters, heard }),
        6 => prop::sample::select(vec![0, 0, 1, SECOND]).prop_map(|ago| Operation::Prove { ago }),
        3 => (0..6_usize, 0..3_usize).prop_map(|(records, deadlines)| Operation::Commit { records, deadlines }),
        1 => Just(Operation::Crash),
        1 => (0..20_usize).prop_map(Operation::Replay),
    ]
}

/// Everything outside the tracker, and the tracker with its model in it.
struct World {
    /// Monotonic time, and the process's start in it.
    now: u64,
    wall_ahead: i64,
    journal: Vec<(Sighting, u64)>,
    /// Records of the journal before this process, and how many of all have been looked at.
    old_records: usize,
    looked: usize,
    /// What the writer has not committed.
    pending: Vec<(Transition, bool)>,
    rows: BTreeMap<MachineId, KnownMachine>,
    events: Vec<Transition>,
    committed: usize,
    tracker: Tracker,
    model: Model,
    /// As the tracker's news say.
    flapping: BTreeSet<MachineId>,
}

impl World {
    fn new() -> Self {
        Self {
            now: 0,
            wall_ahead: EPOCH,
            journal: Vec::new(),
            old_records: 0,
            looked: 0,
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
        Timestamp::from_micros(self.wall_ahead + i64::try_from(mono).expect("a short test"))
    }

    fn run(&mut self, operation: &Operation) {
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
            Operation::Look(records) => self.look(records),
            Operation::Pass(micros) => self.now += micros,
            Operation::Jump(micros) => self.wall_ahead += micros,
            Operation::LinkUp { ago, heard } => {
                let last = self.model.links.last().map_or(0, |(up, down)| down.unwrap_or(up.mono.0));
                let last = last.max(self.model.granted_at.map_or(0, |(at, _)| at.mono.0));
                let at = self.now.saturating_sub(ago).max(last);
                let moment = TimePoint { mono: Mono(at), wall: self.wall_at(at) };
                let heard_from = at.saturating_sub(heard);
                self.tracker.link_up(moment, Mono(heard_from));
                self.model.link_up(moment, heard_from.max(last));
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
                for (sighting, _) in &self.journal[self.looked.saturating_sub(records)..self.looked] {
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
        let moment = TimePoint { mono: Mono(self.now), wall: self.wall_at(self.now) };
        let heard_from = self.now.saturating_sub(heard);
        self.tracker.refuse(model::filters(filters), moment, Mono(heard_from));
        self.model.refuse(filters, moment, heard_from);
    }

    fn look(&mut self, records: usize) {
        let upto = self.journal.len().min(self.looked.saturating_add(records));
        for index in self.looked..upto {
            let (sighting, received) = &self.journal[index];
            let received = (index >= self.old_records).then_some(*received);
            let expected = self.model.observe(sighting, received);
            let mut together = Vec::new();
            self.tracker.observe_all(std::slice::from_ref(sighting), received.map(Mono), &mut together);
            let transition = together.pop();
            assert_eq!(transition, expected, "record {sighting:?}");
            self.pending.extend(transition.map(|transition| (transition, false)));
            self.tracker.looked_at(sighting.seq);
            self.model.seen_upto = sighting.seq;
        }
        self.looked = upto;
    }

    fn prove(&mut self, proven: u64) {
        self.look(usize::MAX);
        let expected = self.model.advance(proven);
        let mut transitions = Vec::new();
        self.tracker.advance(Mono(proven), &mut transitions);
        assert_eq!(transitions, expected, "proven until {proven}");
        self.pending.extend(transitions.into_iter().map(|transition| (transition, true)));
    }

    /// One transaction: the next records with all of their transitions, and the first of the deadlines after them.
    fn commit(&mut self, records: usize, deadlines: usize) {
        self.committed = self.looked.min(self.committed + records);
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

    /// What was looked at but not committed is looked at again; time of the new process begins at 0.
    fn crash(&mut self) {
        self.pending.clear();
        self.looked = self.committed;
        self.old_records = self.journal.len();
        self.wall_ahead += i64::try_from(self.now).expect("a short test");
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

    /// Every view, the counts and the next deadline are the model's.
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

    /// TRK-10: what is shown is the model's, and each beginning and end is news once.
    fn compare_flapping(&mut self) {
        for (machine_id, flaps) in self.tracker.take_flapping_news(Mono(self.now)) {
            let before = self.flapping.remove(&machine_id);
            assert_ne!(before, flaps, "{machine_id} flaps: said once");
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
            assert_eq!(self.flapping.contains(&name), flaps, "{name}: the news say the same");
        }
        assert_eq!(self.tracker.flapping_count(), self.flapping.len() as u64);
    }

    /// What the database holds makes sense by itself, across all crashes (TRK-1, TRK-5).
    fn check_history(&self) {
        for (machine_id, row) in &self.rows {
            let mut before: Option<&Transition> = None;
            for event in self.events.iter().filter(|event| event.machine_id == *machine_id) {
                assert_eq!(event.previous_status, before.map(|before| before.status), "{:?}", self.events);
                assert_ne!(event.previous_status, Some(event.status), "exactly one event a change");
                assert!(before.is_none_or(|before| before.occurred_at != event.occurred_at), "told apart");
                before = Some(event);
            }
            assert_eq!(
                before.map(|event| (event.status, event.occurred_at)),
                Some((row.status, row.status_since))
            );
        }
    }
}

fn run(operations: &[Operation]) -> World {
    let mut world = World::new();
    for operation in operations {
        world.run(operation);
    }
    world.run(&Operation::Prove { ago: 0 });
    world.commit(usize::MAX / 2, usize::MAX);
    world.check_history();
    world
}

#[test]
fn counter_example_sight_begins_anew_before_a_deadline_that_has_passed() {
    run(&[
        Operation::LinkUp { ago: 0, heard: 0 },
        Operation::Pass(15 * SECOND),
        Operation::Prove { ago: 0 },
        Operation::LinkUp { ago: 20 * SECOND, heard: 0 },
        Operation::LinkUp { ago: SECOND, heard: 0 },
    ]);
}

/// "b" was blind until filter 0 was granted; then its record from before showed that it comes through the other.
#[test]
fn counter_example_the_deadline_of_a_machine_whose_filter_was_not_known_moved_to_an_earlier_instant() {
    let (b, e) = (1, 4);
    run(&[
        Operation::Receive { machine: b, kind: SightingKind::Message },
        Operation::Look(1),
        Operation::Commit { records: 1, deadlines: 0 },
        Operation::Crash,
        Operation::LinkUp { ago: 0, heard: 0 },
        Operation::Receive { machine: e, kind: SightingKind::Message },
        Operation::Look(1),
        Operation::Receive { machine: b, kind: SightingKind::Message },
        Operation::Pass(3 * SECOND),
        Operation::Refuse { filters: 1, heard: 0 },
        Operation::Refuse { filters: 0, heard: 0 },
        Operation::Look(1),
        Operation::Pass(3 * SECOND),
        Operation::Prove { ago: 0 },
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tracker_does_what_the_obvious_model_does(operations in prop::collection::vec(operation(), 1..120)) {
        run(&operations);
    }

    /// TRK-8: a crash changes no event that records cause, if the wall clock is never set back and no two records
    /// of a machine come within one microsecond.
    #[test]
    fn events_of_records_are_the_same_after_a_crash(operations in prop::collection::vec(operation(), 1..80)) {
        let only_records: Vec<Operation> = operations
            .into_iter()
            .filter(|operation| !matches!(operation, Operation::Jump(..0) | Operation::Prove { .. }))
            .flat_map(|operation| [operation, Operation::Pass(1)])
            .collect();
        let without_crashes: Vec<Operation> =
            only_records.iter().filter(|operation| !matches!(operation, Operation::Crash)).cloned().collect();
        let events = |operations: &[Operation]| {
            let mut world = World::new();
            for operation in operations {
                world.run(operation);
            }
            world.look(usize::MAX);
            world.commit(usize::MAX / 2, usize::MAX);
            world.events
        };
        prop_assert_eq!(events(&only_records), events(&without_crashes));
    }
}
