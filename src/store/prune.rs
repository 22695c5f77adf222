//! Deleting readings that are past retention, in steps of bounded work.
//!
//! A step looks at a bounded number of machines and rows from where the one before ended, whatever is in the table, and deletes what it
//! found. Finding takes no lock; only the deletion is a write. A reading goes once both its `recorded_at` and its `received_at` are
//! past: what a device with a clock stuck in the past sends is not deleted on arrival.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use diesel::sqlite::SqliteConnection;

use super::schema::{Instant, Moment};
use crate::domain::Timestamp;

/// Where a run of deleting goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneCursor {
    /// Machines before this one are done.
    machine_id: String,
    /// Readings of that machine up to this key are done; `None`: all of them, it is the last machine that was looked at.
    key: Option<(Timestamp, i64)>,
}

/// How much one step may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneBounds {
    /// Machines that are looked at.
    pub machines_max: u32,
    /// Readings that are looked at, whether they are deleted or not.
    pub rows_max: u32,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Readings deleted.
    pub rows: u64,
    /// Machines looked at.
    pub machines: u64,
    /// Readings looked at.
    pub looked_at: u64,
    /// Where the next step goes on; `None`: the run is over.
    pub next: Option<PruneCursor>,
}

/// A reading that is to go.
pub(super) struct OldKey {
    machine_id: String,
    recorded_at: Moment,
    digest: i64,
}

#[derive(QueryableByName)]
struct MachineRow {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = Nullable<Instant>)]
    oldest: Option<Moment>,
}

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = Instant)]
    recorded_at: Moment,
    #[diesel(sql_type = BigInt)]
    digest: i64,
    #[diesel(sql_type = Instant)]
    received_at: Moment,
}

/// `$1` site, `$2` a machine, `$3` machines at most: those from that one on (`>=`) or behind it (`>`), each with its oldest reading.
fn machines(from: &str) -> String {
    format!(
        "WITH RECURSIVE machines (machine_id, n) AS (
             SELECT min(machine_id), 1 FROM machine_telemetry WHERE site = $1 AND machine_id {from} $2
             UNION ALL
             SELECT (SELECT min(t.machine_id) FROM machine_telemetry t WHERE t.site = $1 AND t.machine_id > machines.machine_id), n + 1
             FROM machines WHERE machines.machine_id IS NOT NULL AND n < $3)
         SELECT machines.machine_id, (SELECT min(t.recorded_at) FROM machine_telemetry t WHERE t.site = $1 \
             AND t.machine_id = machines.machine_id) AS oldest FROM machines WHERE machines.machine_id IS NOT NULL ORDER BY n"
    )
}

/// `$1` site, `$2` machine, `$3` and `$4` the key before the first, `$5` the end of the range, exclusive, `$6` rows at most.
const KEYS: &str = "SELECT recorded_at, digest, received_at FROM machine_telemetry WHERE site = $1 AND machine_id = $2 \
     AND (recorded_at, digest) > ($3, $4) AND recorded_at < $5 ORDER BY recorded_at, digest LIMIT $6";

macro_rules! finding_for {
    ($name:ident, $connection:ty) => {
        /// Finding through this connection.
        pub(super) mod $name {
            use super::*;

            /// Looks for readings before `before` from `from` on; gives those that are to go.
            pub(in super::super) fn find(
                connection: &mut $connection,
                site: &str,
                before: Timestamp,
                from: Option<&PruneCursor>,
                bounds: PruneBounds,
            ) -> QueryResult<(Pruned, Vec<OldKey>)> {
                let (mut step, mut old) = (Pruned::default(), Vec::new());
                let start = from.map_or("", |cursor| cursor.machine_id.as_str());
                let mut key = from.and_then(|cursor| cursor.key);
                let comparison = if key.is_some() || from.is_none() { ">=" } else { ">" };
                let machines: Vec<MachineRow> = sql_query(machines(comparison))
                    .bind::<Text, _>(site)
                    .bind::<Text, _>(start)
                    .bind::<BigInt, _>(i64::from(bounds.machines_max))
                    .load(connection)?;
                let is_last = machines.len() < bounds.machines_max as usize;
                for MachineRow { machine_id, oldest } in machines {
                    let first = key.take().filter(|_| machine_id == start);
                    let (at, digest) = first.unwrap_or((Timestamp::from_micros(i64::MIN), i64::MIN));
                    step.machines += 1;
                    let left = u64::from(bounds.rows_max) - step.looked_at;
                    if oldest.is_some_and(|oldest| oldest.0 < before) {
                        let rows: Vec<KeyRow> = sql_query(KEYS)
                            .bind::<Text, _>(site)
                            .bind::<Text, _>(&machine_id)
                            .bind::<Instant, _>(Moment(at))
                            .bind::<BigInt, _>(digest)
                            .bind::<Instant, _>(Moment(before))
                            .bind::<BigInt, _>(left as i64)
                            .load(connection)?;
                        step.looked_at += rows.len() as u64;
                        let last = rows.last().map(|row| (row.recorded_at.0, row.digest));
                        let is_full = rows.len() as u64 == left;
                        let past = rows.into_iter().filter(|row| row.received_at.0 < before);
                        old.extend(past.map(|row| OldKey {
                            machine_id: machine_id.clone(),
                            recorded_at: row.recorded_at,
                            digest: row.digest,
                        }));
                        if is_full {
                            step.next = Some(PruneCursor { machine_id, key: last });
                            return Ok((step, old));
                        }
                    }
                    step.next = (!is_last).then_some(PruneCursor { machine_id, key: None });
                }
                Ok((step, old))
            }
        }
    };
}

finding_for!(sqlite, SqliteConnection);
finding_for!(postgres, PgConnection);

/// Deletes those rows; to be called in a transaction.
pub(super) fn delete_on_sqlite(
    connection: &mut SqliteConnection,
    site: &str,
    old: &[OldKey],
) -> QueryResult<u64> {
    let delete =
        "DELETE FROM machine_telemetry WHERE site = ? AND machine_id = ? AND recorded_at = ? AND digest = ?";
    old.iter().try_fold(0, |deleted, key| {
        let rows = sql_query(delete)
            .bind::<Text, _>(site)
            .bind::<Text, _>(&key.machine_id)
            .bind::<Instant, _>(key.recorded_at)
            .bind::<BigInt, _>(key.digest)
            .execute(connection)?;
        Ok(deleted + rows as u64)
    })
}

/// Deletes those rows; to be called in a transaction.
pub(super) fn delete_on_postgres(
    connection: &mut PgConnection,
    site: &str,
    old: &[OldKey],
) -> QueryResult<u64> {
    let deleted = sql_query(
        "DELETE FROM machine_telemetry t USING unnest($2, $3, $4) AS u (id, at, digest) WHERE t.site = $1 \
         AND t.machine_id = u.id AND t.recorded_at = u.at AND t.digest = u.digest",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(old.iter().map(|key| key.machine_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(old.iter().map(|key| key.recorded_at).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(old.iter().map(|key| key.digest).collect::<Vec<_>>())
    .execute(connection)?;
    Ok(deleted as u64)
}
