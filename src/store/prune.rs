//! Deleting what is past retention, in steps of bounded work: readings first, then the rollups of that time.
//!
//! A step examines a bounded number of machines and rows of one table, from where the step before it ended,
//! and deletes what it found. Finding takes no lock; only the deletion writes. A reading goes once both its
//! `recorded_at` and its `received_at` are past: readings of a device whose clock is stuck in the past are
//! not deleted on arrival. A rollup goes with the time that it covers; readings that stay behind are charted
//! without it.
//!
//! Every transaction that deletes moves `exact_from` first (ROL-1), so each step is correct by itself, even
//! if the run never ends.

use std::time;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::both_databases::for_both_databases;
use super::rollup::bucket_start;
use super::schema::{Instant, SqlInstant};
use super::statement::cached_statement;
use crate::domain::{Timestamp, word_enum};

word_enum! {
    /// What a step deletes from, in the order of a run. The word is its name in the database.
    pub enum PruneTable {
        /// `machine_telemetry`.
        Readings = "machine_telemetry",
        /// `machine_rollup`.
        Rollups = "machine_rollup",
        /// `machine_rollup_extra`.
        ExtraRollups = "machine_rollup_extra",
    }
}

impl PruneTable {
    const fn time_column(self) -> &'static str {
        match self {
            Self::Readings => "recorded_at",
            Self::Rollups | Self::ExtraRollups => "bucket_start",
        }
    }

    /// Its key after site and machine.
    pub(super) const fn key_columns(self) -> &'static str {
        match self {
            Self::Readings => "recorded_at, digest",
            Self::Rollups => "bucket_start",
            Self::ExtraRollups => "bucket_start, field",
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::Readings => Some(Self::Rollups),
            Self::Rollups => Some(Self::ExtraRollups),
            Self::ExtraRollups => None,
        }
    }
}

/// Where the next step of a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneCursor {
    table: PruneTable,
    /// Machines before this one are done; empty: none is.
    machine_id: String,
    /// Readings of that machine up to this key are done; `None`: all of them.
    key: Option<(Timestamp, i64)>,
}

impl PruneCursor {
    const fn start_of(table: PruneTable) -> Self {
        Self { table, machine_id: String::new(), key: None }
    }
}

/// How much one step may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneBounds {
    /// Machines examined.
    pub machines_max: u32,
    /// Rows examined, deleted or not.
    pub rows_max: u32,
    /// After this long the step looks for the readings of no further machine: each is a query, and the
    /// database may be far away.
    pub time_max: time::Duration,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// What it deleted from.
    pub table: PruneTable,
    /// Rows deleted.
    pub rows: u64,
    /// Machines examined.
    pub machines: u64,
    /// Rows examined.
    pub examined: u64,
    /// Where the next step begins; `None`: the run is over.
    pub next: Option<PruneCursor>,
}

/// The key of a reading to delete.
pub(super) struct OldKey {
    pub machine_id: String,
    pub recorded_at: SqlInstant,
    pub digest: i64,
}

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

/// `$1` site, `$2` a machine, `$3` machines at most: those from that one on (`>=`) or after it (`>`), each
/// with its oldest row.
fn machines(table: PruneTable, from: &str) -> String {
    let (time, table) = (table.time_column(), table.as_str());
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

for_both_databases! {
    [exact, retained]

    cached_statement! {
        /// Selects keys of readings of one machine, each with its time of receipt.
        NextKeys on Backend, Connection, returning (Instant, BigInt, Instant):
        "SELECT recorded_at, digest, received_at FROM machine_telemetry WHERE site = " [site: Text = &'a str]
        " AND machine_id = " [machine_id: Text = &'a str]
        " AND (recorded_at, digest) > (" [at: Instant = SqlInstant, digest: BigInt = i64]
        ") AND recorded_at < " [before: Instant = SqlInstant]
        " ORDER BY recorded_at, digest LIMIT " [rows_max: BigInt = i64]
    }

    /// See [`Store::prune`](crate::store::Store::prune).
    pub fn step(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        from: Option<&PruneCursor>,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        if from.is_none() {
            retained::forget_before(connection, site, before, bounds.rows_max)?;
        }
        let start = PruneCursor::start_of(PruneTable::Readings);
        let from = from.unwrap_or(&start);
        let mut step = match from.table {
            PruneTable::Readings => prune_readings(connection, site, before, from, bounds)?,
            _ => prune_rollups(connection, site, before, from, bounds)?,
        };
        step.next = step.next.or_else(|| from.table.next().map(PruneCursor::start_of));
        Ok(step)
    }

    fn load_machines(
        connection: &mut Connection,
        site: &str,
        from: &PruneCursor,
        bounds: PruneBounds,
    ) -> QueryResult<Vec<OldestRow>> {
        let is_within = from.key.is_some() || from.machine_id.is_empty();
        sql_query(machines(from.table, if is_within { ">=" } else { ">" }))
            .bind::<Text, _>(site)
            .bind::<Text, _>(&from.machine_id)
            .bind::<BigInt, _>(i64::from(bounds.machines_max))
            .load(connection)
    }

    fn prune_readings(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        from: &PruneCursor,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        let (mut step, old) = find_readings(connection, site, before, from, bounds)?;
        if !old.is_empty() {
            step.rows = database::write::<_, diesel::result::Error>(connection, |connection| {
                exact::advance(connection, site, before)?;
                database::prune::delete_readings(connection, site, &old)
            })? as u64;
        }
        Ok(step)
    }

    /// Finds readings recorded before `before`. Returns the keys of those to delete.
    fn find_readings(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        from: &PruneCursor,
        bounds: PruneBounds,
    ) -> QueryResult<(Pruned, Vec<OldKey>)> {
        let table = from.table;
        let mut step = Pruned { table, rows: 0, machines: 0, examined: 0, next: None };
        let (mut old, begun) = (Vec::new(), time::Instant::now());
        let machines = load_machines(connection, site, from, bounds)?;
        let found = machines.len() as u64;
        let is_last = found < u64::from(bounds.machines_max);
        for machine in machines {
            step.machines += 1;
            let left = u64::from(bounds.rows_max) - step.examined;
            let is_old = machine.is_before(before);
            let machine_id = machine.machine_id;
            if is_old {
                let after = from.key.filter(|_| machine_id == from.machine_id);
                let rows = load_keys(connection, site, &machine_id, after, before, left)?;
                step.examined += rows.len() as u64;
                let key = rows.last().map(|(at, digest, _)| (at.0, *digest));
                let is_full = rows.len() as u64 == left;
                old.extend(old_keys(&machine_id, rows, before));
                if is_full {
                    step.next = Some(PruneCursor { table, machine_id, key });
                    return Ok((step, old));
                }
            }
            let is_enough = step.machines < found && begun.elapsed() >= bounds.time_max;
            step.next = (is_enough || !is_last).then_some(PruneCursor { table, machine_id, key: None });
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
    fn prune_rollups(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        from: &PruneCursor,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        let (table, end) = (from.table, bucket_start(before));
        let machines = load_machines(connection, site, from, bounds)?;
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
            last.filter(|_| !is_last).map(|machine_id| PruneCursor { table, machine_id, key: None })
        };
        Ok(Pruned { table, rows, machines: machines.len() as u64, examined: rows, next })
    }
}
