//! The actor between a parser and an mqtt actor that do what a test says.

use std::collections::HashMap;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::tracker::Sighting;
use super::*;
use crate::actors::supervisor::ChildExited;
use crate::clock::Mono;
use crate::domain::{FilterSet, MachineId, Seq};
use crate::store::LivenessPast;

const PATIENCE: Duration = Duration::from_secs(30);

/// The parser, which notes that it is told; and a supervisor that hears nothing.
struct Others(UnboundedSender<Instant>);

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<TransitionsPending> for Others {
    type Result = ();

    fn handle(&mut self, _: TransitionsPending, _: &mut Context<Self>) {
        // The test may have heard enough.
        let _unheard = self.0.send(Instant::now());
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

struct Stage {
    wires: LivenessWires,
    others: Addr<Others>,
    told: UnboundedReceiver<Instant>,
}

impl Stage {
    fn new() -> Self {
        let wires = LivenessWires {
            parser: StableAddr::new(),
            publish: StableAddr::new(),
            prove: StableAddr::new(),
            link: StableAddr::new(),
            fence: Arc::default(),
            board: Arc::default(),
        };
        let (out, told) = unbounded_channel();
        Self { wires, others: Others(out).start(), told }
    }

    fn start(&self) -> Addr<Liveness> {
        let tracker = TrackerOptions {
            offline_after: Duration::from_secs(15),
            machines: HashMap::new(),
            machines_max: 100,
            flapping: FlappingRule { changes: 10, window: Duration::from_secs(600) },
        };
        let options = LivenessOptions { tracker, topic_prefix: None };
        let exit_guard = ExitGuard::new(0, 3, self.others.clone().recipient());
        let logger = Logger::root(slog::Discard, o!());
        Liveness::new(options, self.wires.clone(), Arc::default(), exit_guard, &logger).start()
    }
}

fn from_the_beginning() -> Recover {
    let (machines, past) = (Vec::new(), LivenessPast::default());
    Recover { machines, past, after: Seq::ZERO, received_before: Seq::ZERO, provisional: false }
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

#[test]
fn a_parser_that_was_away_is_told_at_the_next_tick_what_there_is_to_record() {
    System::new().block_on(async {
        let mut stage = Stage::new();
        let liveness = stage.start();
        liveness.send(from_the_beginning()).await.unwrap();
        let observed = liveness.send(one_sighting()).await.unwrap();
        assert!(matches!(observed, Observed::Seen { transitions_pending: 1.. }), "{observed:?}");
        stage.wires.parser.connect(stage.others.clone().recipient());
        let told = actix_rt::time::timeout(PATIENCE, stage.told.recv()).await;
        assert!(matches!(told, Ok(Some(_))), "{told:?}");
    });
}

#[test]
fn a_new_incarnation_keeps_those_before_it_from_publishing() {
    System::new().block_on(async {
        let stage = Stage::new();
        let liveness = stage.start();
        liveness.send(Heartbeat).await.unwrap();
        assert!(!stage.wires.fence.admits(2) && stage.wires.fence.admits(3));
    });
}

#[test]
fn a_new_incarnation_asks_whether_the_link_is_up() {
    System::new().block_on(async {
        let mut stage = Stage::new();
        stage.wires.link.connect(stage.others.clone().recipient());
        stage.start();
        let asked = actix_rt::time::timeout(PATIENCE, stage.told.recv()).await;
        assert!(matches!(asked, Ok(Some(_))), "{asked:?}");
    });
}
