//! Reports the outcome of commits: ledger, metrics and log.

use std::time::{Duration, Instant};

use slog::{debug, error, warn};

use super::Writer;
use crate::clock::wall_now;
use crate::domain::{Ledger, RefusedKind, RejectReason};
use crate::store::{Batch, CommitOutcome};

impl Writer {
    /// Publishes the ledger that was just read from the database.
    pub(super) fn show(&mut self, ledger: Ledger) {
        self.options.ledger.write(ledger);
        self.maintenance.ledger_read(Instant::now());
    }

    /// Counts and logs the unreadable rows that any reader has skipped.
    pub(super) fn name_unreadable_rows(&self) {
        for row in self.options.store.unreadable.take_unnamed() {
            self.metrics.rows_unreadable.add(1);
            error!(self.logger, "the database holds a row that Andon cannot read: skipping it. Correct or delete the row, \
                then restart"; "table" => row.table, "row" => row.key, "what" => row.what);
        }
    }

    /// Records the time of the commit and the time since each message was received.
    pub(super) fn measure(&self, batch: &Batch, took: Duration) {
        let metrics = &self.metrics;
        metrics.commit_seconds.observe(took.as_secs_f64());
        metrics.batch_rows.observe((batch.readings.len() + batch.rejections.len()) as f64);
        let now = wall_now();
        let readings = batch.readings.iter().map(|row| row.received_at);
        let rejections = batch.rejections.iter().map(|row| row.received_at);
        for received_at in readings.chain(rejections) {
            metrics.latency_seconds.observe(now.since(received_at).as_secs_f64());
        }
    }

    /// Counts a commit and logs what the database refused.
    pub(super) fn count_commit(&mut self, batch: &Batch, outcome: &CommitOutcome) {
        self.show(outcome.ledger);
        let metrics = &self.metrics;
        self.count_rejections(batch, outcome.poisoned.len() as u64);
        metrics.batches_committed.add(1);
        metrics.readings_stored.add(outcome.stored);
        metrics.readings_duplicate.add(outcome.duplicate);
        let unrecorded = outcome.refused.iter().filter(|row| row.kind == RefusedKind::Event).count();
        metrics.transitions_recorded.add(batch.transitions.len().saturating_sub(unrecorded) as u64);
        self.refusals.report(&outcome.refused, metrics, &self.logger, Instant::now());
        if let Some(first) = outcome.poisoned.first() {
            warn!(self.logger, "the database refuses rows: keeping them in rejected_message as store_rejected";
                "rows" => outcome.poisoned.len(), "first_seq" => first.seq.0, "first_element" => first.element,
                "first_reason" => &first.detail);
        }
        debug!(self.logger, "batch committed"; "upto" => batch.upto.0, "messages" => batch.messages,
            "stored" => outcome.stored, "duplicate" => outcome.duplicate, "rejected" => outcome.rejected);
    }

    /// Counts a commit whose answer is lost: what it did is the difference between the ledgers before and after
    /// it.
    pub(super) fn count_settled(&self, batch: &Batch, after: Ledger) {
        let before = self.options.ledger.snapshot().filter(|ledger| ledger.committed_seq == batch.after);
        // The ledger before it is unknown only if the URL leads to another database: count every row as new.
        let before = before.unwrap_or(Ledger {
            stored: after.stored.saturating_sub(batch.readings.len() as u64),
            rejected: after.rejected.saturating_sub(batch.rejections.len() as u64),
            ..after
        });
        self.metrics.batches_committed.add(1);
        self.metrics.readings_stored.add(after.stored.saturating_sub(before.stored));
        self.metrics.readings_duplicate.add(after.duplicate.saturating_sub(before.duplicate));
        let rejected = after.rejected.saturating_sub(before.rejected);
        self.count_rejections(batch, rejected.saturating_sub(batch.rejections.len() as u64));
        self.metrics.transitions_recorded.add(batch.transitions.len() as u64);
    }

    /// Counts the rejections of `batch`, and its readings that the database `refused`.
    fn count_rejections(&self, batch: &Batch, refused: u64) {
        let rejected = &self.metrics.rejected;
        batch.rejections.iter().for_each(|row| rejected.of(row.rejection.reason).add(1));
        rejected.of(RejectReason::StoreRejected).add(refused);
    }
}
