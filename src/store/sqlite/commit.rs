//! One batch, one transaction.
//!
//! Readings go in runs ([`readings`](super::readings)), everything else row by row. A failed statement of one
//! row leaves the transaction as it was before it, so a refused row needs no savepoint: the commit sets it
//! aside and goes on. But a full disk or a trigger with `RAISE(ROLLBACK)` ends the transaction with the
//! statement. Going on then would store rows outside of any transaction.
//!
//! A failed statement of a run says nothing about its rows. Then the whole transaction is tried again, row by
//! row.

use std::collections::BTreeMap;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::now;
use super::refusal::refusal;
use super::statements::{InsertGap, InsertRejection, MovePosition};
use super::{rollups, status_rows};
use crate::domain::{Ledger, Timestamp};
use crate::store::batch::{Batch, CommitOutcome, GapRow, RejectionRow};
use crate::store::checkpoint::{self, LedgerColumns};
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};
use crate::store::instant_text::InstantText;
use crate::store::refused::RowLocation;
use crate::store::retained;
use crate::store::rollup::Rollup;
use crate::store::schema::SqlInstant;
use crate::store::{bigint, without_nul};

/// Rows whose refusal ended an earlier attempt's transaction, with the database's message. They are not
/// written again.
pub(super) type Fatal = BTreeMap<RowLocation, String>;

pub(super) enum Failure {
    Commit(CommitFailure),
    /// The refusal of this row ended the transaction.
    Fatal(RowLocation, String),
    /// The readings must be written one by one.
    RowByRow,
}

impl From<CommitFailure> for Failure {
    fn from(failure: CommitFailure) -> Self {
        Self::Commit(failure)
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Commit(error.into())
    }
}

/// Stores `batch` (STO-1 to STO-4).
pub fn commit(
    connection: &mut SqliteConnection,
    site: &str,
    batch: &Batch,
) -> Result<CommitOutcome, CommitFailure> {
    let mut row_by_row = None;
    // Ends: each round but the first adds one row to those that are not written again.
    loop {
        match try_commit(connection, site, batch, row_by_row.as_ref()) {
            Ok(outcome) => return Ok(outcome),
            Err(Failure::Commit(failure)) => return Err(failure),
            Err(Failure::RowByRow) => row_by_row = Some(Fatal::new()),
            Err(Failure::Fatal(location, refusal)) => {
                row_by_row.get_or_insert_default().insert(location, refusal);
            }
        }
    }
}

/// Writes the readings in runs, or `row_by_row` without the fatal ones.
fn try_commit(
    connection: &mut SqliteConnection,
    site: &str,
    batch: &Batch,
    row_by_row: Option<&Fatal>,
) -> Result<CommitOutcome, Failure> {
    let journal_id = batch.journal_id.to_string();
    let writer = RowWriter { site, journal_id: &journal_id, now: now() };
    connection.immediate_transaction(|connection| {
        let ledger = writer.move_position(connection, batch)?;
        let mut outcome =
            CommitOutcome { rejected: batch.rejections.len() as u64, ledger, ..CommitOutcome::default() };
        let readings =
            retained::sqlite::only_new(connection, site, &batch.readings).at(CommitStep::Readings)?;
        let mut rollup = Rollup::default();
        let refused = match row_by_row {
            None => writer.insert_in_runs(connection, &readings, &mut outcome, &mut rollup)?,
            Some(fatal) => writer.insert_readings(connection, &readings, fatal, &mut outcome, &mut rollup)?,
        };
        retained::sqlite::forget_refused(connection, site, &readings, &outcome.poisoned)
            .at(CommitStep::Readings)?;
        outcome.duplicate = batch.readings.len() as u64 - outcome.stored - refused.len() as u64;
        rollups::add(connection, site, &rollup).at(CommitStep::Rollups)?;

        writer.insert_rejections(connection, &batch.rejections).at(CommitStep::Rejections)?;
        writer.insert_rejections(connection, &refused).at(CommitStep::Rejections)?;
        writer.insert_gaps(connection, &batch.gaps).at(CommitStep::Gaps)?;
        outcome.refuse(status_rows::write(connection, &writer, batch, row_by_row.unwrap_or(&Fatal::new()))?);
        checkpoint::sqlite::correct_counters(connection, &journal_id, &outcome).at(CommitStep::Counters)?;
        outcome.ledger = ledger.corrected(outcome.duplicate, outcome.poisoned.len() as u64);
        Ok(outcome)
    })
}

