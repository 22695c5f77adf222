//! The SQL database: readings, rejections, machines and the journal's position, on SQLite and on PostgreSQL.
//!
//! Owns the connection and the tables of `migrations/`. Receives a [`Batch`], which is what a range of the
//! journal became, and commits it as one transaction. Knows neither the journal nor actors; logs nothing, but
//! returns facts.
//!
//! ```text
//! mod              the trait, its plain types, open()
//! batch            what is committed, and the outcome
//! claim            whose position it is
//! clock            the record of the trusted time
//! machine_changes  transitions folded to one row per machine
//! refused          rows beside the readings that the database does not take
//! liveness_rows    our own outages and the events' outbox
//! schema           the tables, and instants in both databases (instant_text)
//! statement        fixed SQL that is prepared once a connection
//! sqlite/          one file, row by row
//! postgres/        few large statements: arrays through unnest; smaller ones around a row that is refused or slow
//! history/         what the board and the API read, read-only
//! fleet            what a person wants to know of the machines
//! reads            what is read back, alike on both
//! retained         retained messages without a time of their own, each once
//! progress         when a connection finished a statement last
//! prune            deleting readings and rollups past retention
//! rejected         what could not become a reading, looked at and tried again
//! rollup/          five-minute rollups, and from when on they are exact
//! migrate          embedded migrations, one runner at a time
//! unreadable       rows that are not as Andon writes them: passed over, and named
//! error, failure   why an operation failed, and whether trying again can help
//! ```
//!
//! Invariants
//! - **STO-1** A commit is one transaction: rows, rejections, gaps, transitions, counters and position, or
//!   nothing.
//! - **STO-2** The position moves by compare-and-set from exactly [`Batch::after`] as [`Batch::open_id`] has claimed it, as the first
//!   statement, so that the row's lock puts every other writer of this journal in line behind. A writer that was given up
//!   for dead, a batch sent again after an unknown outcome, or a copy of the journal's directory that has claimed the
//!   position since, gets [`StoreError::StalePosition`] and stores nothing.
//! - **STO-3** Every reading of a batch ends as stored, duplicate or rejected, and each is counted in the same
//!   transaction.
//! - **STO-4** A reading, event, machine, mark, outage or sighting that the database refuses for what it holds never fails its
//!   batch; everything else that goes wrong does.
//! - **STO-5** A database with migrations that this binary does not know is not touched.
//! - **STO-6** A rejected element that becomes a reading moves in the ledger in the same transaction; the position stays.
//! - **STO-7** A retained message without usable time is stored once for a machine and payload, however often it is handed over.
//!
//! On failure: after any error of [`Store::commit`] but a stale position the outcome is unknown to the
//! caller, for the connection may have been lost after the server committed. Drop the store, [`open`] it
//! again, read the [`Store::checkpoint`], and build the next batch on that if it is still our own.

mod batch;
mod claim;
mod clock;
mod error;
mod failure;
mod fleet;
mod history;
mod instant_text;
mod liveness_rows;
mod machine_changes;
mod migrate;
mod postgres;
mod progress;
mod prune;
mod reads;
mod refused;
mod rejected;
mod retained;
mod rollup;
mod schema;
mod sqlite;
mod statement;
mod unreadable;

#[cfg(test)]
mod contract_tests;

use std::time::Duration;

pub use crate::database_url::DatabaseUrl;
use crate::domain::{
    ClockRecord, JournalHistory, JournalId, Ledger, MachineId, MachineStatus, OpenId, Seq, Timestamp,
    TransitionReason,
};

pub use batch::{Batch, CommitOutcome, GapRow, PoisonedRow, ReadingRow, RejectionRow};
pub use error::{Cause, CommitStep, ErrorClass, StoreError};
pub use fleet::SiteHistory;
pub use history::{
    Aggregate, Bucket, BucketsQuery, EXTRA_LISTED_BYTES_MAX, EachRow, EventCursor, Events, EventsQuery,
    History, LatestReading, Order, ReadingCursor, ReadingsQuery, StoredEvent, StoredReading, TrendPoint,
    TrendsQuery, collected, open_history,
};
pub use liveness_rows::{EventKey, LivenessPast, LivenessRows, PastWanted};
pub use migrate::{MigrationReport, MigrationStatus};
pub use progress::Progress;
pub use prune::{PruneBounds, PruneCursor, PruneTable, Pruned};
pub use refused::RefusedRow;
pub use rejected::{RejectedCount, RejectedFilter, RejectedPage, RejectedRow, Retry, RetryOutcome};
pub use unreadable::{UnreadableRow, UnreadableRows};

