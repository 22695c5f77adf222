//! The scan over the records of a directory, up to the first place where the next record is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::JournalError;
use super::super::cursor::{Cursor, Step};
use super::super::fs::{Access, Fs, FsFile, read_full_at};
use super::super::maintenance::{AHEAD_NAME, ROOM_NAME};
use super::super::meta::{META_NAME, META_TMP_NAME, Meta};
use super::super::receipt_times::ReceiptTimes;
use super::super::record::BadRecord;
use super::super::repair::REPAIR_TMP_NAME;
use super::super::segment::{self, BadHeader, FORMAT_VERSION, HEADER_BYTES, Header};
use super::super::writer::OWN_NAME;
use crate::domain::Seq;

/// A directory under recovery.
pub(in crate::journal) struct Directory<'a> {
    pub fs: &'a dyn Fs,
    pub dir: &'a Path,
    pub meta: Meta,
    /// First seqs of the segments from `first_kept` on, ascending.
    pub names: Vec<Seq>,
    /// First seqs of the segments before `first_kept`.
    pub stale: Vec<Seq>,
    /// Names of unfinished files.
    pub leftovers: Vec<String>,
}

/// The records found, up to the first place where the next one is missing.
pub(in crate::journal) struct Scan {
    pub segments: Vec<ScannedSegment>,
    pub next: Seq,
    pub records: u64,
    /// The largest watermark of any record.
    pub watermark: Seq,
    pub receipt_times: ReceiptTimes,
    pub end: ScanEnd,
}

pub(in crate::journal) struct ScannedSegment {
    pub first: Seq,
    /// Seq of the last record; the seq before `first` if there is none.
    pub last: Seq,
    pub end: u64,
}

/// Where the scan ended.
pub(in crate::journal) struct ScanEnd {
    /// Index of the segment in `Directory::names`.
    pub index: usize,
    /// Offset up to which that segment is whole; `None` if its header is not, or if it is not the segment expected.
    pub whole_to: Option<u64>,
    /// The missing seq.
    pub seq: Seq,
    pub what: String,
}

impl<'a> Directory<'a> {
    pub(super) fn load(fs: &'a dyn Fs, dir: &'a Path) -> Result<(Self, bool), JournalError> {
        let listing = fs.list(dir).map_err(JournalError::io("list", dir))?;
        let mut names: Vec<Seq> =
            listing.iter().filter_map(|name| segment::parse_segment_name(name)).collect();
        names.sort_unstable();
        let unfinished = [AHEAD_NAME, ROOM_NAME, OWN_NAME, META_TMP_NAME, REPAIR_TMP_NAME];
        let leftovers = listing.into_iter().filter(|name| unfinished.contains(&name.as_str())).collect();
        let (meta, created) = match Meta::load(fs, dir)? {
            Some(meta) => (meta, false),
            None if names.is_empty() => {
                let meta = Meta::new();
                meta.store(fs, dir)?;
                (meta, true)
            }
            None => {
                let what = "the file is missing, though there are segments";
                return Err(JournalError::damaged(&dir.join(META_NAME), 0, what));
            }
        };
        let stale_count = names.partition_point(|first| *first < meta.first_kept);
        let counting = names.split_off(stale_count);
        Ok((Self { fs, dir, meta, names: counting, stale: names, leftovers }, created))
    }

    pub(in crate::journal) fn path(&self, first: Seq) -> PathBuf {
        segment::segment_path(self.dir, first)
    }

    pub(in crate::journal) fn open(
        &self,
        first: Seq,
        access: Access,
    ) -> Result<Arc<dyn FsFile>, JournalError> {
        let path = self.path(first);
        self.fs.open(&path, access).map_err(JournalError::io("open", &path))
    }

    pub(super) fn header(&self, first: Seq) -> Header {
        Header { first, journal_id: self.meta.id_of_segment(first) }
    }

