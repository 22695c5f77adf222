//! One batch, one transaction, a few statements.
//!
//! Rows go in by the thousand ([`runs`](super::runs)). The transaction starts again when a COPY finds a
//! reading that is stored already (then it inserts), when the server refuses a row (then with savepoints),
//! and when a statement takes too long (then in smaller runs).

use std::time::Duration;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, SmallInt, Text};

use super::readings::WrittenReadings;
use super::runs::{RUN_BYTES_MAX, RunSize, RunWriter, WriteMode};
use super::sqlstate::{self, Verdict};
use super::statements::MovePosition;
use super::{Session, readings, rollups, status_rows};
use crate::domain::Ledger;
use crate::store::batch::{Batch, CommitOutcome, GapRow, RejectionRow, runs};
use crate::store::checkpoint::{self, LedgerColumns};
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};
use crate::store::retained;
use crate::store::rollup::Rollup;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::{bigint, without_nul};

/// Stores `batch` (STO-1 to STO-4).
pub fn commit(session: Session<'_>, batch: &Batch) -> Result<CommitOutcome, CommitFailure> {
    let Session { connection, site, run_size, copy_pacing, .. } = session;
    let copies = copy_pacing.copies(batch.readings.len().min(run_size.rows()));
    let mut mode = WriteMode { copies, ..WriteMode::default() };
    // Ends: at most three rounds change the mode, and six shrink the runs.
    loop {
        let failure = match try_commit(connection, site, batch, mode, run_size.rows()) {
            Ok(attempt) => {
                run_size.grow(attempt.slowest_run);
                match mode.copies {
                    true => copy_pacing.succeeded(),
                    false => copy_pacing.inserted(attempt.readings_were_new),
                }
                return Ok(attempt.outcome);
            }
            Err(failure) => failure,
        };
        if mode.copies && is_of_copy(&failure) {
            copy_pacing.failed();
            mode = mode.after_copy();
            continue;
        }
        match mode_after(&failure, mode, run_size) {
            Some(next) => mode = next,
            None => return Err(failure),
        }
    }
}

/// True if inserting may succeed where copying failed.
fn is_of_copy(failure: &CommitFailure) -> bool {
    matches!(failure, CommitFailure::Step(CommitStep::Readings, error) if sqlstate::is_of_copy(error))
}

/// Returns the mode for another attempt; `None` if none would help.
fn mode_after(failure: &CommitFailure, mode: WriteMode, run_size: &mut RunSize) -> Option<WriteMode> {
    match failure {
        CommitFailure::Stale(_) => None,
        CommitFailure::Cancelled { rows, .. } => run_size.shrink(*rows).then_some(mode),
        CommitFailure::Step(step, error) => match Verdict::of(error) {
            Verdict::Nothing => None,
            Verdict::Refused(_) => mode.after_refusal(*step),
            Verdict::Cancelled if *step == CommitStep::Transaction => mode.after_slow_commit(),
            Verdict::Cancelled => run_size.shrink(run_size.rows()).then_some(mode),
        },
    }
}

/// A transaction that was committed.
struct Attempt {
    outcome: CommitOutcome,
    slowest_run: Duration,
    /// No reading was stored before.
    readings_were_new: bool,
}

/// Makes one attempt.
fn try_commit(
    connection: &mut PgConnection,
    site: &str,
    batch: &Batch,
    mode: WriteMode,
    rows_max: usize,
) -> Result<Attempt, CommitFailure> {
    let journal_id = batch.journal_id.to_string();
    connection.transaction(|connection| {
        let ledger = move_position(connection, &journal_id, batch)?;
        let mut outcome =
            CommitOutcome { rejected: batch.rejections.len() as u64, ledger, ..CommitOutcome::default() };
        let new = retained::postgres::only_new(connection, site, &batch.readings).at(CommitStep::Readings)?;
        let mut rollup = Rollup::default();
        let mut writer = RunWriter::begin(connection, mode, rows_max)?;
        let WrittenReadings { refused, were_new } =
            readings::write(&mut writer, site, &new, &mut outcome, &mut rollup)?;
        let connection = &mut *writer.connection;
        retained::postgres::forget_refused(connection, site, &new, &outcome.poisoned)
            .at(CommitStep::Readings)?;
        outcome.duplicate = batch.readings.len() as u64 - outcome.stored - refused.len() as u64;
        rollups::add(connection, site, &rollup, rows_max).at(CommitStep::Rollups)?;

        for rejections in [&batch.rejections, &refused] {
            insert_rejections(connection, site, &journal_id, rejections, rows_max)
                .at(CommitStep::Rejections)?;
        }
        insert_gaps(connection, &journal_id, &batch.gaps, rows_max).at(CommitStep::Gaps)?;
        outcome.refuse(status_rows::write(&mut writer, site, batch)?);
        checkpoint::postgres::correct_counters(writer.connection, &journal_id, &outcome)
            .at(CommitStep::Counters)?;
        outcome.ledger = ledger.corrected(outcome.duplicate, outcome.poisoned.len() as u64);
        Ok(Attempt { outcome, slowest_run: writer.slowest(), readings_were_new: were_new })
    })
}

