//! The tracker's invariants, one claim a test; and [`random`] operations against a slow, obvious [`model`].

mod model;
mod random;
mod records;
mod refused;
mod rules;
mod silence;
mod visibility;
mod world;

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::domain::MachineStatus::{self, Offline, Online};
use crate::domain::TransitionReason::{self, FirstSeen, LastWill, Message, NeverSeen, Silence};
use crate::domain::{DisplayStatus, MachineRule};

const SECOND: u64 = 1_000_000;
/// Microseconds by which the wall clock is ahead of the monotonic one, until a test sets it.
const EPOCH: i64 = 1_800_000_000_000_000;

fn id(name: &str) -> MachineId {
    MachineId::parse(name).expect("a valid id")
}

fn wall(micros: u64) -> Timestamp {
    Timestamp::from_micros(EPOCH + i64::try_from(micros).expect("a small number"))
}

fn time_point(micros: u64) -> TimePoint {
    TimePoint { mono: Mono(micros), wall: wall(micros) }
}

fn options() -> TrackerOptions {
    let flapping = FlappingRule { changes: 6, window: Duration::from_secs(600) };
    TrackerOptions {
        offline_after: Duration::from_secs(15),
        machines: HashMap::new(),
        machines_max: 1000,
        flapping,
    }
}

fn expecting(names: &[&str]) -> TrackerOptions {
    let rule = MachineRule { offline_after: None, expected: true };
    TrackerOptions { machines: names.iter().map(|name| (id(name), rule)).collect(), ..options() }
}

fn known(name: &str, status: MachineStatus, since: u64, last_seen: u64) -> KnownMachine {
    KnownMachine {
        machine_id: id(name),
        status,
        status_since: wall(since),
        reason: None,
        first_seen_at: Some(wall(0)),
        last_seen_at: Some(wall(last_seen)),
    }
}

/// A tracker, and the seq of its newest record: each sighting gets the next one.
struct Bench {
    tracker: Tracker,
    seq: u64,
    /// The filters that match the topics of the next sightings.
    through: FilterSet,
}

impl Bench {
    fn new(options: TrackerOptions, known: Vec<KnownMachine>) -> Self {
        Self { tracker: Tracker::new(options, known, Seq(100)), seq: 100, through: FilterSet::EMPTY }
    }

    /// Returns one whose link is up since 1 s.
    fn with_link() -> Self {
        let mut bench = Self::new(options(), vec![]);
        bench.tracker.link_up(time_point(SECOND), Mono(SECOND));
        bench
    }

    fn sighting(&mut self, name: &str, at: Timestamp, kind: SightingKind) -> Sighting {
        self.seq += 1;
        Sighting {
            machine_id: id(name),
            received_at: at,
            seq: Seq(self.seq),
            element: 0,
            kind,
            filters: self.through,
        }
    }

    fn message(&mut self, name: &str, at: u64) -> Option<Transition> {
        let sighting = self.sighting(name, wall(at), SightingKind::Message);
        self.tracker.observe(&sighting, Some(Mono(at)))
    }

    fn last_will(&mut self, name: &str, at: u64) -> Option<Transition> {
        let sighting = self.sighting(name, wall(at), SightingKind::LastWill);
        self.tracker.observe(&sighting, Some(Mono(at)))
    }

    fn replayed(&mut self, name: &str, at: u64, kind: SightingKind) -> Option<Transition> {
        let sighting = self.sighting(name, wall(at), kind);
        self.tracker.observe(&sighting, None)
    }

    fn advance(&mut self, proven_until: u64) -> Vec<Transition> {
        let mut out = Vec::new();
        self.tracker.advance(Mono(proven_until), &mut out);
        out
    }

    fn shown(&self, name: &str) -> DisplayStatus {
        self.tracker.status_of(name).expect("a tracked machine").status
    }
}

/// Machine, status, previous status, reason, `occurred_at` and `last_seen_at`, in microseconds of the tests'
/// clock.
type Brief = (String, MachineStatus, Option<MachineStatus>, TransitionReason, i64, Option<i64>);

fn brief(transition: &Transition) -> Brief {
    let micros = |at: Timestamp| at.as_micros() - EPOCH;
    (
        transition.machine_id.to_string(),
        transition.status,
        transition.previous_status,
        transition.reason,
        micros(transition.occurred_at),
        transition.last_seen_at.map(micros),
    )
}

fn briefs(transitions: &[Transition]) -> Vec<Brief> {
    transitions.iter().map(brief).collect()
}

fn event(
    name: &str,
    status: MachineStatus,
    previous: Option<MachineStatus>,
    reason: TransitionReason,
    occurred_at: u64,
    last_seen: Option<u64>,
) -> Brief {
    let micros = |at: u64| i64::try_from(at).expect("a small number");
    (name.to_owned(), status, previous, reason, micros(occurred_at), last_seen.map(micros))
}