    /// Returns whether the segment has a readable header. A header of another journal is damage.
    fn check_header(&self, first: Seq) -> Result<bool, JournalError> {
        let path = self.path(first);
        let file = self.open(first, Access::Read)?;
        let mut bytes = [0; HEADER_BYTES];
        read_full_at(&*file, &mut bytes, 0).map_err(JournalError::io("read", &path))?;
        match Header::decode(&bytes) {
            Ok(header) if header == self.header(first) => Ok(true),
            Ok(header) if header.first != first => {
                let what = format!("the segment begins with record {}, not with its name's", header.first);
                Err(JournalError::damaged(&path, 0, what))
            }
            Ok(header) => {
                let what = format!("the segment belongs to journal {}", header.journal_id);
                Err(JournalError::damaged(&path, 0, what))
            }
            Err(BadHeader::Version(found)) => {
                Err(JournalError::Version { path, found, supported: FORMAT_VERSION })
            }
            Err(BadHeader::Unreadable) => Ok(false),
        }
    }

    /// Scans the records up to the break.
    pub(super) fn scan(&self) -> Result<Scan, JournalError> {
        let headers = self.names.iter().map(|first| self.check_header(*first));
        let headers: Vec<bool> = headers.collect::<Result<_, _>>()?;
        let mut scan = Scan {
            segments: Vec::new(),
            next: self.meta.first_kept,
            records: 0,
            watermark: Seq::ZERO,
            receipt_times: ReceiptTimes::new(),
            end: ScanEnd { index: 0, whole_to: None, seq: Seq::ZERO, what: "there is no segment".to_owned() },
        };
        for (index, first) in self.names.iter().copied().enumerate() {
            if self.meta.after_hole(scan.next) == first {
                scan.next = first;
            }
            scan.end = if first != scan.next {
                let what = format!(
                    "the segments with the records from {} to {} are missing",
                    scan.next,
                    first.0 - 1
                );
                ScanEnd { index, whole_to: None, seq: scan.next, what }
            } else if !headers[index] {
                let what = "the segment's header is not readable".to_owned();
                ScanEnd { index, whole_to: None, seq: scan.next, what }
            } else {
                let next_first = self.names.get(index + 1).copied();
                let end = next_first.map(|next_first| self.meta.end_of_segment(first, next_first));
                let bad = self.scan_segment(&mut scan, first, end)?;
                let whole_to = scan.segments.last().map(|segment| segment.end);
                let Some(bad) = bad else { continue };
                ScanEnd { index, whole_to, seq: scan.next, what: bad.to_string() }
            };
            break;
        }
        // A crash may have come after a hole at the end was recorded and before the segment after it was created.
        if scan.end.index + 1 >= self.names.len() {
            scan.next = self.meta.after_hole(scan.next);
        }
        scan.end.seq = scan.next;
        Ok(scan)
    }

    /// Adds a segment to the scan, up to the seq that ends it; `None` if it goes on in the next segment.
    fn scan_segment(
        &self,
        scan: &mut Scan,
        first: Seq,
        end: Option<Seq>,
    ) -> Result<Option<BadRecord>, JournalError> {
        let path = self.path(first);
        let file = self.open(first, Access::Read)?;
        let len = file.size().map_err(JournalError::io("read", &path))?;
        let mut cursor = Cursor::new(file, self.header(first).seed(), HEADER_BYTES as u64, len);
        let bad = loop {
            if end == Some(scan.next) {
                break None;
            }
            let step = cursor.step().map_err(JournalError::io("read", &path))?;
            match step {
                Step::Record(stored) if stored.seq == scan.next => {
                    scan.receipt_times.note(stored.seq, stored.message.received_at);
                    scan.watermark = scan.watermark.max(stored.watermark);
                    scan.next = scan.next.next();
                    scan.records += 1;
                }
                Step::Record(stored) => {
                    let (found, len) = (stored.seq, stored.record_len());
                    cursor.step_back(len);
                    break Some(BadRecord::OutOfOrder { expected: scan.next, found });
                }
                Step::Bad(bad) => break Some(bad),
                Step::End => break Some(BadRecord::Blank),
            }
        };
        let last = Seq(scan.next.0 - 1);
        scan.segments.push(ScannedSegment { first, last, end: cursor.offset() });
        Ok(bad)
    }
}
