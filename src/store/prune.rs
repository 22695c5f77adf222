//! Deleting what is past retention, in steps of bounded work: readings, then the rollups of that time.
//!
//! A step looks at a bounded number of machines and rows of one table from where the one before ended, whatever is in the table, and
//! deletes what it found. Finding takes no lock; only the deletion is a write. A reading goes once both its `recorded_at` and its
//! `received_at` are past: what a device with a clock stuck in the past sends is not deleted on arrival. A rollup goes with the time
//! that it is of; readings that stay are charted without it.
//!
//! Every transaction that deletes moves `exact_from` first (ROL-1), so each step is right by itself, whatever became of the run.

use std::time;

use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteConnection};

use super::retained::RetainedTable;
use super::rollup::{bucket_start, exact};
use super::schema::{Instant, SqlInstant};
use super::statement::cached_statement;
use crate::domain::Timestamp;

/// What a step deletes from, in the order of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneTable {
    /// `machine_telemetry`.
    Readings,
    /// `machine_rollup`.
    Rollups,
    /// `machine_rollup_extra`.
    ExtraRollups,
}

impl PruneTable {
    /// All, in the order of a run.
    pub const ALL: [Self; 3] = [Self::Readings, Self::Rollups, Self::ExtraRollups];

    /// Its name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Readings => "machine_telemetry",
            Self::Rollups => "machine_rollup",
            Self::ExtraRollups => "machine_rollup_extra",
        }
    }

    const fn time_column(self) -> &'static str {
        match self {
            Self::Readings => "recorded_at",
            Self::Rollups | Self::ExtraRollups => "bucket_start",
        }
    }

    /// Its key after site and machine.
    const fn key_columns(self) -> &'static str {
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

/// Where a run of deleting goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneCursor {
    table: PruneTable,
    /// Machines before this one are done; empty: none is.
    machine_id: String,
    /// Readings of that machine up to this key are done; `None`: all of them, it is the last machine that was looked at.
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
    /// Machines that are looked at.
    pub machines_max: u32,
    /// Rows that are looked at, whether they are deleted or not.
    pub rows_max: u32,
    /// After so long no further machine is looked for readings: each is a question, and the database may be far away.
    pub time_max: time::Duration,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// What it deleted from.
    pub table: PruneTable,
    /// Rows deleted.
    pub rows: u64,
    /// Machines looked at.
    pub machines: u64,
    /// Rows looked at.
    pub looked_at: u64,
    /// Where the next step goes on; `None`: the run is over.
    pub next: Option<PruneCursor>,
}

/// A reading that is to go.
struct OldKey {
    machine_id: String,
    recorded_at: SqlInstant,
    digest: i64,
}

#[derive(QueryableByName)]
struct MachineRow {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = Nullable<Instant>)]
    oldest: Option<SqlInstant>,
}

impl MachineRow {
    fn has_older(&self, before: Timestamp) -> bool {
        self.oldest.is_some_and(|oldest| oldest.0 < before)
    }
}

/// `$1` site, `$2` a machine, `$3` machines at most: those from that one on (`>=`) or behind it (`>`), each with its oldest row.
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

/// `$1` site, `$2` a JSON array of machines, `$3` the end of the range, exclusive, `$4` rows at most.
fn delete_rollups_on_sqlite(table: PruneTable) -> String {
    let (keys, table) = (table.key_columns(), table.as_str());
    let keys_of_b = keys.split(", ").map(|key| format!("b.{key}")).collect::<Vec<_>>().join(", ");
    // CROSS JOIN keeps this order: for each machine a walk along the index.
    format!(
        "DELETE FROM {table} WHERE site = $1 AND (machine_id, {keys}) IN (SELECT b.machine_id, {keys_of_b} \
         FROM json_each($2) w CROSS JOIN {table} b WHERE b.site = $1 AND b.machine_id = w.value AND b.bucket_start < $3 LIMIT $4)"
    )
}

