//! The last steps of recovery: prove durable, clear leftovers, open the segment to append to.

use std::sync::Arc;

use super::super::JournalError;
use super::super::cursor::{Cursor, Step};
use super::super::fs::{Access, FsFile, copy_range, write_all_at};
use super::super::maintenance::create_segment_file;
use super::super::segment::{HEADER_BYTES, Segment};
use super::super::shared::Active;
use super::super::writer::OWN_NAME;
use super::scan::{Directory, Scan, ScannedSegment};
use crate::domain::Seq;

impl Directory<'_> {
    /// Writes and syncs every record again that is not proven durable (JRN-4).
    pub(super) fn make_durable(&self, scan: &Scan) -> Result<(), JournalError> {
        let proven = self.meta.synced.max(scan.watermark);
        for segment in &scan.segments {
            // Includes an empty segment: its header may not be durable.
            if segment.last.max(segment.first) <= proven {
                continue;
            }
            let path = self.path(segment.first);
            let file = self.open(segment.first, Access::ReadWrite)?;
            let from = self.offset_after(segment, &file, proven)?;
            copy_range(&*file, from..segment.end, &*file, from).map_err(JournalError::io("write", &path))?;
            file.sync_data().map_err(JournalError::io("sync", &path))?;
        }
        Ok(())
    }

    /// Returns the offset of the record after `seq`, or 0 (the header) if that is the first record.
    fn offset_after(
        &self,
        segment: &ScannedSegment,
        file: &Arc<dyn FsFile>,
        seq: Seq,
    ) -> Result<u64, JournalError> {
        if seq < segment.first {
            return Ok(0);
        }
        let seed = self.header(segment.first).seed();
        let mut cursor = Cursor::new(file.clone(), seed, HEADER_BYTES as u64, segment.end);
        loop {
            let step = cursor.step().map_err(JournalError::io("read", &self.path(segment.first)))?;
            match step {
                Step::Record(stored) if stored.seq < seq => {}
                _ => return Ok(cursor.offset()),
            }
        }
    }

    pub(super) fn remove_leftovers(&self) -> Result<(), JournalError> {
        let stale = self.stale.iter().map(|first| self.path(*first));
        for path in stale.chain(self.leftovers.iter().map(|name| self.dir.join(name))) {
            match self.fs.remove(&path) {
                // Storing `journal.meta` has renamed its temporary file away.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(JournalError::io("delete", &path))?,
            }
        }
        Ok(())
    }

    /// Opens the newest segment for appending, or creates one.
    pub(super) fn open_active(&self, scan: &mut Scan, segment_bytes: u64) -> Result<Active, JournalError> {
        // After a hole the records continue in a new segment.
        let Some(newest) = scan.segments.last().filter(|newest| newest.last.next() == scan.next) else {
            return self.create_next(scan, segment_bytes);
        };
        let path = self.path(newest.first);
        let file = self.open(newest.first, Access::ReadWrite)?;
        let mut capacity = segment_bytes.max(file.size().map_err(JournalError::io("read", &path))?);
        match file.allocate(capacity) {
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(error) => {
                let error = JournalError::io("preallocate", &path)(error);
                if !error.is_disk_full() {
                    return Err(error);
                }
                // The disk is full: append what fits; the rest goes to the next segment once there is room.
                capacity = file.size().map_err(JournalError::io("read", &path))?;
            }
            Ok(()) => file.sync_all().map_err(JournalError::io("sync", &path))?,
        }
        let segment = Arc::new(Segment::active(newest.first, newest.end));
        Ok(Active { segment, file, seed: self.header(newest.first).seed(), capacity })
    }

    fn create_next(&self, scan: &mut Scan, segment_bytes: u64) -> Result<Active, JournalError> {
        let (tmp, path) = (self.dir.join(OWN_NAME), self.path(scan.next));
        let file = create_segment_file(self.fs, &tmp, segment_bytes)?;
        let header = self.header(scan.next);
        write_all_at(&*file, &header.encode(), 0).map_err(JournalError::io("write", &tmp))?;
        file.sync_all().map_err(JournalError::io("sync", &tmp))?;
        self.fs.rename(&tmp, &path).map_err(JournalError::io("create", &path))?;
        let end = HEADER_BYTES as u64;
        scan.segments.push(ScannedSegment { first: scan.next, last: Seq(scan.next.0 - 1), end });
        let segment = Arc::new(Segment::active(scan.next, end));
        Ok(Active { segment, file, seed: header.seed(), capacity: segment_bytes })
    }
}
