//! Claiming a journal's position (see `domain/history.rs`), alike on both databases.

use diesel::result::Error;

use super::{Checkpoint, Claim, StoreError};
use crate::domain::{JournalHistory, OpenId};

/// Judges what was found, and has what can be believed taken over: `take` says whether nobody else was faster.
pub(super) fn claim(
    history: &JournalHistory,
    found: Result<Checkpoint, Error>,
    take: impl FnOnce(&Checkpoint, &str) -> Result<bool, Error>,
) -> Result<Claim, StoreError> {
    let journal_id = history.journal_id;
    let failed = |source: Error| StoreError::ReadCheckpoint { journal_id, source: source.into() };
    let found = found.map_err(failed)?;
    // What is no id of ours was written by nobody whom we know.
    let open_id = found.open_id.as_deref().map(|text| OpenId(text.parse().unwrap_or_default()));
    if !history.believes(found.committed_seq, open_id) {
        return Ok(Claim::Foreign(found));
    }
    let own = history.own.to_string();
    if take(&found, &own).map_err(failed)? {
        return Ok(Claim::Granted(Checkpoint { open_id: Some(own), ..found }));
    }
    let (expected, found) = (found.committed_seq, Some(found.committed_seq));
    Err(StoreError::StalePosition { journal_id, expected, found })
}
