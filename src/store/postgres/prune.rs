//! Deleting many readings, rollups or other rows by one statement.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};

use crate::store::prune::{OldKey, PruneTable};
use crate::store::schema::Instant;

/// Deletes the readings with these keys. Call it inside a transaction.
pub fn delete_readings(connection: &mut PgConnection, site: &str, old: &[OldKey]) -> QueryResult<usize> {
    sql_query(
        "DELETE FROM machine_telemetry t USING unnest($2, $3, $4) AS u (id, at, digest) WHERE t.site = $1 \
         AND t.machine_id = u.id AND t.recorded_at = u.at AND t.digest = u.digest",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(old.iter().map(|key| key.machine_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(old.iter().map(|key| key.recorded_at).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(old.iter().map(|key| key.digest).collect::<Vec<_>>())
    .execute(connection)
}

/// Deletes the rows of `table` with these ids. Every such table has an index for that.
pub fn delete_by_id(
    connection: &mut PgConnection,
    table: PruneTable,
    site: &str,
    ids: &[i64],
) -> QueryResult<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    sql_query(format!("DELETE FROM {} WHERE site = $1 AND id = ANY ($2)", table.as_str()))
        .bind::<Text, _>(site)
        .bind::<Array<BigInt>, _>(ids)
        .execute(connection)
}

/// `$1` site, `$2` a JSON array of machines, `$3` the end of the range, exclusive, `$4` rows at most. Skips
/// buckets that another process is adding to; the next run deletes them. So neither waits for the other.
pub fn delete_rollups(table: PruneTable) -> String {
    let table = table.as_str();
    format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT o.ctid \
         FROM json_array_elements_text(CAST($2 AS json)) AS w(value) CROSS JOIN LATERAL (SELECT b.ctid FROM {table} b \
             WHERE b.site = $1 AND b.machine_id = w.value AND b.bucket_start < $3 LIMIT $4 FOR UPDATE SKIP LOCKED) o LIMIT $4))"
    )
}
