//! What the writer does between batches: records the trusted time, deletes readings past their retention, makes up figures of five minutes for
//! readings that are older than the tables for them, and looks at the ledger when no batch has shown it for a while.
//!
//! All go in small steps, because batches wait for them. Deleting and filling that fail are tried again much later: nothing
//! depends on them but disk space and the speed of charts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{debug, info, warn};

use super::worker::StoreWorker;
use super::{Failure, PositionLost, Work, Writer};
use crate::clock::trusted::cutoff;
use crate::domain::{JournalId, Timestamp};
use crate::store::{Checkpoint, PruneBounds, PruneCursor, Pruned, RollupFill};

/// What one step of deleting may look at when `store.retention` is set.
const PRUNE_BOUNDS: PruneBounds = PruneBounds { machines_max: 1_000, rows_max: 5_000 };
/// Pause between two runs of deleting.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Pause between two looks for something to do, when there was nothing left.
const INTERVAL: Duration = Duration::from_secs(600);
/// How old the ledger on the board may be. `andon rejected retry` changes it from outside, and a database that goes away while
/// nothing flows is noticed by this look.
const LEDGER_AGE_MAX: Duration = Duration::from_secs(5);
/// How often the trusted time is recorded.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// The same while the wall clock waits to be believed (somebody may confirm it), and at the beginning.
const CLOCK_INTERVAL_STEP: Duration = Duration::from_secs(3);

/// Shortest stretch of time filled in one step: a bucket.
const SPAN_MIN: Duration = Duration::from_secs(300);
/// Longest.
const SPAN_MAX: Duration = Duration::from_secs(30 * 86_400);
/// First.
const SPAN_FIRST: Duration = Duration::from_secs(3_600);
/// A step that takes less lets the next one be longer.
const STEP_MIN: Duration = Duration::from_millis(250);
/// A step that takes more lets the next one be shorter.
const STEP_MAX: Duration = Duration::from_secs(1);
/// After a step comes a pause of so many times its length.
const PAUSE_SHARE: u32 = 4;
/// Steps in a row that come to nothing, because somebody else writes, until it is said: once or twice is nobody's fault.
const DISTURBED_MAX: u32 = 10;

/// What there is to say of somebody who writes figures without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    /// Step after step comes to nothing.
    Lasts,
    /// A step has come to something again.
    Over,
}

/// A run of deleting, from the first machine to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PruneRun {
    before: Timestamp,
    from: Option<PruneCursor>,
    /// Deleted so far.
    rows: u64,
}

/// When it is time for what.
pub struct Upkeep {
    prune_at: Option<Instant>,
    /// The run of deleting that is under way.
    run: Option<PruneRun>,
    clock_at: Instant,
    fill_at: Instant,
    span: Duration,
    /// Steps in a row that somebody disturbed.
    disturbed: u32,
    look_at: Instant,
}

