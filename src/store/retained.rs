//! Retained messages without a usable time of their own: each is stored once for a machine and payload (STO-7).
//!
//! The broker hands a retained message over at every new subscription. Without a time of its own it would be dated with
//! another receipt each time, and so be another reading. Table `retained_seen` remembers which ones were handed over, in
//! the transaction that stores the reading. `recorded_at` stays the first receipt.
//!
//! The copy of a message that was received live is known, too, while that is the machine's newest reading: devices that
//! retain whatever they publish would get one reading too many at each reconnect.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};
use diesel::sqlite::SqliteConnection;

use super::PoisonedRow;
use super::batch::ReadingRow;
use super::schema::{Instant, SqlInstant};
use crate::domain::{TimeSource, Timestamp};

/// What tells one retained message from another: its machine and the digest.
type Key<'a> = (&'a str, i64);

fn key(row: &ReadingRow) -> Key<'_> {
    (row.reading.machine_id.as_str(), row.reading.digest.cast_signed())
}

fn is_undated(row: &ReadingRow) -> bool {
    row.reading.time_source == TimeSource::Server
}

fn is_concerned(row: &ReadingRow) -> bool {
    row.retained && is_undated(row)
}

/// The rows that are to be inserted: all but retained ones that were handed over before. They count as seen from here on.
pub(super) fn unless_seen<'a>(
    connection: &mut impl RetainedTable,
    site: &str,
    rows: &'a [ReadingRow],
) -> QueryResult<Cow<'a, [ReadingRow]>> {
    // Sorted, so that concurrent writers lock rows in one order.
    let mut handed_over: BTreeMap<Key<'_>, Timestamp> = BTreeMap::new();
    for row in rows.iter().filter(|row| is_concerned(row)) {
        let seen_at = handed_over.entry(key(row)).or_insert(row.received_at);
        *seen_at = row.received_at.max(*seen_at);
    }
    if handed_over.is_empty() {
        return Ok(Cow::Borrowed(rows));
    }
    let mut new = connection.remember(site, &handed_over)?;
    for copy in connection.copies_of_newest(site, &new)? {
        new.remove(&copy);
    }
    let mut passed = HashSet::new();
    let mut wanted = Vec::with_capacity(rows.len());
    for row in rows {
        let (machine_id, digest) = key(row);
        let is_first = !is_undated(row) || passed.insert((machine_id, digest));
        if !is_concerned(row) || (is_first && new.contains(&(machine_id.to_owned(), digest))) {
            wanted.push(row.clone());
        }
    }
    Ok(Cow::Owned(wanted))
}

/// Rows that the database refused after all are to be stored when they come again.
pub(super) fn forget_refused(
    connection: &mut impl RetainedTable,
    site: &str,
    rows: &[ReadingRow],
    refused: &[PoisonedRow],
) -> QueryResult<()> {
    let places: HashSet<_> = refused.iter().map(|row| (row.seq, row.element)).collect();
    let is_refused = |row: &&ReadingRow| is_concerned(row) && places.contains(&(row.seq, row.element));
    rows.iter().filter(is_refused).try_for_each(|row| connection.forget(site, key(row)))
}

/// A machine and digest as they come back.
pub(super) type OwnedKey = (String, i64);

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = BigInt)]
    digest: i64,
}

/// The table `retained_seen` of a database.
pub(super) trait RetainedTable {
    /// Notes when each was handed over; returns those that never were before.
    fn remember(
        &mut self,
        site: &str,
        handed_over: &BTreeMap<Key<'_>, Timestamp>,
    ) -> QueryResult<HashSet<OwnedKey>>;

    /// Those of `keys` whose machine's newest reading they are a copy of.
    fn copies_of_newest(&mut self, site: &str, keys: &HashSet<OwnedKey>) -> QueryResult<Vec<OwnedKey>>;

