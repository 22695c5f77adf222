//! Which readings of a run are new.

use std::collections::HashSet;

use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::statements::ReadingColumns;
use crate::store::batch::ReadingRow;
use crate::store::schema::Moment;

/// Inserts `run`, whose columns are `columns`, and gives those of its rows that were not there yet.
pub fn insert_run<'a>(
    connection: &mut PgConnection,
    site: &str,
    columns: &ReadingColumns<'_>,
    run: &'a [ReadingRow],
) -> QueryResult<Vec<&'a ReadingRow>> {
    let answer = columns.insert(site).load::<(Option<String>, Option<Moment>, i64)>(connection)?;
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
    let recorded_at = Moment(reading.recorded_at).stored_micros();
    (reading.machine_id.as_str().to_owned(), recorded_at, reading.digest.cast_signed())
}
