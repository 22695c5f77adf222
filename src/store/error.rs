//! Which operation of the store failed and why, and whether another attempt can help.

use std::time::Duration;

use thiserror::Error;

use crate::domain::{JournalId, Seq};

/// What to do about a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Time or a person at the database may solve it: reopen and try again with backoff, for ever. Every
    /// unknown error is transient: a broken connection, a lock or statement timeout, a deadlock, a full disk,
    /// a read-only or missing table, refused credentials.
    Transient,
    /// The database has another position than the batch: read the checkpoint and build the batch anew.
    StalePosition,
    /// Only another configuration or another binary helps.
    Configuration,
}

/// The part of a commit that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitStep {
    /// `BEGIN` or `COMMIT` itself; after a failed `COMMIT` the outcome is unknown.
    Transaction,
    /// Moving the position.
    Position,
    /// Inserting readings.
    Readings,
    /// Adding to the five-minute rollups.
    Rollups,
    /// Inserting rejected messages.
    Rejections,
    /// Inserting journal gaps.
    Gaps,
    /// Inserting events and machines.
    Transitions,
    /// Writing our own outages.
    Outages,
    /// Updating when machines were last seen.
    Sightings,
    /// Correcting the counters for duplicates and refused rows.
    Counters,
}

impl CommitStep {
    /// Returns the step as words of the error's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "begin or end the transaction",
            Self::Position => "move the position",
            Self::Readings => "insert readings",
            Self::Rollups => "add to the five-minute rollups",
            Self::Rejections => "insert rejected messages",
            Self::Gaps => "insert journal gaps",
            Self::Transitions => "record status changes",
            Self::Outages => "record outages of the broker link",
            Self::Sightings => "record when machines were seen",
            Self::Counters => "correct the counters",
        }
    }
}

