//! The parser actor: reads records from the journal and turns them into rows for the writer and sightings for
//! liveness.
//!
//! Receives [`JournalGrew`] (the journal has more to read, or the link was proven), [`TransitionsPending`] and
//! [`PositionLost`]. Sends [`Observe`], [`TakeTransitions`] and [`Recover`] to liveness, [`Attach`] and
//! [`CommitBatch`] to the writer. No payload passes through its mailbox: *the journal is the mailbox*.
//!
//! Two positions move through the journal:
//! - **storage**: records up to here are in the batch being built;
//! - **lookout**: liveness has seen the sightings up to here.
//!
//! In step, one read serves both. While the database is away or slow, the lookout runs ahead alone and keeps
//! nothing; storage reads those records again later. [`next_step`] decides what to read or commit next.
//!
//! Invariants
//! - **PAR-1** A batch covers a contiguous range of seqs that begins right after the position in the database.
//! - **PAR-2** A batch goes to the writer only when liveness has seen its whole range (lookout ≥ `batch.upto`),
//!   with every transition that the range has caused: the position never runs ahead of the events.
//! - **PAR-3** At most one batch is with the writer and one is being built; both are bounded in rows and bytes.
//! - **PAR-4** Every element of a record ends as a reading, a rejection or control, and every record moves the
//!   position.
//!
//! When the position in the database is not the expected one, the parser drops what it has built and attaches
//! again; the journal still holds everything. A position that another history of this journal has written (a
//! copy of its directory, or the directory before it was restored from a backup) stays untouched, and the
//! journal takes a new id.

mod attach;
mod batch;
mod commit;
mod drain;
mod interpreter;
pub mod messages;
mod next_step;
mod read;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, debug, error, o};

pub use self::batch::BatchBuilder;
use self::drain::Drain;
pub use self::interpreter::Interpreter;
use self::messages::{JournalGrew, TransitionsPending};
use self::next_step::{NextStep, Situation};
use super::failpoint::failpoint;
use super::liveness::messages::{Observe, Receipt, Recover, TakeTransitions, TransitionsRecorded};
use super::mqtt::link_health::{LinkProof, SharedLinkHealth};
use super::stable_addr::{StableAddr, StableAddrError};
use super::supervisor::{ExitGuard, supervised};
use super::writer::messages::{Attach, CommitBatch, PositionLost};
use crate::clock::Mono;
use crate::domain::{OpenId, Seq};
use crate::journal::{Journal, JournalError, Reader};
use crate::logging::causes;
use crate::metrics::Metrics;
use crate::payload::Outcome;
use crate::status::Progress;

/// A batch is full at this many payload bytes, however few its rows.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a batch is built while there is more to read. No batch waits for more messages.
const BUILD_MAX: Duration = Duration::from_millis(50);
/// Transitions in one batch.
const BATCH_TRANSITIONS_MAX: usize = 4096;
/// After a commit of this length the lookout runs ahead.
const WRITER_BUSY_MAX: Duration = Duration::from_millis(500);
/// How long liveness waits for the recorded past before it starts without it.
const DATABASE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for an answer of liveness, which does no I/O.
const LIVENESS_ANSWER_MAX: Duration = Duration::from_secs(30);
/// Pause before a retry.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The actor's options.
#[derive(Clone)]
pub struct ParserOptions {
    /// Rows in a batch, at most.
    pub batch_rows_max: usize,
    /// Interprets messages.
    pub interpreter: Arc<Interpreter>,
    /// Receives the progress of this stage.
    pub progress: Arc<Progress>,
}

/// The wires to other actors.
#[derive(Clone)]
pub struct ParserWires {
    /// Sightings.
    pub observe: StableAddr<Observe>,
    /// Has liveness start again from the database's state.
    pub recover: StableAddr<Recover>,
    /// Transitions to record.
    pub take_transitions: StableAddr<TakeTransitions>,
    /// Reports recorded transitions.
    pub transitions_recorded: StableAddr<TransitionsRecorded>,
    /// The position in the database.
    pub attach: StableAddr<Attach>,
    /// Batches.
    pub commit: StableAddr<CommitBatch>,
}

/// The state of the claim on the position.
enum Store {
    /// Not asked yet.
    Unknown,
    /// The writer answers once the database has.
    Attaching,
    /// Claimed under this open id: batches can be committed.
    Ready(OpenId),
}

