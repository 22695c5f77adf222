//! One batch, one transaction, a few statements.
//!
//! Rows go in by the thousand. If the server refuses such a statement for what may be one row's fault,
//! the transaction is rolled back and the batch tried once more, with such rows stored one by one inside
//! the server: the readings, or the rows beside them, or both.

use std::time::{Duration, Instant as Clock};

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Double, Integer, Nullable, SmallInt, Text};

use super::refusal::may_be_a_rows_fault;
use super::statements::{CorrectCounters, MovePosition, ReadingColumns};
use super::stored::insert_run;
use super::{one_by_one, rollups, status_rows};
use crate::domain::Ledger;
use crate::store::batch::{Batch, CommitOutcome, GapRow, ReadingRow, RejectionRow, runs};
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};
use crate::store::reads::LedgerColumns;
use crate::store::retained;
use crate::store::rollup::Rollup;
use crate::store::schema::{Instant, Moment};
use crate::store::{bigint, reads, without_nul};

/// Rows of one statement. More gain nothing; fewer cost round trips.
pub(super) const RUN_ROWS_MAX: usize = 1_024;
/// Bytes of one statement, about; bounds the memory for its parameters, here and in the server.
pub(super) const RUN_BYTES_MAX: usize = 1024 * 1024;

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Insertion {
    /// One statement a run; one row that is refused fails them all.
    Bulk,
    /// Each row in a subtransaction of its own; refused ones are reported.
    OneByOne,
}

/// How each part of a batch is written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Care {
    readings: Insertion,
    /// Events, machines, marks, outages and sightings.
    status_rows: Insertion,
}

impl Care {
    const LEAST: Self = Self { readings: Insertion::Bulk, status_rows: Insertion::Bulk };

    const MOST: Self = Self { readings: Insertion::OneByOne, status_rows: Insertion::OneByOne };

    /// With what failed at `step` written one by one; `None` if it was already, or cannot be.
    fn after(self, step: CommitStep) -> Option<Self> {
        let more = match step {
            CommitStep::Readings => Self { readings: Insertion::OneByOne, ..self },
            CommitStep::Transitions | CommitStep::Outages | CommitStep::Sightings => match self.status_rows {
                Insertion::Bulk => Self { status_rows: Insertion::OneByOne, ..self },
                // Writing them one by one checks at once what else waits for the end of the transaction: that of the readings.
                Insertion::OneByOne => Self::MOST,
            },
            // A constraint that is checked at the end of the transaction fails the COMMIT.
            CommitStep::Transaction => Self::MOST,
            _ => self,
        };
        (more != self).then_some(more)
    }
}

/// Stores `batch` (S1 to S4).
pub fn commit(
    connection: &mut PgConnection,
    site: &str,
    batch: &Batch,
    statement_timeout: Duration,
) -> Result<CommitOutcome, CommitFailure> {
    let mut care = Care::LEAST;
    // At most three rounds, for each takes more care than the one before.
    loop {
        let began = Clock::now();
        let (step, error) = match try_commit(connection, site, batch, care) {
            Err(CommitFailure::Step(step, error)) => (step, error),
            result => return result,
        };
        let is_retried = may_be_a_rows_fault(&error, began.elapsed(), statement_timeout);
        match care.after(step).filter(|_| is_retried) {
            Some(more) => care = more,
            None => return Err(CommitFailure::Step(step, error)),
        }
    }
}

fn try_commit(
    connection: &mut PgConnection,
    site: &str,
    batch: &Batch,
    care: Care,
) -> Result<CommitOutcome, CommitFailure> {
    let journal_id = batch.journal_id.to_string();
    connection.transaction(|connection| {
        let ledger = move_position(connection, &journal_id, batch)?;
        let mut outcome =
            CommitOutcome { rejected: batch.rejections.len() as u64, ledger, ..CommitOutcome::default() };
        let mut refused = Vec::new();
        let readings = retained::unless_seen(connection, site, &batch.readings).at(CommitStep::Readings)?;
        let mut rollup = Rollup::default();
        for run in runs(&readings, RUN_ROWS_MAX, RUN_BYTES_MAX, ReadingRow::size) {
            let columns = ReadingColumns::new(run);
            match care.readings {
                Insertion::Bulk => {
                    let stored = insert_run(connection, site, &columns, run).at(CommitStep::Readings)?;
                    outcome.stored += stored.len() as u64;
                    stored.into_iter().for_each(|row| rollup.add(&row.reading));
                }
                Insertion::OneByOne => {
                    let fates = store_one_by_one(connection, site, &columns).at(CommitStep::Readings)?;
                    refused.extend(
                        fates.into_iter().filter_map(|fate| fate.settle(run, &mut outcome, &mut rollup)),
                    );
                }
            }
        }
        retained::forget_refused(connection, site, &readings, &outcome.poisoned).at(CommitStep::Readings)?;
        outcome.duplicate = batch.readings.len() as u64 - outcome.stored - refused.len() as u64;
        rollups::add(connection, site, &rollup).at(CommitStep::Rollups)?;

        insert_rejections(connection, site, &journal_id, &batch.rejections).at(CommitStep::Rejections)?;
        insert_rejections(connection, site, &journal_id, &refused).at(CommitStep::Rejections)?;
        insert_gaps(connection, &journal_id, &batch.gaps).at(CommitStep::Gaps)?;
        match care.status_rows {
            Insertion::Bulk => status_rows::write(connection, site, batch)?,
            Insertion::OneByOne => outcome.refuse(one_by_one::write(connection, site, batch)?),
        }
        correct_counters(connection, &journal_id, &outcome).at(CommitStep::Counters)?;
        outcome.ledger = ledger.corrected(outcome.duplicate, outcome.poisoned.len() as u64);
        Ok(outcome)
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
    };
    let row = moved.get_result::<LedgerColumns>(connection).optional();
    if let Some(columns) = row.at(CommitStep::Position)? {
        return Ok(reads::ledger(columns));
    }
    let found = reads::postgres::load_position(connection, journal_id).at(CommitStep::Position)?;
    Err(CommitFailure::Stale(found))
}

/// What became of one reading.
#[derive(QueryableByName)]
pub(super) struct Fate {
    /// Its place in the call, from 1.
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = Bool)]
    was_stored: bool,
    /// SQLSTATE and message if it was refused.
    #[diesel(sql_type = Nullable<Text>)]
    refusal: Option<String>,
}

