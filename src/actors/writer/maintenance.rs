//! What the writer does between batches: records the trusted time, deletes what is past its retention, and looks at the ledger when no
//! batch has shown it for a while.
//!
//! All go in small steps, because batches wait for them. A run of deleting that fails is tried again with the next one: nothing depends
//! on it but disk space.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{info, warn};

use super::worker::StoreWorker;
use super::{Failure, PositionLost, Work, Writer};
use crate::clock::trusted::cutoff;
use crate::domain::{JournalId, Timestamp};
use crate::store::{Checkpoint, PruneBounds, PruneCursor, PruneTable, Pruned};

/// What one step of deleting may look at when `store.retention` is set.
const PRUNE_BOUNDS: PruneBounds =
    PruneBounds { machines_max: 1_000, rows_max: 5_000, time_max: Duration::from_millis(100) };
/// Pause between two runs of deleting.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// How old the ledger on the board may be. `andon rejected retry` changes it from outside, and a database that goes away while
/// nothing flows is noticed by this look.
const LEDGER_AGE_MAX: Duration = Duration::from_secs(5);
/// How often the trusted time is recorded.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// The same while the wall clock waits to be believed (somebody may confirm it), and at the beginning.
const CLOCK_INTERVAL_STEP: Duration = Duration::from_secs(3);

/// A run of deleting, from the first machine to the last.
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

/// When it is time for what.
pub struct Maintenance {
    prune_at: Option<Instant>,
    /// The run of deleting that is under way.
    run: Option<PruneRun>,
    clock_at: Instant,
    look_at: Instant,
}

impl Maintenance {
    /// Everything is due now; nothing is deleted without a retention.
    pub fn new(has_retention: bool) -> Self {
        let now = Instant::now();
        Self {
            prune_at: has_retention.then_some(now),
            run: None,
            clock_at: now,
            look_at: now + LEDGER_AGE_MAX,
        }
    }

    /// Notes that the ledger was shown.
    pub fn shown(&mut self, now: Instant) {
        self.look_at = now + LEDGER_AGE_MAX;
    }

    /// Notes what a step of deleting came to, or that it failed. Gives the run if it is over.
    fn pruned(&mut self, step: Option<Pruned>, took: Duration, now: Instant) -> Option<PruneRun> {
        let mut run = self.run.take()?;
        let next = step.and_then(|step| {
            run.rows[step.table as usize] += step.rows;
            step.next
        });
        if next.is_some() {
            // As long as batches may have the database in between.
            self.prune_at = Some(now + took);
            self.run = Some(PruneRun { from: next, ..run });
            return None;
        }
        self.prune_at = Some(now + PRUNE_INTERVAL);
        Some(run)
    }
}

impl Writer {
    /// What is due, if the database takes data.
    pub(super) fn maintenance_work(&self) -> Option<Work> {
        let now = Instant::now();
        if !self.metrics.store_available.get() {
            return None;
        }
        if self.maintenance.clock_at <= now {
            return Some(Work::Clock);
        }
        // Not before the database has said what it knows of the time.
        if let (Some(retention), Some(at)) = (self.options.retention, self.maintenance.prune_at)
            && at <= now
            && let Some(trusted) = self.options.clock.trusted_now()
        {
            return Some(Work::Prune { before: cutoff(trusted, retention) });
        }
        if self.watched.is_some() && self.site_watch.is_due(now) {
            return Some(Work::WatchSite);
        }
        let journal_id = self.watched.as_ref()?.journal_id;
        (self.maintenance.look_at <= now).then_some(Work::Look { journal_id })
    }

    pub(super) fn look(
        &mut self,
        worker: Arc<StoreWorker>,
        journal_id: JournalId,
        context: &mut Context<Self>,
    ) {
        let job = async move { worker.checkpoint(journal_id).await };
        self.run(job, context, move |writer, result, context| match result {
            Ok(checkpoint) => {
                writer.looked_at(checkpoint.as_ref());
                if !writer.metrics.store_available.get() {
                    // It was a look that had failed: no batch is in hand.
                    writer.on_success();
                }
            }
            Err(Failure::Stale) => {}
            Err(Failure::Away(reason)) => writer.retry(Work::Look { journal_id }, reason, context),
        });
    }

    pub(super) fn exchange_clock(&mut self, worker: Arc<StoreWorker>, context: &mut Context<Self>) {
        let ours = self.options.clock.record();
        // Before the database was asked once, a record without a number is no better than none.
        let ours = ours.filter(|record| record.seq > 0 || self.options.clock.trusted_now().is_some());
        let job = async move { worker.exchange_clock(ours).await };
        self.run(job, context, |writer, result, _| {
            let was_settled = writer.options.clock.trusted_now().is_some();
            match result {
                Ok(newer) => writer.options.clock.settle(newer),
                Err(Failure::Away(reason)) => {
                    warn!(writer.logger, "the trusted time could not be recorded"; "reason" => reason);
                }
                Err(Failure::Stale) => {}
            }
            // After the first answer there will soon be a record to keep.
            let waits = !was_settled || writer.options.clock.status().step.is_some();
            let pause = if waits { CLOCK_INTERVAL_STEP } else { CLOCK_INTERVAL };
            writer.maintenance.clock_at = Instant::now() + pause;
        });
    }

    /// Shows the ledger. If the position is no longer ours, or not where we left it, the parser begins anew, also when nothing flows.
    fn looked_at(&mut self, checkpoint: Option<&Checkpoint>) {
        let Some(watched) = &self.watched else { return };
        let left_at = self.options.ledger.snapshot().map(|ledger| ledger.committed_seq);
        let is_unmoved = |found: &&Checkpoint| {
            found.is_claimed_by(watched.open_id)
                && left_at.is_none_or(|left_at| left_at == found.committed_seq)
        };
        if let Some(checkpoint) = checkpoint.filter(is_unmoved) {
            return self.show(checkpoint.ledger());
        }
        if let Some(parser) = watched.lost.upgrade() {
            // If its mailbox is full it is at work, and its next commit tells it the same.
            let _told_later = parser.try_send(PositionLost);
        }
        self.watched = None;
    }

    /// A step of the run under way, or the first one of a run up to `before`.
    pub(super) fn prune(&mut self, worker: Arc<StoreWorker>, before: Timestamp, context: &mut Context<Self>) {
        let run = self.maintenance.run.get_or_insert_with(|| PruneRun::new(before));
        let (before, from, begun) = (run.before, run.from.clone(), Instant::now());
        let job = async move { worker.prune(before, from, PRUNE_BOUNDS).await };
        self.run(job, context, move |writer, result, context| {
            if let Err(Failure::Away(reason)) = &result {
                warn!(writer.logger, "old readings could not be deleted"; "reason" => reason);
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
            info!(self.logger, "deleted rows that are past retention"; "table" => table.as_str(), "rows" => rows,
                "before" => %run.before);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_run_of_deleting_ends_with_its_last_step_and_waits_for_the_next_minute() {
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
}
