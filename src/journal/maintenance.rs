//! Maintenance on its own thread, so that neither appends nor syncs wait for it: preallocates the next segment before it
//! is needed, and deletes the files of trimmed segments and old torn tails.
//!
//! Deleting writes the new first kept segment to `journal.meta`, then removes the files, then syncs the directory. After a
//! crash in between, the next open knows that the files are stale (JRN-5).
//!
//! A full disk is a state here, not an error. Maintenance checks it every second and after every deletion. The state ends
//! when there is room for several segments, not for one: otherwise Andon would reconnect for each segment freed, leave
//! again once it is full, and the broker would deliver what was in flight twice, each time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::fs::{Fs, FsFile, write_all_at};
use super::segment::HEADER_BYTES;
use super::shared::{Shared, lock};
use super::{JournalError, kept_aside};

pub(super) const AHEAD_NAME: &str = "ahead.tmp";
/// Created and removed to find out whether there is room.
pub(super) const ROOM_NAME: &str = "room.tmp";

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bytes written to find out whether there is any room, on a file system that cannot preallocate.
const PROBE_BYTES: usize = 64 * 1024;

/// After a full disk: segments for which there must be room besides the next one …
const ROOM_SEGMENTS: u64 = 4;
/// … and the part of the journal's size for which there must be room, the same 10 % as at `max_bytes`.
const ROOM_PART: u64 = 10;

/// Outcome of one round of maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MaintenanceOutcome {
    /// Nothing is left to do.
    Done,
    /// The disk is full; try again later.
    Retry,
}

impl Shared {
    /// Does one round of maintenance.
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

    /// Preallocates the next segment. If the disk was full, also checks whether there is enough room again.
    fn keep_ahead(&self) -> Result<(), JournalError> {
        let is_disk_full = self.is_disk_full();
        let mut ahead = lock(&self.ahead);
        if ahead.is_some() && !is_disk_full {
            return Ok(());
        }
        // A drained journal will free no more space, so room for one segment is enough. Creating it again tests for it.
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
            // If this fails, the next attempt truncates the file.
            let _ = self.fs.remove(&self.dir().join(ROOM_NAME));
        }
        Ok(())
    }

    fn try_room(&self, name: &str, bytes: u64) -> Result<Arc<dyn FsFile>, JournalError> {
        let path = self.dir().join(name);
        create_segment_file(&*self.fs, &path, bytes).inspect_err(|_| {
            // Frees the space of the failed attempt. If this fails too, the next attempt truncates the file.
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
        fail_point!("journal::trim", |_| Err(super::error::injected("trim the journal")));
        // `synced` is read before `committed`, so that the stored pair keeps committed ≤ synced.
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

    /// Seals the active segment, so that it can be deleted, when everything is committed and that segment alone keeps the
    /// journal at its bound. Otherwise a journal on hold would wait for ever.
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

/// Creates a file with room for a segment and syncs it, so that a later fdatasync writes data only.
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

/// Runs maintenance whenever the thread is woken, and every second while it fails; looks for old torn tails each hour.
pub(super) fn run(shared: &Shared) {
    let run = catch_unwind(AssertUnwindSafe(|| {
        let (mut failing, mut looked_at) = (false, None);
        while !shared.stopping.load(Ordering::Acquire) {
            let is_due = |at: Instant| at.elapsed() >= kept_aside::LOOK_INTERVAL;
            if looked_at.is_none_or(is_due) {
                looked_at = Some(Instant::now());
                if let Err(error) = kept_aside::delete_old_torn_tails(&*shared.fs, shared.dir()) {
                    shared.listener.maintenance_failed(&error);
                }
            }
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
                thread::park_timeout(kept_aside::LOOK_INTERVAL);
            }
        }
    }));
    if run.is_err() {
        let _ = shared.fail(JournalError::Panicked { thread: "journal-maint" });
    }
}
