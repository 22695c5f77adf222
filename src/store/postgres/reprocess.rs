//! Writing the rows of a retry, with savepoints from the start: it has few rows, and one of them was refused
//! before.

use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::commit::insert_rejections;
use super::runs::{RUN_ROWS_MAX, RunWriter, WriteMode};
use super::{readings, rollups};
use crate::store::batch::{CommitOutcome, ReadingRow, RejectionRow};
use crate::store::reprocess::RetryStop;
use crate::store::rollup::Rollup;
use crate::store::schema::ingest_checkpoint;

/// Locks the ledger's row, as every commit does first. Returns `false` if the journal has none.
pub fn lock_ledger(connection: &mut PgConnection, journal_id: &str) -> QueryResult<bool> {
    let ledger = ingest_checkpoint::table.find(journal_id).select(ingest_checkpoint::committed_seq);
    Ok(ledger.for_update().first::<i64>(connection).optional()?.is_some())
}

/// Writes the rows of one retry.
pub struct Writer<'a> {
    runs: RunWriter<'a>,
    site: &'a str,
    journal_id: &'a str,
}

impl<'a> Writer<'a> {
    /// Begins, inside the transaction.
    pub fn begin(connection: &'a mut PgConnection, site: &'a str, journal_id: &'a str) -> QueryResult<Self> {
        let mode = WriteMode { copies: false, isolates: true, checks_at_once: true };
        Ok(Self { runs: RunWriter::begin(connection, mode, RUN_ROWS_MAX)?, site, journal_id })
    }

    /// The connection, inside the transaction.
    pub fn connection(&mut self) -> &mut PgConnection {
        self.runs.connection
    }

    /// Inserts `rows`, counts the new ones, and returns the refused ones as rejections.
    pub fn insert_readings<'r>(
        &mut self,
        rows: &'r [ReadingRow],
        outcome: &mut CommitOutcome,
        rollup: &mut Rollup<'r>,
    ) -> Result<Vec<RejectionRow>, RetryStop> {
        Ok(readings::write(&mut self.runs, self.site, rows, outcome, rollup)?.refused)
    }

    /// Adds `rollup` to the buckets.
    pub fn add_rollup(&mut self, rollup: &Rollup<'_>) -> QueryResult<()> {
        rollups::add(self.runs.connection, self.site, rollup, RUN_ROWS_MAX)
    }

    /// Inserts `rows`.
    pub fn insert_rejections(&mut self, rows: &[RejectionRow]) -> QueryResult<()> {
        insert_rejections(self.runs.connection, self.site, self.journal_id, rows, RUN_ROWS_MAX)
    }
}
