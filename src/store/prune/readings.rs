//! Readings and their rollups: machine by machine, along the unique index of the readings.
//!
//! A reading goes once both its `recorded_at` and its `received_at` are past: readings of a device whose clock
//! is stuck in the past are not deleted on arrival. A rollup goes with the time that it covers; readings that
//! stay behind are charted without it. Every transaction that deletes moves `exact_from` first (ROL-1).

use std::time;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::{OldKey, Place, PruneBounds, PruneCursor, PruneTable, Pruned};
use crate::domain::Timestamp;
use crate::store::both_databases::for_both_databases;
use crate::store::rollup::bucket_start;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::statement::cached_statement;

#[derive(QueryableByName)]
struct OldestRow {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = Nullable<Instant>)]
    oldest: Option<SqlInstant>,
}

impl OldestRow {
    fn is_before(&self, before: Timestamp) -> bool {
        self.oldest.is_some_and(|oldest| oldest.0 < before)
    }
}

/// The key of a reading without its machine, and its receipt.
type KeyColumns = (SqlInstant, i64, SqlInstant);

/// Returns the keys of those readings that were also received before `before`.
fn old_keys(machine_id: &str, rows: Vec<KeyColumns>, before: Timestamp) -> impl Iterator<Item = OldKey> {
    rows.into_iter()
        .filter(move |(.., received_at)| received_at.0 < before)
        .map(|(recorded_at, digest, _)| OldKey { machine_id: machine_id.to_owned(), recorded_at, digest })
}

const fn time_column(table: PruneTable) -> &'static str {
    match table {
        PruneTable::Readings => "recorded_at",
        _ => "bucket_start",
    }
}

/// `$1` site, `$2` a machine, `$3` machines at most: those from that one on (`>=`) or after it (`>`), each
/// with its oldest row.
fn machines(table: PruneTable, from: &str) -> String {
    let (time, table) = (time_column(table), table.as_str());
    format!(
        "WITH RECURSIVE machines (machine_id, n) AS (
             SELECT min(machine_id), 1 FROM {table} WHERE site = $1 AND machine_id {from} $2
             UNION ALL
             SELECT (SELECT min(t.machine_id) FROM {table} t WHERE t.site = $1 AND t.machine_id > machines.machine_id), n + 1
             FROM machines WHERE machines.machine_id IS NOT NULL AND n < $3)
         SELECT machines.machine_id, (SELECT min(t.{time}) FROM {table} t WHERE t.site = $1 \
             AND t.machine_id = machines.machine_id) AS oldest FROM machines WHERE machines.machine_id IS NOT NULL ORDER BY n"
    )
}

/// Machine and key up to which a run has come.
fn machine_of(place: &Place) -> (&str, Option<(Timestamp, i64)>) {
    match place {
        Place::Machine { machine_id, key } => (machine_id, *key),
        _ => ("", None),
    }
}

