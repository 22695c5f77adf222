//! Buckets of readings that were stored before there were any.
//!
//! A step takes a stretch of time before `filled_from`, throws its buckets away, computes them anew from the rows, and moves
//! `filled_from` back, in one transaction that keeps every other writer of buckets out (the caller sees to that). Whoever
//! stored a row of that stretch has either committed before, and the row is counted, or adds it afterwards.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Double, Nullable, Text};

use super::{BUCKET_MICROS, Measured, Rollup, bucket_start};
use crate::domain::Timestamp;
use crate::store::schema::{INSTANT_MICROS_MAX, INSTANT_MICROS_MIN, Instant, Moment};

/// Rows that a step reads, unless a single bucket has more.
const ROWS_MAX: usize = 100_000;
/// Buckets without rows that a step deletes.
const STALE_BUCKETS_MAX: i64 = 10_000;
/// All is filled.
const BEGINNING: Timestamp = Timestamp::from_micros(INSTANT_MICROS_MIN);
/// Nothing is.
const END: Timestamp = Timestamp::from_micros(INSTANT_MICROS_MAX);

/// What a step of filling came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollupFill {
    /// Every reading of the site is in its bucket.
    Done,
    /// There is more to do.
    More,
    /// Nothing was done, for so long a stretch has too many rows: try a shorter one.
    TooMuch,
}

/// Why the transaction of a step ends.
#[derive(Debug)]
pub enum FillStop {
    TooMuch,
    Failed(diesel::result::Error),
}

impl From<diesel::result::Error> for FillStop {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error)
    }
}

impl FillStop {
    /// The outcome, unless it is an error.
    pub fn into_result(self) -> QueryResult<RollupFill> {
        match self {
            Self::TooMuch => Ok(RollupFill::TooMuch),
            Self::Failed(error) => Err(error),
        }
    }
}

#[derive(QueryableByName)]
struct FilledRow {
    #[diesel(sql_type = Instant)]
    filled_from: Moment,
}

#[derive(QueryableByName)]
struct NewestRow {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = Nullable<Instant>)]
    newest: Option<Moment>,
}

#[derive(QueryableByName)]
struct RawRow {
    #[diesel(sql_type = Instant)]
    recorded_at: Moment,
    #[diesel(sql_type = Nullable<Double>)]
    temperature: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    humidity: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    vibration: Option<f64>,
    #[diesel(sql_type = Nullable<Text>)]
    extra: Option<String>,
}

/// The machines of site `$1` in a table whose index begins with site and machine: hops from one to the next.
fn machines_in(table: &str) -> String {
    format!(
        "WITH RECURSIVE machines (machine_id) AS (
             SELECT min(machine_id) FROM {table} WHERE site = $1
             UNION ALL
             SELECT (SELECT min(t.machine_id) FROM {table} t WHERE t.site = $1 AND t.machine_id > machines.machine_id)
             FROM machines WHERE machines.machine_id IS NOT NULL)"
    )
}

/// `$1` site, `$2` an instant: the newest reading of each machine before it.
fn newest_before() -> String {
    format!(
        "{} SELECT machines.machine_id, (SELECT max(t.recorded_at) FROM machine_telemetry t WHERE t.site = $1 \
         AND t.machine_id = machines.machine_id AND t.recorded_at < $2) AS newest \
         FROM machines WHERE machines.machine_id IS NOT NULL",
        machines_in("machine_telemetry")
    )
}

/// `$1` site, `$2` and `$3` first instant and first one that counts no more, `$4` buckets at most: deletes from `table`.
fn clear(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE site = $1 AND (machine_id, bucket_start) IN ({} \
         SELECT r.machine_id, r.bucket_start FROM machines CROSS JOIN machine_rollup r WHERE r.site = $1 \
         AND r.machine_id = machines.machine_id AND r.bucket_start >= $2 AND r.bucket_start < $3 ORDER BY r.machine_id, r.bucket_start LIMIT $4)",
        machines_in("machine_rollup")
    )
}

/// `$1` site, `$2` machine, `$3` and `$4` first instant and first one that counts no more.
const ROWS: &str = "SELECT recorded_at, temperature, humidity, vibration, CAST(extra AS text) AS extra \
    FROM machine_telemetry WHERE site = $1 AND machine_id = $2 AND recorded_at >= $3 AND recorded_at < $4 LIMIT $5";

const SET_FILLED_FROM: &str = "INSERT INTO machine_rollup_filled (site, filled_from) VALUES ($1, $2) \
    ON CONFLICT (site) DO UPDATE SET filled_from = excluded.filled_from";

/// Where the stretch begins that ends after a reading of `newest`: at a bucket, and at least one bucket long.
fn stretch_start(newest: Timestamp, span: Duration) -> Timestamp {
    let back = i64::try_from(span.as_micros()).unwrap_or(i64::MAX).saturating_sub(BUCKET_MICROS).max(0);
    bucket_start(Timestamp::from_micros(newest.as_micros().saturating_sub(back)))
}

/// Where trust ends after readings before `before` were deleted: the bucket that holds it may have lost some.
fn trusted_from(before: Timestamp) -> Timestamp {
    let start = bucket_start(before);
    if start < before {
        Timestamp::from_micros(start.as_micros().saturating_add(BUCKET_MICROS))
    } else {
        start
    }
}

