//! The site's record of the trusted time: the newer one stays, whoever wrote it.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::schema::{Instant, SqlInstant};
use super::{bigint, from_bigint};
use crate::domain::ClockRecord;

type ClockColumns = (i64, SqlInstant, SqlInstant, Option<i64>);

fn clock_record((seq, trusted_at, wall_at, step_held_us): ClockColumns) -> ClockRecord {
    ClockRecord {
        seq: from_bigint(seq),
        trusted_at: trusted_at.0,
        wall_at: wall_at.0,
        step_held: step_held_us.map(|micros| Duration::from_micros(from_bigint(micros))),
    }
}

#[derive(QueryableByName)]
struct NewestRow {
    #[diesel(sql_type = Nullable<Instant>)]
    newest: Option<SqlInstant>,
}

/// Both databases number their parameters in the order in which they are bound.
const UPSERT: &str = "INSERT INTO clock_record (site, seq, trusted_at, wall_at, step_held_us) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (site) DO UPDATE SET seq = excluded.seq, trusted_at = excluded.trusted_at, wall_at = excluded.wall_at, \
     step_held_us = excluded.step_held_us";
const NEWEST: &str =
    "SELECT max(updated_at) AS newest FROM ingest_checkpoint WHERE site = $1 AND messages > 0";

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
            ) -> QueryResult<Option<ClockRecord>> {
                let columns = (row::seq, row::trusted_at, row::wall_at, row::step_held_us);
                let found =
                    row::table.find(site).select(columns).first::<ClockColumns>(connection).optional()?;
                // What cannot be a record gives way to one.
                let found = found.map(clock_record).filter(ClockRecord::is_consistent);
                let Some(ours) = ours else {
                    return if found.is_some() { Ok(found) } else { newest_trace(connection, site) };
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

            /// When the site last committed something, by a clock that nobody has vouched for.
            fn newest_trace(connection: &mut $connection, site: &str) -> QueryResult<Option<ClockRecord>> {
                let row: NewestRow = sql_query(NEWEST).bind::<Text, _>(site).get_result(connection)?;
                let record =
                    |at: SqlInstant| ClockRecord { seq: 0, trusted_at: at.0, wall_at: at.0, step_held: None };
                Ok(row.newest.map(record).filter(ClockRecord::is_consistent))
            }
        }
    };
}

clock_queries_for!(sqlite, SqliteConnection);
clock_queries_for!(postgres, PgConnection);
