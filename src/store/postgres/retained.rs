//! Table `retained_seen`, all messages of a batch by one statement.

use std::collections::HashSet;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};

use crate::store::retained::{KeyRow, OwnedKey, Receipts};
use crate::store::schema::{Instant, SqlInstant};

const INSERT: &str = "INSERT INTO retained_seen (site, machine_id, digest, seen_at) \
     SELECT $1, u.* FROM unnest($2, $3, $4) AS u \
     ON CONFLICT (site, machine_id, digest) DO NOTHING RETURNING machine_id, digest";
const UPDATE: &str = "UPDATE retained_seen AS r SET seen_at = u.at \
     FROM unnest($2, $3, $4) AS u (machine_id, digest, at) \
     WHERE r.site = $1 AND r.machine_id = u.machine_id AND r.digest = u.digest AND r.seen_at < u.at";
const COPIES_OF_NEWEST: &str = "SELECT u.machine_id, u.digest FROM unnest($2, $3) AS u (machine_id, digest) \
     WHERE EXISTS (SELECT FROM machine_telemetry t WHERE t.site = $1 AND t.machine_id = u.machine_id \
         AND t.recorded_at = (SELECT max(n.recorded_at) FROM machine_telemetry n \
                              WHERE n.site = $1 AND n.machine_id = u.machine_id) \
         AND t.digest = u.digest AND t.time_source = 'server')";

/// Records the receipts. Returns the messages that never came before.
pub fn record(
    connection: &mut PgConnection,
    site: &str,
    receipts: &Receipts<'_>,
) -> QueryResult<HashSet<OwnedKey>> {
    let machine_ids: Vec<&str> = receipts.keys().map(|(machine_id, _)| *machine_id).collect();
    let digests: Vec<i64> = receipts.keys().map(|(_, digest)| *digest).collect();
    let seen: Vec<SqlInstant> = receipts.values().map(|seen_at| SqlInstant(*seen_at)).collect();
    let statement = |text: &str| {
        sql_query(text)
            .bind::<Text, _>(site)
            .bind::<Array<Text>, _>(&machine_ids)
            .bind::<Array<BigInt>, _>(&digests)
            .bind::<Array<Instant>, _>(&seen)
    };
    let new: Vec<KeyRow> = statement(INSERT).load(connection)?;
    if new.len() < receipts.len() {
        statement(UPDATE).execute(connection)?;
    }
    Ok(new.into_iter().map(OwnedKey::from).collect())
}

/// Returns those of `keys` that are copies of their machine's newest reading.
pub fn copies_of_newest(
    connection: &mut PgConnection,
    site: &str,
    keys: &HashSet<OwnedKey>,
) -> QueryResult<Vec<OwnedKey>> {
    let (machine_ids, digests): (Vec<&str>, Vec<i64>) =
        keys.iter().map(|(machine_id, digest)| (machine_id.as_str(), *digest)).unzip();
    let copies: Vec<KeyRow> = sql_query(COPIES_OF_NEWEST)
        .bind::<Text, _>(site)
        .bind::<Array<Text>, _>(machine_ids)
        .bind::<Array<BigInt>, _>(digests)
        .load(connection)?;
    Ok(copies.into_iter().map(OwnedKey::from).collect())
}
