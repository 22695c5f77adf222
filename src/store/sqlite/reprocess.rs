//! One rejected element tried again, in one transaction.

use diesel::sqlite::SqliteConnection;

use super::commit::{Failure, Fatal, Writer};
use super::now;
use super::rollups;
use crate::store::Cause;
use crate::store::batch::CommitOutcome;
use crate::store::rejected::sqlite::{delete_rejected, move_in_ledger};
use crate::store::rejected::{Retry, RetryOutcome, RetryStop};
use crate::store::retained;
use crate::store::rollup::Rollup;

impl From<Failure> for RetryStop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fatal(_, words) => Self::Refused(words),
            Failure::Commit(failure) => failure.into(),
        }
    }
}

/// Stores what is a reading now and takes the row away (STO-6); the write lock is taken first.
pub fn retry(connection: &mut SqliteConnection, site: &str, retry: &Retry) -> Result<RetryOutcome, Cause> {
    let writer = Writer { site, journal_id: &retry.journal_id, now: now() };
    let settled = connection.immediate_transaction(|connection| {
        if !delete_rejected(connection, site, retry.id)? {
            return Err(RetryStop::Gone);
        }
        let mut outcome = CommitOutcome::default();
        let new = retained::unless_seen(connection, site, &retry.readings)?;
        let mut rollup = Rollup::default();
        let refused = writer.insert_readings(connection, &new, &Fatal::new(), &mut outcome, &mut rollup)?;
        retained::forget_refused(connection, site, &new, &outcome.poisoned)?;
        if let (Some(first), true) = (outcome.poisoned.first(), refused.len() == retry.readings.len()) {
            return Err(RetryStop::Refused(first.detail.clone()));
        }
        rollups::add(connection, site, &rollup)?;
        let (stored, readings) = (outcome.stored, retry.readings.len() as u64);
        let duplicate = readings - stored - refused.len() as u64;
        let rejected = (retry.rejections.len() + refused.len()) as u64;
        writer.insert_rejections(connection, &retry.rejections)?;
        writer.insert_rejections(connection, &refused)?;
        if !move_in_ledger(connection, &retry.journal_id, stored, duplicate, rejected)? {
            return Err(RetryStop::no_ledger(&retry.journal_id));
        }
        Ok(RetryOutcome::Settled { stored, duplicate, rejected })
    });
    settled.or_else(RetryStop::into_result)
}
