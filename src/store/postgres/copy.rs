//! Copying readings into their table by COPY in its binary format, the cheapest way in for the server.
//!
//! COPY stores all rows or none: one reading that is stored already fails it, and so does one that the
//! database refuses. Then the transaction starts again and inserts them. [`CopyPacing`] bounds how often.

use std::io::Write;

use diesel::pg::CopyFormat;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};

use super::sqlstate;
use crate::store::batch::ReadingRow;
use crate::store::schema::{SqlInstant, machine_telemetry};
use crate::store::without_nul;

/// A commit with fewer readings inserts them: COPY takes one round trip more, and is not prepared.
const COPIED_ROWS_MIN: usize = 64;
/// Most commits without a repeated reading that a failed COPY asks for.
const CLEAN_COMMITS_MAX: u32 = 64;
/// Bytes of one message of the protocol: the server reads a part while the next one is encoded.
const PART_BYTES: usize = 32 * 1024;

/// Signature, flags and length of the header's extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const COLUMNS: i16 = 11;
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// Version of the binary format of `jsonb`: the text follows.
const JSONB_VERSION: u8 = 1;

/// Which commits copy their readings.
///
/// A broker that delivers again brings readings that are stored already, many batches in a row. After a COPY
/// failed, commits insert until some of them had no such reading: one at first, twice as many after each
/// further failure.
#[derive(Debug, Default)]
pub struct CopyPacing {
    clean_commits_left: u32,
    clean_commits_wanted: u32,
}

impl CopyPacing {
    /// Returns whether a commit of `rows` readings copies them.
    pub fn copies(&self, rows: usize) -> bool {
        rows >= COPIED_ROWS_MIN && self.clean_commits_left == 0
    }

    /// Call it after a COPY failed.
    pub fn failed(&mut self) {
        self.clean_commits_wanted = (self.clean_commits_wanted * 2).clamp(1, CLEAN_COMMITS_MAX);
        self.clean_commits_left = self.clean_commits_wanted;
    }

    /// Call it after a commit that copied.
    pub fn succeeded(&mut self) {
        self.clean_commits_wanted /= 2;
    }

    /// Call it after a commit that inserted; `is_clean` if it would have copied as well.
    pub fn inserted(&mut self, is_clean: bool) {
        self.clean_commits_left =
            if is_clean { self.clean_commits_left.saturating_sub(1) } else { self.clean_commits_wanted };
    }
}

/// Copies `rows`, whose keys all differ.
///
/// # Errors
/// [`Error::RollbackTransaction`] if a trigger left some out.
pub fn copy(connection: &mut PgConnection, site: &str, rows: &[&ReadingRow]) -> QueryResult<()> {
    use machine_telemetry as column;
    // An error of libpq while it sends has no SQLSTATE of its own.
    sqlstate::forget();
    let columns = (
        column::site,
        column::machine_id,
        column::temperature,
        column::humidity,
        column::vibration,
        column::extra,
        column::source_topic,
        column::recorded_at,
        column::time_source,
        column::received_at,
        column::digest,
    );
    let copied = diesel::copy_from(machine_telemetry::table)
        .from_raw_data(columns, |out| send(out, site, rows))
        .with_format(CopyFormat::Binary)
        .execute(connection)?;
    if copied == rows.len() { Ok(()) } else { Err(Error::RollbackTransaction) }
}

fn send(out: &mut dyn Write, site: &str, rows: &[&ReadingRow]) -> QueryResult<()> {
    send_rows(out, rows, |part, row| encode(part, site, row))
}

/// Sends rows in the binary format. `encode` appends a row: the number of its columns, then each one's length and bytes.
pub fn send_rows<R>(out: &mut dyn Write, rows: &[R], encode: impl Fn(&mut Vec<u8>, &R)) -> QueryResult<()> {
    let mut sent = |part: &[u8]| {
        out.write_all(part).map_err(|error| {
            Error::DatabaseError(DatabaseErrorKind::UnableToSendCommand, Box::new(error.to_string()))
        })
    };
    let mut part = Vec::with_capacity(PART_BYTES + 1_024);
    part.extend_from_slice(HEADER);
    for row in rows {
        encode(&mut part, row);
        if part.len() >= PART_BYTES {
            sent(&part)?;
            part.clear();
        }
    }
    part.extend_from_slice(&TRAILER);
    sent(&part)
}

/// Appends a row: the number of its columns, then each one's length and bytes.
fn encode(part: &mut Vec<u8>, site: &str, row: &ReadingRow) {
    let reading = &row.reading;
    part.extend_from_slice(&COLUMNS.to_be_bytes());
    put(part, site.as_bytes());
    put(part, reading.machine_id.as_str().as_bytes());
    for value in [reading.temperature, reading.humidity, reading.vibration] {
        match value {
            Some(value) => put(part, &value.to_be_bytes()),
            None => part.extend_from_slice(&NULL),
        }
    }
    match &reading.extra {
        Some(extra) => {
            put_length(part, extra.len() + 1);
            part.push(JSONB_VERSION);
            part.extend_from_slice(extra.as_bytes());
        }
        None => part.extend_from_slice(&NULL),
    }
    put(part, without_nul(&row.topic).as_bytes());
    put(part, &SqlInstant(reading.recorded_at).postgres_micros().to_be_bytes());
    put(part, reading.time_source.as_str().as_bytes());
    put(part, &SqlInstant(row.received_at).postgres_micros().to_be_bytes());
    put(part, &reading.digest.to_be_bytes());
}

fn put(part: &mut Vec<u8>, bytes: &[u8]) {
    put_length(part, bytes.len());
    part.extend_from_slice(bytes);
}

fn put_length(part: &mut Vec<u8>, length: usize) {
    let length = i32::try_from(length).expect("a field is part of an MQTT message, at most 256 MiB");
    part.extend_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_copy_commits_insert_until_enough_of_them_had_no_repeated_reading() {
        let mut pacing = CopyPacing::default();
        assert!(pacing.copies(COPIED_ROWS_MIN) && !pacing.copies(COPIED_ROWS_MIN - 1));
        for clean_commits in [1, 2, 4, 8, 16, 32, 64, 64] {
            pacing.failed();
            pacing.inserted(false);
            for _ in 0..clean_commits {
                assert!(!pacing.copies(1_000));
                pacing.inserted(true);
            }
            assert!(pacing.copies(1_000), "after {clean_commits}");
        }
        (0..6).for_each(|_| pacing.succeeded());
        pacing.failed();
        pacing.inserted(true);
        pacing.inserted(true);
        assert!(pacing.copies(1_000), "successes make the next wait shorter");
    }
}