macro_rules! fill_for {
    ($name:ident, $connection:ty) => {
        /// Filling through this connection.
        pub mod $name {
            use super::*;
            use crate::store::$name::rollups;

            fn load_filled_from(connection: &mut $connection, site: &str) -> QueryResult<Option<Timestamp>> {
                let row = sql_query("SELECT filled_from FROM machine_rollup_filled WHERE site = $1")
                    .bind::<Text, _>(site)
                    .get_result::<FilledRow>(connection)
                    .optional()?;
                Ok(row.map(|row| row.filled_from.0))
            }

            /// Whether there is nothing to do.
            pub fn is_done(connection: &mut $connection, site: &str) -> QueryResult<bool> {
                Ok(load_filled_from(connection, site)?.is_some_and(|filled_from| filled_from <= BEGINNING))
            }

            /// A step of about `span`; to be called in a transaction that keeps other writers of buckets out.
            pub fn step(
                connection: &mut $connection,
                site: &str,
                span: Duration,
            ) -> Result<RollupFill, FillStop> {
                let before = load_filled_from(connection, site)?.unwrap_or(END);
                let machines: Vec<NewestRow> = sql_query(newest_before())
                    .bind::<Text, _>(site)
                    .bind::<Instant, _>(Moment(before))
                    .load(connection)?;
                let newest = machines.iter().filter_map(|row| row.newest).map(|moment| moment.0).max();
                let Some(newest) = newest else {
                    let cleared = clear_between(connection, site, BEGINNING, before, STALE_BUCKETS_MAX)?;
                    if cleared >= STALE_BUCKETS_MAX {
                        return Ok(RollupFill::More);
                    }
                    set_filled_from(connection, site, BEGINNING)?;
                    return Ok(RollupFill::Done);
                };
                let from = stretch_start(newest, span);
                let rows_max = if from < bucket_start(newest) { ROWS_MAX } else { usize::MAX };
                clear_between(connection, site, from, before, i64::MAX)?;
                let mut rows = 0;
                for row in machines.iter().filter(|row| row.newest.is_some_and(|newest| newest.0 >= from)) {
                    rows += fill(
                        connection,
                        site,
                        &row.machine_id,
                        (from, before),
                        rows_max.saturating_sub(rows),
                    )?;
                    if rows > rows_max {
                        return Err(FillStop::TooMuch);
                    }
                }
                set_filled_from(connection, site, from)?;
                Ok(RollupFill::More)
            }

            /// Notes that readings before `before` were deleted, in the transaction that did (S8).
            pub fn distrust_before(
                connection: &mut $connection,
                site: &str,
                before: Timestamp,
            ) -> QueryResult<()> {
                let trusted_from = Moment(trusted_from(before));
                sql_query(
                    "UPDATE machine_rollup_filled SET filled_from = $1 WHERE site = $2 AND filled_from < $3",
                )
                .bind::<Instant, _>(trusted_from)
                .bind::<Text, _>(site)
                .bind::<Instant, _>(trusted_from)
                .execute(connection)
                .map(drop)
            }

            /// Gives the number of buckets.
            fn clear_between(
                connection: &mut $connection,
                site: &str,
                from: Timestamp,
                before: Timestamp,
                buckets_max: i64,
            ) -> QueryResult<i64> {
                let mut cleared = 0;
                for table in ["machine_rollup_extra", "machine_rollup"] {
                    cleared = sql_query(clear(table))
                        .bind::<Text, _>(site)
                        .bind::<Instant, _>(Moment(from))
                        .bind::<Instant, _>(Moment(before))
                        .bind::<BigInt, _>(buckets_max)
                        .execute(connection)?;
                }
                Ok(i64::try_from(cleared).unwrap_or(i64::MAX))
            }

            /// Fills the buckets of one machine; gives the number of its rows, which may be one more than `rows_max`.
            fn fill(
                connection: &mut $connection,
                site: &str,
                machine_id: &str,
                (from, before): (Timestamp, Timestamp),
                rows_max: usize,
            ) -> QueryResult<usize> {
                let rows: Vec<RawRow> = sql_query(ROWS)
                    .bind::<Text, _>(site)
                    .bind::<Text, _>(machine_id)
                    .bind::<Instant, _>(Moment(from))
                    .bind::<Instant, _>(Moment(before))
                    .bind::<BigInt, _>(i64::try_from(rows_max.saturating_add(1)).unwrap_or(i64::MAX))
                    .load(connection)?;
                let mut rollup = Rollup::default();
                for row in &rows {
                    rollup.add(Measured {
                        machine_id,
                        recorded_at: row.recorded_at.0,
                        temperature: row.temperature,
                        humidity: row.humidity,
                        vibration: row.vibration,
                        extra: row.extra.as_deref(),
                    });
                }
                rollups::add(connection, site, &rollup)?;
                Ok(rows.len())
            }

            fn set_filled_from(connection: &mut $connection, site: &str, from: Timestamp) -> QueryResult<()> {
                sql_query(SET_FILLED_FROM)
                    .bind::<Text, _>(site)
                    .bind::<Instant, _>(Moment(from))
                    .execute(connection)
                    .map(drop)
            }
        }
    };
}

fill_for!(sqlite, SqliteConnection);
fill_for!(postgres, PgConnection);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_begins_at_a_bucket_and_has_at_least_one() {
        let at = |buckets: i64, more: i64| Timestamp::from_micros(buckets * BUCKET_MICROS + more);
        let span = |buckets: u32| Duration::from_secs(300) * buckets;
        assert_eq!(stretch_start(at(7, 5), span(1)), at(7, 0));
        assert_eq!(stretch_start(at(7, 5), Duration::ZERO), at(7, 0));
        assert_eq!(stretch_start(at(7, 5), span(3)), at(5, 0));
    }

    #[test]
    fn a_bucket_that_lost_some_of_its_readings_is_not_trusted() {
        let at = |buckets: i64, more: i64| Timestamp::from_micros(buckets * BUCKET_MICROS + more);
        assert_eq!(trusted_from(at(7, 0)), at(7, 0));
        assert_eq!(trusted_from(at(7, 1)), at(8, 0));
    }
}
