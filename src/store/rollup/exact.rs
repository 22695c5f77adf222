//! From when on the buckets of a site are exact (ROL-1, ROL-2): the one row a site of `machine_rollup_exact`.

use std::time::Duration;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::SqliteConnection;

use super::{BUCKET_MICROS, bucket_start};
use crate::clock::wall_now;
use crate::domain::Timestamp;
use crate::store::clock;
use crate::store::schema::{INSTANT_MICROS_MIN, Instant, SqlInstant};
use crate::store::unreadable::UnreadableRows;

/// All is exact.
const BEGINNING: Timestamp = Timestamp::from_micros(INSTANT_MICROS_MIN);
/// How far ahead the readings may be dated that were stored before there were rollups: the default of `payload.max_ahead`.
const AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// `$1` site.
const IS_KNOWN: &str = "SELECT count(*) AS value FROM machine_rollup_exact WHERE site = $1";

/// `$1` site, `$2` where it begins if there is anything yet, `$3` where it begins otherwise. Two at once: the first one stays.
const BEGIN: &str = "INSERT INTO machine_rollup_exact (site, exact_from) \
     SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM machine_telemetry WHERE site = $1) \
         OR EXISTS (SELECT 1 FROM machine_rollup WHERE site = $1) THEN $2 ELSE $3 END \
     WHERE true ON CONFLICT (site) DO NOTHING";

/// `$1` the instant, `$2` site, `$3` the instant again.
const ADVANCE: &str = "UPDATE machine_rollup_exact SET exact_from = $1 WHERE site = $2 AND exact_from < $3";

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// The first bucket that begins at `instant` or after it.
fn first_bucket_from(instant: Timestamp) -> Timestamp {
    let start = bucket_start(instant);
    if start < instant {
        Timestamp::from_micros(start.as_micros().saturating_add(BUCKET_MICROS))
    } else {
        start
    }
}

macro_rules! exact_for {
    ($name:ident, $connection:ty) => {
        /// The same through this connection.
        pub mod $name {
            use super::*;

            /// Makes the row of a site that has none; to be called before a process stores its first reading.
            ///
            /// An empty site is exact from the beginning. One with readings had them before there were rollups, or lost its row
            /// to a person who had changed some: those are charted from the rows, and what is dated a day ahead from the buckets.
            pub fn begin(
                connection: &mut $connection,
                site: &str,
                unreadable: &UnreadableRows,
            ) -> QueryResult<()> {
                let known: CountRow = sql_query(IS_KNOWN).bind::<Text, _>(site).get_result(connection)?;
                if known.value > 0 {
                    return Ok(());
                }
                let trusted = clock::$name::exchange(connection, site, None, unreadable)?
                    .map(|record| record.trusted_at);
                let now = trusted.map_or(wall_now(), |trusted| trusted.max(wall_now()));
                let ahead = AHEAD.as_micros() as i64 + BUCKET_MICROS;
                let from = first_bucket_from(Timestamp::from_micros(now.as_micros().saturating_add(ahead)));
                sql_query(BEGIN)
                    .bind::<Text, _>(site)
                    .bind::<Instant, _>(SqlInstant(from))
                    .bind::<Instant, _>(SqlInstant(BEGINNING))
                    .execute(connection)
                    .map(drop)
            }

            /// Notes that readings before `before`, or their buckets, are deleted, in the transaction that does it.
            pub fn distrust_before(
                connection: &mut $connection,
                site: &str,
                before: Timestamp,
            ) -> QueryResult<()> {
                let from = SqlInstant(first_bucket_from(before));
                sql_query(ADVANCE)
                    .bind::<Instant, _>(from)
                    .bind::<Text, _>(site)
                    .bind::<Instant, _>(from)
                    .execute(connection)
                    .map(drop)
            }
        }
    };
}

exact_for!(sqlite, SqliteConnection);
exact_for!(postgres, PgConnection);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_lost_some_of_its_readings_is_not_trusted() {
        let at = |buckets: i64, more: i64| Timestamp::from_micros(buckets * BUCKET_MICROS + more);
        assert_eq!(first_bucket_from(at(7, 0)), at(7, 0));
        assert_eq!(first_bucket_from(at(7, 1)), at(8, 0));
        assert_eq!(first_bucket_from(at(8, -1)), at(8, 0));
    }
}
