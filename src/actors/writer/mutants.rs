//! A writer that is wrong on purpose (Cargo feature `failpoints`): what the fault suite has to catch.

use std::collections::HashSet;

use crate::actors::failpoint::{failpoint, sabotaged};
use crate::actors::writer::worker::JobError;
use crate::store::{Batch, CommitOutcome, Store};

/// Commits `batch` as a broken writer would, if a test wants that.
pub fn commit(store: &mut dyn Store, batch: &Batch) -> Option<Result<CommitOutcome, JobError>> {
    if sabotaged("mutants::position_before_rows") {
        return Some(position_before_rows(store, batch));
    }
    if sabotaged("mutants::ignore_digest") {
        return Some(with_digest(store, batch, |_| 0));
    }
    if sabotaged("mutants::digest_of_delivery") {
        return Some(with_digest(store, batch, |seq| seq));
    }
    if sabotaged("mutants::no_rejections_beside_duplicates") {
        return Some(without_rejections_beside_duplicates(store, batch));
    }
    None
}

/// The position in a transaction of its own, the rows in the next.
fn position_before_rows(store: &mut dyn Store, batch: &Batch) -> Result<CommitOutcome, JobError> {
    let nothing = Batch::new(batch.journal_id, batch.open_id, batch.after);
    let position_alone = Batch { upto: batch.upto, messages: batch.messages, ..nothing };
    store.commit(&position_alone)?;
    failpoint("writer::before_commit").map_err(JobError::Injected)?;
    let rows_alone = Batch { after: batch.upto, messages: 0, ..batch.clone() };
    Ok(store.commit(&rows_alone)?)
}

/// All readings with another digest than theirs.
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

/// A batch in which a reading comes twice forgets its rejections.
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