/// The cause underneath: an error of diesel, of a migration, or of the file system.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation on the store failed. Never holds a password.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory of the SQLite file could not be created.
    #[error("create the database directory {directory}")]
    CreateDirectory {
        /// The directory.
        directory: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No connection. Refused credentials too: the server may accept them later.
    #[error("connect to {target} (check store.url, that the server runs, and that it accepts this user)")]
    Connect {
        /// Where to, without credentials.
        target: String,
        /// The message of the server or the library.
        #[source]
        source: Cause,
    },
    /// The SQLite file, its log or its shared memory is no longer where it was when it was opened.
    #[error(
        "use SQLite file {path}: it {what} while Andon had it open. Andon opens the file at that path now, or creates a new one, \
         and stores again what the journal still holds. Put the right file there by renaming it, never by copying over it"
    )]
    FileMoved {
        /// Its path.
        path: String,
        /// What happened.
        what: String,
    },
    /// The database works, but this binary cannot use it.
    #[error("use {target}: {reason}")]
    Unsupported {
        /// Which database, without credentials.
        target: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// The table of the reference worker is where Andon's would be. Nothing was changed.
    #[error("use the database: {sentence}")]
    ReferenceTable {
        /// Which table, and what to do.
        sentence: String,
    },
    /// The schema of the tables is missing and could not be created.
    #[error(
        "create the schema {schema} for Andon's tables. Either let an administrator run `CREATE SCHEMA {schema} AUTHORIZATION …` \
         for the role in store.url, or choose another store.schema"
    )]
    CreateSchema {
        /// Its name.
        schema: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Migrations are pending, and this role may not apply them. Nothing was changed.
    #[error(
        "migrate the database: the role {role} may not, because Andon's tables belong to {owner}. Run `andon db migrate` with \
         {owner} in store.url; a running service goes on by itself then"
    )]
    NotOwner {
        /// Who must migrate.
        owner: String,
        /// Who wanted to.
        role: String,
    },
    /// A migration failed, and was rolled back.
    #[error("migrate the database")]
    Migrate {
        /// Why.
        #[source]
        source: Cause,
    },
    /// The database has migrations that this binary does not know. Nothing was changed.
    #[error(
        "use the database: a newer Andon migrated it (migrations {} are unknown here); run that version or a later one",
        versions.join(", ")
    )]
    NewerSchema {
        /// The versions that are unknown.
        versions: Vec<String>,
    },
    /// The journal's position could not be read or created.
    #[error("read the checkpoint of journal {journal_id}")]
    ReadCheckpoint {
        /// Which journal.
        journal_id: JournalId,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Requests to forget machines could not be written or read.
    #[error("write or read which machines to forget")]
    Forget {
        /// Why.
        #[source]
        source: Cause,
    },
    /// The machines of the site could not be read.
    #[error("read the machines")]
    ReadMachines {
        /// Why.
        #[source]
        source: Cause,
    },
    /// History could not be read.
    #[error("read {what}")]
    ReadHistory {
        /// Which part of it.
        what: &'static str,
        /// Why.
        #[source]
        source: Cause,
    },
    /// History could not be read within the bound on one statement.
    #[error("read {what} within {} s; ask for a shorter time or longer buckets", limit.as_secs_f64())]
    HistoryTooSlow {
        /// Which part of it.
        what: &'static str,
        /// How long one statement may take.
        limit: Duration,
        /// The database's message.
        #[source]
        source: Cause,
    },
    /// The state of the database could not be read.
    #[error("read the state of the database")]
    ReadStatus {
        /// Why.
        #[source]
        source: Cause,
    },
    /// A batch was not committed, or its outcome is unknown (see [`CommitStep::Transaction`]).
    #[error("commit a batch: could not {}", step.as_str())]
    Commit {
        /// Where it failed.
        step: CommitStep,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Nothing was committed: one row alone takes longer than a statement may.
    #[error(
        "commit a batch: could not {}: one row alone takes longer than store.statement_timeout: {row}. That row waits, and all \
         after it. Check the triggers, indexes and locks of its table, or raise store.statement_timeout",
        step.as_str()
    )]
    SlowRow {
        /// Where it failed.
        step: CommitStep,
        /// Which row.
        row: String,
        /// The database's message.
        #[source]
        source: Cause,
    },
    /// The batch was built on another position, or another process has claimed the journal. Nothing was
    /// stored.
    #[error(
        "commit a batch: journal {journal_id} was expected at {expected}, but the database has {}, or another copy of the journal has claimed it",
        found.map_or_else(|| "no position".to_owned(), |found| found.to_string())
    )]
    StalePosition {
        /// Which journal.
        journal_id: JournalId,
        /// [`Batch::after`](super::Batch::after).
        expected: Seq,
        /// What the database has; `None` if it does not know the journal.
        found: Option<Seq>,
    },
    /// Rejected elements could not be read.
    #[error("read rejected messages")]
    ReadRejected {
        /// Why.
        #[source]
        source: Cause,
    },
    /// A retry failed. The element is still rejected, unless the connection broke during the commit.
    #[error("retry rejected message {id}")]
    Retry {
        /// Its row.
        id: i64,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The trusted time could not be recorded.
    #[error("record the trusted time")]
    ExchangeClock {
        /// Why.
        #[source]
        source: Cause,
    },
    /// A backup was not made.
    #[error("back up the database to {file}")]
    Backup {
        /// The file that was asked for.
        file: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// What was done could not be recorded.
    #[error("record it in the audit log")]
    RecordAudit {
        /// Why.
        #[source]
        source: Cause,
    },
    /// A copy into another database ended early. What it has committed stays; the next run goes on.
    #[error("copy the database")]
    Copy {
        /// Why.
        #[source]
        source: Cause,
    },
    /// The rows of the reference worker were not imported, or not all.
    #[error("import the table of the reference worker")]
    Import {
        /// Why.
        #[source]
        source: Cause,
    },
    /// The rows of the reference worker cannot be imported like this. Nothing was changed.
    #[error("import the table of the reference worker: {reason}")]
    ImportRefused {
        /// Why not, and what to do.
        reason: String,
    },
    /// Rows past retention could not be deleted.
    #[error("delete rows past retention")]
    Prune {
        /// Why.
        #[source]
        source: Cause,
    },
}

impl StoreError {
    /// Returns what to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unsupported { .. }
            | Self::NewerSchema { .. }
            | Self::ReferenceTable { .. }
            | Self::ImportRefused { .. } => ErrorClass::Configuration,
            Self::StalePosition { .. } => ErrorClass::StalePosition,
            _ => ErrorClass::Transient,
        }
    }

    /// Returns whether the connection is still usable: the server answered and rolled back.
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        matches!(self, Self::SlowRow { .. })
    }

    /// Returns whether the same call may succeed later, after reopening the store.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.class() == ErrorClass::Transient
    }
}