/// Writes the row at `location` by `statement`. Returns how many rows changed, or the message with which the
/// database refuses it.
pub(super) fn write_row(
    connection: &mut SqliteConnection,
    location: RowLocation,
    fatal: &Fatal,
    step: CommitStep,
    statement: impl FnOnce(&mut SqliteConnection) -> QueryResult<usize>,
) -> Result<Result<usize, String>, Failure> {
    if let Some(refusal) = fatal.get(&location) {
        return Ok(Err(refusal.clone()));
    }
    let error = match statement(connection) {
        Ok(changed) => return Ok(Ok(changed)),
        Err(error) => error,
    };
    let Some(refusal) = refusal(&error) else {
        return Err(CommitFailure::Step(step, error).into());
    };
    if !in_transaction(connection) {
        return Err(Failure::Fatal(location, refusal));
    }
    Ok(Err(refusal))
}

pub(super) fn text(instant: Timestamp) -> InstantText {
    InstantText::new(SqlInstant(instant))
}

/// Writes the rows of a batch, with what they have in common.
pub(super) struct RowWriter<'a> {
    pub site: &'a str,
    pub journal_id: &'a str,
    pub now: InstantText,
}

impl RowWriter<'_> {
    fn move_position(
        &self,
        connection: &mut SqliteConnection,
        batch: &Batch,
    ) -> Result<Ledger, CommitFailure> {
        let moved = MovePosition {
            upto: bigint(batch.upto.0),
            messages: bigint(batch.messages),
            readings: bigint(batch.readings.len() as u64),
            rejections: bigint(batch.rejections.len() as u64),
            control: bigint(batch.control),
            now: self.now,
            journal_id: self.journal_id,
            after: bigint(batch.after.0),
            open_id: &batch.open_id.to_string(),
        };
        let row = moved.get_result::<LedgerColumns>(connection).optional();
        if let Some(columns) = row.at(CommitStep::Position)? {
            return Ok(checkpoint::ledger(columns));
        }
        Err(checkpoint::sqlite::stale(connection, batch)?)
    }

    pub(super) fn insert_rejections(
        &self,
        connection: &mut SqliteConnection,
        rows: &[RejectionRow],
    ) -> QueryResult<()> {
        rows.iter().try_for_each(|row| {
            let insert = InsertRejection {
                site: self.site,
                journal_id: self.journal_id,
                seq: bigint(row.seq.0),
                element: i32::try_from(row.element).unwrap_or(i32::MAX),
                received_at: text(row.received_at),
                topic: &without_nul(&row.topic),
                qos: i16::from(row.qos.as_u8()),
                retained: row.retained,
                clock_unset: row.clock_unset,
                payload: &row.rejection.payload,
                reason: row.rejection.reason.as_str(),
                detail: &without_nul(&row.rejection.detail),
            };
            connection.execute_returning_count(&insert).map(drop)
        })
    }

    fn insert_gaps(&self, connection: &mut SqliteConnection, gaps: &[GapRow]) -> QueryResult<()> {
        gaps.iter().try_for_each(|gap| {
            let insert = InsertGap {
                journal_id: self.journal_id,
                from_seq: bigint(gap.from.0),
                to_seq: bigint(gap.to.0),
                reason: &gap.reason,
                at: text(gap.at),
            };
            connection.execute_returning_count(&insert).map(drop)
        })
    }
}

/// Returns whether the transaction survived the error: then another one cannot begin. If one begins here, it
/// is rolled back with the attempt.
fn in_transaction(connection: &mut SqliteConnection) -> bool {
    connection.batch_execute("BEGIN").is_err()
}
