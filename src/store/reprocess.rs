//! One rejected element interpreted again: its readings replace its row.
//!
//! A retry moves elements inside the ledger of their journal, from `rejected` to `stored` or `duplicate`, in
//! the transaction that stores the readings and deletes the row (STO-6). The position does not move, so a
//! service that runs meanwhile never notices. A retry and a commit both lock the checkpoint's row first, so
//! they never wait in a circle.

use super::batch::CommitOutcome;
use super::both_databases::for_both_databases;
use super::failure::CommitFailure;
use super::rollup::Rollup;
use super::{Cause, ReadingRow, RejectionRow};

/// What a rejected element has become. A message that was rejected as a whole may turn out to be an array of
/// elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// The row of `rejected_message`.
    pub id: i64,
    /// The journal in whose ledger it counts.
    pub journal_id: String,
    /// Its readings; at least one.
    pub readings: Vec<ReadingRow>,
    /// Elements beside them that are still rejected.
    pub rejections: Vec<RejectionRow>,
}

/// What a retry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryOutcome {
    /// The row is gone. This replaced it.
    Settled {
        /// Readings that are new in the database.
        stored: u64,
        /// Readings that were in the database already.
        duplicate: u64,
        /// Elements that are rejected now.
        rejected: u64,
    },
    /// Nothing changed: the database refuses the reading, with this message.
    Refused(String),
    /// Nothing changed: the row no longer exists.
    Gone,
}

/// Why the transaction of a retry is rolled back.
pub(super) enum RetryStop {
    Refused(String),
    Gone,
    Failed(Cause),
}

impl From<diesel::result::Error> for RetryStop {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<CommitFailure> for RetryStop {
    fn from(failure: CommitFailure) -> Self {
        match failure {
            CommitFailure::Step(_, error) | CommitFailure::Cancelled { error, .. } => error.into(),
            CommitFailure::Stale(_) => Self::Gone,
        }
    }
}

impl RetryStop {
    /// Returns the outcome, unless it is an error.
    fn into_result(self) -> Result<RetryOutcome, Cause> {
        match self {
            Self::Refused(refusal) => Ok(RetryOutcome::Refused(refusal)),
            Self::Gone => Ok(RetryOutcome::Gone),
            Self::Failed(error) => Err(error),
        }
    }

    /// The journal has no ledger in which the row counts: a person changed the tables.
    fn no_ledger(journal_id: &str) -> Self {
        Self::Failed(format!("journal {journal_id} has no row in ingest_checkpoint").into())
    }
}

for_both_databases! {
    [checkpoint, rejected, retained]

    /// Stores the readings of `retry` and deletes its row (STO-6).
    pub fn retry(connection: &mut Connection, site: &str, retry: &Retry) -> Result<RetryOutcome, Cause> {
        database::write(connection, |connection| settle(connection, site, retry)).or_else(RetryStop::into_result)
    }

    fn settle(connection: &mut Connection, site: &str, retry: &Retry) -> Result<RetryOutcome, RetryStop> {
        let journal_id = retry.journal_id.as_str();
        if !database::reprocess::lock_ledger(connection, journal_id)? {
            return Err(RetryStop::no_ledger(journal_id));
        }
        if !rejected::delete(connection, site, retry.id)? {
            return Err(RetryStop::Gone);
        }
        let mut writer = database::reprocess::Writer::begin(connection, site, journal_id)?;
        let new = retained::only_new(writer.connection(), site, &retry.readings)?;
        let (mut outcome, mut rollup) = (CommitOutcome::default(), Rollup::default());
        let refused = writer.insert_readings(&new, &mut outcome, &mut rollup)?;
        retained::forget_refused(writer.connection(), site, &new, &outcome.poisoned)?;
        if let (Some(first), true) = (outcome.poisoned.first(), refused.len() == retry.readings.len()) {
            return Err(RetryStop::Refused(first.detail.clone()));
        }
        writer.add_rollup(&rollup)?;
        writer.insert_rejections(&retry.rejections)?;
        writer.insert_rejections(&refused)?;
        let stored = outcome.stored;
        let duplicate = retry.readings.len() as u64 - stored - refused.len() as u64;
        let rejected = (retry.rejections.len() + refused.len()) as u64;
        checkpoint::move_in_ledger(writer.connection(), journal_id, stored, duplicate, rejected)?;
        Ok(RetryOutcome::Settled { stored, duplicate, rejected })
    }
}
