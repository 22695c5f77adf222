//! Events: the oldest first, but a machine's newest event stays, because it says since when and why the
//! machine has the status that it has.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text};

use super::{Place, PruneBounds, PruneCursor, PruneTable, Pruned, RowKey};
use crate::domain::Timestamp;
use crate::store::both_databases::for_both_databases;
use crate::store::schema::{Instant, SqlInstant};

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Instant)]
    occurred_at: SqlInstant,
    /// Its machine has a newer one.
    #[diesel(sql_type = Bool)]
    is_outdated: bool,
}

/// `$1` site, `$2` and `$3` time and id after which to begin, `$4` the end, exclusive, `$5` rows at most. The
/// first comparison with `$2` is for the index, which has the time alone.
const OLD: &str = "SELECT e.id, e.occurred_at, EXISTS (SELECT 1 FROM machine_event n WHERE n.site = e.site \
     AND n.machine_id = e.machine_id AND n.id > e.id) AS is_outdated FROM machine_event e \
     WHERE e.site = $1 AND e.occurred_at >= $2 AND (e.occurred_at, e.id) > ($2, $3) AND e.occurred_at < $4 \
     ORDER BY e.occurred_at, e.id LIMIT $5";

for_both_databases! {
    []

    /// Deletes events of before `before` that are not the newest of their machine.
    pub fn prune(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        from: &Place,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        let table = PruneTable::Events;
        let after = match from {
            Place::Row(key) => *key,
            _ => RowKey::FIRST,
        };
        let found: Vec<EventRow> = sql_query(OLD)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(SqlInstant(after.at))
            .bind::<BigInt, _>(after.id)
            .bind::<Instant, _>(SqlInstant(before))
            .bind::<BigInt, _>(i64::from(bounds.rows_max))
            .load(connection)?;
        let outdated: Vec<i64> = found.iter().filter(|row| row.is_outdated).map(|row| row.id).collect();
        let rows = database::prune::delete_by_id(connection, table, site, &outdated)? as u64;
        let last = found.last().filter(|_| found.len() >= bounds.rows_max as usize);
        let next = last.map(|row| {
            PruneCursor::at(table, Place::Row(RowKey { at: row.occurred_at.0, id: row.id }))
        });
        let examined = found.len() as u64;
        Ok(Pruned { rows, examined, next, ..Pruned::nothing(table, Some(before)) })
    }
}
