//! Buckets of readings that were stored before there were any.
//!
//! A step takes a stretch of time before `filled_from`, throws its buckets away, computes them anew from the rows, and moves
//! `filled_from` back, in one transaction that keeps every other writer of buckets out (S9; the caller sees to that). Whoever
//! stored a row of that stretch has either committed before, and the row is counted, or adds it afterwards.
//!
//! Rows are read in pages and one by one, and what they come to is written whenever it has grown to [`HELD_BYTES_MAX`]: the
//! memory a step takes depends neither on how many rows there are nor on how large they are.

use std::time::Duration;

use diesel::connection::DefaultLoadingMode;
use diesel::pg::{Pg, PgRowByRowLoadingMode};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Double, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::{BUCKET_MICROS, Measured, Rollup, bucket_start};
use crate::domain::Timestamp;
use crate::store::schema::{INSTANT_MICROS_MAX, INSTANT_MICROS_MIN, Instant, Moment};
use crate::store::statement::cached_statement;

/// Rows that a step reads, unless a single bucket has more. Batches wait for it.
const ROWS_MAX: usize = 100_000;
/// Bytes of `extra` that a step reads, unless a single bucket has more.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rows of a page: PostgreSQL sends all of one that is given up.
const PAGE_ROWS: i64 = 1_000;
/// Figures are written when they have grown to that many bytes.
const HELD_BYTES_MAX: usize = 1024 * 1024;
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
    /// Nothing was done, for somebody wrote figures meanwhile without waiting (S10): try again.
    Disturbed,
}

/// Why the transaction of a step ends.
#[derive(Debug)]
pub enum FillStop {
    TooMuch,
    Disturbed,
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
            Self::Disturbed => Ok(RollupFill::Disturbed),
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
struct SumRow {
    #[diesel(sql_type = BigInt)]
    readings: i64,
}

/// Columns of [`sqlite::NextRows`] and its like.
type RowTypes = (Instant, BigInt, Nullable<Double>, Nullable<Double>, Nullable<Double>, Nullable<Text>);
type RawRow = (Moment, i64, Option<f64>, Option<f64>, Option<f64>, Option<String>);

/// What is read and how much of it.
struct Reader {
    from: Timestamp,
    before: Timestamp,
    /// A shorter stretch can be tried.
    is_limited: bool,
    rows: usize,
    bytes: usize,
}

impl Reader {
    /// Notes another row; too many end the step.
    fn note(&mut self, extra: Option<&str>) -> Result<(), FillStop> {
        self.rows += 1;
        self.bytes += extra.map_or(0, str::len);
        let is_too_much = self.is_limited && (self.rows > ROWS_MAX || self.bytes > BYTES_MAX);
        if is_too_much { Err(FillStop::TooMuch) } else { Ok(()) }
    }
}

/// The first key that is not before a row, among those of one machine: its instant and its digest.
#[derive(Clone, Copy)]
struct RowKey(Timestamp, i64);

impl RowKey {
    const fn first_at(instant: Timestamp) -> Self {
        Self(instant, i64::MIN)
    }

