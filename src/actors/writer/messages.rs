//! What the parser asks the writer, and its answers.

use std::sync::Arc;

use actix::WeakRecipient;
use actix::prelude::*;

use crate::domain::{JournalHistory, Seq};
use crate::store::{Batch, LivenessPast, MachineRow};

/// Claims the position in the database; answered when the database is there.
#[derive(Message)]
#[rtype(result = "Result<Attached, NotCommitted>")]
pub struct Attach {
    /// What the journal knows of its past.
    pub history: JournalHistory,
    /// Who wants to know if the position is lost while nothing is committed.
    pub lost: WeakRecipient<PositionLost>,
}

/// The database's answer.
#[derive(Debug)]
pub enum Attached {
    /// The position is ours to move.
    Granted(Known),
    /// The position was written by another history of this journal.
    Foreign {
        /// Where that one stands.
        committed_seq: Seq,
        /// Whose it is.
        site: String,
    },
}

/// What the database knows.
#[derive(Debug)]
pub struct Known {
    /// Everything up to here is stored.
    pub committed_seq: Seq,
    /// The machines of the site as recorded.
    pub machines: Vec<MachineRow>,
    /// What else liveness begins from.
    pub past: LivenessPast,
}

/// Fact: the position in the database is no longer the one that was granted: another database is there, or another copy of the
/// journal has claimed it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct PositionLost;

/// Commit this batch; answered when it is in the database.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Committed, NotCommitted>")]
pub struct CommitBatch(pub Arc<Batch>);

/// The batch is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed;

/// The batch is not in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCommitted {
    /// The position is not the one the batch begins after, or no longer ours: attach again.
    Stale,
    /// The writer is stopping.
    Stopped,
}
