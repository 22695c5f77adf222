//! Runs of deletion: at least one a minute goes through every table that has a bound, step by step, between batches.
//!
//! Each run begins with the partitions of the readings, if the database has any, and ends by giving free space
//! back, if the database is a file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{info, warn};

use super::worker::StoreWorker;
use super::{Failure, Writer};
use crate::domain::Timestamp;
use crate::store::{PartsTended, PruneCursor, PruneLimits, PrunePace, PruneTable, Pruned, SpaceReleased};

/// From the start of one run of deletion to that of the next: at least one in each minute. A run that takes longer
/// is followed by the next at once.
const PRUNE_INTERVAL: Duration = Duration::from_secs(50);
/// Rows of a step for each page that a step gives back: moving a page costs about as much as ten rows.
const ROWS_A_PAGE: u32 = 10;

/// What a run has deleted from one table for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    table: PruneTable,
    is_surplus: bool,
    rows: u64,
    /// All of them were from before this instant.
    before: Option<Timestamp>,
}

/// A run of deletion, from the first table to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PruneRun {
    begun: Instant,
    limits: PruneLimits,
    from: Option<PruneCursor>,
    /// Deleted so far.
    tallies: Vec<Tally>,
}

impl PruneRun {
    fn new(limits: PruneLimits) -> Self {
        Self { begun: Instant::now(), limits, from: None, tallies: Vec::new() }
    }

    fn count(&mut self, step: &Pruned) {
        if step.rows == 0 {
            return;
        }
        let Pruned { table, is_surplus, rows, before, .. } = *step;
        let is_same = |tally: &&mut Tally| tally.table == table && tally.is_surplus == is_surplus;
        match self.tallies.iter_mut().find(is_same) {
            Some(tally) => {
                tally.rows += rows;
                tally.before = tally.before.max(before);
            }
            None => self.tallies.push(Tally { table, is_surplus, rows, before }),
        }
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The next step of deletion.
    Step,
    /// The next step that gives space back.
    Release,
}

/// When the next step is due, and how far the run under way has come.
pub struct Deletion {
    prune_at: Instant,
    run: Option<PruneRun>,
    pace: PrunePace,
    /// When the next step that gives space back is due; `None`: nothing is to be given back.
    release_at: Option<Instant>,
    /// Bytes given back since the last run.
    released: u64,
    /// Troubles with partitions that were named already.
    named: Vec<String>,
}

impl Deletion {
    /// The first run is due now.
    pub fn new(now: Instant) -> Self {
        Self {
            prune_at: now,
            run: None,
            pace: PrunePace::default(),
            release_at: None,
            released: 0,
            named: Vec::new(),
        }
    }

    /// Begins a run with a new retention; the run under way ends.
    pub fn begin_anew(&mut self, now: Instant) {
        self.prune_at = now;
        self.release_at = None;
        self.run = None;
    }

    /// Returns what is due at `now`.
    pub fn work(&self, now: Instant) -> Option<Due> {
        match self.release_at {
            Some(at) => (at <= now).then_some(Due::Release),
            None => (self.prune_at <= now).then_some(Due::Step),
        }
    }

    /// Notes the result of a step of deletion; `None` if it failed. Returns the run if it is over.
    fn pruned(&mut self, step: Option<Pruned>, took: Duration, now: Instant) -> Option<PruneRun> {
        let mut run = self.run.take()?;
        self.pace.step_took(took);
        let has_failed = step.is_none();
        let next = step.and_then(|step| {
            run.count(&step);
            step.next
        });
        if next.is_some() {
            // Batches get the database for as long as this step took.
            self.prune_at = now + took;
            self.run = Some(PruneRun { from: next, ..run });
            return None;
        }
        self.prune_at = run.begun + PRUNE_INTERVAL;
        self.release_at = (!has_failed).then_some(now + took);
        Some(run)
    }