/// How to reach the database and how long to wait for it.
#[derive(Clone)]
pub struct StoreOptions {
    /// Where it is.
    pub url: DatabaseUrl,
    /// The site whose rows these are.
    pub site: String,
    /// Bound on connecting to one PostgreSQL host; whole seconds, at least 2 (libpq's rule). Not used by
    /// SQLite.
    pub connect_timeout: Duration,
    /// Bound on one statement of PostgreSQL, kept by the server, and of a history in SQLite; zero is none.
    pub statement_timeout: Duration,
    /// How long to wait for somebody else's lock; zero is for ever on PostgreSQL and not at all on SQLite.
    pub lock_timeout: Duration,
    /// Where rows are noted that cannot be read; whoever opened the store says so.
    pub unreadable: UnreadableRows,
    /// Where the store that is opened notes each statement that it has finished.
    pub progress: Progress,
}

/// Shows everything but the credentials in the URL.
impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("target", &self.url.place())
            .field("site", &self.site)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .finish()
    }
}

/// What the database is, learnt when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFacts {
    /// `sqlite` or `postgresql`.
    pub backend: &'static str,
    /// Its version.
    pub version: String,
    /// Where it is, without credentials.
    pub target: String,
    /// Settings of the database that weaken what Andon promises, in words for a person.
    pub warnings: Vec<String>,
}

/// A journal's row of `ingest_checkpoint`: its position and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The journal's id as text.
    pub journal_id: String,
    /// The site that the journal was first used for.
    pub site: String,
    /// Everything up to here is in the database.
    pub committed_seq: Seq,
    /// Messages committed.
    pub messages: u64,
    /// Elements that became new rows.
    pub stored: u64,
    /// Elements that were there already.
    pub duplicate: u64,
    /// Elements rejected, by our rules or by the database.
    pub rejected: u64,
    /// Elements that are neither readings nor rejections.
    pub control: u64,
    /// When the row was last written, by the database's clock.
    pub updated_at: Timestamp,
    /// The name in which it was claimed; `None`: by Andon 0.1.0, which had none.
    pub open_id: Option<String>,
}

impl Checkpoint {
    /// Whether the process that goes by `open_id` has claimed it, and nobody since.
    #[must_use]
    pub fn is_claimed_by(&self, open_id: OpenId) -> bool {
        self.open_id.as_deref() == Some(open_id.to_string().as_str())
    }

    /// Its counts and its position.
    #[must_use]
    pub const fn ledger(&self) -> Ledger {
        Ledger {
            committed_seq: self.committed_seq,
            messages: self.messages,
            stored: self.stored,
            duplicate: self.duplicate,
            rejected: self.rejected,
            control: self.control,
        }
    }
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The position is this process's to move.
    Granted(Checkpoint),
    /// The position speaks of another history of the journal; the row is as it was.
    Foreign(Checkpoint),
}

/// A row of `machine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineRow {
    /// Which machine of the site.
    pub machine_id: MachineId,
    /// Its status.
    pub status: MachineStatus,
    /// Since when.
    pub status_since: Option<Timestamp>,
    /// Why, if the event of that change is there.
    pub reason: Option<TransitionReason>,
    /// Its first message; `None` if it never spoke.
    pub first_seen_at: Option<Timestamp>,
    /// Its newest message; `None` if it never spoke.
    pub last_seen_at: Option<Timestamp>,
}

/// How many rows a table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCount {
    /// The table.
    pub table: &'static str,
    /// Rows in it, of all sites.
    pub rows: u64,
    /// Counted, not estimated; large tables are estimated.
    pub exact: bool,
}

/// The state of a migrated database, for `db status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// Each table of the contract.
    pub tables: Vec<TableCount>,
    /// Each journal that ever committed here.
    pub checkpoints: Vec<Checkpoint>,
}

/// A connection to the database of one site. Every call blocks; use it on a thread of its own.
pub trait Store: Send {
    /// What the database is.
    fn facts(&self) -> &StoreFacts;

    /// Applies the migrations that are pending, all or none; two processes may call it at once.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] if a newer binary migrated it; [`StoreError::Migrate`].
    fn migrate(&mut self) -> Result<MigrationReport, StoreError>;

    /// Which migrations are applied, pending and unknown. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Migrate`].
    fn migration_status(&mut self) -> Result<MigrationStatus, StoreError>;

