//! The writer's work between batches: records the trusted time, has rows past retention deleted
//! ([`deletion`](super::deletion)), and reads the ledger when no commit has done so for a while.
//!
//! Each step is short, because batches wait for it. A deletion that fails waits for its next run, and a record
//! of the time for its next interval: batches must not wait for either. The ledger is read at once, and shows
//! whether the database is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::warn;

use super::deletion::{Deletion, Due};
use super::worker::StoreWorker;
use super::{Failure, PositionLost, Work, Writer};
use crate::domain::JournalId;
use crate::store::Checkpoint;

/// How old the ledger may be. `andon rejected retry` changes it from outside; reading it also notices a
/// database that goes away while no message arrives.
const LEDGER_AGE_MAX: Duration = Duration::from_secs(5);
/// How often the trusted time is recorded.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// The same at the start, and while the wall clock is not trusted: an operator may confirm it at any time.
const CLOCK_INTERVAL_STEP: Duration = Duration::from_secs(3);

/// When each kind of work is due.
pub struct Maintenance {
    pub(super) deletion: Deletion,
    clock_at: Instant,
    look_at: Instant,
}

impl Maintenance {
    /// Everything is due now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { deletion: Deletion::new(now), clock_at: now, look_at: now + LEDGER_AGE_MAX }
    }

    /// Notes that the ledger was read.
    pub fn ledger_read(&mut self, now: Instant) {
        self.look_at = now + LEDGER_AGE_MAX;
    }

    /// Notes that a step failed. If the database is away, reading the ledger shows it.
    pub fn step_failed(&mut self, now: Instant) {
        self.look_at = now;
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
        if let Some(trusted) = self.options.clock.trusted_now()
            && let Some(work) = self.maintenance.deletion.work(now)
        {
            return Some(match work {
                Due::Step => Work::Prune { limits: self.settings.retention.limits(trusted), trusted },
                Due::Release => Work::ReleaseSpace,
            });
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_has_the_ledger_read_at_once() {
        let now = Instant::now();
        let mut maintenance = Maintenance::new();
        assert!(maintenance.look_at > now, "it is not due yet");
        maintenance.step_failed(now);
        assert!(maintenance.look_at <= now);
    }
}
