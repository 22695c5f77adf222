//! LIV-5: a watch that begins without the database, and is told of the past at any later moment, makes the same transitions as
//! one that knew it from the start.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::replay::{Beginning, Replay};
use super::tracker::{
    FlappingRule, KnownMachine, MachineRule, Sighting, SightingKind, TimePoint, TrackerOptions,
};
use crate::clock::Mono;
use crate::domain::FilterSet;
use crate::domain::{DisplayStatus, MachineId, MachineStatus, Seq, Timestamp, Transition, TransitionReason};

const SECOND: u64 = 1_000_000;
const EPOCH: i64 = 1_800_000_000_000_000;
const MACHINES: [&str; 5] = ["online", "offline", "ghost", "new", "other"];

#[derive(Debug, Clone)]
enum Step {
    Receive {
        machine: usize,
        kind: SightingKind,
    },
    /// Both clocks go on, in seconds.
    Pass(u64),
    /// The wall clock is set, in seconds.
    Jump(i64),
    /// The link comes, and could be heard this long before, in seconds; or it goes.
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

fn beginning() -> Beginning {
    let known = |name, status| KnownMachine {
        machine_id: id(name),
        status,
        status_since: Timestamp::from_micros(EPOCH - 50_000_000),
        reason: Some(TransitionReason::Message),
        first_seen_at: Some(Timestamp::from_micros(EPOCH - 90_000_000)),
        last_seen_at: Some(Timestamp::from_micros(EPOCH - 50_000_000)),
    };
    Beginning {
        machines: vec![known("online", MachineStatus::Online), known("offline", MachineStatus::Offline)],
        recent_changes: vec![(id("online"), Timestamp::from_micros(EPOCH - 50_000_000))],
        after: Seq::ZERO,
        received_before: Seq(2),
    }
}

/// Time, the journal, and the watches that look at both.
struct World {
    now: u64,
    lead: i64,
    journal: Vec<Sighting>,
    link_up: bool,
}

impl World {
    /// Two records of an earlier process are in the journal.
    fn new() -> Self {
        let mut world = Self { now: 100 * SECOND, lead: EPOCH, journal: Vec::new(), link_up: false };
        world.receive(1, SightingKind::Message);
        world.receive(0, SightingKind::LastWill);
        world
    }

    fn moment(&self) -> TimePoint {
        let wall = Timestamp::from_micros(self.lead + i64::try_from(self.now).expect("a short test"));
        TimePoint { mono: Mono(self.now), wall }
    }

    fn receive(&mut self, machine: usize, kind: SightingKind) {
        self.journal.push(Sighting {
            machine_id: id(MACHINES[machine]),
            received_at: self.moment().wall,
            seq: Seq(self.journal.len() as u64 + 1),
            element: 0,
            kind,
            filters: FilterSet::EMPTY,
        });
    }

    fn appended(&self) -> Seq {
        Seq(self.journal.len() as u64)
    }

    /// Shows `watch` the records that it has not seen, in pieces, and a proof.
    fn show(&self, watch: &mut Replay, piece: usize, proven: Option<Mono>) -> Vec<Transition> {
        let mut out = Vec::new();
        let seen = usize::try_from(watch.observed_upto().0).expect("a short test");
        for sightings in self.journal[seen..].chunks(piece) {
            let upto = sightings.last().expect("a chunk is not empty").seq;
            out.extend(
                watch.observe(sightings, upto, None, self.moment()).expect("it knows where it stands"),
            );
        }
        out.extend(
            watch.observe(&[], self.appended(), proven, self.moment()).expect("it knows where it stands"),
        );
        out
    }

    fn go(&mut self, step: &Step, watch: &mut Replay) -> Vec<Transition> {
        match *step {
            Step::Receive { machine, kind } => {
                self.receive(machine, kind);
                self.show(watch, 1, None)
            }
            Step::Pass(seconds) => {
                self.now += seconds * SECOND;
                Vec::new()
            }
            Step::Jump(seconds) => {
                self.lead += seconds * 1_000_000;
                Vec::new()
            }
            Step::Link { up, heard } => {
                if up {
                    watch.link_up(self.moment(), Mono(self.now - heard * SECOND));
                } else if self.link_up {
                    watch.link_down(self.moment(), self.appended());
                }
                self.link_up = up;
                Vec::new()
            }
            Step::Prove => self.show(watch, 1, Some(Mono(self.now))),
        }
    }
}

/// Runs `steps` with a watch that learns of the past before step `learns_at` (never before the first, if 0).
fn run(steps: &[Step], learns_at: usize, piece: usize) -> (Vec<Transition>, Vec<String>) {
    let mut world = World::new();
    let mut watch = Replay::new(options());
    let mut out = Vec::new();
    if learns_at == 0 {
        out.extend(watch.recover(beginning(), world.moment()));
    } else {
        watch.begin_without_past(Seq(2), Seq(2), world.moment());
    }
    out.extend(world.show(&mut watch, 1, None));
    for (index, step) in steps.iter().enumerate() {
        if learns_at == index + 1 {
            // What was made without the past is not recorded.
            out =
                watch.recover(Beginning { received_before: world.appended(), ..beginning() }, world.moment());
            out.extend(world.show(&mut watch, piece, None));
        }
        out.extend(world.go(step, &mut watch));
    }
    assert!(watch.knows_the_past() || learns_at > steps.len());
    let tracker = watch.tracker_mut().expect("it began");
    let _news = tracker.take_flapping_news(world.moment().mono);
    let views = tracker.views_in_order().map(|view| format!("{view:?}")).collect();
    (out, views)
}

fn is_lasting(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Prove))
}

#[test]
fn a_silence_that_a_message_ended_before_the_past_was_known_is_an_event_all_the_same() {
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

#[test]
fn a_record_that_is_looked_at_after_its_link_ended_is_no_sign_of_life_in_the_next() {
    let mut world = World::new();
    let mut watch = Replay::new(options());
    watch.recover(beginning(), world.moment());
    watch.link_up(world.moment(), Mono(world.now));
    world.show(&mut watch, 1, None);
    world.now += SECOND;
    world.receive(3, SightingKind::Message);
    watch.link_down(world.moment(), world.appended());
    world.now += SECOND;
    watch.link_up(world.moment(), Mono(world.now));
    world.now += SECOND;
    let reasons: Vec<_> = world.show(&mut watch, 1, None).iter().map(|each| each.reason).collect();
    assert_eq!(reasons, [TransitionReason::FirstSeen]);
    let shown =
        |watch: &Replay| watch.tracker().and_then(|tracker| tracker.status_of("new").map(|view| view.status));
    assert_eq!(shown(&watch), Some(DisplayStatus::Unknown), "it spoke before the break");
    world.receive(3, SightingKind::Message);
    world.show(&mut watch, 1, None);
    assert_eq!(shown(&watch), Some(DisplayStatus::Online));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn l5_when_the_past_becomes_known_changes_nothing(
        steps in prop::collection::vec(step(), 1..60),
        learns_at in 1..60_usize,
        piece in 1..5_usize,
    ) {
        prop_assume!(is_lasting(&steps));
        let learns_at = learns_at.min(steps.len());
        prop_assert_eq!(run(&steps, learns_at, piece), run(&steps, 0, 1));
    }
}
