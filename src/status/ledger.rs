//! The ledger as the writer last found it in the database.

use std::sync::{Mutex, PoisonError};

use crate::domain::Ledger;

/// Written by the writer: when it attaches to the database, after every commit, and when it has settled a commit whose
/// outcome was in doubt. Always what the database said, never a sum of our own; so it is exact as of that moment, also
/// across restarts, and also while another process moves elements (`andon rejected retry`).
#[derive(Debug, Default)]
pub struct LedgerCell {
    ledger: Mutex<Option<Ledger>>,
}

impl LedgerCell {
    /// Replaces the ledger.
    pub fn write(&self, ledger: Ledger) {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger);
    }

    /// The ledger as of the newest commit; `None` until the database was reached for the first time.
    #[must_use]
    pub fn snapshot(&self) -> Option<Ledger> {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
