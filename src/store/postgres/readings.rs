//! Inserting readings, and finding out which are new.

use std::collections::HashSet;

use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::runs::RunWriter;
use super::statements::ReadingColumns;
use crate::store::batch::{CommitOutcome, ReadingRow, RejectionRow};
use crate::store::error::CommitStep;
use crate::store::failure::CommitFailure;
use crate::store::rollup::Rollup;
use crate::store::schema::SqlInstant;

/// Inserts `rows`, counts the new ones, and returns the refused ones as rejections.
pub fn write<'a>(
    writer: &mut RunWriter<'_>,
    site: &str,
    rows: &'a [ReadingRow],
    outcome: &mut CommitOutcome,
    rollup: &mut Rollup<'a>,
) -> Result<Vec<RejectionRow>, CommitFailure> {
    let name = |index: usize| rows[index].to_string();
    let refused = writer.write(CommitStep::Readings, rows, ReadingRow::size, name, |connection, run| {
        let stored = insert_run(connection, site, run)?;
        outcome.stored += stored.len() as u64;
        stored.into_iter().for_each(|row| rollup.add(&row.reading));
        Ok(())
    })?;
    Ok(refused.into_iter().map(|(index, refusal)| outcome.poison(&rows[index], refusal)).collect())
}

/// Inserts `run`. Returns those of its rows that are new.
fn insert_run<'a>(
    connection: &mut PgConnection,
    site: &str,
    run: &'a [ReadingRow],
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
        return Ok(run.iter().collect());
    }
    // Of rows with the same key the first one is stored.
    Ok(run.iter().filter(|row| keys.remove(&key(row))).collect())
}

fn key(row: &ReadingRow) -> (String, i64, i64) {
    let reading = &row.reading;
    let recorded_at = SqlInstant(reading.recorded_at).stored_micros();
    (reading.machine_id.as_str().to_owned(), recorded_at, reading.digest.cast_signed())
}