impl Fate {
    /// Counts it; returns the rejection if it was refused.
    pub(super) fn settle<'a>(
        self,
        run: &'a [ReadingRow],
        outcome: &mut CommitOutcome,
        rollup: &mut Rollup<'a>,
    ) -> Option<RejectionRow> {
        let row = run.get(usize::try_from(self.ordinal - 1).ok()?)?;
        if self.was_stored {
            outcome.stored += 1;
            rollup.add(&row.reading);
        }
        Some(outcome.poison(row, self.refusal?))
    }
}

pub(super) fn store_one_by_one(
    connection: &mut PgConnection,
    site: &str,
    columns: &ReadingColumns<'_>,
) -> QueryResult<Vec<Fate>> {
    sql_query(
        "SELECT ordinal, was_stored, refusal \
         FROM andon_store_one_by_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(&columns.machine_ids)
    .bind::<Array<Nullable<Double>>, _>(&columns.temperatures)
    .bind::<Array<Nullable<Double>>, _>(&columns.humidities)
    .bind::<Array<Nullable<Double>>, _>(&columns.vibrations)
    .bind::<Array<Nullable<Text>>, _>(&columns.extras)
    .bind::<Array<Text>, _>(&columns.topics)
    .bind::<Array<Instant>, _>(&columns.recorded)
    .bind::<Array<Text>, _>(&columns.time_sources)
    .bind::<Array<Instant>, _>(&columns.received)
    .bind::<Array<BigInt>, _>(&columns.digests)
    .load(connection)
}

pub(super) fn insert_rejections(
    connection: &mut PgConnection,
    site: &str,
    journal_id: &str,
    rows: &[RejectionRow],
) -> QueryResult<()> {
    runs(rows, RUN_ROWS_MAX, RUN_BYTES_MAX, RejectionRow::size).try_for_each(|run| {
        let each = || run.iter();
        sql_query(
            "INSERT INTO rejected_message (site, journal_id, seq, element, received_at, topic, qos, retained, payload, \
             reason, detail) SELECT $1, $2, u.* FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11) AS u \
             ON CONFLICT (journal_id, seq, element) DO NOTHING",
        )
        .bind::<Text, _>(site)
        .bind::<Text, _>(journal_id)
        .bind::<Array<BigInt>, _>(each().map(|row| bigint(row.seq.0)).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(
            each().map(|row| i32::try_from(row.element).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
        )
        .bind::<Array<Instant>, _>(each().map(|row| Moment(row.received_at)).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(each().map(|row| without_nul(&row.topic)).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(each().map(|row| i16::from(row.qos.as_u8())).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(each().map(|row| row.retained).collect::<Vec<_>>())
        .bind::<Array<Binary>, _>(each().map(|row| row.rejection.payload.as_slice()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(each().map(|row| row.rejection.reason.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(each().map(|row| without_nul(&row.rejection.detail)).collect::<Vec<_>>())
        .execute(connection)
        .map(drop)
    })
}

fn insert_gaps(connection: &mut PgConnection, journal_id: &str, gaps: &[GapRow]) -> QueryResult<()> {
    runs(gaps, RUN_ROWS_MAX, RUN_BYTES_MAX, |gap| gap.reason.len()).try_for_each(|run| {
        sql_query(
            "INSERT INTO journal_gap (journal_id, from_seq, to_seq, reason, at) \
             SELECT $1, u.* FROM unnest($2, $3, $4, $5) AS u ON CONFLICT (journal_id, from_seq, to_seq) DO NOTHING",
        )
        .bind::<Text, _>(journal_id)
        .bind::<Array<BigInt>, _>(run.iter().map(|gap| bigint(gap.from.0)).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(run.iter().map(|gap| bigint(gap.to.0)).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(run.iter().map(|gap| gap.reason.as_str()).collect::<Vec<_>>())
        .bind::<Array<Instant>, _>(run.iter().map(|gap| Moment(gap.at)).collect::<Vec<_>>())
        .execute(connection)
        .map(drop)
    })
}

fn correct_counters(
    connection: &mut PgConnection,
    journal_id: &str,
    outcome: &CommitOutcome,
) -> QueryResult<()> {
    let poisoned = outcome.poisoned.len() as u64;
    if outcome.duplicate + poisoned == 0 {
        return Ok(());
    }
    let correct = CorrectCounters {
        not_stored: bigint(outcome.duplicate + poisoned),
        duplicate: bigint(outcome.duplicate),
        poisoned: bigint(poisoned),
        journal_id,
    };
    connection.execute_returning_count(&correct).map(drop)
}
