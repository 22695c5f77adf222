//! How the store fails, and whether trying again can help.

use std::time::Duration;

use thiserror::Error;

use crate::domain::{JournalId, Seq};

/// What to do about a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Time may heal it, or a person at the database: reopen and try again with backoff, for ever. Everything
    /// unknown is here: a lost connection, a lock or statement timeout, a deadlock, a full disk, a read-only
    /// or missing table, refused credentials.
    Transient,
    /// The batch was built on a position that is not the database's: read the checkpoint and build it anew.
    StalePosition,
    /// Nothing but another configuration or another binary helps.
    Configuration,
}

/// The part of a commit that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitStep {
    /// `BEGIN` or `COMMIT` itself; after the latter the outcome is unknown.
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
    /// The step in words, as it stands in the error's text.
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
    /// No connection. Refused credentials are here too: they may be corrected on the server's side.
    #[error("connect to {target} (check store.url, that the server runs, and that it lets this user in)")]
    Connect {
        /// Where to, without credentials.
        target: String,
        /// The server's or the library's words.
        #[source]
        source: Cause,
    },
    /// The SQLite file is not where it was when it was opened, or something that belongs to it is not.
    #[error(
        "use SQLite file {path}: it {what} while Andon had it open. Andon opens what is there now, begins a new file if nothing is, \
         and stores again what the journal still holds; put the right file there by renaming it, never by copying over it"
    )]
    FileMoved {
        /// Its path.
        path: String,
        /// What happened.
        what: String,
    },
    /// The database works, but not with this binary.
    #[error("use {target}: {reason}")]
    Unsupported {
        /// Which database, without credentials.
        target: String,
        /// What is missing.
        reason: String,
    },
    /// A migration failed; it left nothing behind.
    #[error("migrate the database")]
    Migrate {
        /// Why.
        #[source]
        source: Cause,
    },
    /// The database has migrations that this binary does not know; nothing was touched.
    #[error(
        "use the database: a newer andon migrated it (migrations {} are unknown here); run that version or a later one",
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
    /// History could not be read within the time that one statement may take.
    #[error("read {what} within {} s; ask for a shorter time or longer buckets", limit.as_secs_f64())]
    HistoryTooSlow {
        /// Which part of it.
        what: &'static str,
        /// How long one statement may take.
        limit: Duration,
        /// The database's words.
        #[source]
        source: Cause,
    },
    /// State of the database could not be read.
    #[error("read the state of the database")]
    ReadStatus {
        /// Why.
        #[source]
        source: Cause,
    },
    /// A batch was not committed, or (see [`CommitStep::Transaction`]) it is unknown whether it was.
    #[error("commit a batch: could not {}", step.as_str())]
    Commit {
        /// Where it failed.
        step: CommitStep,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Nothing was committed, for one row alone takes longer than a statement may.
    #[error(
        "commit a batch: could not {}: the database cancels the statement even for one row alone, {row}. It waits, and what \
         comes after it, too: look at the triggers, indexes and locks of its table, or raise store.statement_timeout",
        step.as_str()
    )]
    SlowRow {
        /// Where it failed.
        step: CommitStep,
        /// Which row.
        row: String,
        /// The database's words.
        #[source]
        source: Cause,
    },
    /// The position in the database is not the one that the batch was built on, or another copy of the journal has claimed it;
    /// nothing was stored.
    #[error(
        "commit a batch: journal {journal_id} stands at {} in the database, or is claimed by another copy of it, and was expected at {expected}",
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
    /// A rejected element could not be tried again; it is rejected as before, unless the connection was lost meanwhile.
    #[error("try rejected message {id} again")]
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
    /// Old readings could not be deleted.
    #[error("prune old readings")]
    Prune {
        /// Why.
        #[source]
        source: Cause,
    },
}

impl StoreError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unsupported { .. } | Self::NewerSchema { .. } => ErrorClass::Configuration,
            Self::StalePosition { .. } => ErrorClass::StalePosition,
            _ => ErrorClass::Transient,
        }
    }

    /// Whether the connection can be used as before: it answered, and rolled everything back.
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        matches!(self, Self::SlowRow { .. })
    }

    /// Whether the same call may succeed later, after reopening the store.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.class() == ErrorClass::Transient
    }
}