/// The batch that is with the writer.
struct InFlight {
    since: Instant,
    upto: Seq,
    receipt: Receipt,
}

/// What the parser waits for. While it waits for liveness it reads nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Idle,
    WithLiveness,
    Paused,
}

/// The actor.
pub struct Parser {
    options: ParserOptions,
    wires: ParserWires,
    journal: Journal,
    health: Arc<SharedLinkHealth>,
    metrics: Arc<Metrics>,
    exit_guard: ExitGuard,
    logger: Logger,
    store: Store,
    /// Since when `store` is not ready.
    detached_since: Instant,
    /// Number of the newest [`Attach`]; answers to older ones are ignored.
    attach_number: u64,
    step: Step,
    /// While the lookout runs alone, it and storage take turns.
    lookout_is_next: bool,
    /// Liveness has started, from the database or provisionally without it.
    liveness_ready: bool,
    liveness_provisional: bool,
    storage: Reader,
    lookout: Seq,
    /// Only while the lookout runs ahead.
    lookout_reader: Option<Reader>,
    building: BatchBuilder,
    in_flight: Option<InFlight>,
    /// Liveness may have something to record. Only asking for it clears this: an older answer that says
    /// "nothing" may cross with a newer message that says otherwise.
    transitions_pending: bool,
    /// A proof of the link that waits until liveness has seen every record before it.
    proof: Option<LinkProof>,
    proof_passed_on: Mono,
    stopping: bool,
    /// The warning about statuses of another Andon has been logged.
    foreign_status_logged: bool,
    outcomes: Vec<Outcome>,
}

impl Parser {
    /// Makes a new incarnation. It asks the database where to go on.
    #[must_use]
    pub fn new(
        options: ParserOptions,
        wires: ParserWires,
        journal: Journal,
        health: Arc<SharedLinkHealth>,
        metrics: Arc<Metrics>,
        exit_guard: ExitGuard,
        logger: &Logger,
    ) -> Self {
        let building = BatchBuilder::new(Seq::ZERO, options.batch_rows_max, BATCH_BYTES_MAX);
        Self {
            storage: journal.reader(Seq::ZERO),
            lookout: Seq::ZERO,
            lookout_reader: None,
            options,
            wires,
            journal,
            health,
            metrics,
            exit_guard,
            logger: logger.new(o!("component" => "parser")),
            store: Store::Unknown,
            detached_since: Instant::now(),
            attach_number: 0,
            step: Step::Idle,
            lookout_is_next: true,
            liveness_ready: false,
            liveness_provisional: false,
            building,
            in_flight: None,
            transitions_pending: false,
            proof: None,
            proof_passed_on: Mono::default(),
            stopping: false,
            foreign_status_logged: false,
            outcomes: Vec::new(),
        }
    }

    /// Does what can be done now. Called after every event.
    fn pump(&mut self, context: &mut Context<Self>) {
        if self.step != Step::Idle {
            return;
        }
        if matches!(self.store, Store::Unknown) {
            self.attach(context);
        }
        if !self.is_attached() {
            self.begin_without_database(context);
        }
        if self.step != Step::Idle || !self.liveness_ready {
            return;
        }
        if let Err(error) = failpoint("parser::parse") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        if let Err(error) = self.advance(context) {
            error!(self.logger, "the journal cannot be read"; "error" => causes(&error));
            self.exit_guard.fail(causes(&error));
            context.stop();
        }
    }

    /// Takes steps until one asks liveness, or nothing is left to do.
    fn advance(&mut self, context: &mut Context<Self>) -> Result<(), JournalError> {
        let (mut storage_at_end, mut lookout_at_end) = (false, false);
        loop {
            let asks_liveness = match self.situation(storage_at_end, lookout_at_end).next_step() {
                NextStep::Commit => self.commit_next(context),
                NextStep::LookOut => {
                    self.lookout_is_next = false;
                    lookout_at_end = !self.look_out(context)?;
                    !lookout_at_end
                }
                NextStep::Build => {
                    storage_at_end = !self.build(context)?;
                    self.lookout_is_next |= !storage_at_end;
                    !storage_at_end
                }
                NextStep::PassOnProof => {
                    self.pass_on_proof(context);
                    return Ok(());
                }
            };
            if asks_liveness {
                return Ok(());
            }
        }
    }

