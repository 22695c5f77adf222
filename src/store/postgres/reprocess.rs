//! One rejected element tried again, in one transaction.

use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::commit::insert_rejections;
use super::runs::{RUN_ROWS_MAX, RunWriter, WriteMode};
use super::{readings, rollups};
use crate::store::Cause;
use crate::store::batch::CommitOutcome;
use crate::store::rejected::postgres::{delete_rejected, move_in_ledger};
use crate::store::rejected::{Retry, RetryOutcome, RetryStop};
use crate::store::retained;
use crate::store::rollup::Rollup;
use crate::store::schema::ingest_checkpoint;

/// Stores what is a reading now and takes the row away (STO-6). The ledger's row is locked first, as every commit does: the
/// two can wait for each other, but never in a circle.
pub fn retry(connection: &mut PgConnection, site: &str, retry: &Retry) -> Result<RetryOutcome, Cause> {
    let journal_id = retry.journal_id.as_str();
    let settled = connection.transaction(|connection| {
        let ledger = ingest_checkpoint::table.find(journal_id).select(ingest_checkpoint::committed_seq);
        if ledger.for_update().first::<i64>(connection).optional()?.is_none() {
            return Err(RetryStop::no_ledger(journal_id));
        }
        if !delete_rejected(connection, site, retry.id)? {
            return Err(RetryStop::Gone);
        }
        let mut outcome = CommitOutcome::default();
        let new = retained::unless_seen(connection, site, &retry.readings)?;
        let mut rollup = Rollup::default();
        let mode = WriteMode { isolates: true, checks_at_once: true };
        let mut writer = RunWriter::begin(connection, mode, RUN_ROWS_MAX)?;
        let refused = readings::write(&mut writer, site, &new, &mut outcome, &mut rollup)?;
        retained::forget_refused(connection, site, &new, &outcome.poisoned)?;
        if let (Some(first), true) = (outcome.poisoned.first(), refused.len() == retry.readings.len()) {
            return Err(RetryStop::Refused(first.detail.clone()));
        }
        rollups::add(connection, site, &rollup, RUN_ROWS_MAX)?;
        let (stored, readings) = (outcome.stored, retry.readings.len() as u64);
        let duplicate = readings - stored - refused.len() as u64;
        let rejected = (retry.rejections.len() + refused.len()) as u64;
        insert_rejections(connection, site, journal_id, &retry.rejections, RUN_ROWS_MAX)?;
        insert_rejections(connection, site, journal_id, &refused, RUN_ROWS_MAX)?;
        if !move_in_ledger(connection, journal_id, stored, duplicate, rejected)? {
            return Err(RetryStop::no_ledger(journal_id));
        }
        Ok(RetryOutcome::Settled { stored, duplicate, rejected })
    });
    settled.or_else(RetryStop::into_result)
}
