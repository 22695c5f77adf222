//! The site's record of the trusted time: the newer one stays, whoever wrote it.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::schema::{Instant, SqlInstant};
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use super::{bigint, from_bigint};
use crate::domain::{ClockRecord, Timestamp};

type ClockColumns = (Column<i64>, Column<SqlInstant>, Column<SqlInstant>, Column<Option<i64>>);

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

/// Both databases number their parameters in the order in which they are bound.
const UPSERT: &str = "INSERT INTO clock_record (site, seq, trusted_at, wall_at, step_held_us) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (site) DO UPDATE SET seq = excluded.seq, trusted_at = excluded.trusted_at, wall_at = excluded.wall_at, \
     step_held_us = excluded.step_held_us";
const COMMITTED: &str =
    "SELECT journal_id, updated_at FROM ingest_checkpoint WHERE site = $1 AND messages > 0";

macro_rules! clock_queries_for {
    ($name:ident, $connection:ty) => {
        /// The queries on this connection.
        pub(super) mod $name {
            use super::super::schema::clock_record as row;
            use super::*;

            /// See [`Store::exchange_clock`](crate::store::Store::exchange_clock); in a transaction of the caller's.
            pub(in super::super) fn exchange(
                connection: &mut $connection,
                site: &str,
                ours: Option<ClockRecord>,
                unreadable: &UnreadableRows,
            ) -> QueryResult<Option<ClockRecord>> {
                let columns = (row::seq, row::trusted_at, row::wall_at, row::step_held_us);
                let found =
                    row::table.find(site).select(columns).first::<ClockColumns>(connection).optional()?;
                // What cannot be a record gives way to one.
                let found = unreadable.pass_over(found.map(|columns| clock_record(site, columns)));
                let found = found.first().copied().filter(ClockRecord::is_consistent);
                let Some(ours) = ours else {
                    return match found {
                        Some(found) => Ok(Some(found)),
                        None => newest_commit(connection, site, unreadable),
                    };
                };
                if found.is_some_and(|found| found.seq > ours.seq) {
                    return Ok(found);
                }
                sql_query(UPSERT)
                    .bind::<Text, _>(site)
                    .bind::<BigInt, _>(bigint(ours.seq))
                    .bind::<Instant, _>(SqlInstant(ours.trusted_at))
                    .bind::<Instant, _>(SqlInstant(ours.wall_at))
                    .bind::<Nullable<BigInt>, _>(
                        ours.step_held.map(|held| i64::try_from(held.as_micros()).unwrap_or(i64::MAX)),
                    )
                    .execute(connection)?;
                Ok(None)
            }

            /// The site's newest commit as record 0. Its time is the wall clock's, which nothing has confirmed.
            fn newest_commit(
                connection: &mut $connection,
                site: &str,
                unreadable: &UnreadableRows,
            ) -> QueryResult<Option<ClockRecord>> {
                let rows: Vec<CommittedRow> = sql_query(COMMITTED).bind::<Text, _>(site).load(connection)?;
                let newest =
                    unreadable.pass_over(rows.into_iter().map(CommittedRow::updated_at)).into_iter().max();
                let record = |at| ClockRecord { seq: 0, trusted_at: at, wall_at: at, step_held: None };
                Ok(newest.map(record).filter(ClockRecord::is_consistent))
            }
        }
    };
}

clock_queries_for!(sqlite, SqliteConnection);
clock_queries_for!(postgres, PgConnection);
