//! Makes records durable: one sync at a time, in all modes, and the thread of mode `background`.
//!
//! A sync covers every record appended before it began. A thread that waited for it usually finds its own records covered
//! by the next one. An error is final (JRN-4).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use super::disk_stall::DiskCall;
use super::fs::FsFile;
use super::shared::{Shared, lock};
use super::{JournalError, SyncMode};
use crate::domain::Seq;

/// What must be synced to make everything up to `upto` durable.
struct Unsynced {
    upto: Seq,
    /// With the first seq of each, for the error text.
    files: Vec<(Seq, Arc<dyn FsFile>)>,
    dir: bool,
}

impl Shared {
    /// Makes everything up to `wanted` durable and returns the newest durable seq.
    pub(super) fn sync_upto(&self, wanted: Seq) -> Result<Seq, JournalError> {
        if self.synced() >= wanted {
            return Ok(self.synced());
        }
        let turn = lock(&self.syncing);
        if let Some(cause) = self.failure.get() {
            return Err(JournalError::Failed { cause: cause.clone() });
        }
        if self.synced() >= wanted {
            return Ok(self.synced());
        }
        let _call = self.disk.enter(DiskCall::Sync);
        let unsynced = self.take_unsynced()?;
        let started = Instant::now();
        self.sync_files(&unsynced).map_err(|error| self.fail(error))?;
        self.unsynced.sync_ended(started.elapsed());
        self.synced.store(unsynced.upto.0, Ordering::Release);
        drop(turn);
        if self.options.sync != SyncMode::Os {
            self.listener.readable(unsynced.upto);
        }
        Ok(unsynced.upto)
    }

    fn take_unsynced(&self) -> Result<Unsynced, JournalError> {
        let mut writer = lock(&self.writer);
        self.write_group(&mut writer)?;
        self.unsynced.sync_started();
        let mut files = std::mem::take(&mut writer.unsynced_files);
        files.push((writer.active.segment.first, writer.active.file.clone()));
        Ok(Unsynced { upto: self.appended(), files, dir: std::mem::take(&mut writer.dir_unsynced) })
    }

    fn sync_files(&self, unsynced: &Unsynced) -> Result<(), JournalError> {
        fail_point!("journal::sync", |_| Err(super::error::injected("sync the journal")));
        for (first, file) in &unsynced.files {
            file.sync_data().map_err(JournalError::io("sync", &self.segment_path(*first)))?;
        }
        if unsynced.dir {
            self.fs.sync_dir(self.dir()).map_err(JournalError::io("sync directory", self.dir()))?;
        }
        Ok(())
    }
}

/// Syncs back to back while anything is unsynced; ends when the journal stops or has failed.
pub(super) fn run(shared: &Shared) {
    let run = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let appended = shared.appended();
            if appended > shared.synced() {
                if shared.sync_upto(appended).is_err() {
                    // The listener knows, and the journal accepts nothing more.
                    return;
                }
            } else if shared.stopping.load(Ordering::Acquire) {
                return;
            } else {
                // Returns at once if an append unparked this thread since `appended` was read.
                thread::park();
            }
        }
    }));
    if run.is_err() {
        let _ = shared.fail(JournalError::Panicked { thread: "journal-sync" });
    }
}
