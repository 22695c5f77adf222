//! The writer actor: commits batches, as long as it takes.
//!
//! Receives [`Attach`] and [`CommitBatch`] from the parser and answers each when the database has. The database
//! itself is used on a thread of its own ([`worker`]); the actor stays responsive whatever the database does.
//!
//! Invariants
//! - WRI-1 One job at a time; the batch in hand is kept until it is known to be in the database, or the position proves stale.
//! - WRI-2 After a failed or abandoned commit its outcome is unknown: the position is read again before anything else. Claimed by the
//!   batch's open id, at `batch.upto` it was committed, at `batch.after` it was not and is tried again; anything else is stale.
//! - WRI-3 A batch is never condemned: rows that the database refuses are isolated by the store, and every other error is
//!   retried with a capped, jittered backoff for as long as it takes.
//!
//! A database that is away is an expected state: one line for each new reason, then patience.

mod doubt;
mod maintenance;
pub mod messages;
#[cfg(feature = "failpoints")]
mod mutants;
mod outage;
mod outcome_metrics;
mod refusals;
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
use self::maintenance::Maintenance;
use self::messages::{Attach, Attached, CommitBatch, Committed, Known, NotCommitted, PositionLost};
use self::outage::Outage;
use self::refusals::Refusals;
use self::site_watch::SiteWatch;
use self::worker::{JobError, Knowledge, StoreWorker};
use super::failpoint::failpoint;
use super::supervisor::{ExitGuard, Heartbeat, StopChild};
use crate::clock::{ClockKeeper, wall_now};
use crate::domain::{JournalHistory, JournalId, OpenId, Timestamp};
use crate::logging::causes;
use crate::metrics::Metrics;
use crate::status::{LedgerCell, StoreCell, StoreState};
use crate::store::{Batch, Checkpoint, Claim, ErrorClass, PastWanted, StoreOptions};

/// What the actor needs beside its lifeline.
#[derive(Clone)]
pub struct WriterOptions {
    /// The database.
    pub store: StoreOptions,
    /// Where it is, for the log: no credentials.
    pub database: String,
    /// A job that finishes no statement for so long is abandoned with its connection. Longer than the statement timeout.
    pub job_max: Duration,
    /// First delay between attempts.
    pub backoff_min: Duration,
    /// Longest delay between attempts.
    pub backoff_max: Duration,
    /// Readings and rollups older than this are deleted.
    pub retention: Option<Duration>,
    /// What age is counted by.
    pub clock: Arc<ClockKeeper>,
    /// Where the ledger is shown.
    pub ledger: Arc<LedgerCell>,
    /// How far back liveness wants to know changes of status.
    pub past_window: Duration,
    /// At most so many changes and unpublished events of the past.
    pub past_rows_max: usize,
    /// Where the state of the database is shown.
    pub board: Arc<StoreCell>,
}

enum Work {
    Attach { attach: Attach, reply: oneshot::Sender<Result<Attached, NotCommitted>> },
    Commit { batch: Arc<Batch>, reply: oneshot::Sender<Result<Committed, NotCommitted>>, doubtful: bool },
    Prune { before: Timestamp },
    Clock,
    Look { journal_id: JournalId },
    WatchSite,
}

/// Whose position is looked at between commits, and who is told if it is lost.
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
    refusals: Refusals,
    /// Of the newest attachment.
    watched: Option<Watched>,
}

impl Writer {
    /// A new incarnation.
    #[must_use]
    pub fn new(
        options: WriterOptions,
        metrics: Arc<Metrics>,
        exit_guard: ExitGuard,
        logger: &Logger,
    ) -> Self {
        let outage = Outage::new(options.backoff_min, options.backoff_max);
        let maintenance = Maintenance::new(options.retention.is_some());
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
            refusals: Refusals::default(),
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
            Work::Prune { before } => self.prune(worker, before, context),
            Work::Clock => self.exchange_clock(worker, context),
            Work::Look { journal_id } => self.look(worker, journal_id, context),
            Work::WatchSite => self.watch_site(worker, context),
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

    /// Runs a job of the worker and calls `then` with its result.
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
                    // A thread that does not answer may hang for hours; it and its connection are given up.
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

    /// The database takes data, as far as we know. That it answers a question about the position says nothing: one whose disk
    /// is full, or that is read-only, does so all the time.
    fn on_success(&mut self) {
        self.options.board.enter(StoreState::Works, None);
        self.metrics.store_available.set(true);
        if self.outage.over() {
            info!(self.logger, "the database works again"; "database" => &self.options.database);
        }
    }

    /// The same work again, after a while.
    fn retry(&mut self, work: Work, reason: String, context: &mut Context<Self>) {
        self.metrics.store_available.set(false);
        self.metrics.store_failures.add(1);
        self.options.board.enter(StoreState::Away, Some(&reason));
        let retry = self.outage.goes_on(&reason);
        if retry.is_news {
            warn!(self.logger, "the database does not take the data, trying again until it does; the journal keeps everything";
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
        let window = i64::try_from(self.options.past_window.as_micros()).unwrap_or(i64::MAX);
        let changes_since = Timestamp::from_micros(wall_now().as_micros().saturating_sub(window));
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
                self.show(checkpoint.ledger());
                Attached::Granted(Known { committed_seq: checkpoint.committed_seq, machines, past })
            }
            Claim::Foreign(checkpoint) => {
                self.watched = None;
                Attached::Foreign { committed_seq: checkpoint.committed_seq, site: checkpoint.site }
            }
        }
    }

    fn report_opened(&self, knowledge: &Knowledge) {
        if let Some((facts, migration)) = &knowledge.opened {
            self.options.board.opened(facts.backend, &facts.version, &facts.target);
            info!(self.logger, "database open"; "database" => &facts.target, "version" => &facts.version,
                "migrations_applied" => migration.applied.len(), "machines" => knowledge.machines.len());
            for warning in &facts.warnings {
                warn!(self.logger, "a setting of the database weakens what Andon promises"; "setting" => warning);
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
                writer.account(&in_hand, &outcome);
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

    /// Finds out what became of a commit whose outcome is unknown (WRI-2).
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
        let ledger = found.map(Checkpoint::ledger);
        match (doubt::settle(&batch, found), ledger) {
            (Settled::Committed, Some(ledger)) => {
                debug!(self.logger, "the commit in doubt was done"; "upto" => batch.upto.0);
                self.on_success();
                self.account_settled(&batch, ledger);
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

/// Why a job was not done.
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

impl Handler<Heartbeat> for Writer {
    type Result = ();

    fn handle(&mut self, _: Heartbeat, context: &mut Context<Self>) {
        if let Err(error) = failpoint("writer::handle") {
            self.exit_guard.fail(error);
            context.stop();
        }
    }
}

impl Handler<StopChild> for Writer {
    type Result = ();

    fn handle(&mut self, _: StopChild, context: &mut Context<Self>) {
        if let Err(error) = failpoint("writer::stop") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        self.exit_guard.finish();
        context.stop();
    }
}