    /// Notes the result of a step that gave space back; `None` if it failed. Returns the bytes of all steps
    /// once they are over.
    fn released(&mut self, step: Option<SpaceReleased>, took: Duration, now: Instant) -> Option<u64> {
        self.pace.step_took(took);
        let step = step.unwrap_or_default();
        self.released += step.bytes;
        self.release_at = step.is_more.then_some(now + took);
        if step.is_more { None } else { Some(std::mem::take(&mut self.released)) }
    }

    /// Returns the troubles that were not there at the last run.
    fn new_troubles(&mut self, troubles: Vec<String>) -> Vec<String> {
        let new = troubles.iter().filter(|trouble| !self.named.contains(trouble)).cloned().collect();
        self.named = troubles;
        new
    }
}

impl Writer {
    /// Does the next step of the run under way, or the first one of a new run with `limits`.
    pub(super) fn prune(
        &mut self,
        worker: Arc<StoreWorker>,
        limits: PruneLimits,
        trusted: Timestamp,
        context: &mut Context<Self>,
    ) {
        let deletion = &mut self.maintenance.deletion;
        let (bounds, begun) = (deletion.pace.bounds(), Instant::now());
        let run = deletion.run.get_or_insert_with(|| PruneRun::new(limits));
        let (mut limits, from) = (run.limits, run.from.clone());
        let job = async move {
            let mut tended = None;
            if from.is_none() {
                let parts = worker.tend_partitions(limits, trusted).await?;
                limits = parts.limits;
                tended = Some(parts);
            }
            Ok((tended, worker.prune(limits, from, bounds).await?))
        };
        self.run(job, context, move |writer, result, context| {
            if let Err(Failure::Away(reason)) = &result {
                warn!(writer.logger, "rows past retention could not be deleted"; "reason" => reason);
                writer.maintenance.step_failed(Instant::now());
            }
            let (tended, step) = result.ok().unzip();
            if let Some(tended) = tended.flatten() {
                writer.on_tended(tended);
            }
            let took = begun.elapsed();
            if let Some(run) = writer.maintenance.deletion.pruned(step, took, Instant::now()) {
                writer.report_pruned(&run);
            }
            writer.wake_after(took, context);
        });
    }

    /// Gives free space back to the file system, one step.
    pub(super) fn release_space(&mut self, worker: Arc<StoreWorker>, context: &mut Context<Self>) {
        let pages_max = self.maintenance.deletion.pace.bounds().rows_max / ROWS_A_PAGE;
        let begun = Instant::now();
        let job = async move { worker.release_space(pages_max).await };
        self.run(job, context, move |writer, result, context| {
            if let Err(Failure::Away(reason)) = &result {
                warn!(writer.logger, "free space could not be given back to the file system"; "reason" => reason);
                writer.maintenance.step_failed(Instant::now());
            }
            let took = begun.elapsed();
            let bytes = writer.maintenance.deletion.released(result.ok(), took, Instant::now());
            if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
                info!(writer.logger, "gave free space back to the file system"; "bytes" => bytes);
            }
            writer.wake_after(took, context);
        });
    }

    /// The next step, if there is one, is due once this one has taken as long again.
    fn wake_after(&self, took: Duration, context: &mut Context<Self>) {
        let deletion = &self.maintenance.deletion;
        if deletion.run.is_some() || deletion.release_at.is_some() {
            context.run_later(took, |writer, context| writer.next(context));
        }
    }

    fn on_tended(&mut self, tended: PartsTended) {
        let PartsTended { limits, dropped, created, troubles } = tended;
        if let Some(run) = &mut self.maintenance.deletion.run {
            run.limits = limits;
        }
        for partition in created {
            info!(self.logger, "created a partition ahead"; "partition" => partition);
        }
        for part in dropped {
            info!(self.logger, "dropped a partition past retention"; "table" => PruneTable::Readings.as_str(),
                "partition" => part.name, "rows_about" => part.rows, "before" => %part.ends);
        }
        for trouble in self.maintenance.deletion.new_troubles(troubles) {
            warn!(self.logger, "a partition could not be created or dropped; its rows are deleted one by one";
                "reason" => trouble);
        }
    }