    /// Claims the position of a journal for the process that has it open, if it can be believed; a journal that is not known
    /// yet begins at [`Seq::ZERO`]. From then on only batches with its own open id move the position, until another claims it.
    ///
    /// # Errors
    /// [`StoreError::ReadCheckpoint`]; [`StoreError::StalePosition`] if somebody else moves or claims it at this moment.
    fn claim(&mut self, history: &JournalHistory) -> Result<Claim, StoreError>;

    /// The position and ledger of a journal; `None` if it is not known here. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::ReadCheckpoint`].
    fn checkpoint(&mut self, journal: JournalId) -> Result<Option<Checkpoint>, StoreError>;

    /// The position and ledger of every journal that ever committed here. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::ReadStatus`].
    fn checkpoints(&mut self) -> Result<Vec<Checkpoint>, StoreError>;

    /// Every machine of the site, in order of their ids.
    ///
    /// # Errors
    /// [`StoreError::ReadMachines`].
    fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError>;

    /// What liveness begins from, beside the machines.
    ///
    /// # Errors
    /// [`StoreError::ReadMachines`].
    fn liveness_past(&mut self, wanted: PastWanted) -> Result<LivenessPast, StoreError>;

    /// Readings of each machine recorded from `from` on and before `to`; machines without any have 0.
    ///
    /// # Errors
    /// [`StoreError::ReadMachines`].
    fn readings_between(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(MachineId, u64)>, StoreError>;

    /// Events and our own outages from `from` on.
    ///
    /// # Errors
    /// [`StoreError::ReadMachines`].
    fn history(&mut self, from: Timestamp) -> Result<SiteHistory, StoreError>;

    /// Stores a batch and moves the position, in one transaction (STO-1 to STO-4).
    ///
    /// # Errors
    /// [`StoreError::StalePosition`]: nothing was stored. [`StoreError::Commit`]: it is unknown whether the
    /// batch was stored; reopen and read the checkpoint.
    fn commit(&mut self, batch: &Batch) -> Result<CommitOutcome, StoreError>;

    /// Rejected elements of the site, at most `rows_max` of a page, each with the first `payload_bytes` of its payload.
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

    /// How many rejected elements of the site there are, by reason and topic.
    ///
    /// # Errors
    /// [`StoreError::ReadRejected`].
    fn rejected_counts(&mut self, filter: &RejectedFilter) -> Result<Vec<RejectedCount>, StoreError>;

    /// Stores what a rejected element is now, deletes its row and corrects the ledger, in one transaction (STO-6).
    ///
    /// # Errors
    /// [`StoreError::Retry`]: the element is rejected as before, unless the connection was lost meanwhile.
    fn retry(&mut self, retry: &Retry) -> Result<RetryOutcome, StoreError>;

    /// One step of a run that deletes readings of the site which were recorded and received before `before`, and rollups that end
    /// by then, from `from` on (the whole site if there is none).
    ///
    /// # Errors
    /// [`StoreError::Prune`].
    fn prune(
        &mut self,
        before: Timestamp,
        from: Option<&PruneCursor>,
        bounds: PruneBounds,
    ) -> Result<Pruned, StoreError>;

    /// Keeps `ours` as the site's record of the trusted time, unless there is a newer one: that is returned and stays. Without
    /// `ours` the one that is there is returned, or, if there never was one, the site's newest position as record 0.
    ///
    /// # Errors
    /// [`StoreError::ExchangeClock`].
    fn exchange_clock(&mut self, ours: Option<ClockRecord>) -> Result<Option<ClockRecord>, StoreError>;

    /// Rows per table and all checkpoints; of a database that is migrated.
    ///
    /// # Errors
    /// [`StoreError::ReadStatus`].
    fn status(&mut self) -> Result<StoreStatus, StoreError>;
}

/// Connects. Does not migrate: tables may be missing until [`Store::migrate`].
///
/// An SQLite file and its directories are created if they are missing.
///
/// # Errors
/// [`StoreError::Unsupported`], [`StoreError::CreateDirectory`],
/// [`StoreError::Connect`].
pub fn open(options: &StoreOptions) -> Result<Box<dyn Store>, StoreError> {
    match &options.url {
        DatabaseUrl::Sqlite(path) => Ok(Box::new(sqlite::SqliteStore::open(path, options)?)),
        DatabaseUrl::Postgres(url) => Ok(Box::new(postgres::PostgresStore::open(url, options)?)),
    }
}

/// `text` as a database can hold it: U+0000 becomes U+FFFD, on both alike, although SQLite could keep it.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.as_bytes().contains(&0) { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

/// A count or a sequence number as the databases keep it. They have no unsigned type; beyond 2^63 − 1 it
/// saturates.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count or a sequence number as it comes back.
fn from_bigint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
