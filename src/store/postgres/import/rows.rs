//! A batch of rows of the old table becomes readings, with their rollups (IMP-1).

use std::collections::HashSet;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Double, Nullable, Text};

use super::super::rollups;
use super::super::runs::{RUN_ROWS_MAX, RunWriter, WriteMode};
use super::state::ImportState;
use super::{BATCH_ROWS, literal};
use crate::domain::{Reading, Timestamp};
use crate::store::error::CommitStep;
use crate::store::failure::CommitFailure;
use crate::store::rollup::Rollup;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::without_nul;

/// A row of the reference worker, as it is.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct OldRow {
    /// Its id.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Its machine.
    #[diesel(sql_type = Nullable<Text>)]
    pub machine_id: Option<String>,
    /// Any float.
    #[diesel(sql_type = Nullable<Double>)]
    pub temperature: Option<f64>,
    /// Any float.
    #[diesel(sql_type = Nullable<Double>)]
    pub humidity: Option<f64>,
    /// Any float.
    #[diesel(sql_type = Nullable<Double>)]
    pub vibration: Option<f64>,
    /// The topic of its message.
    #[diesel(sql_type = Nullable<Text>)]
    pub source_topic: Option<String>,
    /// When it was measured, as text.
    #[diesel(sql_type = Nullable<Text>)]
    pub recorded_at: Option<String>,
    /// When it was stored, as text.
    #[diesel(sql_type = Nullable<Text>)]
    pub created_at: Option<String>,
}

/// What an old row becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedReading {
    /// The reading.
    pub reading: Reading,
    /// The topic of its message; empty if it is not known.
    pub topic: String,
    /// When the old worker stored it.
    pub created_at: Timestamp,
}

/// Interprets an old row, or says what is wrong with it.
pub type ReadRow<'a> = &'a dyn Fn(&OldRow) -> Result<ImportedReading, String>;

#[derive(QueryableByName)]
struct TypeRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    type_name: String,
}

#[derive(QueryableByName)]
struct StoredRow {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = Instant)]
    recorded_at: SqlInstant,
    #[diesel(sql_type = BigInt)]
    digest: i64,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// An old row with what it becomes.
type Converted = (i64, ImportedReading);

/// Returns the type of each column of `table`.
pub(super) fn column_types(connection: &mut PgConnection, table: &str) -> QueryResult<Vec<(String, String)>> {
    let rows: Vec<TypeRow> = sql_query(format!(
        "SELECT attname::text AS name, format_type(atttypid, NULL) AS type_name FROM pg_attribute \
         WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped",
        literal(table)
    ))
    .load(connection)?;
    Ok(rows.into_iter().map(|row| (row.name, row.type_name)).collect())
}

/// The table that is imported.
pub(super) struct OldTable {
    /// Its schema and name, quoted.
    pub table: String,
    /// Somebody may have dropped it after the import.
    pub exists: bool,
    /// Selects its rows as [`OldRow`]s, from `o`, without a condition.
    select: String,
}

impl OldTable {
    /// Looks at the types of its columns.
    pub fn new(connection: &mut PgConnection, table: String) -> QueryResult<Self> {
        let types = column_types(connection, &table)?;
        Ok(Self { exists: !types.is_empty(), select: select(&types, &table), table })
    }
}

fn select(types: &[(String, String)], table: &str) -> String {
    let is_numeric = |name: &str| types.iter().any(|(column, kind)| column == name && kind == "numeric");
    let number = |name: &str| match is_numeric(name) {
        // A cast of a number that is too large, or too small, for a double fails the query.
        true => format!(
            "CASE WHEN o.{name} = 'NaN' OR abs(o.{name}) > 1e300 THEN NULL WHEN abs(o.{name}) < 1e-300 THEN 0 ELSE \
             o.{name}::double precision END AS {name}"
        ),
        false => format!("o.{name}::double precision AS {name}"),
    };
    let numbers: Vec<String> =
        ["temperature", "humidity", "vibration"].iter().map(|name| number(name)).collect();
    format!(
        "SELECT o.id::bigint AS id, o.machine_id::text AS machine_id, {}, o.source_topic::text AS source_topic, \
         o.recorded_at::text AS recorded_at, o.created_at::text AS created_at FROM {table} AS o",
        numbers.join(", ")
    )
}

