//! The SQL database: readings, rejections, machines and the journal's position, on SQLite and on PostgreSQL.
//!
//! Owns the connection and the tables of `migrations/` (`docs/tables.md` says what they hold). Receives a
//! [`Batch`], all that a range of the journal became, and commits it in one transaction. Knows neither the
//! journal nor actors. Logs nothing; returns facts.
//!
//! ```text
//! mod              the trait, its options and facts, open()
//! batch            what a commit writes, and its outcome
//! operations       the trait on each database
//! both_databases   how shared queries are written once and compiled for each database
//! checkpoint       a journal's position and ledger, and which process may move it
//! machines         a site's machines, their readings counted, their history
//! liveness_rows    our own outages, and events that still have to reach the broker
//! machine_changes  transitions folded to one row per machine
//! clock            the record of the trusted time
//! forget           machines to forget, and how far the service is with each
//! retained         retained messages without a time of their own, each stored once
//! rejected         what could not become a reading
//! reference        how the table of the reference worker is recognised
//! reprocess        a rejected element interpreted again
//! retention        what is kept for how long
//! prune/           deleting what is past retention
//! partitions       what became of the partitions of the readings
//! space            the space of an SQLite file
//! audit            who changed what
//! rollup/          five-minute rollups, and from when on they are exact
//! history/         what the board and the API read, through a read-only connection
//! refused          rows beside the readings that the database refuses
//! unreadable       rows that cannot be read: skipped, and named once
//! migrate          embedded migrations, one process at a time
//! table_counts     how many rows the tables have
//! transfer/        copying all tables from SQLite to PostgreSQL
//! schema           the tables and instants as diesel sees them (instant_text: as SQLite keeps them)
//! statement        fixed SQL that is prepared once a connection
//! progress         when a connection last finished a statement
//! worker           threads that own a connection and run closures on it
//! error, failure   which operation failed and why, and whether another attempt can help
//! sqlite/          one file; readings in runs, everything else row by row
//! postgres/        few large statements; smaller ones around a row that is refused or slow
//! ```
//!
//! Invariants
//! - **STO-1** A commit is one transaction: rows, rejections, gaps, transitions, counters and position, or
//!   nothing.
//! - **STO-2** The position moves by compare-and-set, from exactly [`Batch::after`], and only for the process
//!   that claimed it last.
//! - **STO-3** Every reading of a batch ends as stored, duplicate or rejected, and is counted in the same
//!   transaction.
//! - **STO-4** A reading, event, machine, outage or sighting that the database refuses for what it holds
//!   never fails its batch; any other error does.
//! - **STO-5** A database with migrations that this binary does not know is left untouched.
//! - **STO-6** A retry moves an element in the ledger in the transaction that stores its reading; the
//!   position stays.
//! - **STO-7** A retained message without a usable time is stored once per machine and payload, however often
//!   it comes.
//!
//! Moving the position is the first statement of a commit (STO-2), so that its row lock queues every other
//! writer of this journal. A writer that was given up for dead, a batch sent again after an unknown outcome,
//! or a copy of the journal's directory that has claimed the position since, gets
//! [`StoreError::StalePosition`] and stores nothing.
//!
//! On failure: after any error of [`Store::commit`] but a stale position the outcome is unknown, because the
//! connection may have broken after the server committed. Drop the store, [`open`] it again, read the
//! [`Store::checkpoint`], and build the next batch on it if this process still holds the claim.

mod audit;
mod batch;
mod both_databases;
mod checkpoint;
mod clock;
mod error;
mod failure;
mod forget;
mod history;
mod instant_text;
mod liveness_rows;
mod machine_changes;
mod machines;
mod migrate;
mod operations;
mod partitions;
mod postgres;
mod progress;
mod prune;
mod reference;
mod refused;
mod rejected;
mod reprocess;
mod retained;
mod retention;
mod rollup;
mod schema;
mod space;
mod sqlite;
mod statement;
mod table_counts;
mod transfer;
mod unreadable;
mod worker;

#[cfg(test)]
mod contract_tests;

use std::time::Duration;