    /// As if it had never been handed over.
    fn forget(&mut self, site: &str, key: Key<'_>) -> QueryResult<()>;

    /// Forgets messages that were last handed over before `before`, at most `rows_max`.
    fn forget_before(&mut self, site: &str, before: Timestamp, rows_max: u32) -> QueryResult<()>;
}

/// Both databases take these as they stand.
const FORGET: &str = "DELETE FROM retained_seen WHERE site = $1 AND machine_id = $2 AND digest = $3";
const FORGET_BEFORE: &str = "DELETE FROM retained_seen WHERE site = $1 AND (machine_id, digest) IN \
     (SELECT machine_id, digest FROM retained_seen WHERE site = $2 AND seen_at < $3 LIMIT $4)";

impl RetainedTable for SqliteConnection {
    fn remember(
        &mut self,
        site: &str,
        handed_over: &BTreeMap<Key<'_>, Timestamp>,
    ) -> QueryResult<HashSet<OwnedKey>> {
        let mut new = HashSet::new();
        for (&(machine_id, digest), &seen_at) in handed_over {
            let inserted = sql_query(
                "INSERT INTO retained_seen (site, machine_id, digest, seen_at) VALUES (?, ?, ?, ?) \
                 ON CONFLICT (site, machine_id, digest) DO NOTHING",
            )
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id)
            .bind::<BigInt, _>(digest)
            .bind::<Instant, _>(SqlInstant(seen_at))
            .execute(self)?;
            if inserted == 1 {
                new.insert((machine_id.to_owned(), digest));
                continue;
            }
            sql_query(
                "UPDATE retained_seen SET seen_at = max(seen_at, ?4) WHERE site = ?1 AND machine_id = ?2 AND digest = ?3",
            )
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id)
            .bind::<BigInt, _>(digest)
            .bind::<Instant, _>(SqlInstant(seen_at))
            .execute(self)?;
        }
        Ok(new)
    }

    fn copies_of_newest(&mut self, site: &str, keys: &HashSet<OwnedKey>) -> QueryResult<Vec<OwnedKey>> {
        let mut copies = Vec::new();
        for (machine_id, digest) in keys {
            let newest = sql_query(
                "SELECT machine_id, digest FROM machine_telemetry WHERE site = ?1 AND machine_id = ?2 \
                 AND recorded_at = (SELECT max(recorded_at) FROM machine_telemetry WHERE site = ?1 AND machine_id = ?2) \
                 AND digest = ?3 AND time_source = 'server'",
            )
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id)
            .bind::<BigInt, _>(*digest)
            .load::<KeyRow>(self)?;
            copies.extend(newest.into_iter().map(|row| (row.machine_id, row.digest)));
        }
        Ok(copies)
    }

    fn forget(&mut self, site: &str, (machine_id, digest): Key<'_>) -> QueryResult<()> {
        sql_query(FORGET)
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id)
            .bind::<BigInt, _>(digest)
            .execute(self)
            .map(drop)
    }

    fn forget_before(&mut self, site: &str, before: Timestamp, rows_max: u32) -> QueryResult<()> {
        sql_query(FORGET_BEFORE)
            .bind::<Text, _>(site)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(SqlInstant(before))
            .bind::<BigInt, _>(i64::from(rows_max))
            .execute(self)
            .map(drop)
    }
}

impl RetainedTable for PgConnection {
    fn remember(
        &mut self,
        site: &str,
        handed_over: &BTreeMap<Key<'_>, Timestamp>,
    ) -> QueryResult<HashSet<OwnedKey>> {
        let machine_ids: Vec<&str> = handed_over.keys().map(|(machine_id, _)| *machine_id).collect();
        let digests: Vec<i64> = handed_over.keys().map(|(_, digest)| *digest).collect();
        let seen: Vec<SqlInstant> = handed_over.values().map(|seen_at| SqlInstant(*seen_at)).collect();
        let new: Vec<KeyRow> = sql_query(
            "INSERT INTO retained_seen (site, machine_id, digest, seen_at) \
             SELECT $1, u.* FROM unnest($2, $3, $4) AS u \
             ON CONFLICT (site, machine_id, digest) DO NOTHING RETURNING machine_id, digest",
        )
        .bind::<Text, _>(site)
        .bind::<Array<Text>, _>(&machine_ids)
        .bind::<Array<BigInt>, _>(&digests)
        .bind::<Array<Instant>, _>(&seen)
        .load(self)?;
        if new.len() < handed_over.len() {
            sql_query(
                "UPDATE retained_seen AS r SET seen_at = u.at FROM unnest($2, $3, $4) AS u (machine_id, digest, at) \
                 WHERE r.site = $1 AND r.machine_id = u.machine_id AND r.digest = u.digest AND r.seen_at < u.at",
            )
            .bind::<Text, _>(site)
            .bind::<Array<Text>, _>(&machine_ids)
            .bind::<Array<BigInt>, _>(&digests)
            .bind::<Array<Instant>, _>(&seen)
            .execute(self)?;
        }
        Ok(new.into_iter().map(|row| (row.machine_id, row.digest)).collect())
    }

    fn copies_of_newest(&mut self, site: &str, keys: &HashSet<OwnedKey>) -> QueryResult<Vec<OwnedKey>> {
        let (machine_ids, digests): (Vec<&str>, Vec<i64>) =
            keys.iter().map(|(machine_id, digest)| (machine_id.as_str(), *digest)).unzip();
        let copies: Vec<KeyRow> = sql_query(
            "SELECT u.machine_id, u.digest FROM unnest($2, $3) AS u (machine_id, digest) WHERE EXISTS ( \
                 SELECT FROM machine_telemetry t WHERE t.site = $1 AND t.machine_id = u.machine_id \
                 AND t.recorded_at = (SELECT max(n.recorded_at) FROM machine_telemetry n \
                                      WHERE n.site = $1 AND n.machine_id = u.machine_id) \
                 AND t.digest = u.digest AND t.time_source = 'server')",
        )
        .bind::<Text, _>(site)
        .bind::<Array<Text>, _>(machine_ids)
        .bind::<Array<BigInt>, _>(digests)
        .load(self)?;
        Ok(copies.into_iter().map(|row| (row.machine_id, row.digest)).collect())
    }

    fn forget(&mut self, site: &str, (machine_id, digest): Key<'_>) -> QueryResult<()> {
        sql_query(FORGET)
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id)
            .bind::<BigInt, _>(digest)
            .execute(self)
            .map(drop)
    }

    fn forget_before(&mut self, site: &str, before: Timestamp, rows_max: u32) -> QueryResult<()> {
        sql_query(FORGET_BEFORE)
            .bind::<Text, _>(site)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(SqlInstant(before))
            .bind::<BigInt, _>(i64::from(rows_max))
            .execute(self)
            .map(drop)
    }
}