/// The same. What somebody is adding to at this moment is left for another run: nobody waits for anybody.
fn delete_rollups_on_postgres(table: PruneTable) -> String {
    let table = table.as_str();
    format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT o.ctid \
         FROM json_array_elements_text(CAST($2 AS json)) AS w(value) CROSS JOIN LATERAL (SELECT b.ctid FROM {table} b \
             WHERE b.site = $1 AND b.machine_id = w.value AND b.bucket_start < $3 LIMIT $4 FOR UPDATE SKIP LOCKED) o LIMIT $4))"
    )
}

cached_statement! {
    /// Deletes one reading.
    DeleteReading on Sqlite, SqliteConnection:
    "DELETE FROM machine_telemetry WHERE site = " [site: Text = &'a str]
    " AND machine_id = " [machine_id: Text = &'a str]
    " AND recorded_at = " [recorded_at: Instant = SqlInstant]
    " AND digest = " [digest: BigInt = i64]
}

/// In a transaction of the caller's.
fn delete_readings_on_sqlite(
    connection: &mut SqliteConnection,
    site: &str,
    old: &[OldKey],
) -> QueryResult<usize> {
    old.iter().try_fold(0, |deleted, key| {
        let OldKey { machine_id, recorded_at, digest } = key;
        let delete = DeleteReading { site, machine_id, recorded_at: *recorded_at, digest: *digest };
        Ok(deleted + connection.execute_returning_count(&delete)?)
    })
}

/// In a transaction of the caller's.
fn delete_readings_on_postgres(
    connection: &mut PgConnection,
    site: &str,
    old: &[OldKey],
) -> QueryResult<usize> {
    sql_query(
        "DELETE FROM machine_telemetry t USING unnest($2, $3, $4) AS u (id, at, digest) WHERE t.site = $1 \
         AND t.machine_id = u.id AND t.recorded_at = u.at AND t.digest = u.digest",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(old.iter().map(|key| key.machine_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(old.iter().map(|key| key.recorded_at).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(old.iter().map(|key| key.digest).collect::<Vec<_>>())
    .execute(connection)
}

macro_rules! pruning_for {
    ($name:ident, $backend:ty, $connection:ty, $transaction:ident, $delete_readings:path, $delete_rollups:path) => {
        /// Deleting through this connection.
        pub(super) mod $name {
            use super::*;

            cached_statement! {
                /// Keys of readings of one machine, each with its time of receipt.
                NextKeys on $backend, $connection, returning (Instant, BigInt, Instant):
                "SELECT recorded_at, digest, received_at FROM machine_telemetry WHERE site = " [site: Text = &'a str]
                " AND machine_id = " [machine_id: Text = &'a str]
                " AND (recorded_at, digest) > (" [at: Instant = SqlInstant, digest: BigInt = i64]
                ") AND recorded_at < " [before: Instant = SqlInstant]
                " ORDER BY recorded_at, digest LIMIT " [rows_max: BigInt = i64]
            }

            /// See [`Store::prune`](crate::store::Store::prune).
            pub(in super::super) fn step(
                connection: &mut $connection,
                site: &str,
                before: Timestamp,
                from: Option<&PruneCursor>,
                bounds: PruneBounds,
            ) -> QueryResult<Pruned> {
                if from.is_none() {
                    connection.forget_before(site, before, bounds.rows_max)?;
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
                connection: &mut $connection,
                site: &str,
                from: &PruneCursor,
                bounds: PruneBounds,
            ) -> QueryResult<Vec<MachineRow>> {
                let is_within = from.key.is_some() || from.machine_id.is_empty();
                sql_query(machines(from.table, if is_within { ">=" } else { ">" }))
                    .bind::<Text, _>(site)
                    .bind::<Text, _>(&from.machine_id)
                    .bind::<BigInt, _>(i64::from(bounds.machines_max))
                    .load(connection)
            }

            fn prune_readings(
                connection: &mut $connection,
                site: &str,
                before: Timestamp,
                from: &PruneCursor,
                bounds: PruneBounds,
            ) -> QueryResult<Pruned> {
                let (mut step, old) = find(connection, site, before, from, bounds)?;
                if !old.is_empty() {
                    step.rows = connection.$transaction::<_, diesel::result::Error, _>(|connection| {
                        exact::$name::distrust_before(connection, site, before)?;
                        $delete_readings(connection, site, &old)
                    })? as u64;
                }
                Ok(step)
            }

            /// Looks for readings before `before`; gives those that are to go.
            fn find(
                connection: &mut $connection,
                site: &str,
                before: Timestamp,
                from: &PruneCursor,
                bounds: PruneBounds,
            ) -> QueryResult<(Pruned, Vec<OldKey>)> {
                let table = from.table;
                let mut step = Pruned { table, rows: 0, machines: 0, looked_at: 0, next: None };
                let (mut old, begun) = (Vec::new(), time::Instant::now());
                let machines = load_machines(connection, site, from, bounds)?;
                let found = machines.len() as u64;
                let is_last = found < u64::from(bounds.machines_max);
                for machine in machines {
                    step.machines += 1;
                    let left = u64::from(bounds.rows_max) - step.looked_at;
                    let is_old = machine.has_older(before);
                    let machine_id = machine.machine_id;
                    if is_old {
                        let first = from.key.filter(|_| machine_id == from.machine_id);
                        let (at, digest) = first.unwrap_or((Timestamp::from_micros(i64::MIN), i64::MIN));
                        let (at, before) = (SqlInstant(at), SqlInstant(before));
                        let keys = NextKeys { site, machine_id: &machine_id, at, digest, before, rows_max: left as i64 };
                        let rows: Vec<(SqlInstant, i64, SqlInstant)> = keys.load(connection)?;
                        step.looked_at += rows.len() as u64;
                        let last = rows.last().map(|(at, digest, _)| (at.0, *digest));
                        let is_full = rows.len() as u64 == left;
                        old.extend(rows.into_iter().filter(|(.., received_at)| received_at.0 < before.0).map(
                            |(recorded_at, digest, _)| OldKey { machine_id: machine_id.clone(), recorded_at, digest },
                        ));
                        if is_full {
                            step.next = Some(PruneCursor { table, machine_id, key: last });
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

            /// Whole buckets before the one of `before`, which nobody reads any more once `exact_from` is there (ROL-2).
            fn prune_rollups(
                connection: &mut $connection,
                site: &str,
                before: Timestamp,
                from: &PruneCursor,
                bounds: PruneBounds,
            ) -> QueryResult<Pruned> {
                let (table, end) = (from.table, bucket_start(before));
                let machines = load_machines(connection, site, from, bounds)?;
                let old: Vec<&str> = machines
                    .iter()
                    .filter(|machine| machine.has_older(end))
                    .map(|machine| machine.machine_id.as_str())
                    .collect();
                let rows_max = i64::from(bounds.rows_max);
                let mut rows = 0;
                if !old.is_empty() {
                    let ids = serde_json::to_string(&old).expect("texts are always JSON");
                    rows = connection.$transaction::<_, diesel::result::Error, _>(|connection| {
                        exact::$name::distrust_before(connection, site, before)?;
                        sql_query($delete_rollups(table))
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
                    // There may be more of the same machines; what is deleted is not found again.
                    Some(from.clone())
                } else {
                    last.filter(|_| !is_last).map(|machine_id| PruneCursor { table, machine_id, key: None })
                };
                Ok(Pruned { table, rows, machines: machines.len() as u64, looked_at: rows, next })
            }
        }
    };
}

pruning_for!(
    sqlite,
    Sqlite,
    SqliteConnection,
    immediate_transaction,
    delete_readings_on_sqlite,
    delete_rollups_on_sqlite
);
pruning_for!(
    postgres,
    Pg,
    PgConnection,
    transaction,
    delete_readings_on_postgres,
    delete_rollups_on_postgres
);