    fn after(self) -> Self {
        match self.1.checked_add(1) {
            Some(digest) => Self(self.0, digest),
            None => Self::first_at(Timestamp::from_micros(self.0.as_micros().saturating_add(1))),
        }
    }
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

/// `$1` site, `$2` and `$3` first instant and first one that counts no more: how many readings the buckets hold.
fn readings_in_buckets() -> String {
    format!(
        "{} SELECT CAST(coalesce(sum((SELECT sum(r.readings) FROM machine_rollup r WHERE r.site = $1 \
         AND r.machine_id = machines.machine_id AND r.bucket_start >= $2 AND r.bucket_start < $3)), 0) AS bigint) AS readings \
         FROM machines WHERE machines.machine_id IS NOT NULL",
        machines_in("machine_rollup")
    )
}

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
    ($name:ident, $backend:ty, $connection:ty, $row_by_row:ty) => {
        /// Filling through this connection.
        pub mod $name {
            use super::*;
            use crate::store::$name::rollups;

            cached_statement! {
                /// A page of the rows of a machine.
                NextRows on $backend, $connection, returning RowTypes:
                "SELECT recorded_at, digest, temperature, humidity, vibration, CAST(extra AS text) FROM machine_telemetry \
                 WHERE site = " [site: Text = &'a str]
                " AND machine_id = " [machine_id: Text = &'a str]
                " AND (recorded_at, digest) >= (" [at: Instant = Moment, digest: BigInt = i64]
                ") AND recorded_at < " [before: Instant = Moment]
                " ORDER BY recorded_at, digest LIMIT " [rows_max: BigInt = i64]
            }

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
                // Not before the lock is held: of a machine whose first reading of the stretch comes in between, the bucket would
                // be thrown away and no row be read, and both counts (S10) would leave it out. A fifth of a second for 100,000, on SQLite.
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
                let is_limited = from < bucket_start(newest);
                let mut reader = Reader { from, before, is_limited, rows: 0, bytes: 0 };
                clear_between(connection, site, from, before, i64::MAX)?;
                fill(connection, site, &machines, &mut reader)?;
                if count_between(connection, site, from, before)? != reader.rows {
                    return Err(FillStop::Disturbed);
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

            /// How many readings the buckets hold.
            fn count_between(
                connection: &mut $connection,
                site: &str,
                from: Timestamp,
                before: Timestamp,
            ) -> QueryResult<usize> {
                let sum: SumRow = sql_query(readings_in_buckets())
                    .bind::<Text, _>(site)
                    .bind::<Instant, _>(Moment(from))
                    .bind::<Instant, _>(Moment(before))
                    .get_result(connection)?;
                Ok(usize::try_from(sum.readings).unwrap_or(usize::MAX))
            }

            /// Fills the buckets of all machines.
            fn fill(
                connection: &mut $connection,
                site: &str,
                machines: &[NewestRow],
                reader: &mut Reader,
            ) -> Result<(), FillStop> {
                let mut rollup = Rollup::default();
                for machine in machines {
                    if machine.newest.is_none_or(|newest| newest.0 < reader.from) {
                        continue;
                    }
                    let mut next = Some(RowKey::first_at(reader.from));
                    while let Some(key) = next {
                        next = read_page(connection, site, &machine.machine_id, key, reader, &mut rollup)?;
                        if rollup.size() > HELD_BYTES_MAX {
                            rollups::add(connection, site, &rollup)?;
                            rollup = Rollup::default();
                        }
                    }
                }
                Ok(rollups::add(connection, site, &rollup)?)
            }

            /// Counts a page of the rows of a machine; gives where the next one begins.
            fn read_page<'m>(
                connection: &mut $connection,
                site: &str,
                machine_id: &'m str,
                RowKey(at, digest): RowKey,
                reader: &mut Reader,
                rollup: &mut Rollup<'m>,
            ) -> Result<Option<RowKey>, FillStop> {
                let (at, before) = (Moment(at), Moment(reader.before));
                let page = NextRows { site, machine_id, at, digest, before, rows_max: PAGE_ROWS };
                let (mut rows, mut last) = (0, None);
                for row in page.load_iter::<RawRow, $row_by_row>(connection)? {
                    let (Moment(recorded_at), digest, temperature, humidity, vibration, extra) = row?;
                    let extra = extra.as_deref();
                    reader.note(extra)?;
                    let reading = Measured { machine_id, recorded_at, temperature, humidity, vibration, extra };
                    rollup.add_passing(machine_id, reading);
                    (rows, last) = (rows + 1, Some(RowKey(recorded_at, digest)));
                }
                Ok(last.filter(|_| rows == PAGE_ROWS).map(RowKey::after))
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

fill_for!(sqlite, Sqlite, SqliteConnection, DefaultLoadingMode);
fill_for!(postgres, Pg, PgConnection, PgRowByRowLoadingMode);

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
