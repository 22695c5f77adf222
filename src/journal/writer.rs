//! Appending: one `pwrite` into a preallocated segment, under the writer's lock, with a reused buffer.
//!
//! Nothing in memory changes before the write has succeeded, so a failed append leaves nothing but bytes after the end,
//! which the next append overwrites (JRN-3).
//!
//! In mode `before_ack` nobody relies on a record before it is synced, so that records are written in groups: at the sync,
//! or when the buffer is full. A seq of the group has been handed out by then; a write that fails is final, as a failed
//! sync is (JRN-4).
//!
//! Rotation writes the header into the preallocated file, then gives it its name. Neither is durable until the next sync,
//! and no record in the segment counts as durable before both are.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fs::{FsFile, write_all_at};
use super::maintenance::{self, AHEAD_NAME};
use super::record;
use super::segment::{HEADER_BYTES, Header, Segment};
use super::shared::{Active, Shared, Writer, lock};
use super::{JournalError, SyncMode};
use crate::domain::{Message, Seq};

/// A segment that the append path creates itself, because the prepared one is not ready or too small for the record.
pub(super) const OWN_NAME: &str = "own.tmp";

/// A group is written once it is this long.
const GROUP_BYTES: usize = 64 * 1024;

/// A buffer that a large record has grown beyond this is freed.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

impl Shared {
    pub(super) fn append(&self, message: &Message<'_>) -> Result<Seq, JournalError> {
        let len = record::encoded_len(message)? as u64;
        let mut writer = lock(&self.writer);
        self.check_usable()?;
        self.check_limit()?;
        if writer.end() + len > writer.active.capacity {
            self.make_room(&mut writer, len)?;
        }
        let Writer { active, next, unwritten, .. } = &mut *writer;
        let seq = *next;
        record::encode_onto(unwritten, active.seed, seq, self.synced(), message);
        if self.options.sync != SyncMode::BeforeAck {
            self.write(&mut writer).inspect_err(|_| writer.unwritten.clear())?;
        } else if unwritten.len() >= GROUP_BYTES {
            self.write_group(&mut writer)?;
        }
        writer.next = seq.next();
        self.unsynced.appended();
        lock(&self.receipt_times).note(seq, message.received_at);
        self.appended.store(seq.0, Ordering::Release);
        drop(writer);
        self.note_growth();
        Ok(seq)
    }

    /// Writes what mode `before_ack` has gathered.
    pub(super) fn write_group(&self, writer: &mut Writer) -> Result<(), JournalError> {
        if writer.unwritten.is_empty() {
            return Ok(());
        }
        self.write(writer).map_err(|error| self.fail(error))
    }

    fn write(&self, writer: &mut Writer) -> Result<(), JournalError> {
        let Writer { active, unwritten, .. } = writer;
        let (len, end) = (unwritten.len() as u64, active.segment.end());
        fail_point!("journal::write");
        if let Err(error) = write_all_at(&*active.file, unwritten, end) {
            return Err(self.write_failed(active.segment.first, error));
        }
        active.segment.set_end(end + len);
        self.bytes.fetch_add(len, Ordering::AcqRel);
        unwritten.clear();
        if unwritten.capacity() > BUFFER_BYTES_KEPT {
            *unwritten = Vec::new();
        }
        Ok(())
    }

    /// Checks the bound before the record, not with it: otherwise a record larger than the room left could never be
    /// appended, and the broker would deliver it for ever.
    fn check_limit(&self) -> Result<(), JournalError> {
        let (bytes, limit) = (self.bytes(), self.options.hard_limit_bytes());
        if bytes >= limit { Err(JournalError::Full { bytes, limit }) } else { Ok(()) }
    }

    fn write_failed(&self, first: Seq, error: std::io::Error) -> JournalError {
        let error = JournalError::io("write", &self.segment_path(first))(error);
        if error.is_disk_full() {
            self.note_disk_full(true);
            self.wake_maintenance();
        }
        error
    }

    /// Makes room in the active segment for a record of this length: rotates, or grows an empty segment.
    fn make_room(&self, writer: &mut Writer, len: u64) -> Result<(), JournalError> {
        let needed = HEADER_BYTES as u64 + len;
        if writer.active.segment.first < writer.next {
            return self.rotate(writer, needed);
        }
        // The segment is empty and still too small. A new segment would get the same name, so this one grows.
        match writer.active.file.allocate(needed) {
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(error) => return Err(self.write_failed(writer.active.segment.first, error)),
            Ok(()) => {}
        }
        writer.active.capacity = needed;
        Ok(())
    }

    /// Starts a new segment with room for at least `needed` bytes, header included.
    pub(super) fn rotate(&self, writer: &mut Writer, needed: u64) -> Result<(), JournalError> {
        fail_point!("journal::rotate", |_| Err(super::error::injected("rotate the journal")));
        self.write_group(writer)?;
        let first = writer.next;
        let capacity = needed.max(self.segment_bytes);
        let header = Header { first, journal_id: lock(&self.table).journal_id };
        let file = self.name_blank_segment(&header, capacity).inspect_err(|error| {
            if error.is_disk_full() {
                self.note_disk_full(true);
                self.wake_maintenance();
            }
        })?;
        let segment = Arc::new(Segment::active(first, HEADER_BYTES as u64));
        let active = Active { segment: segment.clone(), file, seed: header.seed(), capacity };
        let sealed = std::mem::replace(&mut writer.active, active);
        sealed.segment.seal(Seq(first.0 - 1));
        if self.appended() > self.synced() {
            writer.unsynced_files.push((sealed.segment.first, sealed.file));
        }
        writer.dir_unsynced = true;
        self.bytes.fetch_add(HEADER_BYTES as u64, Ordering::AcqRel);
        lock(&self.table).segments.push_back(segment);
        self.wake_maintenance();
        Ok(())
    }

    /// Gives a header and a name to the segment prepared ahead, or to one created now if that is too small or missing.
    fn name_blank_segment(&self, header: &Header, capacity: u64) -> Result<Arc<dyn FsFile>, JournalError> {
        // Held until the rename: maintenance must not create a new `ahead.tmp` before.
        let mut ahead = lock(&self.ahead);
        let prepared = if capacity == self.segment_bytes { ahead.take() } else { None };
        let tmp = self.dir().join(if prepared.is_some() { AHEAD_NAME } else { OWN_NAME });
        let named = || {
            let file = match prepared {
                Some(file) => file,
                None => maintenance::create_segment_file(&*self.fs, &tmp, capacity)?,
            };
            write_all_at(&*file, &header.encode(), 0).map_err(JournalError::io("write", &tmp))?;
            let path = self.segment_path(header.first);
            self.fs.rename(&tmp, &path).map_err(JournalError::io("create", &path))?;
            Ok(file)
        };
        named().inspect_err(|_| {
            // Frees the space of the failed attempt. If this fails too, the next attempt truncates the file.
            let _ = self.fs.remove(&tmp);
        })
    }
}
