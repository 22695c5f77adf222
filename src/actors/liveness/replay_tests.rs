//! A start without the database, which comes back at any later time, makes the same transitions as a start
//! with it.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::replay::{Replay, StartState};
use super::tracker::{FlappingRule, KnownMachine, Sighting, SightingKind, TimePoint, TrackerOptions};
use crate::clock::Mono;
use crate::domain::{
    DisplayStatus, FilterSet, MachineId, MachineRule, MachineStatus, Seq, Timestamp, Transition,
    TransitionReason,
};

const SECOND: u64 = 1_000_000;
const EPOCH: i64 = 1_800_000_000_000_000;
const MACHINES: [&str; 5] = ["online", "offline", "ghost", "new", "other"];

#[derive(Debug, Clone)]
enum Step {
    Receive {
        machine: usize,
        kind: SightingKind,
    },
    /// Both clocks advance, in seconds.
    Pass(u64),
    /// The wall clock is set, in seconds.
    Jump(i64),
    /// The link comes up, having delivered this many seconds before; or it goes down.
    Link {
        up: bool,
        heard: u64,
    },
    Prove,
}

fn step() -> impl Strategy<Value = Step> {
    let machine = 0..MACHINES.len();
    prop_oneof![
        6 => machine.clone().prop_map(|machine| Step::Receive { machine, kind: SightingKind::Message }),
        1 => machine.prop_map(|machine| Step::Receive { machine, kind: SightingKind::LastWill }),
        5 => prop::sample::select(vec![1, 4, 5, 9]).prop_map(Step::Pass),
        1 => prop::sample::select(vec![-3600, 3600]).prop_map(Step::Jump),
        2 => (any::<bool>(), 0..3_u64).prop_map(|(up, heard)| Step::Link { up, heard }),
        5 => Just(Step::Prove),
    ]
}

fn id(name: &str) -> MachineId {
    MachineId::parse(name).expect("a valid id")
}

fn options() -> TrackerOptions {
    let expected = MachineRule { offline_after: Some(Duration::from_secs(9)), expected: true };
    TrackerOptions {
        offline_after: Duration::from_secs(5),
        machines: HashMap::from([(id("ghost"), expected)]),
        machines_max: 100,
        flapping: FlappingRule { changes: 2, window: Duration::from_secs(60) },
    }
}

fn start_state() -> StartState {
    let known = |name, status| KnownMachine {
        machine_id: id(name),
        status,
        status_since: Timestamp::from_micros(EPOCH - 50_000_000),
        reason: Some(TransitionReason::Message),
        first_seen_at: Some(Timestamp::from_micros(EPOCH - 90_000_000)),
        last_seen_at: Some(Timestamp::from_micros(EPOCH - 50_000_000)),
    };
    StartState {
        machines: vec![known("online", MachineStatus::Online), known("offline", MachineStatus::Offline)],
        recent_changes: vec![(id("online"), Timestamp::from_micros(EPOCH - 50_000_000))],
        after: Seq::ZERO,
        received_before: Seq(2),
    }
}

/// The clocks, the journal and the link.
struct World {
    now: u64,
    clock_offset: i64,
    journal: Vec<Sighting>,
    link_up: bool,
}

impl World {
    /// Two records of an earlier process are in the journal.
    fn new() -> Self {
        let mut world = Self { now: 100 * SECOND, clock_offset: EPOCH, journal: Vec::new(), link_up: false };
        world.receive(1, SightingKind::Message);
        world.receive(0, SightingKind::LastWill);
        world
    }

    fn time_point(&self) -> TimePoint {
        let wall = Timestamp::from_micros(self.clock_offset + i64::try_from(self.now).expect("a short test"));
        TimePoint { mono: Mono(self.now), wall }
    }

    fn receive(&mut self, machine: usize, kind: SightingKind) {
        self.journal.push(Sighting {
            machine_id: id(MACHINES[machine]),
            received_at: self.time_point().wall,
            seq: Seq(self.journal.len() as u64 + 1),
            element: 0,
            kind,
            filters: FilterSet::EMPTY,
        });
    }

    fn appended(&self) -> Seq {
        Seq(self.journal.len() as u64)
    }

    /// Gives `replay` the records that it has not observed, in pieces, and a proof.
    fn feed(&self, replay: &mut Replay, piece: usize, proven: Option<Mono>) -> Vec<Transition> {
        let mut out = Vec::new();
        let seen = usize::try_from(replay.observed_upto().0).expect("a short test");
        for sightings in self.journal[seen..].chunks(piece) {
            let upto = sightings.last().expect("a chunk is not empty").seq;
            out.extend(replay.observe(sightings, upto, None, self.time_point()).expect("it began"));
        }
        out.extend(replay.observe(&[], self.appended(), proven, self.time_point()).expect("it began"));
        out
    }

