//! What the parser asks the writer, and its answers.

use std::sync::Arc;

use actix::prelude::*;

use crate::domain::{JournalId, Seq};
use crate::store::{Batch, LivenessPast, MachineRow};

/// Asks for the position in the database; answered when the database is there.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Attached, NotCommitted>")]
pub struct Attach {
    /// Which journal.
    pub journal_id: JournalId,
}

/// What the database knows.
#[derive(Debug)]
pub struct Attached {
    /// Everything up to here is stored.
    pub committed_seq: Seq,
    /// The machines of the site as recorded.
    pub machines: Vec<MachineRow>,
    /// What else liveness begins from.
    pub past: LivenessPast,
}

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
    /// The position is not the one the batch begins after: attach again.
    Stale,
    /// The writer is stopping.
    Stopped,
}