/// Counts the rows that are not done yet, up to `rows_max`.
pub(super) fn left(
    connection: &mut PgConnection,
    old: &OldTable,
    state: &ImportState,
    rows_max: i64,
) -> QueryResult<i64> {
    let counted = sql_query(format!(
        "SELECT count(*) AS value FROM (SELECT 1 FROM {} WHERE $1 IS NULL OR id > $1 LIMIT $2) AS counted",
        old.table
    ));
    let row: CountRow = counted
        .bind::<Nullable<BigInt>, _>(state.done_to)
        .bind::<BigInt, _>(rows_max)
        .get_result(connection)?;
    Ok(row.value)
}

/// Stores the next batch of rows up to `upto`. Returns `false` if there was none. Call it in a transaction that holds
/// `state`.
pub(super) fn store(
    connection: &mut PgConnection,
    site: &str,
    old: &OldTable,
    state: &mut ImportState,
    upto: i64,
    read: ReadRow<'_>,
) -> QueryResult<bool> {
    // Rows with one id stay together, should a table have such.
    let OldTable { table, select, .. } = old;
    let rows: Vec<OldRow> = sql_query(format!(
        "{select} WHERE ($1 IS NULL OR o.id > $1) AND o.id <= (SELECT max(w.id) FROM (SELECT o.id FROM {table} AS o \
         WHERE ($1 IS NULL OR o.id > $1) AND o.id <= $2 ORDER BY o.id LIMIT $3) AS w) ORDER BY o.id"
    ))
    .bind::<Nullable<BigInt>, _>(state.done_to)
    .bind::<BigInt, _>(upto)
    .bind::<BigInt, _>(BATCH_ROWS)
    .load(connection)?;
    let Some(last) = rows.last().map(|row| row.id) else { return Ok(false) };
    let late = rows.iter().filter(|row| row.id > state.id_first_newest).count() as u64;
    state.rows_read += rows.len() as u64;
    state.late += late;
    state.done_to = Some(last);
    store_rows(connection, site, old, state, &rows, read)?;
    state.save(connection, site)?;
    Ok(true)
}

/// Reads all unreadable rows again, and stores those that have been corrected.
pub(super) fn store_corrected(
    connection: &mut PgConnection,
    site: &str,
    old: &OldTable,
    state: &mut ImportState,
    read: ReadRow<'_>,
) -> QueryResult<()> {
    let rows: Vec<OldRow> = sql_query(format!(
        "{} WHERE o.id IN (SELECT u.id FROM reference_unreadable u WHERE u.site = $1) ORDER BY o.id",
        old.select
    ))
    .bind::<Text, _>(site)
    .load(connection)?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    sql_query("DELETE FROM reference_unreadable WHERE site = $1 AND id = ANY ($2)")
        .bind::<Text, _>(site)
        .bind::<Array<BigInt>, _>(ids)
        .execute(connection)?;
    state.unreadable = state.unreadable.saturating_sub(rows.len() as u64);
    store_rows(connection, site, old, state, &rows, read)?;
    state.save(connection, site)
}

/// Stores `rows`, each as a reading or as unreadable, and counts them in `state`.
fn store_rows(
    connection: &mut PgConnection,
    site: &str,
    old: &OldTable,
    state: &mut ImportState,
    rows: &[OldRow],
    read: ReadRow<'_>,
) -> QueryResult<()> {
    let (mut readings, mut unreadable): (Vec<Converted>, Vec<(i64, String)>) = (Vec::new(), Vec::new());
    for row in rows {
        match read(row) {
            Ok(reading) => readings.push((row.id, reading)),
            Err(reason) => unreadable.push((row.id, reason)),
        }
    }
    let mut rollup = Rollup::default();
    let mut stored = 0;
    let mode = WriteMode { copies: false, isolates: true, checks_at_once: true };
    let mut writer = RunWriter::begin(connection, mode, RUN_ROWS_MAX)?;
    let size = |row: &Converted| row.1.topic.len() + row.1.reading.machine_id.as_str().len();
    let name = |index: usize| format!("the old row with id {}", readings[index].0);
    let refused = writer
        .write(CommitStep::Readings, &readings, size, name, |connection, run| {
            for reading in insert(connection, site, state, run)? {
                stored += 1;
                rollup.add(reading);
            }
            Ok(())
        })
        .map_err(cause)?;
    state.stored += stored;
    state.known += (readings.len() - refused.len()) as u64 - stored;
    unreadable.extend(refused.into_iter().map(|(index, why)| (readings[index].0, why)));
    state.unreadable += unreadable.len() as u64;
    rollups::add(connection, site, &rollup, RUN_ROWS_MAX)?;
    keep_unreadable(connection, site, old, &unreadable)
}

