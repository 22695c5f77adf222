//! MaintenanceOutcome, on a thread of its own so that neither appends nor syncs wait for it: the next segment is
//! preallocated before it is needed, and files of trimmed segments are deleted.
//!
//! Deleting: `journal.meta` first says which segment is the first kept, then the files go, then the directory is
//! synced. A crash between leaves files that the next open knows to be stale (JRN-5).
//!
//! A full disk is not an error here but a state, looked at again every second and whenever something was deleted. It ends when
//! there is room for more than the next segment: with every segment that is freed the broker would be let in for as long as
//! it takes to fill that one, and what it had in flight at each of these goodbyes would be delivered twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::JournalError;
use super::fs::{Fs, FsFile, write_all_at};
use super::segment::HEADER_BYTES;
use super::shared::{Shared, lock};

pub(super) const AHEAD_NAME: &str = "ahead.tmp";
/// Made and removed to see whether there is room.
pub(super) const ROOM_NAME: &str = "room.tmp";

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// On a file system that cannot preallocate, this much is written to see whether there is room at all.
const PROBE_BYTES: usize = 64 * 1024;

/// After a full disk there has to be room for so many segments besides the next one, and for a tenth of what is held …
const ROOM_SEGMENTS: u64 = 4;
/// … as at the bound.
const ROOM_PART: u64 = 10;

/// Whether something is left to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MaintenanceOutcome {
    Done,
    Retry,
}

impl Shared {
    /// Does what there is to do.
    pub(super) fn maintain(&self) -> Result<MaintenanceOutcome, JournalError> {
        if self.failure.get().is_some() {
            return Ok(MaintenanceOutcome::Done);
        }
        if self.is_full_and_drained() {
            self.seal_drained()?;
        }
        self.delete_retired()?;
        match self.keep_ahead() {
            Err(error) if error.is_disk_full() => {
                self.note_disk_full(true);
                Ok(MaintenanceOutcome::Retry)
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.note_disk_full(false);
                Ok(MaintenanceOutcome::Done)
            }
        }
    }

    /// Preallocates the next segment. With the disk known to be full, also learns whether there is room now.
    fn keep_ahead(&self) -> Result<(), JournalError> {
        let is_disk_full = self.is_disk_full();
        let mut ahead = lock(&self.ahead);
        if ahead.is_some() && !is_disk_full {
            return Ok(());
        }
        // A journal that is drained does not get emptier: room for this one segment is enough, and it is made again to see it.
        let is_drained = self.committed() == self.appended();
        if is_drained {
            *ahead = None;
        }
        if ahead.is_none() {
            *ahead = Some(self.try_room(AHEAD_NAME, self.segment_bytes)?);
        }
        drop(ahead);
        if is_disk_full && !is_drained {
            let wanted = (self.bytes() / ROOM_PART).max(self.segment_bytes * ROOM_SEGMENTS);
            drop(self.try_room(ROOM_NAME, wanted)?);
            // At worst the next attempt empties it.
            let _ = self.fs.remove(&self.dir().join(ROOM_NAME));
        }
        Ok(())
    }

    fn try_room(&self, name: &str, bytes: u64) -> Result<Arc<dyn FsFile>, JournalError> {
        let path = self.dir().join(name);
        create_segment_file(&*self.fs, &path, bytes).inspect_err(|_| {
            // Gives back what the attempt took; at worst the next one empties it.
            let _ = self.fs.remove(&path);
        })
    }

    pub(super) fn delete_retired(&self) -> Result<(), JournalError> {
        let mut meta = lock(&self.meta);
        let (retired, first_kept, trimmed) = {
            let table = lock(&self.table);
            (table.retired.clone(), table.first(), table.trimmed)
        };
        if retired.is_empty() {
            return Ok(());
        }
        fail::fail_point!("journal::trim", |_| Err(super::error::injected("trim the journal")));
        // Positions before a claim about them: `synced` is read first.
        let synced = self.synced();
        let mut next = meta.clone();
        next.first_kept = first_kept;
        next.trimmed = trimmed;
        next.synced = synced;
        next.committed = self.committed().min(synced);
        next.prune();
        next.store(&*self.fs, self.dir())?;
        *meta = next;
        for first in &retired {
            let path = self.segment_path(*first);
            match self.fs.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(JournalError::io("delete", &path)(error));
                }
                _ => {}
            }
        }
        self.fs.sync_dir(self.dir()).map_err(JournalError::io("sync directory", self.dir()))?;
        lock(&self.table).retired.retain(|first| !retired.contains(first));
        Ok(())
    }

    /// Everything is committed, yet the active segment alone holds the journal at its bound: it is sealed, so
    /// that it can go. Otherwise a journal on hold would wait for ever.
    fn seal_drained(&self) -> Result<(), JournalError> {
        let mut writer = lock(&self.writer);
        let drained = self.committed() == self.appended();
        if drained && writer.active.segment.first < writer.next {
            self.rotate(&mut writer, HEADER_BYTES as u64)?;
        }
        drop(writer);
        self.trim();
        Ok(())
    }
}

/// Creates a file with room for a segment; the room is durable, so that a later fdatasync has only data to write.
pub(super) fn create_segment_file(
    fs: &dyn Fs,
    path: &std::path::Path,
    bytes: u64,
) -> Result<Arc<dyn FsFile>, JournalError> {
    let file = fs.create(path).map_err(JournalError::io("create", path))?;
    match file.allocate(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
            let probe = write_all_at(&*file, &[0; PROBE_BYTES], 0);
            probe.map_err(JournalError::io("preallocate", path))?;
        }
        allocated => allocated.map_err(JournalError::io("preallocate", path))?,
    }
    file.sync_all().map_err(JournalError::io("sync", path))?;
    Ok(file)
}

/// Works whenever it is woken, and every second while something failed.
pub(super) fn run(shared: &Shared) {
    let run = catch_unwind(AssertUnwindSafe(|| {
        let mut failing = false;
        while !shared.stopping.load(Ordering::Acquire) {
            let retry = match shared.maintain() {
                Ok(outcome) => {
                    failing = false;
                    outcome == MaintenanceOutcome::Retry
                }
                Err(error) => {
                    if !failing {
                        shared.listener.maintenance_failed(&error);
                    }
                    failing = true;
                    true
                }
            };
            if retry {
                thread::park_timeout(RETRY_AFTER);
            } else {
                thread::park();
            }
        }
    }));
    if run.is_err() {
        let _ = shared.fail(JournalError::Panicked { thread: "journal-maint" });
    }
}
