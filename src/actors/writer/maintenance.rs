//! The writer's work between batches: records the trusted time, deletes rows past retention, and reads the
//! ledger when no commit has done so for a while.
//!
//! Each step is short, because batches wait for it. A deletion that fails waits for its next run, and a record
//! of the time for its next interval: batches must not wait for either. The ledger is read at once, and shows
//! whether the database is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{info, warn};

use super::worker::StoreWorker;
use super::{Failure, PositionLost, Work, Writer};
use crate::clock::trusted::cutoff;
use crate::domain::{JournalId, Timestamp};
use crate::store::{Checkpoint, PruneBounds, PruneCursor, PruneTable, Pruned};

/// Bounds of one step of deletion.
const PRUNE_BOUNDS: PruneBounds =
    PruneBounds { machines_max: 1_000, rows_max: 5_000, time_max: Duration::from_millis(100) };
/// Pause between two runs of deletion.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// How old the ledger may be. `andon rejected retry` changes it from outside; reading it also notices a
/// database that goes away while no message arrives.
const LEDGER_AGE_MAX: Duration = Duration::from_secs(5);
/// How often the trusted time is recorded.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// The same at the start, and while the wall clock is not trusted: an operator may confirm it at any time.
const CLOCK_INTERVAL_STEP: Duration = Duration::from_secs(3);

/// A run of deletion, from the first machine to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PruneRun {
    before: Timestamp,
    from: Option<PruneCursor>,
    /// Deleted so far, from each of [`PruneTable::ALL`].
    rows: [u64; PruneTable::ALL.len()],
}

impl PruneRun {
    fn new(before: Timestamp) -> Self {
        Self { before, from: None, rows: [0; PruneTable::ALL.len()] }
    }
}

/// When each kind of work is due.
pub struct Maintenance {
    prune_at: Option<Instant>,
    /// The run of deletion under way.
    run: Option<PruneRun>,
    clock_at: Instant,
    look_at: Instant,
}

impl Maintenance {
    /// Everything is due now. Without a retention nothing is deleted.
    pub fn new(has_retention: bool) -> Self {
        let now = Instant::now();
        Self {
            prune_at: has_retention.then_some(now),
            run: None,
            clock_at: now,
            look_at: now + LEDGER_AGE_MAX,
        }
    }

    /// Begins a run with a new retention; the run under way ends.
    pub(super) fn retention_changed(&mut self, has_retention: bool, now: Instant) {
        self.prune_at = has_retention.then_some(now);
        self.run = None;
    }

    /// Notes that the ledger was read.
    pub fn ledger_read(&mut self, now: Instant) {
        self.look_at = now + LEDGER_AGE_MAX;
    }

    /// Notes that a step failed. If the database is away, reading the ledger shows it.
    fn step_failed(&mut self, now: Instant) {
        self.look_at = now;
    }

    /// Notes the result of a step of deletion; `None` if it failed. Returns the run if it is over.
    fn pruned(&mut self, step: Option<Pruned>, took: Duration, now: Instant) -> Option<PruneRun> {
        let mut run = self.run.take()?;
        let next = step.and_then(|step| {
            run.rows[step.table as usize] += step.rows;
            step.next
        });
        if next.is_some() {
            // Batches get the database for as long as this step took.
            self.prune_at = Some(now + took);
            self.run = Some(PruneRun { from: next, ..run });
            return None;
        }
        self.prune_at = Some(now + PRUNE_INTERVAL);
        Some(run)
    }
}

impl Writer {
    /// Returns the work that is due, if the database accepts data.
    pub(super) fn maintenance_work(&self) -> Option<Work> {
        let now = Instant::now();
        if !self.metrics.store_available.get() {
            return None;
        }
        if self.maintenance.clock_at <= now {
            return Some(Work::Clock);
        }
        // The trusted time is known only once the database has answered.
        if let (Some(retention), Some(at)) = (self.settings.retention, self.maintenance.prune_at)
            && at <= now
            && let Some(trusted) = self.options.clock.trusted_now()
        {
            return Some(Work::Prune { before: cutoff(trusted, retention) });
        }
        if self.watched.is_some() && self.site_watch.is_due(now) {
            return Some(Work::WatchSite);
        }
        if self.watched.is_some() && self.forget_watch.is_due(now) {
            return Some(Work::LookForForgets);
        }
        let journal_id = self.watched.as_ref()?.journal_id;
        (self.maintenance.look_at <= now).then_some(Work::ReadLedger { journal_id })
    }

    pub(super) fn read_ledger(
        &mut self,
        worker: Arc<StoreWorker>,
        journal_id: JournalId,
        context: &mut Context<Self>,
    ) {
        let job = async move { worker.checkpoint(journal_id).await };
        self.run(job, context, move |writer, result, context| match result {
            Ok(checkpoint) => {
                writer.on_ledger_read(checkpoint.as_ref());
                if !writer.metrics.store_available.get() {
                    // The last failure was a read of the ledger: no batch waits.
                    writer.on_success();
                }
            }
            Err(Failure::Stale) => {}
            Err(Failure::Away(reason)) => writer.retry(Work::ReadLedger { journal_id }, reason, context),
        });
    }

