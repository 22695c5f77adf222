//! The writer actor: commits batches, however long the database takes.
//!
//! Receives [`Attach`] and [`CommitBatch`] from the parser and answers each once the database has answered.
//! Only the database thread ([`worker`]) calls the database, so the actor itself never blocks.
//!
//! Invariants
//! - **WRI-1** One job runs at a time; a batch keeps its place until it is in the database, or the position is
//!   lost.
//! - **WRI-2** After a commit without an answer, the position is read again before anything else, and decides
//!   alone: at `batch.upto` the batch is committed, at `batch.after` it is tried again, anywhere else or
//!   claimed by another open id the position is lost ([`doubt`]).
//! - **WRI-3** A batch is never given up: the store isolates rows that the database refuses, and the writer
//!   retries every other error with a capped backoff with jitter, on a new thread if the old one hangs.
//!
//! A database that is away is an expected state: the writer logs each new reason once and keeps trying.

mod deletion;
mod doubt;
mod forget_watch;
mod maintenance;
pub mod messages;
#[cfg(feature = "failpoints")]
mod mutants;
mod opened;
mod outage;
mod outcome_metrics;
mod refusals;
mod settings;
mod site_watch;
#[cfg(all(test, feature = "failpoints"))]
mod tests;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::WeakRecipient;
use actix::prelude::*;
use slog::{Logger, debug, info, o, warn};
use tokio::sync::oneshot;

use self::doubt::Settled;
use self::forget_watch::ForgetWatch;
use self::maintenance::Maintenance;
use self::messages::{Attach, Attached, CommitBatch, Committed, Known, NotCommitted, PositionLost};
use self::outage::Outage;
use self::refusals::Refusals;
pub use self::settings::WriterSettings;
use self::site_watch::SiteWatch;
use self::worker::{JobError, Knowledge, StoreWorker};
use super::failpoint::failpoint;
use super::supervisor::{ExitGuard, supervised};
use crate::clock::{ClockKeeper, wall_now};
use crate::domain::{JournalHistory, JournalId, OpenId, Timestamp};
use crate::logging::causes;
use crate::metrics::Metrics;
use crate::status::{LedgerCell, StatusCell, StoreCell, StoreState};
use crate::store::{
    Batch, Checkpoint, Claim, ErrorClass, ForgetRequest, PastWanted, PruneLimits, StoreOptions,
};

/// The actor's options.
#[derive(Clone)]
pub struct WriterOptions {
    /// The database.
    pub store: StoreOptions,
    /// The database's address for the log, without credentials.
    pub database: String,
    /// A job that finishes no statement for this long is abandoned with its connection. Longer than the
    /// statement timeout.
    pub job_max: Duration,
    /// First delay between attempts.
    pub backoff_min: Duration,
    /// Longest delay between attempts.
    pub backoff_max: Duration,
    /// The clock that retention is measured with.
    pub clock: Arc<ClockKeeper>,
    /// Receives the ledger.
    pub ledger: Arc<LedgerCell>,
    /// What a reload replaces.
    pub settings: Arc<StatusCell<WriterSettings>>,
    /// Changes and unpublished events of the past, at most.
    pub past_rows_max: usize,
    /// Receives the state of the database.
    pub status: Arc<StoreCell>,
    /// Receives the machines to forget.
    pub forget: Arc<StatusCell<Vec<ForgetRequest>>>,
}

enum Work {
    Attach { attach: Attach, reply: oneshot::Sender<Result<Attached, NotCommitted>> },
    Commit { batch: Arc<Batch>, reply: oneshot::Sender<Result<Committed, NotCommitted>>, doubtful: bool },
    Prune { limits: PruneLimits, trusted: Timestamp },
    ReleaseSpace,
    Clock,
    ReadLedger { journal_id: JournalId },
    LookForForgets,
    WatchSite,
}

/// The position that is read between commits, and the parser to notify if it is lost.
struct Watched {
    journal_id: JournalId,
    open_id: OpenId,
    lost: WeakRecipient<PositionLost>,
}

/// The actor.
pub struct Writer {
    options: WriterOptions,
    metrics: Arc<Metrics>,
    exit_guard: ExitGuard,
    logger: Logger,
    worker: Option<Arc<StoreWorker>>,
    queue: VecDeque<Work>,
    busy: bool,
    outage: Outage,
    maintenance: Maintenance,
    site_watch: SiteWatch,
    forget_watch: ForgetWatch,
    refusals: Refusals,
    /// The settings in use.
    settings: Arc<WriterSettings>,
    /// From the newest attachment.
    watched: Option<Watched>,
}

