//! Bugs on purpose that the fault suite has to catch (Cargo feature `failpoints`).

use std::collections::HashSet;

use crate::actors::failpoint::{failpoint, is_mutant};
use crate::actors::writer::worker::JobError;
use crate::store::{Batch, CommitOutcome, Store};

/// Commits `batch` with a bug, if a test has armed one.
pub fn commit(store: &mut dyn Store, batch: &Batch) -> Option<Result<CommitOutcome, JobError>> {
    if is_mutant("mutants::position_before_rows") {
        return Some(position_before_rows(store, batch));
    }
    if is_mutant("mutants::ignore_digest") {
        return Some(with_digest(store, batch, |_| 0));
    }
    if is_mutant("mutants::digest_of_delivery") {
        return Some(with_digest(store, batch, |seq| seq));
    }
    if is_mutant("mutants::no_rejections_beside_duplicates") {
        return Some(without_rejections_beside_duplicates(store, batch));
    }
    None
}

/// Commits the position first and the rows in a second transaction.
fn position_before_rows(store: &mut dyn Store, batch: &Batch) -> Result<CommitOutcome, JobError> {
    let nothing = Batch::new(batch.journal_id, batch.open_id, batch.after);
    let position_alone = Batch { upto: batch.upto, messages: batch.messages, ..nothing };
    store.commit(&position_alone)?;
    failpoint("writer::before_commit").map_err(JobError::Injected)?;
    let rows_alone = Batch { after: batch.upto, messages: 0, ..batch.clone() };
    Ok(store.commit(&rows_alone)?)
}

/// Commits all readings with a wrong digest.
fn with_digest(
    store: &mut dyn Store,
    batch: &Batch,
    digest: impl Fn(u64) -> u64,
) -> Result<CommitOutcome, JobError> {
    let mut broken = batch.clone();
    for row in &mut broken.readings {
        row.reading.digest = digest(row.seq.0);
    }
    Ok(store.commit(&broken)?)
}

/// Drops the rejections of a batch that holds a reading twice.
fn without_rejections_beside_duplicates(
    store: &mut dyn Store,
    batch: &Batch,
) -> Result<CommitOutcome, JobError> {
    let mut seen = HashSet::new();
    let mut broken = batch.clone();
    if !batch.readings.iter().all(|row| seen.insert((&row.reading.machine_id, row.reading.digest))) {
        broken.rejections.clear();
    }
    Ok(store.commit(&broken)?)
}