    pub(super) fn exchange_clock(&mut self, worker: Arc<StoreWorker>, context: &mut Context<Self>) {
        let ours = self.options.clock.record();
        // Before the first answer of the database, a record without a number is worth no more than none.
        let ours = ours.filter(|record| record.seq > 0 || self.options.clock.trusted_now().is_some());
        let job = async move { worker.exchange_clock(ours).await };
        self.run(job, context, |writer, result, _| {
            let was_settled = writer.options.clock.trusted_now().is_some();
            match result {
                Ok(newer) => writer.options.clock.settle(newer),
                Err(Failure::Away(reason)) => {
                    warn!(writer.logger, "the trusted time could not be recorded"; "reason" => reason);
                    writer.maintenance.step_failed(Instant::now());
                }
                Err(Failure::Stale) => {}
            }
            // After the first answer there will soon be a record to store.
            let waits = !was_settled || writer.options.clock.status().step.is_some();
            let pause = if waits { CLOCK_INTERVAL_STEP } else { CLOCK_INTERVAL };
            writer.maintenance.clock_at = Instant::now() + pause;
        });
    }

    /// Publishes the ledger. If the position is not where we left it, or no longer ours, the parser attaches
    /// again.
    fn on_ledger_read(&mut self, checkpoint: Option<&Checkpoint>) {
        let Some(watched) = &self.watched else { return };
        let left_at = self.options.ledger.snapshot().map(|ledger| ledger.committed_seq);
        let is_unmoved = |found: &&Checkpoint| {
            found.is_claimed_by(watched.open_id)
                && left_at.is_none_or(|left_at| left_at == found.ledger.committed_seq)
        };
        if let Some(checkpoint) = checkpoint.filter(is_unmoved) {
            return self.show(checkpoint.ledger);
        }
        if let Some(parser) = watched.lost.upgrade() {
            // If its mailbox is full it is busy, and its next commit fails for the same reason.
            let _next_commit = parser.try_send(PositionLost);
        }
        self.watched = None;
    }

    /// Deletes the next step of the run under way, or the first one of a new run up to `before`.
    pub(super) fn prune(&mut self, worker: Arc<StoreWorker>, before: Timestamp, context: &mut Context<Self>) {
        let run = self.maintenance.run.get_or_insert_with(|| PruneRun::new(before));
        let (before, from, begun) = (run.before, run.from.clone(), Instant::now());
        let job = async move { worker.prune(before, from, PRUNE_BOUNDS).await };
        self.run(job, context, move |writer, result, context| {
            if let Err(Failure::Away(reason)) = &result {
                warn!(writer.logger, "old readings could not be deleted"; "reason" => reason);
                writer.maintenance.step_failed(Instant::now());
            }
            let took = begun.elapsed();
            let run = writer.maintenance.pruned(result.ok(), took, Instant::now());
            if let Some(run) = run {
                writer.report_pruned(&run);
            }
            if writer.maintenance.run.is_some() {
                context.run_later(took, |writer, context| writer.next(context));
            }
        });
    }

    fn report_pruned(&self, run: &PruneRun) {
        for (table, rows) in PruneTable::ALL.into_iter().zip(run.rows).filter(|(_, rows)| *rows > 0) {
            info!(self.logger, "deleted rows past retention"; "table" => table.as_str(), "rows" => rows,
                "before" => %run.before);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_run_of_deletion_ends_with_its_last_step_and_the_next_starts_a_minute_later() {
        let (now, took) = (Instant::now(), Duration::from_millis(30));
        let mut maintenance = Maintenance::new(true);
        let begun = PruneRun::new(Timestamp::from_micros(7));
        maintenance.run = Some(begun.clone());
        let last = Pruned { table: PruneTable::Rollups, rows: 5, machines: 1, examined: 5, next: None };
        let over = maintenance.pruned(Some(last), took, now).unwrap();
        assert_eq!((over.rows, maintenance.run.clone()), ([0, 5, 0], None));
        assert_eq!(maintenance.prune_at, Some(now + PRUNE_INTERVAL));
        maintenance.run = Some(begun);
        assert!(maintenance.pruned(None, took, now).is_some(), "a run that fails is over");
        assert_eq!(maintenance.prune_at, Some(now + PRUNE_INTERVAL));
    }

    #[test]
    fn a_step_that_fails_has_the_ledger_read_at_once() {
        let now = Instant::now();
        let mut maintenance = Maintenance::new(false);
        assert!(maintenance.look_at > now, "it is not due yet");
        maintenance.step_failed(now);
        assert!(maintenance.look_at <= now);
    }
}