impl Upkeep {
    /// Everything is due now; nothing is deleted without a retention.
    pub fn new(has_retention: bool) -> Self {
        let now = Instant::now();
        Self {
            prune_at: has_retention.then_some(now),
            run: None,
            clock_at: now,
            fill_at: now,
            span: SPAN_FIRST,
            disturbed: 0,
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
            run.rows += step.rows;
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

    /// Notes what a step of filling came to, or that it failed.
    fn filled(&mut self, outcome: Option<RollupFill>, took: Duration, now: Instant) {
        let pause = match outcome {
            Some(RollupFill::More) => {
                if took < STEP_MIN {
                    self.span = (self.span * 2).min(SPAN_MAX);
                } else if took > STEP_MAX {
                    self.span = (self.span / 2).max(SPAN_MIN);
                }
                took * PAUSE_SHARE
            }
            Some(RollupFill::TooMuch) => {
                self.span = (self.span / 4).max(SPAN_MIN);
                took * PAUSE_SHARE
            }
            Some(RollupFill::Disturbed) => took * PAUSE_SHARE,
            Some(RollupFill::Done) => INTERVAL,
            None => {
                self.span = SPAN_MIN;
                INTERVAL
            }
        };
        self.fill_at = now + pause;
    }

    /// Notes whether somebody disturbed a step; gives what is to be said of it now.
    fn disturbed(&mut self, outcome: RollupFill) -> Option<Disturbance> {
        match outcome {
            RollupFill::Disturbed => {
                self.disturbed = self.disturbed.saturating_add(1);
                (self.disturbed == DISTURBED_MAX).then_some(Disturbance::Lasts)
            }
            // It ended before anybody could have disturbed it.
            RollupFill::TooMuch => None,
            RollupFill::More | RollupFill::Done => {
                let steps = std::mem::take(&mut self.disturbed);
                (steps >= DISTURBED_MAX).then_some(Disturbance::Over)
            }
        }
    }
}

impl Writer {
    /// What is due, if the database takes data.
    pub(super) fn upkeep_work(&self) -> Option<Work> {
        let now = Instant::now();
        if !self.metrics.store_available.get() {
            return None;
        }
        if self.upkeep.clock_at <= now {
            return Some(Work::Clock);
        }
        // Not before the database has said what it knows of the time.
        if let (Some(retention), Some(at)) = (self.options.retention, self.upkeep.prune_at)
            && at <= now
            && let Some(trusted) = self.options.clock.trusted_now()
        {
            return Some(Work::Prune { before: cutoff(trusted, retention) });
        }
        // What is to be deleted need not be filled.
        if self.upkeep.run.is_none() && self.upkeep.fill_at <= now {
            return Some(Work::Fill { span: self.upkeep.span });
        }
        let journal_id = self.watched.as_ref()?.journal_id;
        (self.upkeep.look_at <= now).then_some(Work::Look { journal_id })
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
            writer.upkeep.clock_at = Instant::now() + pause;
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
        let run = self.upkeep.run.get_or_insert(PruneRun { before, from: None, rows: 0 });
        let (before, from, begun) = (run.before, run.from.clone(), Instant::now());
        let job = async move { worker.prune(before, from, PRUNE_BOUNDS).await };
        self.run(job, context, move |writer, result, context| {
            if let Err(Failure::Away(reason)) = &result {
                warn!(writer.logger, "old readings could not be deleted"; "reason" => reason);
            }
            let took = begun.elapsed();
            let run = writer.upkeep.pruned(result.ok(), took, Instant::now());
            if let Some(run) = run.filter(|run| run.rows > 0) {
                info!(writer.logger, "deleted readings that are past retention"; "table" => "machine_telemetry",
                    "rows" => run.rows, "before" => %run.before);
            }
            if writer.upkeep.run.is_some() {
                context.run_later(took, |writer, context| writer.next(context));
            }
        });
    }

    pub(super) fn fill(&mut self, worker: Arc<StoreWorker>, span: Duration, context: &mut Context<Self>) {
        let begun = Instant::now();
        let job = async move { worker.fill_rollups(span).await };
        self.run(job, context, move |writer, result, context| {
            let took = begun.elapsed();
            match &result {
                Ok(outcome) => {
                    debug!(writer.logger, "rollups of older readings filled in";
                        "span_s" => span.as_secs(), "outcome" => ?outcome, "took_ms" => took.as_millis());
                    writer.say_disturbance(*outcome);
                }
                Err(Failure::Away(reason)) => {
                    warn!(writer.logger, "rollups of older readings could not be filled in; charts of that time are slow";
                        "reason" => reason);
                }
                Err(Failure::Stale) => {}
            }
            writer.upkeep.filled(result.ok(), took, Instant::now());
            let pause = writer.upkeep.fill_at.saturating_duration_since(Instant::now());
            if pause < STEP_MAX {
                context.run_later(pause, |writer, context| writer.next(context));
            }
        });
    }

    fn say_disturbance(&mut self, outcome: RollupFill) {
        match self.upkeep.disturbed(outcome) {
            Some(Disturbance::Lasts) => {
                warn!(self.logger, "rollups of older readings cannot be filled in, because another process writes rollups \
                    of this site; charts of that time are slow. Is an older Andon running for this site? Update it";
                    "steps" => DISTURBED_MAX);
            }
            Some(Disturbance::Over) => {
                info!(
                    self.logger,
                    "rollups of older readings are filled in again: no other process writes rollups of this site any more"
                );
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_of_filling_become_as_long_as_batches_can_wait() {
        let now = Instant::now();
        let mut upkeep = Upkeep::new(false);
        let mut step = |outcome, took_ms| {
            let took = Duration::from_millis(took_ms);
            upkeep.filled(outcome, took, now);
            (upkeep.span / SPAN_FIRST.as_secs() as u32, upkeep.fill_at - now)
        };
        let (hour, ms) = (Duration::from_secs(1), Duration::from_millis);
        assert_eq!(step(Some(RollupFill::More), 10), (hour * 2, ms(40)));
        assert_eq!(step(Some(RollupFill::More), 500), (hour * 2, ms(2_000)));
        assert_eq!(step(Some(RollupFill::More), 1_500), (hour, ms(6_000)));
        assert_eq!(step(Some(RollupFill::TooMuch), 0), (hour / 4, ms(0)));
        assert_eq!(step(Some(RollupFill::Done), 10), (hour / 4, INTERVAL));
        assert_eq!(step(Some(RollupFill::Disturbed), 50), (hour / 4, ms(200)));
        assert_eq!(step(None, 10), (hour / 12, INTERVAL));
        assert_eq!(step(Some(RollupFill::TooMuch), 0), (hour / 12, ms(0)), "never less than a bucket");
    }

    #[test]
    fn that_somebody_disturbs_filling_is_said_once_when_it_lasts_and_once_when_it_is_over() {
        let mut upkeep = Upkeep::new(false);
        let mut said = |outcomes: &[RollupFill]| -> Vec<Disturbance> {
            outcomes.iter().filter_map(|outcome| upkeep.disturbed(*outcome)).collect()
        };
        let disturbed = |times| vec![RollupFill::Disturbed; times];
        let few = DISTURBED_MAX as usize - 1;
        assert_eq!(said(&disturbed(few)), []);
        assert_eq!(said(&[RollupFill::More]), [], "it was not said");
        assert_eq!(said(&disturbed(few)), [], "not in a row with the others");
        assert_eq!(said(&[RollupFill::TooMuch]), [], "says nothing of it");
        assert_eq!(said(&disturbed(few)), [Disturbance::Lasts], "once");
        assert_eq!(said(&[RollupFill::TooMuch, RollupFill::Done, RollupFill::More]), [Disturbance::Over]);
    }

    #[test]
    fn a_run_of_deleting_ends_with_its_last_step_and_waits_for_the_next_minute() {
        let (now, took) = (Instant::now(), Duration::from_millis(30));
        let mut upkeep = Upkeep::new(true);
        let begun = PruneRun { before: Timestamp::from_micros(7), from: None, rows: 0 };
        upkeep.run = Some(begun.clone());
        let over = upkeep.pruned(Some(Pruned { rows: 5, ..Pruned::default() }), took, now).unwrap();
        assert_eq!((over.rows, upkeep.run.clone(), upkeep.prune_at), (5, None, Some(now + PRUNE_INTERVAL)));
        upkeep.run = Some(begun);
        assert!(upkeep.pruned(None, took, now).is_some(), "a run that fails is over");
        assert_eq!(upkeep.prune_at, Some(now + PRUNE_INTERVAL));
    }
}
