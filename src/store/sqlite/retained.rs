//! Table `retained_seen`, row by row.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::SqliteConnection;

use crate::store::retained::{KeyRow, OwnedKey, Receipts};
use crate::store::schema::{Instant, SqlInstant};

const INSERT: &str = "INSERT INTO retained_seen (site, machine_id, digest, seen_at) VALUES (?, ?, ?, ?) \
     ON CONFLICT (site, machine_id, digest) DO NOTHING";
const UPDATE: &str = "UPDATE retained_seen SET seen_at = max(seen_at, ?4) \
     WHERE site = ?1 AND machine_id = ?2 AND digest = ?3";
const COPY_OF_NEWEST: &str = "SELECT machine_id, digest FROM machine_telemetry WHERE site = ?1 AND machine_id = ?2 \
     AND recorded_at = (SELECT max(recorded_at) FROM machine_telemetry WHERE site = ?1 AND machine_id = ?2) \
     AND digest = ?3 AND time_source = 'server'";

/// Records the receipts. Returns the messages that never came before.
pub fn record(
    connection: &mut SqliteConnection,
    site: &str,
    receipts: &Receipts<'_>,
) -> QueryResult<HashSet<OwnedKey>> {
    let mut new = HashSet::new();
    for (&(machine_id, digest), &seen_at) in receipts {
        let mut write = |statement: &str| {
            sql_query(statement)
                .bind::<Text, _>(site)
                .bind::<Text, _>(machine_id)
                .bind::<BigInt, _>(digest)
                .bind::<Instant, _>(SqlInstant(seen_at))
                .execute(connection)
        };
        if write(INSERT)? == 1 {
            new.insert((machine_id.to_owned(), digest));
        } else {
            write(UPDATE)?;
        }
    }
    Ok(new)
}

/// Returns those of `keys` that are copies of their machine's newest reading.
pub fn copies_of_newest(
    connection: &mut SqliteConnection,
    site: &str,
    keys: &HashSet<OwnedKey>,
) -> QueryResult<Vec<OwnedKey>> {
    let mut copies = Vec::new();
    for (machine_id, digest) in keys {
        let newest = sql_query(COPY_OF_NEWEST)
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id)
            .bind::<BigInt, _>(*digest)
            .load::<KeyRow>(connection)?;
        copies.extend(newest.into_iter().map(OwnedKey::from));
    }
    Ok(copies)
}
