//! One batch, one transaction, a few statements.
//!
//! Readings go in by the thousand. If the server refuses such a statement for what may be one row's fault,
//! the transaction is rolled back and the batch tried once more, with the readings stored one by one inside
//! the server.

use std::time::{Duration, Instant as Clock};

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Double, Integer, Nullable, SmallInt, Text};

use super::refusal::may_be_a_rows_fault;
use super::rollups;
use super::statements::{CorrectCounters, MovePosition, ReadingColumns, UpdateSightings};
use super::stored::insert_run;
use crate::domain::{Ledger, Transition};
use crate::store::batch::{Batch, CommitOutcome, GapRow, ReadingRow, RejectionRow, runs};
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};
use crate::store::liveness_rows::{self, EventKey};
use crate::store::machine_changes::machine_changes;
use crate::store::reads::LedgerColumns;
use crate::store::rollup::Rollup;
use crate::store::schema::{Instant, Moment};
use crate::store::{bigint, reads, without_nul};

/// Rows of one statement. More gain nothing; fewer cost round trips.
pub(super) const RUN_ROWS_MAX: usize = 1_024;
/// Bytes of one statement, about; bounds the memory for its parameters, here and in the server.
pub(super) const RUN_BYTES_MAX: usize = 1024 * 1024;

/// How readings are inserted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Insertion {
    /// One statement a run; one row that is refused fails them all.
    Bulk,
    /// Each row in a subtransaction of its own; refused ones are reported.
    OneByOne,
}

/// Stores `batch` (S1 to S4).
pub fn commit(
    connection: &mut PgConnection,
    site: &str,
    batch: &Batch,
    statement_timeout: Duration,
) -> Result<CommitOutcome, CommitFailure> {
    let began = Clock::now();
    match try_commit(connection, site, batch, Insertion::Bulk) {
        Err(failure) if may_be_a_rows_fault(&failure, began.elapsed(), statement_timeout) => {
            try_commit(connection, site, batch, Insertion::OneByOne)
        }
        result => result,
    }
}

fn try_commit(
    connection: &mut PgConnection,
    site: &str,
    batch: &Batch,
    insertion: Insertion,
) -> Result<CommitOutcome, CommitFailure> {
    let journal_id = batch.journal_id.to_string();
    connection.transaction(|connection| {
        let ledger = move_position(connection, &journal_id, batch)?;
        let mut outcome =
            CommitOutcome { rejected: batch.rejections.len() as u64, ledger, ..CommitOutcome::default() };
        let mut refused = Vec::new();
        let mut rollup = Rollup::default();
        for run in runs(&batch.readings, RUN_ROWS_MAX, RUN_BYTES_MAX, ReadingRow::size) {
            let columns = ReadingColumns::new(run);
            match insertion {
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
        outcome.duplicate = batch.readings.len() as u64 - outcome.stored - refused.len() as u64;
        rollups::add(connection, site, &rollup).at(CommitStep::Rollups)?;

        insert_rejections(connection, site, &journal_id, &batch.rejections).at(CommitStep::Rejections)?;
        insert_rejections(connection, site, &journal_id, &refused).at(CommitStep::Rejections)?;
        insert_gaps(connection, &journal_id, &batch.gaps).at(CommitStep::Gaps)?;
        record_transitions(connection, site, batch).at(CommitStep::Transitions)?;
        mark_published(connection, site, &batch.liveness.published).at(CommitStep::Transitions)?;
        liveness_rows::postgres::write(connection, site, &batch.liveness).at(CommitStep::Outages)?;
        for run in runs(&batch.sightings, RUN_ROWS_MAX, RUN_BYTES_MAX, |_| 0) {
            let update = UpdateSightings::new(site, run);
            connection.execute_returning_count(&update).at(CommitStep::Sightings)?;
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

fn record_transitions(connection: &mut PgConnection, site: &str, batch: &Batch) -> QueryResult<()> {
    let mut published = batch.liveness.transitions_published;
    for run in runs(&batch.transitions, RUN_ROWS_MAX, RUN_BYTES_MAX, |_| 0) {
        insert_events(connection, site, run, published)?;
        upsert_machines(connection, site, run)?;
        published = published.saturating_sub(run.len());
    }
    Ok(())
}

/// The first `published` of them are not pending.
fn insert_events(
    connection: &mut PgConnection,
    site: &str,
    run: &[Transition],
    published: usize,
) -> QueryResult<usize> {
    let each = || run.iter();
    sql_query(
        "INSERT INTO machine_event (site, machine_id, status, previous_status, reason, occurred_at, last_seen_at, \
         publish_pending) SELECT $1, u.* FROM unnest($2, $3, $4, $5, $6, $7, $8) AS u \
         ON CONFLICT (site, machine_id, occurred_at, status) DO NOTHING",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(each().map(|transition| transition.machine_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(each().map(|transition| transition.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        each().map(|transition| transition.previous_status.map(|status| status.as_str())).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(each().map(|transition| transition.reason.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(each().map(|transition| Moment(transition.occurred_at)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Instant>>, _>(
        each().map(|transition| transition.last_seen_at.map(Moment)).collect::<Vec<_>>(),
    )
    .bind::<Array<Bool>, _>((0..run.len()).map(|index| index >= published).collect::<Vec<_>>())
    .execute(connection)
}

fn mark_published(connection: &mut PgConnection, site: &str, events: &[EventKey]) -> QueryResult<()> {
    runs(events, RUN_ROWS_MAX, RUN_BYTES_MAX, |_| 0).try_for_each(|run| {
        let each = || run.iter();
        sql_query(
            "UPDATE machine_event SET publish_pending = false FROM unnest($2, $3, $4) AS u (id, at, became) \
             WHERE machine_event.site = $1 AND machine_event.machine_id = u.id AND machine_event.occurred_at = u.at \
             AND machine_event.status = u.became AND machine_event.publish_pending",
        )
        .bind::<Text, _>(site)
        .bind::<Array<Text>, _>(each().map(|event| event.machine_id.as_str()).collect::<Vec<_>>())
        .bind::<Array<Instant>, _>(each().map(|event| Moment(event.occurred_at)).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(each().map(|event| event.status.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .map(drop)
    })
}

fn upsert_machines(connection: &mut PgConnection, site: &str, run: &[Transition]) -> QueryResult<usize> {
    let changes = machine_changes(run);
    let each = || changes.iter();
    sql_query(
        "INSERT INTO machine (site, machine_id, status, status_since, first_seen_at, last_seen_at) \
         SELECT $1, u.* FROM unnest($2, $3, $4, $5, $6) AS u \
         ON CONFLICT (site, machine_id) DO UPDATE SET \
         status = CASE WHEN machine.status_since > excluded.status_since THEN machine.status ELSE excluded.status END, \
         status_since = greatest(machine.status_since, excluded.status_since), \
         first_seen_at = least(machine.first_seen_at, excluded.first_seen_at), \
         last_seen_at = greatest(machine.last_seen_at, excluded.last_seen_at)",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(each().map(|change| change.machine_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(each().map(|change| change.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(each().map(|change| Moment(change.status_since)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Instant>>, _>(each().map(|change| change.first_seen_at.map(Moment)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Instant>>, _>(each().map(|change| change.last_seen_at.map(Moment)).collect::<Vec<_>>())
    .execute(connection)
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