/// Inserts `run`. Returns the readings that are new: neither imported before nor stored by Andon itself.
fn insert<'a>(
    connection: &mut PgConnection,
    site: &str,
    state: &ImportState,
    run: &'a [Converted],
) -> QueryResult<Vec<&'a Reading>> {
    let readings = || run.iter().map(|(_, imported)| &imported.reading);
    let stored: Vec<StoredRow> = sql_query(
        "WITH stored AS (INSERT INTO machine_telemetry (id, site, machine_id, temperature, humidity, vibration, source_topic, \
             recorded_at, time_source, received_at, created_at, digest) \
         SELECT coalesce(u.id, nextval(pg_get_serial_sequence('machine_telemetry', 'id')::regclass)), $1, u.m, u.t, u.h, u.v, \
             u.topic, u.at, u.source, u.created, u.created, u.digest \
         FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS u (id, m, t, h, v, topic, at, source, created, digest) \
         WHERE NOT EXISTS (SELECT 1 FROM machine_telemetry k WHERE k.site = $1 AND k.machine_id = u.m AND k.recorded_at = u.at \
             AND k.temperature IS NOT DISTINCT FROM u.t AND k.humidity IS NOT DISTINCT FROM u.h \
             AND k.vibration IS NOT DISTINCT FROM u.v AND k.source_topic = u.topic AND (k.id <= $12 OR k.id > $13)) \
         ON CONFLICT (site, machine_id, recorded_at, digest) DO NOTHING RETURNING machine_id, recorded_at, digest) \
         SELECT machine_id, recorded_at, digest FROM stored",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Nullable<BigInt>>, _>(run.iter().map(|(old, _)| state.new_id(*old)).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(readings().map(|reading| reading.machine_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Double>>, _>(readings().map(|reading| reading.temperature).collect::<Vec<_>>())
    .bind::<Array<Nullable<Double>>, _>(readings().map(|reading| reading.humidity).collect::<Vec<_>>())
    .bind::<Array<Nullable<Double>>, _>(readings().map(|reading| reading.vibration).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(run.iter().map(|(_, imported)| without_nul(&imported.topic)).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(readings().map(|reading| SqlInstant(reading.recorded_at)).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(readings().map(|reading| reading.time_source.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(run.iter().map(|(_, imported)| SqlInstant(imported.created_at)).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(readings().map(|reading| reading.digest.cast_signed()).collect::<Vec<_>>())
    .bind::<BigInt, _>(state.id_offset)
    .bind::<BigInt, _>(state.id_max)
    .load(connection)?;
    let mut new: HashSet<(String, i64, i64)> =
        stored.into_iter().map(|row| (row.machine_id, row.recorded_at.stored_micros(), row.digest)).collect();
    let is_new = |reading: &&Reading| {
        let at = SqlInstant(reading.recorded_at).stored_micros();
        new.remove(&(reading.machine_id.as_str().to_owned(), at, reading.digest.cast_signed()))
    };
    Ok(readings().filter(is_new).collect())
}

/// Keeps rows that are no readings, with the reason.
fn keep_unreadable(
    connection: &mut PgConnection,
    site: &str,
    old: &OldTable,
    unreadable: &[(i64, String)],
) -> QueryResult<()> {
    if unreadable.is_empty() {
        return Ok(());
    }
    sql_query(format!(
        "INSERT INTO reference_unreadable (site, id, reason, old_row) SELECT DISTINCT ON (o.id) $1, o.id, u.reason, to_jsonb(o) \
         FROM unnest($2, $3) AS u (id, reason) JOIN {} AS o ON o.id = u.id \
         ON CONFLICT (site, id) DO UPDATE SET reason = excluded.reason, old_row = excluded.old_row",
        old.table
    ))
    .bind::<Text, _>(site)
    .bind::<Array<BigInt>, _>(unreadable.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(unreadable.iter().map(|(_, reason)| without_nul(reason)).collect::<Vec<_>>())
    .execute(connection)
    .map(drop)
}

/// Returns the database's error.
fn cause(failure: CommitFailure) -> Error {
    match failure {
        CommitFailure::Step(_, error) | CommitFailure::Cancelled { error, .. } => error,
        CommitFailure::Stale(_) => Error::NotFound,
    }
}