impl Writer {
    /// Makes a new incarnation.
    #[must_use]
    pub fn new(
        options: WriterOptions,
        metrics: Arc<Metrics>,
        exit_guard: ExitGuard,
        logger: &Logger,
    ) -> Self {
        let outage = Outage::new(options.backoff_min, options.backoff_max);
        let settings = options.settings.snapshot();
        let maintenance = Maintenance::new();
        Self {
            options,
            metrics,
            exit_guard,
            logger: logger.new(o!("component" => "writer")),
            worker: None,
            queue: VecDeque::new(),
            busy: false,
            outage,
            maintenance,
            site_watch: SiteWatch::new(),
            forget_watch: ForgetWatch::new(),
            refusals: Refusals::default(),
            settings,
            watched: None,
        }
    }

    fn enqueue(&mut self, work: Work, context: &mut Context<Self>) {
        self.queue.push_back(work);
        self.metrics.writer_queue.set(self.queue.len() as u64);
        self.next(context);
    }

    fn next(&mut self, context: &mut Context<Self>) {
        if self.busy {
            return;
        }
        let Some(work) = self.queue.pop_front().or_else(|| self.maintenance_work()) else { return };
        self.metrics.writer_queue.set(self.queue.len() as u64);
        let worker = match self.worker() {
            Ok(worker) => worker,
            Err(error) => {
                self.exit_guard.fail(error);
                return context.stop();
            }
        };
        self.busy = true;
        match work {
            Work::Attach { attach, reply } => self.learn(worker, attach, reply, context),
            Work::Commit { batch, reply, doubtful: false } => self.commit(worker, batch, reply, context),
            Work::Commit { batch, reply, doubtful: true } => self.settle(worker, batch, reply, context),
            Work::Prune { limits, trusted } => self.prune(worker, limits, trusted, context),
            Work::ReleaseSpace => self.release_space(worker, context),
            Work::Clock => self.exchange_clock(worker, context),
            Work::ReadLedger { journal_id } => self.read_ledger(worker, journal_id, context),
            Work::WatchSite => self.watch_site(worker, context),
            Work::LookForForgets => self.look_for_forgets(worker, context),
        }
    }

    fn worker(&mut self) -> std::io::Result<Arc<StoreWorker>> {
        if let Some(worker) = &self.worker {
            return Ok(Arc::clone(worker));
        }
        let worker = Arc::new(StoreWorker::spawn(self.options.store.clone(), self.options.job_max)?);
        self.worker = Some(Arc::clone(&worker));
        Ok(worker)
    }