    fn report_pruned(&self, run: &PruneRun) {
        for Tally { table, is_surplus, rows, before } in &run.tallies {
            let (table, before) = (table.as_str(), before.map(|before| before.to_string()));
            if *is_surplus {
                info!(self.logger, "deleted the oldest rejected messages, because of store.rejected_max_bytes";
                    "table" => table, "rows" => rows, "before" => before);
            } else {
                info!(self.logger, "deleted rows past retention"; "table" => table, "rows" => rows,
                    "before" => before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TOOK: Duration = Duration::from_millis(30);

    fn step(table: PruneTable, rows: u64, before: i64) -> Pruned {
        let before = Some(Timestamp::from_micros(before));
        Pruned { table, rows, before, is_surplus: false, machines: 0, examined: rows, next: None }
    }

    #[test]
    fn a_run_of_deletion_ends_with_its_last_step_and_the_next_starts_within_a_minute() {
        let now = Instant::now();
        let mut deletion = Deletion::new(now);
        assert_eq!(deletion.work(now), Some(Due::Step));
        let begun = PruneRun::new(PruneLimits::default());
        deletion.run = Some(begun.clone());
        let over = deletion.pruned(Some(step(PruneTable::Rollups, 5, 7)), TOOK, now).unwrap();
        assert_eq!((over.tallies.len(), deletion.run.clone()), (1, None));
        assert_eq!(deletion.prune_at, begun.begun + PRUNE_INTERVAL);
        deletion.run = Some(begun.clone());
        assert!(deletion.pruned(None, TOOK, now).is_some(), "a run that fails is over");
        assert_eq!(deletion.prune_at, begun.begun + PRUNE_INTERVAL);
        assert!(PRUNE_INTERVAL <= Duration::from_secs(60));
    }

    #[test]
    fn after_a_run_space_is_given_back_step_by_step() {
        let now = Instant::now();
        let mut deletion = Deletion::new(now);
        deletion.run = Some(PruneRun::new(PruneLimits::default()));
        assert!(deletion.pruned(Some(step(PruneTable::Rollups, 5, 7)), TOOK, now).is_some());
        assert_eq!((deletion.work(now), deletion.work(now + TOOK)), (None, Some(Due::Release)));
        let more = SpaceReleased { bytes: 10, is_more: true };
        assert_eq!(deletion.released(Some(more), TOOK, now), None);
        assert_eq!(deletion.work(now + TOOK), Some(Due::Release));
        assert_eq!(deletion.released(Some(SpaceReleased { bytes: 5, is_more: false }), TOOK, now), Some(15));
        assert_eq!(deletion.work(now + TOOK), None, "the next run is not due yet");
        assert_eq!(deletion.work(now + PRUNE_INTERVAL * 2), Some(Due::Step));
    }

    #[test]
    fn a_run_counts_each_table_and_each_reason_by_itself() {
        let mut run = PruneRun::new(PruneLimits::default());
        run.count(&step(PruneTable::Rejected, 3, 7));
        run.count(&step(PruneTable::Rejected, 4, 9));
        run.count(&Pruned { is_surplus: true, ..step(PruneTable::Rejected, 5, 8) });
        run.count(&step(PruneTable::Events, 0, 8));
        let counted: Vec<_> = run.tallies.iter().map(|tally| (tally.is_surplus, tally.rows)).collect();
        assert_eq!(counted, [(false, 7), (true, 5)]);
        assert_eq!(run.tallies[0].before, Some(Timestamp::from_micros(9)), "the latest");
    }

    #[test]
    fn a_trouble_that_lasts_is_named_once() {
        let mut deletion = Deletion::new(Instant::now());
        let trouble = || vec!["no right to drop".to_owned()];
        assert_eq!(deletion.new_troubles(trouble()), trouble());
        assert!(deletion.new_troubles(trouble()).is_empty());
        assert!(deletion.new_troubles(Vec::new()).is_empty());
        assert_eq!(deletion.new_troubles(trouble()), trouble(), "it is back");
    }
}
