//! Why a commit rolls back, before it becomes a [`StoreError`].

use diesel::result::Error;

use super::{Batch, CommitStep, StoreError};
use crate::domain::Seq;

/// Why the transaction of a commit is rolled back.
#[derive(Debug)]
pub enum CommitFailure {
    /// The database has another position; `None` if it does not know the journal.
    Stale(Option<Seq>),
    /// A statement failed.
    Step(CommitStep, Error),
    /// The server cancelled a statement of `rows` rows; `row` names a single one.
    Cancelled { step: CommitStep, rows: usize, row: Option<String>, error: Error },
}

/// An error of the transaction itself: begin, commit, roll back.
impl From<Error> for CommitFailure {
    fn from(error: Error) -> Self {
        Self::Step(CommitStep::Transaction, error)
    }
}

impl CommitFailure {
    /// Returns the error for the caller of the commit.
    pub fn into_store_error(self, batch: &Batch) -> StoreError {
        match self {
            Self::Stale(found) => {
                StoreError::StalePosition { journal_id: batch.journal_id, expected: batch.after, found }
            }
            Self::Cancelled { step, row: Some(row), error, .. } => {
                StoreError::SlowRow { step, row, source: error.into() }
            }
            Self::Step(step, error) | Self::Cancelled { step, error, .. } => {
                StoreError::Commit { step, source: error.into() }
            }
        }
    }
}

/// Names the step at which a statement failed.
pub trait AtStep<T> {
    /// Turns an error into the failure at `step`.
    fn at(self, step: CommitStep) -> Result<T, CommitFailure>;
}

impl<T> AtStep<T> for Result<T, Error> {
    fn at(self, step: CommitStep) -> Result<T, CommitFailure> {
        self.map_err(|error| CommitFailure::Step(step, error))
    }
}
