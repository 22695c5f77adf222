//! Reads records in order while others append records and delete segments.
//!
//! A reader has its own file handle and one chunk of memory. It reads durable records only (SYS-2), and only up to the
//! end that the appender has published, so it never sees a half-written record. It reads a segment to its end even if
//! the file is deleted meanwhile.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cursor::{Cursor, Step};
use super::disk_stall::DiskCall;
use super::fs::Access;
use super::record::BadRecord;
use super::segment::{HEADER_BYTES, Header, Segment};
use super::shared::{Shared, Table, lock};
use super::{Gap, GapReason, JournalError, ReadOutcome, Record, SyncMode};
use crate::domain::Seq;

/// Reads records from a position on. Independent of other readers.
pub struct Reader {
    shared: Arc<Shared>,
    /// Seq of the last record read, or the last one reported as missing.
    position: Seq,
    open: Option<OpenSegment>,
    /// Set if the reader was asked to start after the newest record: the newest seq at that time.
    ahead_of: Option<Seq>,
}

struct OpenSegment {
    segment: Arc<Segment>,
    cursor: Cursor,
    /// Seq of the record at the cursor.
    next: Seq,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, after: Seq) -> Self {
        let appended = shared.appended();
        let ahead_of = (after > appended).then_some(appended);
        Self { shared, position: after, open: None, ahead_of }
    }

    /// Returns the position: every record up to here has been visited or reported as a gap.
    #[must_use]
    pub fn position(&self) -> Seq {
        self.position
    }

    /// Visits the next records in order, at most `records_max` of them (at least 1), with at most `bytes_max` bytes of
    /// topics and payloads (but always one record if there is one). Costs no system call if there is nothing new. In mode
    /// `os` it syncs the records first.
    ///
    /// # Errors
    /// [`JournalError::Ahead`] if the reader was asked to start after the newest record; [`JournalError::Damaged`] if a
    /// record cannot be read (the records before it have been visited); [`JournalError::Failed`] from the sync; I/O
    /// errors. After an error, `position` tells how far it read.
    pub fn read(
        &mut self,
        records_max: usize,
        bytes_max: usize,
        visit: &mut dyn FnMut(Record<'_>),
    ) -> Result<ReadOutcome, JournalError> {
        if let Some(newest) = self.ahead_of {
            return Err(JournalError::Ahead { position: self.position, newest });
        }
        let durable = self.durable()?;
        let mut outcome = ReadOutcome::default();
        while self.position < durable && outcome.records < records_max.max(1) {
            if !self.is_open_for(self.position.next()) {
                self.open = None;
                if let Some(gap) = self.next_gap() {
                    if outcome == ReadOutcome::default() {
                        outcome.gap = Some(gap);
                        self.position = gap.to;
                        continue;
                    }
                    break;
                }
                self.open_segment()?;
            } else if !self.read_record(bytes_max, &mut outcome, visit)? {
                break;
            }
        }
        Ok(outcome)
    }

    /// Returns the newest seq that may be read.
    fn durable(&self) -> Result<Seq, JournalError> {
        let synced = self.shared.synced();
        if self.shared.options.sync == SyncMode::Os && self.position >= synced {
            return self.shared.sync_upto(self.shared.appended());
        }
        Ok(synced)
    }

    fn is_open_for(&self, next: Seq) -> bool {
        let Some(open) = &self.open else { return false };
        open.segment.last().is_none_or(|last| next <= last)
    }

    /// Returns the gap directly after the position, if there is one.
    fn next_gap(&self) -> Option<Gap> {
        let from = self.position.next();
        let Table { segments, trimmed, identity_base, holes, .. } = &*lock(&self.shared.table);
        if from <= *identity_base {
            // Under the current identity these seqs hold no messages, whether their records are still here or not.
            return Some(Gap { from, to: *identity_base, reason: GapReason::EarlierIdentity });
        }
        let missing_to = Seq(segments.front()?.first.0 - 1);
        // The first hole that ends at or after `from`.
        let hole = holes.get(holes.partition_point(|hole| hole.to < from));
        let (to, reason) = if let Some(hole) = hole.filter(|hole| hole.from <= from) {
            return Some(Gap { from, to: hole.to, reason: GapReason::Damaged });
        } else if from <= *trimmed {
            (*trimmed, GapReason::Restored)
        } else {
            (missing_to, GapReason::Dropped)
        };
        let hole_from = hole.map(|hole| hole.from).filter(|hole_from| *hole_from > from);
        let to = to.min(missing_to).min(hole_from.map_or(missing_to, |hole_from| Seq(hole_from.0 - 1)));
        (from <= missing_to).then_some(Gap { from, to, reason })
    }

    /// Opens the segment of the next record. If it has just been deleted, no segment is open afterwards and the table
    /// has the gap.
    fn open_segment(&mut self) -> Result<(), JournalError> {
        let next = self.position.next();
        let Some(segment) = lock(&self.shared.table).find(next) else { return Ok(()) };
        let path = self.shared.segment_path(segment.first);
        let _call = self.shared.disk.enter(DiskCall::Read);
        let file = match self.shared.fs.open(&path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let gone = lock(&self.shared.table).first() > segment.first;
                return if gone { Ok(()) } else { Err(JournalError::io("open", &path)(error)) };
            }
            opened => opened.map_err(JournalError::io("open", &path))?,
        };
        let mut header = [0; HEADER_BYTES];
        super::fs::read_full_at(&*file, &mut header, 0).map_err(JournalError::io("read", &path))?;
        let header = Header::decode(&header)
            .map_err(|_| JournalError::damaged(&path, 0, "the segment's header is not readable"))?;
        let cursor = Cursor::new(file, header.seed(), HEADER_BYTES as u64, segment.end());
        self.open = Some(OpenSegment { next: segment.first, segment, cursor });
        Ok(())
    }

    /// Reads one record and visits it unless it lies at or before the position. Returns false if it does not fit.
    fn read_record(
        &mut self,
        bytes_max: usize,
        outcome: &mut ReadOutcome,
        visit: &mut dyn FnMut(Record<'_>),
    ) -> Result<bool, JournalError> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let path = || self.shared.segment_path(open.segment.first);
        open.cursor.raise_limit(open.segment.end());
        let offset = open.cursor.offset();
        let expected = open.next;
        // Only the read counts as a disk call, not the visit, nor a record that an earlier read has brought.
        let reading = (!open.cursor.holds_next()).then(|| self.shared.disk.enter(DiskCall::Read));
        let step = open.cursor.step();
        drop(reading);
        let stored = match step {
            Ok(Step::Record(stored)) if stored.seq == expected => stored,
            Ok(Step::Record(stored)) => {
                let bad = BadRecord::OutOfOrder { expected, found: stored.seq };
                return Err(damaged(&path(), offset, expected, bad));
            }
            Ok(Step::Bad(bad)) => return Err(damaged(&path(), offset, expected, bad)),
            Ok(Step::End) => return Err(damaged(&path(), offset, expected, BadRecord::Truncated)),
            Err(error) => return Err(JournalError::io("read", &path())(error)),
        };
        if expected > self.position {
            let len = stored.content_len();
            if outcome.records > 0 && outcome.bytes + len > bytes_max {
                let record_len = stored.record_len();
                open.cursor.step_back(record_len);
                return Ok(false);
            }
            outcome.records += 1;
            outcome.bytes += len;
            visit(Record { seq: stored.seq, message: stored.message });
            self.position = expected;
        }
        open.next = expected.next();
        Ok(true)
    }
}

fn damaged(path: &Path, offset: u64, seq: Seq, bad: BadRecord) -> JournalError {
    JournalError::damaged(path, offset, format!("expected record {seq}, but {bad}"))
}
