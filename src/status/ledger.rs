//! The ledger as the writer last found it in the database.

use std::sync::{Mutex, PoisonError};

use crate::domain::Ledger;

/// Written by the writer: when it opens the database, after every commit, and when it has resolved a commit with unknown
/// outcome. Always holds what the database returned, never a sum of our own. So it is exact across restarts, and also
/// while another process moves elements (`andon rejected retry`).
#[derive(Debug, Default)]
pub struct LedgerCell {
    ledger: Mutex<Option<Ledger>>,
}

impl LedgerCell {
    /// Replaces the ledger.
    pub fn write(&self, ledger: Ledger) {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger);
    }

    /// Returns the ledger of the newest commit; `None` until the database was reached once.
    #[must_use]
    pub fn snapshot(&self) -> Option<Ledger> {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