pub use crate::database_url::{DatabaseUrl, SchemaName};
use crate::domain::{ClockRecord, JournalHistory, JournalId, MachineId, Timestamp};

pub use audit::AuditEvent;
pub use batch::{Batch, CommitOutcome, GapRow, PoisonedRow, ReadingRow, RejectionRow};
pub use checkpoint::{Checkpoint, Claim};
pub use error::{Cause, CommitStep, ErrorClass, StoreError};
pub use forget::{ForgetChange, ForgetRequest};
pub use history::{
    Aggregate, Bucket, BucketsQuery, EXTRA_LISTED_BYTES_MAX, EachRow, EventCursor, Events, EventsQuery,
    History, LatestReading, Order, ReadingCursor, ReadingsQuery, StoredEvent, StoredReading, TrendPoint,
    TrendsQuery, collected, open_history,
};
pub use liveness_rows::{EventKey, LivenessPast, LivenessRows, PastWanted};
pub use machines::{MachineRow, SiteHistory};
pub use migrate::{Hypertable, MigrationReport, MigrationStatus};
pub use partitions::{DroppedPart, PartsTended};
pub use postgres::import::{
    Found, Import, ImportState, ImportedReading, KEPT_TABLE, OldRow, ReadRow, TakeOver, UnreadableOldRow,
};
pub use progress::Progress;
pub use prune::{PruneBounds, PruneCursor, PrunePace, PruneTable, Pruned};
use prune::{aged, events, readings, rejected_bytes};
pub use reference::ReferenceTable;
pub use refused::RefusedRow;
pub use rejected::{RejectedCount, RejectedFilter, RejectedPage, RejectedRow};
pub use reprocess::{Retry, RetryOutcome};
pub use retention::{PruneLimits, Retention};
use rollup::exact;
pub use space::{FileSpace, SpaceReleased};
pub use sqlite::Backup;
pub use table_counts::TableCount;
pub use transfer::{Checksum, Copied, CopyWatch, copy};
pub use unreadable::{UnreadableRow, UnreadableRows};
pub use worker::{NotTaken, Worker, WorkerConnection};

/// How to reach the database and how long to wait for it.
#[derive(Clone)]
pub struct StoreOptions {
    /// Where it is.
    pub url: DatabaseUrl,
    /// The schema of the tables on PostgreSQL; `None`: the role's own search path decides.
    pub schema: Option<SchemaName>,
    /// The site whose rows these are.
    pub site: String,
    /// Bound on connecting to one PostgreSQL host; whole seconds, at least 2 (libpq's rule). Not used by
    /// SQLite.
    pub connect_timeout: Duration,
    /// Bound on one statement of PostgreSQL, enforced by the server, and on one of a [`History`] on SQLite;
    /// zero is none.
    pub statement_timeout: Duration,
    /// Bound on waiting for another process's lock; zero waits for ever on PostgreSQL and not at all on
    /// SQLite.
    pub lock_timeout: Duration,
    /// On PostgreSQL the migrations put the readings into a hypertable of TimescaleDB, if it is installed.
    pub timescale: bool,
    /// Collects the rows that cannot be read. The opener of the store logs them.
    pub unreadable: UnreadableRows,
    /// Records each statement that the opened store finishes.
    pub progress: Progress,
}

/// Shows everything but the credentials in the URL.
impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("target", &self.url.place())
            .field("schema", &self.schema)
            .field("site", &self.site)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .finish()
    }
}

/// What the database is, as found when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFacts {
    /// `sqlite` or `postgresql`.
    pub backend: &'static str,
    /// Its version.
    pub version: String,
    /// Where it is, without credentials.
    pub target: String,
    /// The schema that holds the tables, if `store.schema` names one.
    pub schema: Option<SchemaName>,
    /// The table of the reference worker, or the view in its place, if either is there.
    pub reference: Option<ReferenceTable>,
    /// Settings of the database that weaken Andon's promises, in sentences for a person.
    pub warnings: Vec<String>,
}