fn move_position(
    connection: &mut PgConnection,
    journal_id: &str,
    batch: &Batch,
) -> Result<Ledger, CommitFailure> {
    let moved = MovePosition {
        upto: bigint(batch.upto.0),
        messages: bigint(batch.messages),
        readings: bigint(batch.readings.len() as u64),
        rejections: bigint(batch.rejections.len() as u64),
        control: bigint(batch.control),
        journal_id,
        after: bigint(batch.after.0),
        open_id: &batch.open_id.to_string(),
    };
    let row = moved.get_result::<(LedgerColumns, Option<String>)>(connection).optional();
    if let Some((columns, _synchronous_commit)) = row.at(CommitStep::Position)? {
        return Ok(checkpoint::ledger(columns));
    }
    Err(checkpoint::postgres::stale(connection, batch)?)
}

pub(super) fn insert_rejections(
    connection: &mut PgConnection,
    site: &str,
    journal_id: &str,
    rows: &[RejectionRow],
    rows_max: usize,
) -> QueryResult<()> {
    runs(rows, rows_max, RUN_BYTES_MAX, RejectionRow::size).try_for_each(|run| {
        let each = || run.iter();
        sql_query(
            "INSERT INTO rejected_message (site, journal_id, seq, element, received_at, topic, qos, retained, \
             clock_unset, payload, reason, detail) \
             SELECT $1, $2, u.* FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS u \
             ON CONFLICT (journal_id, seq, element) DO NOTHING",
        )
        .bind::<Text, _>(site)
        .bind::<Text, _>(journal_id)
        .bind::<Array<BigInt>, _>(each().map(|row| bigint(row.seq.0)).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(
            each().map(|row| i32::try_from(row.element).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
        )
        .bind::<Array<Instant>, _>(each().map(|row| SqlInstant(row.received_at)).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(each().map(|row| without_nul(&row.topic)).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(each().map(|row| i16::from(row.qos.as_u8())).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(each().map(|row| row.retained).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(each().map(|row| row.clock_unset).collect::<Vec<_>>())
        .bind::<Array<Binary>, _>(each().map(|row| row.rejection.payload.as_slice()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(each().map(|row| row.rejection.reason.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(each().map(|row| without_nul(&row.rejection.detail)).collect::<Vec<_>>())
        .execute(connection)
        .map(drop)
    })
}

fn insert_gaps(
    connection: &mut PgConnection,
    journal_id: &str,
    gaps: &[GapRow],
    rows_max: usize,
) -> QueryResult<()> {
    runs(gaps, rows_max, RUN_BYTES_MAX, |gap| gap.reason.len()).try_for_each(|run| {
        sql_query(
            "INSERT INTO journal_gap (journal_id, from_seq, to_seq, reason, at) \
             SELECT $1, u.* FROM unnest($2, $3, $4, $5) AS u ON CONFLICT (journal_id, from_seq, to_seq) DO NOTHING",
        )
        .bind::<Text, _>(journal_id)
        .bind::<Array<BigInt>, _>(run.iter().map(|gap| bigint(gap.from.0)).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(run.iter().map(|gap| bigint(gap.to.0)).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(run.iter().map(|gap| gap.reason.as_str()).collect::<Vec<_>>())
        .bind::<Array<Instant>, _>(run.iter().map(|gap| SqlInstant(gap.at)).collect::<Vec<_>>())
        .execute(connection)
        .map(drop)
    })
}
