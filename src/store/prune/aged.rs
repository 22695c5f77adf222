//! Tables whose rows are only old or not: what was found is deleted, so a run simply begins again at the
//! oldest row until none is left.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::{Place, PruneBounds, PruneCursor, PruneTable, Pruned};
use crate::domain::Timestamp;
use crate::store::both_databases::for_both_databases;
use crate::store::schema::{Instant, SqlInstant};

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// `$1` site, `$2` the end, exclusive, `$3` rows at most. The newest outage stays: liveness starts from it.
const OLD_OUTAGES: &str = "SELECT id FROM link_outage WHERE site = $1 AND began_at < $2 \
     AND coalesce(ended_at, began_at) < $2 AND began_at < (SELECT max(began_at) FROM link_outage WHERE site = $1) \
     ORDER BY began_at LIMIT $3";
const OLD_AUDIT_EVENTS: &str =
    "SELECT id FROM audit_event WHERE site = $1 AND at < $2 ORDER BY at, id LIMIT $3";

for_both_databases! {
    [retained]

    /// Deletes rows of `table` from before `before`.
    pub fn prune(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        table: PruneTable,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        let rows = match table {
            PruneTable::RetainedSeen => retained::forget_before(connection, site, before, bounds.rows_max)?,
            PruneTable::Outages => delete_old(connection, site, before, table, OLD_OUTAGES, bounds)?,
            _ => delete_old(connection, site, before, table, OLD_AUDIT_EVENTS, bounds)?,
        } as u64;
        let next = (rows >= u64::from(bounds.rows_max)).then_some(PruneCursor::at(table, Place::Start));
        Ok(Pruned { rows, examined: rows, next, ..Pruned::nothing(table, Some(before)) })
    }

    fn delete_old(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        table: PruneTable,
        old: &str,
        bounds: PruneBounds,
    ) -> QueryResult<usize> {
        let old: Vec<IdRow> = sql_query(old)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(SqlInstant(before))
            .bind::<BigInt, _>(i64::from(bounds.rows_max))
            .load(connection)?;
        let ids: Vec<i64> = old.into_iter().map(|row| row.id).collect();
        database::prune::delete_by_id(connection, table, site, &ids)
    }
}
