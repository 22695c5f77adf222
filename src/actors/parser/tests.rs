//! The parser with scripted liveness, writer and supervisor.

mod lookout;
mod positions;
mod stops;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use actix::WeakRecipient;
use actix::prelude::*;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::actors::liveness::messages::{Observed, Recovered, TakenTransitions};
use crate::actors::mqtt::link_health::{Effect, LinkHealth, Timing};
use crate::actors::supervisor::{ChildExited, ExitReason, StopChild};
use crate::actors::writer::messages::{Attached, Committed, Known, NotCommitted};
use crate::domain::{
    MachineId, MachineStatus, Message as Received, Qos, Timestamp, TopicFilter, Transition, TransitionReason,
};
use crate::journal::{JournalListener, JournalOptions, RealFs, Space, SyncMode, WhenFull};
use crate::payload::{PayloadOptions, PayloadRules};
use crate::store::{LivenessPast, LivenessRows};

const WAIT_MAX: Duration = Duration::from_secs(30);
/// Long enough for the parser to do what it must not do.
const A_WHILE: Duration = Duration::from_millis(200);

/// A batch that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Commit {
    after: u64,
    upto: u64,
    transitions: usize,
}

/// The state of the scripted actors, and what they received.
#[derive(Default)]
struct World {
    /// The position in the database.
    committed: Seq,
    commits: Vec<Commit>,
    /// While this is set the writer answers no batch.
    writer_waits: bool,
    held: Vec<oneshot::Sender<()>>,
    /// Receives a lost position.
    lost: Option<WeakRecipient<PositionLost>>,
    /// How often liveness answers as a new incarnation.
    forgetful: u32,
    /// The database is away: the position is not answered.
    position_unknown: bool,
    /// Gaps that were committed: from, to and why.
    gaps: Vec<(u64, u64, String)>,
    /// Transitions that liveness has, and how many of them, from the first, are recorded.
    transitions: u64,
    recorded: u64,
    /// Each `Observe`: up to where, and the proof with it.
    observed: Vec<(Seq, Option<Mono>)>,
    exit: Option<ExitReason>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    async fn wait_until(&self, what: &str, mut is_so: impl FnMut(&World) -> bool) {
        let deadline = Instant::now() + WAIT_MAX;
        while !is_so(&self.lock()) {
            assert!(Instant::now() < deadline, "not within {WAIT_MAX:?}: {what}");
            actix_rt::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets the writer answer the batches it holds, and all later ones.
    fn release(&self) {
        let mut world = self.lock();
        world.writer_waits = false;
        for held in world.held.drain(..) {
            held.send(()).unwrap();
        }
    }
}

struct Others(Shared);

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<Attach> for Others {
    type Result = ResponseFuture<Result<Attached, NotCommitted>>;

    fn handle(&mut self, attach: Attach, _: &mut Context<Self>) -> Self::Result {
        let mut world = self.0.lock();
        world.lost = Some(attach.lost);
        if world.position_unknown {
            return Box::pin(std::future::pending());
        }
        let committed_seq = world.committed;
        let known = Known { committed_seq, machines: Vec::new(), past: LivenessPast::default() };
        Box::pin(async { Ok(Attached::Granted(known)) })
    }
}

impl Handler<CommitBatch> for Others {
    type Result = ResponseFuture<Result<Committed, NotCommitted>>;

    fn handle(&mut self, CommitBatch(batch): CommitBatch, _: &mut Context<Self>) -> Self::Result {
        let shared = self.0.clone();
        let held = {
            let mut world = shared.lock();
            let (hold, released) = oneshot::channel();
            world.writer_waits.then(|| {
                world.held.push(hold);
                released
            })
        };
        Box::pin(async move {
            if let Some(held) = held {
                held.await.unwrap();
            }
            let mut world = shared.lock();
            if world.committed != batch.after {
                return Err(NotCommitted::Stale);
            }
            world.committed = batch.upto;
            let gaps = batch.gaps.iter().map(|gap| (gap.from.0, gap.to.0, gap.reason.clone()));
            world.gaps.extend(gaps);
            let transitions = batch.transitions.len();
            world.commits.push(Commit { after: batch.after.0, upto: batch.upto.0, transitions });
            Ok(Committed)
        })
    }
}

impl Handler<Recover> for Others {
    type Result = Recovered;

    fn handle(&mut self, recover: Recover, _: &mut Context<Self>) -> Recovered {
        let world = self.0.lock();
        let transitions_pending = usize::try_from(world.transitions - world.recorded).unwrap();
        Recovered { observed_upto: recover.after, transitions_pending }
    }
}

impl Handler<Observe> for Others {
    type Result = Observed;

    fn handle(&mut self, observe: Observe, _: &mut Context<Self>) -> Observed {
        let mut world = self.0.lock();
        world.observed.push((observe.upto, observe.proven_until));
        if world.forgetful > 0 && observe.proven_until.is_some() {
            world.forgetful -= 1;
            return Observed::NotRecovered;
        }
        Observed::Seen { transitions_pending: usize::try_from(world.transitions - world.recorded).unwrap() }
    }
}

impl Handler<TakeTransitions> for Others {
    type Result = TakenTransitions;

    fn handle(&mut self, take: TakeTransitions, _: &mut Context<Self>) -> TakenTransitions {
        let world = self.0.lock();
        let upto = world.transitions.min(world.recorded + take.count_max as u64);
        let transitions = (world.recorded..upto).map(|_| transition()).collect();
        let receipt = Receipt { transitions: upto, ..Receipt::default() };
        let more = upto < world.transitions;
        TakenTransitions { transitions, rows: LivenessRows::default(), receipt, more }
    }
}

impl Handler<TransitionsRecorded> for Others {
    type Result = ();

    fn handle(&mut self, TransitionsRecorded(receipt): TransitionsRecorded, _: &mut Context<Self>) {
        self.0.lock().recorded = receipt.transitions;
    }
}

impl Handler<ChildExited> for Others {
    type Result = ();

    fn handle(&mut self, exited: ChildExited, _: &mut Context<Self>) {
        self.0.lock().exit = Some(exited.reason);
    }
}

fn transition() -> Transition {
    Transition {
        machine_id: MachineId::parse("press-1").unwrap(),
        status: MachineStatus::Online,
        previous_status: None,
        reason: TransitionReason::FirstSeen,
        occurred_at: Timestamp::from_micros(1),
        last_seen_at: None,
        seq: Seq(1),
    }
}

struct IgnoredEvents;

impl JournalListener for IgnoredEvents {
    fn readable(&self, _: Seq) {}
    fn space(&self, _: Space) {}
    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

/// A journal, and everything else that the parser needs.
struct Stage {
    shared: Shared,
    journal: Journal,
    health: Arc<SharedLinkHealth>,
    metrics: Arc<Metrics>,
    batch_rows_max: usize,
    _directory: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self::with(64 << 20, WhenFull::Hold)
    }

    fn with(max_bytes: u64, when_full: WhenFull) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = JournalOptions {
            dir: directory.path().join("journal"),
            site: "plant".to_owned(),
            max_bytes,
            segment_bytes: max_bytes.min(4 << 20) / 4,
            sync: SyncMode::Os,
            when_full,
        };
        let (journal, _) = Journal::open(options, Arc::new(RealFs), Arc::new(IgnoredEvents)).unwrap();
        let timing = Timing::of(Duration::from_secs(30), Duration::from_secs(15));
        let health = Arc::new(SharedLinkHealth::new(LinkHealth::new(timing, Seq::ZERO)));
        let metrics = Arc::new(Metrics::default());
        metrics.store_available.set(true);
        Self {
            shared: Shared::default(),
            journal,
            health,
            metrics,
            batch_rows_max: 10_000,
            _directory: directory,
        }
    }

    fn append(&self, count: usize) {
        for _ in 0..count {
            let message = Received {
                received_at: Timestamp::from_micros(1),
                qos: Qos::AtLeastOnce,
                clock_unset: false,
                retained: false,
                topic: "factory/machine/press-1/telemetry".into(),
                payload: br#"{"temperature":1}"#,
            };
            self.journal.append(&message).unwrap();
        }
    }

    /// An echo comes back behind record `upto`. Returns when it was sent.
    fn prove_link(&self, upto: u64) -> Mono {
        let mut health = self.health.lock();
        health.link_up(Mono(0), Some(7));
        assert_eq!(health.check(Mono(100_000), false), [Effect::SendEcho(1)]);
        let payload = health.echo_payload(1).unwrap();
        assert!(health.echo(payload.as_bytes(), Mono(101_000), Seq(upto)));
        health.proof().unwrap().at
    }

    fn start(&self) -> Addr<Parser> {
        let others = Others(self.shared.clone()).start();
        let wires = ParserWires {
            observe: StableAddr::new(),
            recover: StableAddr::new(),
            take_transitions: StableAddr::new(),
            transitions_recorded: StableAddr::new(),
            attach: StableAddr::new(),
            commit: StableAddr::new(),
        };
        wires.observe.connect(others.clone().recipient());
        wires.recover.connect(others.clone().recipient());
        wires.take_transitions.connect(others.clone().recipient());
        wires.transitions_recorded.connect(others.clone().recipient());
        wires.attach.connect(others.clone().recipient());
        wires.commit.connect(others.clone().recipient());
        let metrics = Arc::clone(&self.metrics);
        let exit_guard = ExitGuard::new(0, 1, others.recipient());
        let (journal, health) = (self.journal.clone(), Arc::clone(&self.health));
        let logger = Logger::root(slog::Discard, o!());
        let options = ParserOptions { batch_rows_max: self.batch_rows_max, ..options() };
        Parser::new(options, wires, journal, health, metrics, exit_guard, &logger).start()
    }
}

fn options() -> ParserOptions {
    let payload = PayloadOptions {
        max_ahead: Duration::from_secs(86_400),
        max_payload: 1_000,
        segments: Vec::new(),
        machine_id_from: crate::domain::MachineIdFrom::Payload,
        fields: Default::default(),
    };
    let interpreter = Interpreter {
        rules: PayloadRules::new(payload).unwrap(),
        telemetry: vec![TopicFilter::parse("factory/#").unwrap()],
        last_wills: Vec::new(),
        control_prefix: None,
    };
    ParserOptions { batch_rows_max: 10_000, interpreter: Arc::new(interpreter), progress: Arc::default() }
}

/// Proves PAR-2.
#[test]
fn the_position_stays_until_every_transition_before_it_is_recorded() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.append(10);
        let all = 2 * BATCH_TRANSITIONS_MAX + 5;
        stage.shared.lock().transitions = all as u64;
        stage.start();
        stage.shared.wait_until("all is recorded", |world| world.recorded == all as u64).await;
        stage.shared.wait_until("the position", |world| world.committed == Seq(10)).await;
        let commits = stage.shared.lock().commits.clone();
        let some = Commit { after: 0, upto: 0, transitions: BATCH_TRANSITIONS_MAX };
        assert_eq!(commits, [some, some, Commit { after: 0, upto: 10, transitions: 5 }]);
    });
}

