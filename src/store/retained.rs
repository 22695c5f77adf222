//! Retained messages without a usable time of their own: each is stored once for a machine and payload
//! (STO-7).
//!
//! The broker sends a retained message at every new subscription. Without a time of its own it would be dated
//! with another receipt each time, and so become another reading. Table `retained_seen` remembers which ones
//! came, in the transaction that stores the reading. `recorded_at` stays the first receipt.
//!
//! The retained copy of a message that was received live is recognised, too, while that is the machine's
//! newest reading. Without this, a device that retains all that it publishes would get one reading too many
//! at each reconnect.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::PoisonedRow;
use super::batch::ReadingRow;
use super::both_databases::for_both_databases;
use super::schema::{Instant, SqlInstant};
use crate::domain::{TimeSource, Timestamp};

/// Tells one retained message from another: its machine and the digest.
pub(super) type Key<'a> = (&'a str, i64);

/// A [`Key`] as the database returns it.
pub(super) type OwnedKey = (String, i64);

/// The retained messages of a batch, each with its newest receipt. Sorted, so that concurrent writers lock
/// rows in one order.
pub(super) type Receipts<'a> = BTreeMap<Key<'a>, Timestamp>;

#[derive(QueryableByName)]
pub(super) struct KeyRow {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = BigInt)]
    digest: i64,
}

impl From<KeyRow> for OwnedKey {
    fn from(row: KeyRow) -> Self {
        (row.machine_id, row.digest)
    }
}

fn key(row: &ReadingRow) -> Key<'_> {
    (row.reading.machine_id.as_str(), row.reading.digest.cast_signed())
}

fn is_undated(row: &ReadingRow) -> bool {
    row.reading.time_source == TimeSource::Server
}

fn is_undated_copy(row: &ReadingRow) -> bool {
    row.retained && is_undated(row)
}

fn receipts(rows: &[ReadingRow]) -> Receipts<'_> {
    let mut receipts = Receipts::new();
    for row in rows.iter().filter(|row| is_undated_copy(row)) {
        let seen_at = receipts.entry(key(row)).or_insert(row.received_at);
        *seen_at = row.received_at.max(*seen_at);
    }
    receipts
}

/// Returns `rows` without the retained ones that are not `new`, and without repetitions inside the batch.
fn without_copies(rows: &[ReadingRow], new: &HashSet<OwnedKey>) -> Vec<ReadingRow> {
    let mut passed = HashSet::new();
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let (machine_id, digest) = key(row);
        let is_first = !is_undated(row) || passed.insert((machine_id, digest));
        if !is_undated_copy(row) || (is_first && new.contains(&(machine_id.to_owned(), digest))) {
            kept.push(row.clone());
        }
    }
    kept
}

const FORGET: &str = "DELETE FROM retained_seen WHERE site = $1 AND machine_id = $2 AND digest = $3";
const FORGET_BEFORE: &str = "DELETE FROM retained_seen WHERE site = $1 AND (machine_id, digest) IN \
     (SELECT machine_id, digest FROM retained_seen WHERE site = $2 AND seen_at < $3 LIMIT $4)";

for_both_databases! {
    []

    /// Returns the rows to insert: all but retained ones that came before. From here on those of `rows` have
    /// come.
    pub fn only_new<'a>(
        connection: &mut Connection,
        site: &str,
        rows: &'a [ReadingRow],
    ) -> QueryResult<Cow<'a, [ReadingRow]>> {
        let receipts = receipts(rows);
        if receipts.is_empty() {
            return Ok(Cow::Borrowed(rows));
        }
        let mut new = database::retained::record(connection, site, &receipts)?;
        for copy in database::retained::copies_of_newest(connection, site, &new)? {
            new.remove(&copy);
        }
        Ok(Cow::Owned(without_copies(rows, &new)))
    }

    /// Forgets the rows that the database refused after all, so that they are stored when they come again.
    pub fn forget_refused(
        connection: &mut Connection,
        site: &str,
        rows: &[ReadingRow],
        refused: &[PoisonedRow],
    ) -> QueryResult<()> {
        let places: HashSet<_> = refused.iter().map(|row| (row.seq, row.element)).collect();
        let is_refused = |row: &&ReadingRow| is_undated_copy(row) && places.contains(&(row.seq, row.element));
        rows.iter().filter(is_refused).try_for_each(|row| {
            let (machine_id, digest) = key(row);
            sql_query(FORGET)
                .bind::<Text, _>(site)
                .bind::<Text, _>(machine_id)
                .bind::<BigInt, _>(digest)
                .execute(connection)
                .map(drop)
        })
    }

    /// Forgets at most `rows_max` messages that came last before `before`. Returns how many.
    pub fn forget_before(
        connection: &mut Connection,
        site: &str,
        before: Timestamp,
        rows_max: u32,
    ) -> QueryResult<usize> {
        sql_query(FORGET_BEFORE)
            .bind::<Text, _>(site)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(SqlInstant(before))
            .bind::<BigInt, _>(i64::from(rows_max))
            .execute(connection)
    }
}
