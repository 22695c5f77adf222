//! Errors of the journal. Each variant says which operation failed and where; the texts fit after "failed to".

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::domain::Seq;

/// What to do about damage: the command that saves every readable record.
pub const REPAIR_HINT: &str = "stop the service, copy the journal directory, then run `andon journal repair`";

/// Errors of the journal.
#[derive(Debug, Error)]
pub enum JournalError {
    /// An operating system call failed.
    #[error("{action} {}", path.display())]
    Io {
        /// The operation, e.g. `write segment`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The disk or the quota is full; the record was not appended.
    #[error("{action} {}: the disk or its quota is full", path.display())]
    DiskFull {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process has the journal open.
    #[error(
        "lock the journal {}: another process{} has it open",
        dir.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
        /// That process's id, if it could be read.
        pid: Option<u32>,
    },
    /// Damage that no crash explains. Nothing was changed.
    #[error("read the journal: {} at byte {offset}: {what}; {hint}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset in the file.
        offset: u64,
        /// What is wrong at that offset.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A newer Andon wrote it. Nothing was changed.
    #[error(
        "read the journal: {} has version {found}, and this program reads up to version {supported}: a newer \
         Andon wrote it; run that version",
        path.display()
    )]
    Version {
        /// `journal.meta` or a segment.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Newest version that this program reads.
        supported: u32,
    },
    /// The directory holds messages that another site may not have stored yet. Nothing was changed.
    #[error(
        "open the journal {}: it belongs to site {owner}, not to {site}, and {pending} messages in it may not \
         be in the database yet; if it is a copy, move it aside, otherwise run Andon with site.id = {owner} \
         until nothing is pending",
        dir.display()
    )]
    OtherSite {
        /// The journal's directory.
        dir: PathBuf,
        /// The site that owns it.
        owner: String,
        /// The site that tried to open it.
        site: String,
        /// Number of records that the directory does not know to be committed.
        pending: u64,
    },
    /// `max_bytes` and the overrun for messages in flight are used up; the record was not appended.
    #[error("append to the journal: it holds {bytes} bytes; {limit} are allowed, overrun included")]
    Full {
        /// Bytes written.
        bytes: u64,
        /// `max_bytes` plus the overrun.
        limit: u64,
    },
    /// The topic or the payload is longer than the format allows.
    #[error(
        "append to the journal: topic of {topic} bytes (at most 65535) with payload of {payload} bytes (at most {})",
        super::PAYLOAD_BYTES_MAX
    )]
    TooLarge {
        /// Length of the topic.
        topic: usize,
        /// Length of the payload.
        payload: usize,
    },
    /// The journal failed earlier, for the cause given, and accepts nothing until it is opened again.
    #[error("use the journal: it has failed")]
    Failed {
        /// The first failure.
        #[source]
        cause: Arc<JournalError>,
    },
    /// A thread of the journal panicked, which is a bug.
    #[error("run the journal: its thread {thread} panicked")]
    Panicked {
        /// The thread's name.
        thread: &'static str,
    },
    /// The journal has been closed.
    #[error("use the journal: it is closed")]
    Closed,
    /// A position after the newest durable record: the database is ahead, so the journal is an old copy
    /// (see [`super::Journal::new_identity`]).
    #[error("use position {position} in the journal: its newest durable record is {newest}")]
    Ahead {
        /// The requested position.
        position: Seq,
        /// The newest seq in the journal.
        newest: Seq,
    },
}

impl JournalError {
    /// Returns whether the journal is damaged; the process then exits with code 3.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Returns whether the journal does not fit this program or its configuration; the process then exits with code 2.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::OtherSite { .. })
    }

    /// Returns whether the disk or the quota is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Returns a closure for `map_err` that names the operation and separates a full disk from other failures.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Self::DiskFull { action, path, source }
                }
                _ => Self::Io { action, path, source },
            }
        }
    }

    pub(super) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what: what.into(), hint: REPAIR_HINT }
    }
}

/// What a failpoint returns in place of the real result.
#[cfg_attr(not(feature = "failpoints"), allow(dead_code))]
pub(super) fn injected(action: &'static str) -> JournalError {
    JournalError::Io { action, path: PathBuf::new(), source: io::Error::other("failpoint") }
}