    fn situation(&self, storage_at_end: bool, lookout_at_end: bool) -> Situation {
        let is_ahead = self.lookout > self.storage.position();
        let can_build = self.is_attached() && !self.building.is_full();
        Situation {
            can_commit: self.can_commit(),
            // Large batches cost least a row; but no batch waits long, and none waits while storage and lookout
            // take turns.
            is_ripe: is_ahead || self.building.is_full() || self.building.age() >= BUILD_MAX,
            can_build,
            storage_at_end,
            lookout_runs_alone: is_ahead || (!can_build && self.writer_is_slow()),
            lookout_at_end,
            lookout_is_next: self.lookout_is_next,
        }
    }

    fn is_attached(&self) -> bool {
        matches!(self.store, Store::Ready(_))
    }

    /// True if the writer is away or slow: sightings must not wait for it.
    fn writer_is_slow(&self) -> bool {
        match (&self.store, &self.in_flight) {
            (Store::Ready(_), Some(in_flight)) => in_flight.since.elapsed() >= WRITER_BUSY_MAX,
            (Store::Ready(_), None) => false,
            _ => true,
        }
    }

    /// Liveness was restarted and has to start again from the database's state.
    fn liveness_lost(&mut self, context: &mut Context<Self>) {
        self.liveness_ready = false;
        self.proof_passed_on = Mono::default();
        self.proof = None;
        self.transitions_pending = false;
        self.detach(context);
    }

    fn liveness_away(&mut self, error: StableAddrError, context: &mut Context<Self>) {
        debug!(self.logger, "liveness does not answer"; "error" => %error);
        // It is unknown which messages arrived; `Recovered` says where liveness stands.
        self.liveness_lost(context);
    }

    fn pause(&mut self, context: &mut Context<Self>) {
        self.step = Step::Paused;
        context.run_later(RETRY_PAUSE, |parser, context| {
            if parser.step == Step::Paused {
                parser.step = Step::Idle;
                parser.pump(context);
            }
        });
    }

    /// Goes on until everything that can be committed is, then ends.
    fn on_stop(&mut self, context: &mut Context<Self>) {
        self.stopping = true;
        // Liveness records the stop itself.
        self.transitions_pending |= self.liveness_ready && !self.liveness_provisional;
        self.pump(context);
        self.finish_if_drained(context);
        context.run_interval(Duration::from_millis(20), |parser, context| {
            parser.pump(context);
            parser.finish_if_drained(context);
        });
    }

    fn finish_if_drained(&mut self, context: &mut Context<Self>) {
        if !self.stopping {
            return;
        }
        let drain = Drain {
            asks_liveness: self.step == Step::WithLiveness,
            is_building: !self.building.is_empty(),
            is_in_flight: self.in_flight.is_some(),
            transitions_pending: self.transitions_pending,
            is_behind: self.storage.position() < self.journal.positions().appended,
            is_attached: self.is_attached(),
            database_works: self.metrics.store_available.get(),
        };
        if drain.is_over() {
            self.exit_guard.finish();
            context.stop();
        }
    }
}

impl Actor for Parser {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("parser::start") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        self.pump(context);
        // Wake-ups may get lost, for example while this actor restarts.
        context.run_interval(Duration::from_millis(500), |parser, context| {
            parser.pump(context);
            parser.finish_if_drained(context);
        });
    }
}

impl Handler<JournalGrew> for Parser {
    type Result = ();

    fn handle(&mut self, _: JournalGrew, context: &mut Context<Self>) {
        self.pump(context);
    }
}

impl Handler<TransitionsPending> for Parser {
    type Result = ();

    fn handle(&mut self, _: TransitionsPending, context: &mut Context<Self>) {
        self.transitions_pending = true;
        self.pump(context);
    }
}

impl Handler<PositionLost> for Parser {
    type Result = ();

    fn handle(&mut self, _: PositionLost, context: &mut Context<Self>) {
        // A batch with the writer fails for the same reason.
        if self.is_attached() && self.in_flight.is_none() {
            self.position_moved(context);
        }
    }
}

supervised!(Parser, "parser", Parser::on_stop);