for_both_databases! {
    [exact]

    cached_statement! {
        /// Selects keys of readings of one machine, each with its time of receipt.
        NextKeys on Backend, Connection, returning (Instant, BigInt, Instant):
        "SELECT recorded_at, digest, received_at FROM machine_telemetry WHERE site = " [site: Text = &'a str]
        " AND machine_id = " [machine_id: Text = &'a str]
        " AND (recorded_at, digest) > (" [at: Instant = SqlInstant, digest: BigInt = i64]
        ") AND recorded_at < " [before: Instant = SqlInstant]
        " ORDER BY recorded_at, digest LIMIT " [rows_max: BigInt = i64]
    }

    fn load_machines(
        connection: &mut Connection,
        site: &str,
        table: PruneTable,
        place: &Place,
        bounds: PruneBounds,
    ) -> QueryResult<Vec<OldestRow>> {
        let (machine_id, key) = machine_of(place);
        let is_within = key.is_some() || machine_id.is_empty();
        sql_query(machines(table, if is_within { ">=" } else { ">" }))
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id)
            .bind::<BigInt, _>(i64::from(bounds.machines_max))
            .load(connection)
    }

    /// Deletes readings recorded and received before `before`.
    pub fn prune(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        from: &Place,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        let (mut step, old) = find(connection, site, before, from, bounds)?;
        if !old.is_empty() {
            step.rows = database::write::<_, diesel::result::Error>(connection, |connection| {
                exact::advance(connection, site, before)?;
                database::prune::delete_readings(connection, site, &old)
            })? as u64;
        }
        Ok(step)
    }

    /// Finds readings recorded before `before`. Returns the keys of those to delete.
    fn find(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        from: &Place,
        bounds: PruneBounds,
    ) -> QueryResult<(Pruned, Vec<OldKey>)> {
        let table = PruneTable::Readings;
        let mut step = Pruned::nothing(table, Some(before));
        let (mut old, begun) = (Vec::new(), time::Instant::now());
        let machines = load_machines(connection, site, table, from, bounds)?;
        let found = machines.len() as u64;
        let is_last = found < u64::from(bounds.machines_max);
        let (from_machine, from_key) = machine_of(from);
        for machine in machines {
            step.machines += 1;
            let left = u64::from(bounds.rows_max) - step.examined;
            let is_old = machine.is_before(before);
            let machine_id = machine.machine_id;
            if is_old {
                let after = from_key.filter(|_| machine_id == from_machine);
                let rows = load_keys(connection, site, &machine_id, after, before, left)?;
                step.examined += rows.len() as u64;
                let key = rows.last().map(|(at, digest, _)| (at.0, *digest));
                let is_full = rows.len() as u64 == left;
                old.extend(old_keys(&machine_id, rows, before));
                if is_full {
                    step.next = Some(PruneCursor::at(table, Place::Machine { machine_id, key }));
                    return Ok((step, old));
                }
            }
            let is_enough = step.machines < found && begun.elapsed() >= bounds.time_max;
            let here = PruneCursor::at(table, Place::Machine { machine_id, key: None });
            step.next = (is_enough || !is_last).then_some(here);
            if is_enough {
                break;
            }
        }
        Ok((step, old))
    }

    fn load_keys(
        connection: &mut Connection,
        site: &str,
        machine_id: &str,
        after: Option<(Timestamp, i64)>,
        before: Timestamp,
        rows_max: u64,
    ) -> QueryResult<Vec<KeyColumns>> {
        let (at, digest) = after.unwrap_or((Timestamp::from_micros(i64::MIN), i64::MIN));
        let (at, before) = (SqlInstant(at), SqlInstant(before));
        NextKeys { site, machine_id, at, digest, before, rows_max: rows_max as i64 }.load(connection)
    }

    /// Deletes whole buckets before the one of `before`. Once `exact_from` is past them, no chart reads them
    /// (ROL-2).
    pub fn prune_rollups(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        from: &PruneCursor,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        let (table, end) = (from.table, bucket_start(before));
        let machines = load_machines(connection, site, table, &from.place, bounds)?;
        let old = machines.iter().filter(|machine| machine.is_before(end));
        let old: Vec<&str> = old.map(|machine| machine.machine_id.as_str()).collect();
        let rows_max = i64::from(bounds.rows_max);
        let mut rows = 0;
        if !old.is_empty() {
            let ids = serde_json::to_string(&old).expect("texts are always JSON");
            rows = database::write::<_, diesel::result::Error>(connection, |connection| {
                exact::advance(connection, site, before)?;
                sql_query(database::prune::delete_rollups(table))
                    .bind::<Text, _>(site)
                    .bind::<Text, _>(ids)
                    .bind::<Instant, _>(SqlInstant(end))
                    .bind::<BigInt, _>(rows_max)
                    .execute(connection)
            })? as u64;
        }
        let is_last = machines.len() < bounds.machines_max as usize;
        let last = machines.last().map(|machine| machine.machine_id.clone());
        let next = if rows >= rows_max as u64 {
            // These machines may have more. The deleted ones are not found again.
            Some(from.clone())
        } else {
            last.filter(|_| !is_last)
                .map(|machine_id| PruneCursor::at(table, Place::Machine { machine_id, key: None }))
        };
        let machines = machines.len() as u64;
        Ok(Pruned { rows, machines, examined: rows, next, ..Pruned::nothing(table, Some(end)) })
    }
}
