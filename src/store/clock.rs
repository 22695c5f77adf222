//! A site's record of the trusted time: the newer record stays, whichever process wrote it.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::both_databases::for_both_databases;
use super::schema::{Instant, SqlInstant};
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use super::{bigint, from_bigint};
use crate::domain::{ClockRecord, Timestamp, signed_micros};

type ClockColumns = (Column<i64>, Column<SqlInstant>, Column<SqlInstant>, Column<Option<i64>>);

/// Reads a row of `clock_record`.
fn clock_record(
    site: &str,
    (seq, trusted_at, wall_at, step_held_us): ClockColumns,
) -> Result<ClockRecord, UnreadableRow> {
    let read = || {
        let step_held = step_held_us.get("step_held_us")?;
        Ok(ClockRecord {
            seq: from_bigint(seq.get("seq")?),
            trusted_at: trusted_at.get("trusted_at")?.0,
            wall_at: wall_at.get("wall_at")?.0,
            step_held: step_held.map(|micros| Duration::from_micros(from_bigint(micros))),
        })
    };
    read().map_err(|what| UnreadableRow { table: "clock_record", key: format!("of site {site:?}"), what })
}

/// When a journal of the site last committed something.
#[derive(QueryableByName)]
struct CommittedRow {
    #[diesel(sql_type = Text)]
    journal_id: Column<String>,
    #[diesel(sql_type = Instant)]
    updated_at: Column<SqlInstant>,
}

impl CommittedRow {
    fn updated_at(self) -> Result<Timestamp, UnreadableRow> {
        let key = self.journal_id.to_string();
        let unreadable = |what| UnreadableRow { table: "ingest_checkpoint", key, what };
        Ok(self.updated_at.get("updated_at").map_err(unreadable)?.0)
    }
}

const UPSERT: &str = "INSERT INTO clock_record (site, seq, trusted_at, wall_at, step_held_us) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (site) DO UPDATE SET seq = excluded.seq, trusted_at = excluded.trusted_at, wall_at = excluded.wall_at, \
     step_held_us = excluded.step_held_us";
const COMMITTED: &str =
    "SELECT journal_id, updated_at FROM ingest_checkpoint WHERE site = $1 AND messages > 0";

for_both_databases! {
    []

    use crate::store::schema::clock_record as row;

    /// See [`Store::exchange_clock`](crate::store::Store::exchange_clock). Call it inside a transaction.
    pub fn exchange(
        connection: &mut Connection,
        site: &str,
        ours: Option<ClockRecord>,
        unreadable: &UnreadableRows,
    ) -> QueryResult<Option<ClockRecord>> {
        let columns = (row::seq, row::trusted_at, row::wall_at, row::step_held_us);
        let found = row::table.find(site).select(columns).first::<ClockColumns>(connection).optional()?;
        let found = unreadable.skip(found.map(|columns| clock_record(site, columns)));
        // A row that cannot be a record of ours counts as none, and ours replaces it.
        let found = found.first().copied().filter(ClockRecord::is_consistent);
        match (found, ours) {
            (Some(found), None) => Ok(Some(found)),
            (None, None) => newest_commit(connection, site, unreadable),
            (Some(found), Some(ours)) if found.seq > ours.seq => Ok(Some(found)),
            (_, Some(ours)) => keep(connection, site, ours).map(|()| None),
        }
    }

    fn keep(connection: &mut Connection, site: &str, record: ClockRecord) -> QueryResult<()> {
        let step_held = record.step_held.map(signed_micros);
        sql_query(UPSERT)
            .bind::<Text, _>(site)
            .bind::<BigInt, _>(bigint(record.seq))
            .bind::<Instant, _>(SqlInstant(record.trusted_at))
            .bind::<Instant, _>(SqlInstant(record.wall_at))
            .bind::<Nullable<BigInt>, _>(step_held)
            .execute(connection)
            .map(drop)
    }

    /// Returns the time of the site's newest commit as record 0. It is the wall clock's; nothing has
    /// confirmed it.
    fn newest_commit(
        connection: &mut Connection,
        site: &str,
        unreadable: &UnreadableRows,
    ) -> QueryResult<Option<ClockRecord>> {
        let rows: Vec<CommittedRow> = sql_query(COMMITTED).bind::<Text, _>(site).load(connection)?;
        let newest = unreadable.skip(rows.into_iter().map(CommittedRow::updated_at)).into_iter().max();
        let record = |at| ClockRecord { seq: 0, trusted_at: at, wall_at: at, step_held: None };
        Ok(newest.map(record).filter(ClockRecord::is_consistent))
    }
}
