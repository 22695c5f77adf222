//! The lock on `journal.lock`: only one process may append.

use std::path::Path;

use super::JournalError;
use super::fs::{Fs, LockOutcome};

pub(super) const LOCK_NAME: &str = "journal.lock";

/// The lock, held from open to close.
pub(super) struct DirLock {
    _guard: Box<dyn Send + Sync>,
}

impl DirLock {
    pub(super) fn take(fs: &dyn Fs, dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join(LOCK_NAME);
        match fs.lock(&path).map_err(JournalError::io("lock", &path))? {
            LockOutcome::Held(guard) => Ok(Self { _guard: guard }),
            LockOutcome::Taken { pid } => Err(JournalError::Locked { dir: dir.to_owned(), pid }),
        }
    }
}