impl StoreFacts {
    /// Says what to do about the table of the reference worker, if it is there and is not in the way.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        self.reference.as_ref().filter(|found| !found.is_in_the_way).and_then(ReferenceTable::sentence)
    }

    /// Says what to do about the table of the reference worker, if it is where Andon's own would be.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        self.reference.as_ref().filter(|found| found.is_in_the_way).and_then(ReferenceTable::sentence)
    }

    /// Says where the tables are, without credentials.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}, schema {schema}", self.target),
            None => self.target.clone(),
        }
    }
}

/// The state of a migrated database, for `db status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// Each table of the contract.
    pub tables: Vec<TableCount>,
    /// Each journal that ever committed here.
    pub checkpoints: Vec<Checkpoint>,
    /// The space of an SQLite file.
    pub file: Option<FileSpace>,
}

/// A connection to the database of one site. Every call blocks; use it on a thread of its own.
pub trait Store: Send {
    /// Returns what the database is.
    fn facts(&self) -> &StoreFacts;

    /// Applies the pending migrations, all or none. Two processes may call it at once.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] if a newer binary migrated it; [`StoreError::Migrate`].
    fn migrate(&mut self) -> Result<MigrationReport, StoreError>;

    /// Returns which migrations are applied, pending and unknown. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Migrate`].
    fn migration_status(&mut self) -> Result<MigrationStatus, StoreError>;

    /// Claims the position of a journal for the process that has the journal open, if this journal's history
    /// wrote it. A journal that the database does not know begins at [`Seq::ZERO`](crate::domain::Seq::ZERO).
    /// From then on only batches with its open id move the position, until another process claims it.
    ///
    /// # Errors
    /// [`StoreError::ReadCheckpoint`]; [`StoreError::StalePosition`] if another process moves or claims it at
    /// the same time.
    fn claim(&mut self, history: &JournalHistory) -> Result<Claim, StoreError>;

    /// Returns the position and ledger of a journal; `None` if the database does not know it. Changes
    /// nothing.
    ///
    /// # Errors
    /// [`StoreError::ReadCheckpoint`].
    fn checkpoint(&mut self, journal: JournalId) -> Result<Option<Checkpoint>, StoreError>;

    /// Returns the position and ledger of every journal that ever committed here. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::ReadStatus`].
    fn checkpoints(&mut self) -> Result<Vec<Checkpoint>, StoreError>;

    /// Returns every machine of the site, in order of their ids.
    ///
    /// # Errors
    /// [`StoreError::ReadMachines`].
    fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError>;

    /// Returns what liveness starts from, beside the machines.
    ///
    /// # Errors
    /// [`StoreError::ReadMachines`].
    fn liveness_past(&mut self, wanted: PastWanted) -> Result<LivenessPast, StoreError>;

