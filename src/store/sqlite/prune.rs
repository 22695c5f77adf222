//! Deleting readings one by one, and the rollups of many machines, or many other rows, at once.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::{Sqlite, SqliteConnection};

use crate::store::prune::{OldKey, PruneTable};
use crate::store::schema::{Instant, SqlInstant};
use crate::store::statement::cached_statement;

cached_statement! {
    /// Deletes one reading.
    DeleteReading on Sqlite, SqliteConnection:
    "DELETE FROM machine_telemetry WHERE site = " [site: Text = &'a str]
    " AND machine_id = " [machine_id: Text = &'a str]
    " AND recorded_at = " [recorded_at: Instant = SqlInstant]
    " AND digest = " [digest: BigInt = i64]
}

/// Deletes the readings with these keys. Call it inside a transaction.
pub fn delete_readings(connection: &mut SqliteConnection, site: &str, old: &[OldKey]) -> QueryResult<usize> {
    old.iter().try_fold(0, |deleted, key| {
        let OldKey { machine_id, recorded_at, digest } = key;
        let delete = DeleteReading { site, machine_id, recorded_at: *recorded_at, digest: *digest };
        Ok(deleted + connection.execute_returning_count(&delete)?)
    })
}

/// Deletes the rows of `table` with these ids.
pub fn delete_by_id(
    connection: &mut SqliteConnection,
    table: PruneTable,
    site: &str,
    ids: &[i64],
) -> QueryResult<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    let ids = serde_json::to_string(ids).expect("numbers are always JSON");
    let table = table.as_str();
    sql_query(format!("DELETE FROM {table} WHERE site = $1 AND id IN (SELECT value FROM json_each($2))"))
        .bind::<Text, _>(site)
        .bind::<Text, _>(ids)
        .execute(connection)
}

/// Its key after site and machine.
const fn key_columns(table: PruneTable) -> &'static str {
    match table {
        PruneTable::ExtraRollups => "bucket_start, field",
        _ => "bucket_start",
    }
}

/// `$1` site, `$2` a JSON array of machines, `$3` the end of the range, exclusive, `$4` rows at most.
pub fn delete_rollups(table: PruneTable) -> String {
    let (keys, table) = (key_columns(table), table.as_str());
    let keys_of_b = keys.split(", ").map(|key| format!("b.{key}")).collect::<Vec<_>>().join(", ");
    // CROSS JOIN keeps this order: for each machine a walk along the index.
    format!(
        "DELETE FROM {table} WHERE site = $1 AND (machine_id, {keys}) IN (SELECT b.machine_id, {keys_of_b} \
         FROM json_each($2) w CROSS JOIN {table} b WHERE b.site = $1 AND b.machine_id = w.value AND b.bucket_start < $3 LIMIT $4)"
    )
}
