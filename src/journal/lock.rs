//! The lock on `journal.lock`: only one process may append.

use std::path::Path;

use super::JournalError;
use super::fs::{Fs, LockOutcome};

pub(super) const LOCK_NAME: &str = "journal.lock";

/// Returns the process that has the journal in `dir` open; `None`: none has. Changes nothing, and takes the lock for no
/// longer than it takes to see that it is free.
#[must_use]
pub fn holder(dir: &Path) -> Option<Holder> {
    let path = dir.join(LOCK_NAME);
    let file = std::fs::File::open(&path).ok()?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            Some(Holder { pid })
        }
        _ => None,
    }
}

/// The process that has a journal open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, if it could be read.
    pub pid: Option<u32>,
}

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
