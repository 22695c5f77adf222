//! Writing the rows of a retry, one by one.

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::commit::{Failure, Fatal, RowWriter};
use super::{now, rollups};
use crate::store::batch::{CommitOutcome, ReadingRow, RejectionRow};
use crate::store::reprocess::RetryStop;
use crate::store::rollup::Rollup;
use crate::store::schema::ingest_checkpoint;

impl From<Failure> for RetryStop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fatal(_, refusal) => Self::Refused(refusal),
            Failure::Commit(failure) => failure.into(),
            Failure::RowByRow => Self::Failed("a retry already writes row by row".into()),
        }
    }
}

/// Returns whether the journal has a ledger. The transaction holds SQLite's one write lock already.
pub fn lock_ledger(connection: &mut SqliteConnection, journal_id: &str) -> QueryResult<bool> {
    let ledger = ingest_checkpoint::table.find(journal_id).select(ingest_checkpoint::committed_seq);
    Ok(ledger.first::<i64>(connection).optional()?.is_some())
}

/// Writes the rows of one retry.
pub struct Writer<'a> {
    connection: &'a mut SqliteConnection,
    rows: RowWriter<'a>,
}

impl<'a> Writer<'a> {
    /// Begins, inside the transaction.
    #[allow(clippy::unnecessary_wraps, reason = "PostgreSQL asks its server")]
    pub fn begin(
        connection: &'a mut SqliteConnection,
        site: &'a str,
        journal_id: &'a str,
    ) -> QueryResult<Self> {
        Ok(Self { connection, rows: RowWriter { site, journal_id, now: now() } })
    }

    /// The connection, inside the transaction.
    pub fn connection(&mut self) -> &mut SqliteConnection {
        self.connection
    }

    /// Inserts `rows`, counts the new ones, and returns the refused ones as rejections.
    pub fn insert_readings<'r>(
        &mut self,
        rows: &'r [ReadingRow],
        outcome: &mut CommitOutcome,
        rollup: &mut Rollup<'r>,
    ) -> Result<Vec<RejectionRow>, RetryStop> {
        Ok(self.rows.insert_readings(self.connection, rows, &Fatal::new(), outcome, rollup)?)
    }

    /// Adds `rollup` to the buckets.
    pub fn add_rollup(&mut self, rollup: &Rollup<'_>) -> QueryResult<()> {
        rollups::add(self.connection, self.rows.site, rollup)
    }

    /// Inserts `rows`.
    pub fn insert_rejections(&mut self, rows: &[RejectionRow]) -> QueryResult<()> {
        self.rows.insert_rejections(self.connection, rows)
    }
}
