//! The actor with a parser and an mqtt actor played by the test.

use std::collections::HashMap;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::tracker::Sighting;
use super::*;
use crate::actors::supervisor::{ChildExited, Heartbeat};
use crate::clock::Mono;
use crate::domain::{FilterSet, MachineId, Seq};
use crate::store::LivenessPast;

const WAIT_MAX: Duration = Duration::from_secs(30);

/// Plays the parser and the mqtt actor, which pass on when a message reaches them, and a supervisor that
/// ignores all.
struct Others(UnboundedSender<Instant>);

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<TransitionsPending> for Others {
    type Result = ();

    fn handle(&mut self, _: TransitionsPending, _: &mut Context<Self>) {
        // The test may be over.
        let _test_is_over = self.0.send(Instant::now());
    }
}

impl Handler<TellLink> for Others {
    type Result = ();

    fn handle(&mut self, _: TellLink, _: &mut Context<Self>) {
        self.0.send(Instant::now()).unwrap();
    }
}

impl Handler<ChildExited> for Others {
    type Result = ();

    fn handle(&mut self, _: ChildExited, _: &mut Context<Self>) {}
}

struct Fixture {
    wires: LivenessWires,
    others: Addr<Others>,
    received: UnboundedReceiver<Instant>,
}

impl Fixture {
    fn new() -> Self {
        let wires = LivenessWires {
            parser: StableAddr::new(),
            publish: StableAddr::new(),
            prove: StableAddr::new(),
            link: StableAddr::new(),
            fence: Arc::default(),
            machines: Arc::default(),
            forget: Arc::default(),
        };
        let (out, received) = unbounded_channel();
        Self { wires, others: Others(out).start(), received }
    }

    fn start(&self) -> Addr<Liveness> {
        let tracker = TrackerOptions {
            offline_after: Duration::from_secs(15),
            machines: HashMap::new(),
            machines_max: 100,
            flapping: FlappingRule { changes: 10, window: Duration::from_secs(600) },
        };
        let rules = Arc::new(StatusCell::new(tracker));
        let options = LivenessOptions { rules, topic_prefix: None };
        let exit_guard = ExitGuard::new(0, 3, self.others.clone().recipient());
        let logger = Logger::root(slog::Discard, o!());
        Liveness::new(options, self.wires.clone(), Arc::default(), exit_guard, &logger).start()
    }
}

fn empty_history() -> Recover {
    let (machines, past) = (Vec::new(), LivenessPast::default());
    Recover { machines, past, after: Seq::ZERO, received_before: Seq::ZERO, without_history: false }
}

fn one_sighting() -> Observe {
    let sighting = Sighting {
        machine_id: MachineId::parse("press-1").unwrap(),
        received_at: wall_now(),
        seq: Seq(1),
        element: 0,
        kind: SightingKind::Message,
        filters: FilterSet::EMPTY,
    };
    Observe { sightings: vec![sighting], upto: Seq(1), proven_until: Some(Mono(1)) }
}

/// Proves LIV-1.
#[test]
fn before_it_recovers_an_incarnation_observes_nothing() {
    System::new().block_on(async {
        let fixture = Fixture::new();
        let liveness = fixture.start();
        let observed = liveness.send(one_sighting()).await.unwrap();
        assert!(matches!(observed, Observed::NotRecovered), "{observed:?}");
        let recovered = liveness.send(empty_history()).await.unwrap();
        assert_eq!((recovered.observed_upto, recovered.transitions_pending), (Seq::ZERO, 0));
    });
}

/// Proves LIV-2.
#[test]
fn a_parser_that_was_away_is_notified_at_the_next_tick() {
    System::new().block_on(async {
        let mut fixture = Fixture::new();
        let liveness = fixture.start();
        liveness.send(empty_history()).await.unwrap();
        let observed = liveness.send(one_sighting()).await.unwrap();
        assert!(matches!(observed, Observed::Seen { transitions_pending: 1.. }), "{observed:?}");
        fixture.wires.parser.connect(fixture.others.clone().recipient());
        let received = actix_rt::time::timeout(WAIT_MAX, fixture.received.recv()).await;
        assert!(matches!(received, Ok(Some(_))), "{received:?}");
    });
}

#[test]
fn a_new_incarnation_keeps_earlier_ones_from_publishing() {
    System::new().block_on(async {
        let fixture = Fixture::new();
        let liveness = fixture.start();
        liveness.send(Heartbeat).await.unwrap();
        assert!(!fixture.wires.fence.admits(2) && fixture.wires.fence.admits(3));
    });
}

#[test]
fn a_new_incarnation_asks_whether_the_link_is_up() {
    System::new().block_on(async {
        let mut fixture = Fixture::new();
        fixture.wires.link.connect(fixture.others.clone().recipient());
        fixture.start();
        let asked = actix_rt::time::timeout(WAIT_MAX, fixture.received.recv()).await;
        assert!(matches!(asked, Ok(Some(_))), "{asked:?}");
    });
}