    fn go(&mut self, step: &Step, replay: &mut Replay) -> Vec<Transition> {
        match *step {
            Step::Receive { machine, kind } => {
                self.receive(machine, kind);
                self.feed(replay, 1, None)
            }
            Step::Pass(seconds) => {
                self.now += seconds * SECOND;
                Vec::new()
            }
            Step::Jump(seconds) => {
                self.clock_offset += seconds * 1_000_000;
                Vec::new()
            }
            Step::Link { up, heard } => {
                if up {
                    replay.link_up(self.time_point(), Mono(self.now - heard * SECOND));
                } else if self.link_up {
                    replay.link_down(self.time_point(), self.appended());
                }
                self.link_up = up;
                Vec::new()
            }
            Step::Prove => self.feed(replay, 1, Some(Mono(self.now))),
        }
    }
}

/// Runs `steps` with the database back before step `learns_at`; with 0, it was there at the start.
fn run(steps: &[Step], learns_at: usize, piece: usize) -> (Vec<Transition>, Vec<String>) {
    let mut world = World::new();
    let mut replay = Replay::new(options());
    let mut out = Vec::new();
    if learns_at == 0 {
        out.extend(replay.recover(start_state(), world.time_point()));
    } else {
        replay.start_without_history(Seq(2), Seq(2), world.time_point());
    }
    out.extend(world.feed(&mut replay, 1, None));
    for (index, step) in steps.iter().enumerate() {
        if learns_at == index + 1 {
            // Transitions made without the history are not recorded.
            out = replay.recover(
                StartState { received_before: world.appended(), ..start_state() },
                world.time_point(),
            );
            out.extend(world.feed(&mut replay, piece, None));
        }
        out.extend(world.go(step, &mut replay));
    }
    assert!(replay.history_is_known() || learns_at > steps.len());
    let tracker = replay.tracker_mut().expect("it began");
    let _changes = tracker.take_flapping_changes(world.time_point().mono);
    let views = tracker.views_in_order().map(|view| format!("{view:?}")).collect();
    (out, views)
}

fn has_a_proof(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Prove))
}

/// Proves LIV-5.
#[test]
fn a_silence_that_ended_before_the_history_was_known_is_an_event() {
    let message = Step::Receive { machine: 3, kind: SightingKind::Message };
    let steps = [
        Step::Link { up: true, heard: 0 },
        message.clone(),
        Step::Pass(9),
        Step::Prove,
        message,
        Step::Prove,
    ];
    let (late, _) = run(&steps, 6, 100);
    let of_new: Vec<_> =
        late.iter().filter(|each| each.machine_id == id("new")).map(|each| each.reason).collect();
    assert_eq!(of_new, [TransitionReason::FirstSeen, TransitionReason::Silence, TransitionReason::Message]);
    assert_eq!(run(&steps, 0, 1), run(&steps, 6, 2));
}

/// Proves TRK-4.
#[test]
fn a_record_observed_after_its_link_ended_is_no_sign_of_life_on_the_next_link() {
    let mut world = World::new();
    let mut replay = Replay::new(options());
    replay.recover(start_state(), world.time_point());
    replay.link_up(world.time_point(), Mono(world.now));
    world.feed(&mut replay, 1, None);
    world.now += SECOND;
    world.receive(3, SightingKind::Message);
    replay.link_down(world.time_point(), world.appended());
    world.now += SECOND;
    replay.link_up(world.time_point(), Mono(world.now));
    world.now += SECOND;
    let reasons: Vec<_> = world.feed(&mut replay, 1, None).iter().map(|each| each.reason).collect();
    assert_eq!(reasons, [TransitionReason::FirstSeen]);
    let shown = |replay: &Replay| {
        replay.tracker().and_then(|tracker| tracker.status_of("new").map(|view| view.status))
    };
    assert_eq!(shown(&replay), Some(DisplayStatus::Unknown), "it sent before the break");
    world.receive(3, SightingKind::Message);
    world.feed(&mut replay, 1, None);
    assert_eq!(shown(&replay), Some(DisplayStatus::Online));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves LIV-5.
    #[test]
    fn when_the_history_becomes_known_changes_nothing(
        steps in prop::collection::vec(step(), 1..60),
        learns_at in 1..60_usize,
        piece in 1..5_usize,
    ) {
        prop_assume!(has_a_proof(&steps));
        let learns_at = learns_at.min(steps.len());
        prop_assert_eq!(run(&steps, learns_at, piece), run(&steps, 0, 1));
    }
}