    /// Runs a job on the database thread and calls `then` with its result.
    fn run<T: 'static>(
        &mut self,
        job: impl Future<Output = Result<T, JobError>> + 'static,
        context: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Result<T, Failure>, &mut Context<Self>) + 'static,
    ) {
        context.spawn(job.into_actor(self).map(move |outcome, writer, context| {
            writer.busy = false;
            let result = match outcome {
                Ok(value) => Ok(value),
                Err(JobError::Store(error)) if error.class() == ErrorClass::StalePosition => {
                    Err(Failure::Stale)
                }
                Err(error) => {
                    // A thread that does not answer may hang for hours. The next job gets a new thread and
                    // connection.
                    if matches!(error, JobError::ThreadEnded | JobError::NoAnswer(_)) {
                        writer.worker = None;
                    }
                    Err(Failure::Away(causes(&error)))
                }
            };
            then(writer, result, context);
            writer.next(context);
        }));
    }

    /// Notes that the database accepts data. An answer to a mere query proves nothing: a database that is
    /// read-only, or whose disk is full, answers queries, too.
    fn on_success(&mut self) {
        self.options.status.enter(StoreState::Works, None);
        self.metrics.store_available.set(true);
        if self.outage.over() {
            info!(self.logger, "the database works again"; "database" => &self.options.database);
        }
    }

    /// Tries the same work again after a delay, before everything that waits (WRI-1).
    fn retry(&mut self, work: Work, reason: String, context: &mut Context<Self>) {
        self.metrics.store_available.set(false);
        self.metrics.store_failures.add(1);
        self.options.status.enter(StoreState::Away, Some(&reason));
        let retry = self.outage.goes_on(&reason);
        if retry.is_new {
            warn!(self.logger, "the database does not accept the data: retrying; the journal keeps everything";
                "database" => &self.options.database, "reason" => &reason,
                "backoff_max_s" => self.options.backoff_max.as_secs());
        }
        self.busy = true;
        context.run_later(retry.delay, move |writer, context| {
            writer.busy = false;
            writer.queue.push_front(work);
            writer.next(context);
        });
    }

    fn learn(
        &mut self,
        worker: Arc<StoreWorker>,
        attach: Attach,
        reply: oneshot::Sender<Result<Attached, NotCommitted>>,
        context: &mut Context<Self>,
    ) {
        let changes_since = wall_now().minus(self.settings.past_window);
        let wanted = PastWanted { changes_since, rows_max: self.options.past_rows_max };
        let history = attach.history.clone();
        let job = async move { worker.learn(history, wanted).await };
        self.run(job, context, move |writer, result, context| match result {
            Ok(knowledge) => {
                writer.on_success();
                writer.report_opened(&knowledge);
                writer.name_unreadable_rows();
                let _parser_gone = reply.send(Ok(writer.attached(attach, knowledge)));
            }
            Err(Failure::Stale) => {
                let _parser_gone = reply.send(Err(NotCommitted::Stale));
            }
            Err(Failure::Away(reason)) => writer.retry(Work::Attach { attach, reply }, reason, context),
        });
    }

    fn attached(&mut self, attach: Attach, knowledge: Knowledge) -> Attached {
        self.site_watch.begin_anew();
        let Knowledge { claim, machines, past, .. } = knowledge;
        match claim {
            Claim::Granted(checkpoint) => {
                let JournalHistory { journal_id, own, .. } = attach.history;
                self.watched = Some(Watched { journal_id, open_id: own, lost: attach.lost });
                self.show(checkpoint.ledger);
                Attached::Granted(Known { committed_seq: checkpoint.ledger.committed_seq, machines, past })
            }
            Claim::Foreign(checkpoint) => {
                self.watched = None;
                Attached::Foreign { committed_seq: checkpoint.ledger.committed_seq, site: checkpoint.site }
            }
        }
    }

    fn commit(
        &mut self,
        worker: Arc<StoreWorker>,
        batch: Arc<Batch>,
        reply: oneshot::Sender<Result<Committed, NotCommitted>>,
        context: &mut Context<Self>,
    ) {
        let in_hand = Arc::clone(&batch);
        let job = async move { worker.commit(batch).await };
        let begun = std::time::Instant::now();
        self.run(job, context, move |writer, result, context| match result {
            Ok(outcome) => {
                writer.on_success();
                writer.count_commit(&in_hand, &outcome);
                writer.measure(&in_hand, begun.elapsed());
                let _parser_gone = reply.send(Ok(Committed));
            }
            Err(Failure::Stale) => {
                let _parser_gone = reply.send(Err(NotCommitted::Stale));
            }
            // WRI-2
            Err(Failure::Away(reason)) => {
                writer.retry(Work::Commit { batch: in_hand, reply, doubtful: true }, reason, context);
            }
        });
    }

    /// Reads the position to find out whether a commit without an answer was done (WRI-2).
    fn settle(
        &mut self,
        worker: Arc<StoreWorker>,
        batch: Arc<Batch>,
        reply: oneshot::Sender<Result<Committed, NotCommitted>>,
        context: &mut Context<Self>,
    ) {
        let journal_id = batch.journal_id;
        let job = async move { worker.checkpoint(journal_id).await };
        self.run(job, context, move |writer, result, context| match result {
            Ok(found) => writer.on_settled(batch, reply, found.as_ref()),
            Err(Failure::Stale) => {
                let _parser_gone = reply.send(Err(NotCommitted::Stale));
            }
            Err(Failure::Away(reason)) => {
                writer.retry(Work::Commit { batch, reply, doubtful: true }, reason, context);
            }
        });
    }

    fn on_settled(
        &mut self,
        batch: Arc<Batch>,
        reply: oneshot::Sender<Result<Committed, NotCommitted>>,
        found: Option<&Checkpoint>,
    ) {
        let ledger = found.map(|checkpoint| checkpoint.ledger);
        match (doubt::settle(&batch, found), ledger) {
            (Settled::Committed, Some(ledger)) => {
                debug!(self.logger, "the commit without an answer was done"; "upto" => batch.upto.0);
                self.on_success();
                self.count_settled(&batch, ledger);
                self.show(ledger);
                let _parser_gone = reply.send(Ok(Committed));
            }
            (Settled::NotCommitted, Some(ledger)) => {
                self.show(ledger);
                self.queue.push_front(Work::Commit { batch, reply, doubtful: false });
            }
            (Settled::PositionLost, _) | (_, None) => {
                let _parser_gone = reply.send(Err(NotCommitted::Stale));
            }
        }
    }
}

/// Why a job failed.
enum Failure {
    Stale,
    Away(String),
}

impl Actor for Writer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("writer::start") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        context.run_interval(Duration::from_secs(1), |writer, context| {
            writer.name_unreadable_rows();
            writer.take_new_settings();
            writer.next(context);
        });
    }
}

impl Handler<Attach> for Writer {
    type Result = ResponseFuture<Result<Attached, NotCommitted>>;

    fn handle(&mut self, attach: Attach, context: &mut Context<Self>) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Work::Attach { attach, reply }, context);
        Box::pin(async move { answer.await.unwrap_or(Err(NotCommitted::Stopped)) })
    }
}

impl Handler<CommitBatch> for Writer {
    type Result = ResponseFuture<Result<Committed, NotCommitted>>;

    fn handle(&mut self, commit: CommitBatch, context: &mut Context<Self>) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Work::Commit { batch: commit.0, reply, doubtful: false }, context);
        Box::pin(async move { answer.await.unwrap_or(Err(NotCommitted::Stopped)) })
    }
}

supervised!(Writer, "writer");
