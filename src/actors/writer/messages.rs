//! What the writer receives from the parser, its answers, and what it reports back.

use std::sync::Arc;

use actix::WeakRecipient;
use actix::prelude::*;

use crate::domain::{JournalHistory, Seq};
use crate::store::{Batch, LivenessPast, MachineRow};

/// Claim the position in the database. The writer answers once the database has.
#[derive(Message)]
#[rtype(result = "Result<Attached, NotCommitted>")]
pub struct Attach {
    /// The journal's history.
    pub history: JournalHistory,
    /// Receives [`PositionLost`] if the position is lost between commits.
    pub lost: WeakRecipient<PositionLost>,
}

/// The answer to [`Attach`].
#[derive(Debug)]
pub enum Attached {
    /// The position is claimed.
    Granted(Known),
    /// Another history of this journal wrote the position.
    Foreign {
        /// Its position.
        committed_seq: Seq,
        /// Its site.
        site: String,
    },
}

/// What the database holds.
#[derive(Debug)]
pub struct Known {
    /// Everything up to here is stored.
    pub committed_seq: Seq,
    /// The machines of the site as recorded.
    pub machines: Vec<MachineRow>,
    /// The recorded past that liveness starts from.
    pub past: LivenessPast,
}

/// Fact: the position in the database is no longer the granted one. The URL leads to another database, or
/// another copy of the journal has claimed the position.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct PositionLost;

/// Commit this batch. The writer answers once it is in the database.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Committed, NotCommitted>")]
pub struct CommitBatch(pub Arc<Batch>);

/// The batch is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed;

/// The batch is not in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCommitted {
    /// The position is not where the batch begins, or no longer ours: attach again.
    Stale,
    /// The writer is stopping.
    Stopped,
}
