//! Storing readings, and finding out which are new.

use std::collections::HashSet;

use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::copy::copy;
use super::runs::RunWriter;
use super::statements::ReadingColumns;
use crate::store::batch::{CommitOutcome, ReadingRow, RejectionRow};
use crate::store::error::CommitStep;
use crate::store::failure::CommitFailure;
use crate::store::rollup::Rollup;
use crate::store::schema::SqlInstant;

/// What [`write()`] did.
pub struct WrittenReadings {
    /// The refused ones.
    pub refused: Vec<RejectionRow>,
    /// None was stored before; some may be repeated among themselves.
    pub were_new: bool,
}

/// Stores `rows` and counts the new ones.
pub fn write<'a>(
    writer: &mut RunWriter<'_>,
    site: &str,
    rows: &'a [ReadingRow],
    outcome: &mut CommitOutcome,
    rollup: &mut Rollup<'a>,
) -> Result<WrittenReadings, CommitFailure> {
    let copies = writer.copies();
    let sent = if copies { distinct(rows) } else { rows.iter().collect() };
    let size = |row: &&ReadingRow| row.size();
    let name = |index: usize| sent[index].to_string();
    let refused = writer.write(CommitStep::Readings, &sent, size, name, |connection, run| {
        let stored = if copies {
            copy(connection, site, run)?;
            run.to_vec()
        } else {
            insert_run(connection, site, run)?
        };
        outcome.stored += stored.len() as u64;
        stored.into_iter().for_each(|row| rollup.add(&row.reading));
        Ok(())
    })?;
    let written = outcome.stored as usize + refused.len();
    let were_new = written == sent.len() || written == distinct(rows).len();
    let refused = refused.into_iter().map(|(index, refusal)| outcome.poison(sent[index], refusal)).collect();
    Ok(WrittenReadings { refused, were_new })
}

/// Returns the first row of each key, in the order of the keys: neighbours in the index.
fn distinct(rows: &[ReadingRow]) -> Vec<&ReadingRow> {
    let mut sorted: Vec<&ReadingRow> = rows.iter().collect();
    sorted.sort_by(|one, other| key(one).cmp(&key(other)));
    sorted.dedup_by(|later, first| key(later) == key(first));
    sorted
}

/// Inserts `run`. Returns those of its rows that are new.
fn insert_run<'a>(
    connection: &mut PgConnection,
    site: &str,
    run: &[&'a ReadingRow],
) -> QueryResult<Vec<&'a ReadingRow>> {
    let columns = ReadingColumns::new(run);
    let answer = columns.insert(site).load::<(Option<String>, Option<SqlInstant>, i64)>(connection)?;
    let mut keys = HashSet::new();
    let mut stored = 0;
    for (machine_id, recorded_at, number) in answer {
        match (machine_id, recorded_at) {
            (Some(machine_id), Some(recorded_at)) => {
                keys.insert((machine_id, recorded_at.stored_micros(), number));
            }
            _ => stored = usize::try_from(number).unwrap_or(0),
        }
    }
    if stored == run.len() {
        return Ok(run.to_vec());
    }
    // Of rows with the same key the first one is stored.
    let is_new = |row: &&ReadingRow| {
        let (machine_id, recorded_at, digest) = key(row);
        keys.remove(&(machine_id.to_owned(), recorded_at, digest))
    };
    Ok(run.iter().copied().filter(is_new).collect())
}

/// A reading's key in its site.
fn key(row: &ReadingRow) -> (&str, i64, i64) {
    let reading = &row.reading;
    let recorded_at = SqlInstant(reading.recorded_at).stored_micros();
    (reading.machine_id.as_str(), recorded_at, reading.digest.cast_signed())
}
