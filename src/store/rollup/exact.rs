//! From when on the buckets of a site are exact (ROL-1, ROL-2): its row in `machine_rollup_exact`.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::{BUCKET_MICROS, bucket_start};
use crate::clock::wall_now;
use crate::domain::Timestamp;
use crate::store::both_databases::for_both_databases;
use crate::store::schema::{INSTANT_MICROS_MIN, Instant, SqlInstant};
use crate::store::unreadable::UnreadableRows;

/// Every bucket is exact.
const BEGINNING: Timestamp = Timestamp::from_micros(INSTANT_MICROS_MIN);
/// How far ahead readings of before there were rollups may be dated: the default of `payload.max_ahead`.
const AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// `$1` site.
const IS_KNOWN: &str = "SELECT count(*) AS value FROM machine_rollup_exact WHERE site = $1";

/// `$1` site, `$2` the instant for a site with rows, `$3` the instant for an empty one. Of two at once the
/// first stays.
const INSERT: &str = "INSERT INTO machine_rollup_exact (site, exact_from) \
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

/// Returns the start of the first bucket at `instant` or after it.
fn first_bucket_from(instant: Timestamp) -> Timestamp {
    let start = bucket_start(instant);
    if start < instant {
        Timestamp::from_micros(start.as_micros().saturating_add(BUCKET_MICROS))
    } else {
        start
    }
}

for_both_databases! {
    [clock]

    /// Inserts the site's row if it has none. Call it before the process stores its first reading.
    ///
    /// An empty site is exact from the beginning. A site with readings is one of Andon 0.1.0, or a person
    /// deleted its row: charts read its readings until a day ahead, and its buckets from there on.
    pub fn ensure(connection: &mut Connection, site: &str, unreadable: &UnreadableRows) -> QueryResult<()> {
        let known: CountRow = sql_query(IS_KNOWN).bind::<Text, _>(site).get_result(connection)?;
        if known.value > 0 {
            return Ok(());
        }
        let record = clock::exchange(connection, site, None, unreadable)?;
        let now = record.map_or(wall_now(), |record| record.trusted_at.max(wall_now()));
        let ahead = AHEAD.as_micros() as i64 + BUCKET_MICROS;
        let from = first_bucket_from(Timestamp::from_micros(now.as_micros().saturating_add(ahead)));
        sql_query(INSERT)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(SqlInstant(from))
            .bind::<Instant, _>(SqlInstant(BEGINNING))
            .execute(connection)
            .map(drop)
    }

    /// Moves `exact_from` behind the bucket of `before`. Call it in the transaction that deletes readings or
    /// buckets before that instant.
    pub fn advance(connection: &mut Connection, site: &str, before: Timestamp) -> QueryResult<()> {
        let from = SqlInstant(first_bucket_from(before));
        sql_query(ADVANCE)
            .bind::<Instant, _>(from)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(from)
            .execute(connection)
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_lost_some_of_its_readings_is_not_exact() {
        let at = |buckets: i64, more: i64| Timestamp::from_micros(buckets * BUCKET_MICROS + more);
        assert_eq!(first_bucket_from(at(7, 0)), at(7, 0));
        assert_eq!(first_bucket_from(at(7, 1)), at(8, 0));
        assert_eq!(first_bucket_from(at(8, -1)), at(8, 0));
    }
}
