//! Our own outages: when nothing could be judged, whoever spoke or was silent.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use crate::domain::{LinkOutage, Timestamp};
use crate::store::liveness_rows::OutageRow;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::unreadable::UnreadableRows;

/// Outages of one answer, the newest: a link that is lost every few minutes is lost this often in a month.
const OUTAGES_MAX: i64 = 10_000;

/// `$1` site, `$2` first instant, `$3` first instant that counts no more, `$4` rows at most; newest first. Outages follow one
/// another, so that of those that began before only the last one can reach into the time: the walk along the index is
/// as long as the answer.
const OVERLAPPING: &str = "SELECT began_at, ended_at, reason FROM link_outage WHERE site = $1 AND began_at >= \
     coalesce((SELECT max(o.began_at) FROM link_outage o WHERE o.site = $1 AND o.began_at < $2), $2) \
     AND (ended_at IS NULL OR ended_at > $2) AND began_at < $3 ORDER BY began_at DESC LIMIT $4";

macro_rules! outages_on {
    ($name:ident, $connection:ty) => {
        pub mod $name {
            use super::*;

            /// In order of time.
            pub fn load(
                connection: &mut $connection,
                site: &str,
                from: Timestamp,
                to: Timestamp,
                unreadable: &UnreadableRows,
            ) -> QueryResult<Vec<LinkOutage>> {
                let rows: Vec<OutageRow> = sql_query(OVERLAPPING)
                    .bind::<Text, _>(site)
                    .bind::<Instant, _>(SqlInstant(from))
                    .bind::<Instant, _>(SqlInstant(to))
                    .bind::<BigInt, _>(OUTAGES_MAX)
                    .load(connection)?;
                Ok(unreadable.pass_over(rows.into_iter().rev().map(OutageRow::outage)))
            }
        }
    };
}

outages_on!(sqlite, SqliteConnection);
outages_on!(postgres, PgConnection);