#[test]
fn a_proof_of_the_link_is_passed_on_only_behind_the_records_before_it() {
    System::new().block_on(async {
        let stage = Stage::new();
        // More than are read at once.
        stage.append(3_000);
        let proven_at = stage.prove_link(3_000);
        stage.start();
        let is_read = |world: &World| world.observed.last().is_some_and(|(upto, _)| *upto == Seq(3_000));
        stage.shared.wait_until("everything is read", is_read).await;
        let proven = |world: &World| world.observed.iter().any(|(_, proven)| proven.is_some());
        stage.shared.wait_until("the proof", proven).await;
        let observed = stage.shared.lock().observed.clone();
        assert!(observed.len() > 1, "{observed:?}");
        let proofs: Vec<_> = observed.iter().filter(|(_, proven)| proven.is_some()).collect();
        assert_eq!(proofs, [&(Seq(3_000), Some(proven_at))]);
    });
}

#[test]
fn what_the_journal_dropped_is_committed_as_a_gap_with_its_reason() {
    System::new().block_on(async {
        let stage = Stage::with(256 << 10, WhenFull::DropOldest);
        while stage.journal.stats().dropped_records == 0 {
            stage.append(1_000);
            stage.journal.sync().unwrap();
        }
        let dropped = stage.journal.stats().dropped_records;
        stage.start();
        let appended = stage.journal.positions().appended;
        stage.shared.wait_until("the position", |world| world.committed == appended).await;
        assert_eq!(stage.shared.lock().gaps, [(1, dropped, "drop_oldest".to_owned())]);
    });
}

#[test]
fn records_are_found_even_if_the_wake_up_is_lost() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.append(5);
        stage.start();
        stage.shared.wait_until("the position", |world| world.committed == Seq(5)).await;
        stage.append(5);
        stage.shared.wait_until("the position", |world| world.committed == Seq(10)).await;
    });
}