    /// Counts the readings of each machine recorded from `from` on and before `to`. Machines without any have
    /// 0.
    ///
    /// # Errors
    /// [`StoreError::ReadMachines`].
    fn readings_between(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(MachineId, u64)>, StoreError>;

    /// Returns events and our own outages from `from` on.
    ///
    /// # Errors
    /// [`StoreError::ReadMachines`].
    fn history(&mut self, from: Timestamp) -> Result<SiteHistory, StoreError>;

    /// Stores a batch and moves the position, in one transaction (STO-1 to STO-4).
    ///
    /// # Errors
    /// [`StoreError::StalePosition`]: nothing was stored. [`StoreError::SlowRow`]: nothing was stored; call
    /// again later. [`StoreError::Commit`]: the batch may or may not be stored; reopen and read the
    /// checkpoint.
    fn commit(&mut self, batch: &Batch) -> Result<CommitOutcome, StoreError>;

    /// Returns at most `rows_max` rejected elements of the site, each with the first `payload_bytes` of its
    /// payload.
    ///
    /// # Errors
    /// [`StoreError::ReadRejected`].
    fn rejected(
        &mut self,
        filter: &RejectedFilter,
        page: RejectedPage,
        rows_max: u32,
        payload_bytes: u32,
    ) -> Result<Vec<RejectedRow>, StoreError>;

    /// Counts the rejected elements of the site by reason and topic.
    ///
    /// # Errors
    /// [`StoreError::ReadRejected`].
    fn rejected_counts(&mut self, filter: &RejectedFilter) -> Result<Vec<RejectedCount>, StoreError>;

    /// Stores the readings of a rejected element, deletes its row and corrects the ledger, in one transaction
    /// (STO-6).
    ///
    /// # Errors
    /// [`StoreError::Retry`]: the element is still rejected, unless the connection broke during the commit.
    fn retry(&mut self, retry: &Retry) -> Result<RetryOutcome, StoreError>;

    /// Does one step of a run that deletes what is beyond `limits`, of this site. `from` is where the step
    /// before it ended; `None` begins a run.
    ///
    /// # Errors
    /// [`StoreError::Prune`].
    fn prune(
        &mut self,
        limits: &PruneLimits,
        from: Option<&PruneCursor>,
        bounds: PruneBounds,
    ) -> Result<Pruned, StoreError>;

    /// Asks the service to forget machines, and deletes their rows. Returns those that have no row; nothing is asked of
    /// them.
    ///
    /// # Errors
    /// [`StoreError::Forget`]: nothing was asked.
    fn request_forget(&mut self, machines: &[MachineId], at: Timestamp)
    -> Result<Vec<MachineId>, StoreError>;

    /// Returns the requests of the site that are not done, the oldest first.
    ///
    /// # Errors
    /// [`StoreError::Forget`].
    fn forget_requests(&mut self) -> Result<Vec<ForgetRequest>, StoreError>;

    /// Where the readings are partitioned, creates the next months, and drops the parts in which every row is
    /// past `limits`. Returns what remains to be deleted one by one: in a part that is to be dropped later, nothing.
    /// Call it before a run of deletion.
    ///
    /// # Errors
    /// [`StoreError::Prune`].
    fn tend_partitions(&mut self, limits: &PruneLimits, now: Timestamp) -> Result<PartsTended, StoreError>;

    /// Gives at most `pages_max` pages of an SQLite file back to the file system, if many are free.
    ///
    /// # Errors
    /// [`StoreError::Prune`].
    fn release_space(&mut self, pages_max: u32) -> Result<SpaceReleased, StoreError>;

    /// Adds a row to the audit log.
    ///
    /// # Errors
    /// [`StoreError::RecordAudit`].
    fn record_audit(&mut self, event: &AuditEvent) -> Result<(), StoreError>;

    /// Keeps `ours` as the site's record of the trusted time, unless the database has a newer one: then
    /// returns that one. Without `ours` returns the record of the database, or, if it has none, the time of
    /// the site's newest commit as record 0.
    ///
    /// # Errors
    /// [`StoreError::ExchangeClock`].
    fn exchange_clock(&mut self, ours: Option<ClockRecord>) -> Result<Option<ClockRecord>, StoreError>;

    /// Returns the rows per table and all checkpoints. The database must be migrated.
    ///
    /// # Errors
    /// [`StoreError::ReadStatus`].
    fn status(&mut self) -> Result<StoreStatus, StoreError>;
}

/// Connects. Does not migrate: tables may be missing until [`Store::migrate`].
///
/// Creates an SQLite file and its directories if they are missing.
///
/// # Errors
/// [`StoreError::Unsupported`], [`StoreError::CreateDirectory`],
/// [`StoreError::Connect`].
pub fn open(options: &StoreOptions) -> Result<Box<dyn Store>, StoreError> {
    match &options.url {
        DatabaseUrl::Sqlite(path) => Ok(Box::new(sqlite::Database::open(path, options)?)),
        DatabaseUrl::Postgres(url) => Ok(Box::new(postgres::Database::open(url, options)?)),
    }
}

/// Returns `text` with U+FFFD for U+0000, which PostgreSQL cannot hold. SQLite could; both store the same.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.as_bytes().contains(&0) { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

/// Converts a count or sequence number for a database. These have no unsigned type; beyond 2^63 − 1 it
/// saturates.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a count or sequence number from a database.
fn from_bigint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
