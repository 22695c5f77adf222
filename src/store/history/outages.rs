//! Our own outages: stretches in which no machine could be judged.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use crate::domain::{LinkOutage, Timestamp};
use crate::store::both_databases::for_both_databases;
use crate::store::liveness_rows::OutageRow;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::unreadable::UnreadableRows;

/// Outages of one answer, the newest. A link that breaks every few minutes makes as many in a month.
const OUTAGES_MAX: i64 = 10_000;

/// `$1` site, `$2` start of the range, `$3` end of the range, exclusive, `$4` rows at most; newest first.
/// Outages never overlap: of those that began before the range only the last can reach into it. The walk
/// along the index is as long as the answer.
const OVERLAPPING: &str = "SELECT began_at, ended_at, reason FROM link_outage WHERE site = $1 AND began_at >= \
     coalesce((SELECT max(o.began_at) FROM link_outage o WHERE o.site = $1 AND o.began_at < $2), $2) \
     AND (ended_at IS NULL OR ended_at > $2) AND began_at < $3 ORDER BY began_at DESC LIMIT $4";

for_both_databases! {
    []

    /// Loads them in order of time.
    pub fn load(
        connection: &mut Connection,
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
        Ok(unreadable.skip(rows.into_iter().rev().map(OutageRow::outage)))
    }
}
