//! Inspects a journal without changing it: while a service appends to it, and when it is damaged.
//!
//! Takes no lock. The service may trim and append meanwhile: segments that vanish are left out, and a record that is just
//! being written at the end of the newest segment is not damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::{Cursor, Step};
use super::fs::{Access, Fs, FsFile, read_full_at};
use super::meta::{Hole, META_NAME, Meta};
use super::record::BadRecord;
use super::recovery;
use super::segment::{self, BadHeader, HEADER_BYTES, Header};
use super::tail_scan::{self, FoundRecord};
use super::{JournalError, Record};
use crate::domain::{JournalId, Seq, Timestamp};

/// A journal as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The journal's id, if it can be read.
    pub journal_id: Option<JournalId>,
    /// Newest committed seq in `journal.meta`: a hint, usually behind the database.
    pub committed_hint: Option<Seq>,
    /// Segments in order, except those about to be deleted.
    pub segments: Vec<SegmentSummary>,
    /// Number of whole records.
    pub records: u64,
    /// Bytes of headers and whole records.
    pub bytes: u64,
    /// Bytes after the last whole record: of an append under way, or torn by a crash (the next start cuts them).
    pub torn_tail_bytes: u64,
    /// Places that a crash explains, such as a header that was never durable. The next start cuts them.
    pub torn: Vec<Damage>,
    /// Seqs that were found lost.
    pub holes: Vec<Hole>,
    /// Files that keep the bytes cut by earlier recoveries and repairs.
    pub kept_aside: Vec<PathBuf>,
    /// Damage that no crash explains. Empty if the journal is whole.
    pub damage: Vec<Damage>,
}

impl Inspection {
    /// Returns the first and last seq of whole records; `None` if there are none.
    #[must_use]
    pub fn range(&self) -> Option<(Seq, Seq)> {
        let mut with_records = self.segments.iter().filter(|segment| segment.last.is_some());
        let first = with_records.next()?;
        let last = with_records.next_back().unwrap_or(first).last?;
        Some((first.first, last))
    }

    /// Returns the newest seq ever given, even if its record has been trimmed: the newest segment's name holds it.
    #[must_use]
    pub fn newest(&self) -> Seq {
        let Some(newest) = self.segments.last() else { return Seq::ZERO };
        newest.last.unwrap_or(Seq(newest.first.0.saturating_sub(1)))
    }
}

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The file.
    pub path: PathBuf,
    /// Seq of its first record, from the file's name.
    pub first: Seq,
    /// Seq of its last whole record.
    pub last: Option<Seq>,
    /// Number of whole records.
    pub records: u64,
    /// Bytes of the header and whole records.
    pub bytes: u64,
    /// Length of the file, including the preallocated part.
    pub file_bytes: u64,
    /// Earliest and latest `received_at`.
    pub received: Option<(Timestamp, Timestamp)>,
}

/// A place that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Offset in the file.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// Reads the whole journal and summarises it.
///
/// # Errors
/// I/O errors. Damage is not an error but part of the result.
pub fn inspect(dir: &Path, fs: &dyn Fs) -> Result<Inspection, JournalError> {
    inspect_records(dir, fs, &mut |_| {})
}

/// Does the same, and visits each whole record once, in order.
///
/// # Errors
/// I/O errors.
pub fn inspect_records(
    dir: &Path,
    fs: &dyn Fs,
    visit: &mut dyn FnMut(Record<'_>),
) -> Result<Inspection, JournalError> {
    let mut inspector = Inspector::start(dir, fs)?;
    let names = inspector.names.clone();
    for (index, first) in names.iter().enumerate() {
        inspector.segment(*first, names.get(index + 1).copied(), visit)?;
    }
    let mut found = inspector.found;
    if !found.damage.is_empty() && recovery::check(fs, dir).is_ok() {
        found.torn = std::mem::take(&mut found.damage);
    }
    Ok(found)
}

/// Reads the whole journal and returns its damage; empty if it is whole.
///
/// # Errors
/// I/O errors.
pub fn verify(dir: &Path, fs: &dyn Fs) -> Result<Vec<Damage>, JournalError> {
    Ok(inspect(dir, fs)?.damage)
}

/// Returns the damage if the first segment is missing and has not been trimmed since `meta` was read.
fn missing_front(
    fs: &dyn Fs,
    dir: &Path,
    meta: &Meta,
    first: Option<Seq>,
) -> Result<Option<Damage>, JournalError> {
    if first == Some(meta.first_kept)
        || first == Some(meta.after_hole(meta.first_kept))
        || Meta::load(fs, dir)?.as_ref() != Some(meta)
    {
        return Ok(None);
    }
    let path = segment::segment_path(dir, meta.first_kept);
    Ok(Some(Damage { path, offset: 0, what: "the segment is missing".to_owned() }))
}

/// Returns the journal's id and its newest committed seq from `journal.meta`; `None` without that file.
///
/// # Errors
/// I/O errors; damage of the file.
pub fn identity(dir: &Path, fs: &dyn Fs) -> Result<Option<(JournalId, Seq)>, JournalError> {
    Ok(Meta::load(fs, dir)?.map(|meta| (meta.journal_id, meta.committed)))
}

struct Inspector<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    meta: Option<Meta>,
    names: Vec<Seq>,
    /// The seq that the next record should have, once known.
    next: Option<Seq>,
    found: Inspection,
}

impl<'a> Inspector<'a> {
    fn start(dir: &'a Path, fs: &'a dyn Fs) -> Result<Self, JournalError> {
        let mut damage = Vec::new();
        let meta_path = dir.join(META_NAME);
        // Read before the listing: its first kept segment is then in the listing, or has been trimmed since.
        let meta = match Meta::load(fs, dir) {
            Err(JournalError::Damaged { path, offset, what, .. }) => {
                damage.push(Damage { path, offset, what });
                None
            }
            loaded => loaded?,
        };
        let listing = fs.list(dir).map_err(JournalError::io("list", dir))?;
        let mut names: Vec<Seq> =
            listing.iter().filter_map(|name| segment::parse_segment_name(name)).collect();
        names.sort_unstable();
        if meta.is_none() && damage.is_empty() && !names.is_empty() {
            let what = "the file is missing, though there are segments".to_owned();
            damage.push(Damage { path: meta_path, offset: 0, what });
        }
        if let Some(meta) = &meta {
            names.retain(|first| *first >= meta.first_kept);
            damage.extend(missing_front(fs, dir, meta, names.first().copied())?);
        }
        let is_kept = |name: &&String| {
            (name.starts_with("torn-") || name.starts_with("damaged-")) && name.ends_with(".bin")
        };
        let mut kept_aside: Vec<PathBuf> =
            listing.iter().filter(is_kept).map(|name| dir.join(name)).collect();
        kept_aside.sort();
        let found = Inspection {
            journal_id: meta.as_ref().map(|meta| meta.journal_id),
            committed_hint: meta.as_ref().map(|meta| meta.committed),
            segments: Vec::new(),
            records: 0,
            bytes: 0,
            torn_tail_bytes: 0,
            torn: Vec::new(),
            holes: meta.as_ref().map(|meta| meta.holes.clone()).unwrap_or_default(),
            kept_aside,
            damage,
        };
        Ok(Self { fs, dir, meta, names, next: None, found })
    }

    fn damage(&mut self, path: &Path, offset: u64, what: impl Into<String>) {
        self.found.damage.push(Damage { path: path.to_owned(), offset, what: what.into() });
    }

    fn segment(
        &mut self,
        first: Seq,
        next_first: Option<Seq>,
        visit: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), JournalError> {
        let path = segment::segment_path(self.dir, first);
        let file = match self.fs.open(&path, Access::Read) {
            // It has been trimmed meanwhile, and so has everything before it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.next = None;
                return Ok(());
            }
            opened => opened.map_err(JournalError::io("open", &path))?,
        };
        self.check_beginning(&path, first);
        let header = self.header(&path, &*file, first)?;
        let read = |error| JournalError::io("read", &path)(error);
        let until = match (&self.meta, next_first) {
            (Some(meta), Some(next_first)) => Some(meta.end_of_segment(first, next_first)),
            _ => next_first,
        };
        let summary = Summary::scan(&file, &path, first, header.seed(), until, visit).map_err(read)?;
        self.found.records += summary.segment.records;
        self.found.bytes += summary.segment.bytes;
        let end = summary.segment.last.map_or(first, Seq::next);
        self.check_end(&path, &summary, end, until);
        let newest_known = self.meta.as_ref().map_or(Seq::ZERO, |meta| meta.synced);
        if next_first.is_none() && end <= newest_known {
            self.damage(&path, summary.segment.bytes, format!("records up to {newest_known} should be here"));
        }
        // Damage at a segment's end is reported once: the next segment is compared with its own name.
        self.next = Some(next_first.unwrap_or(end));
        self.found.segments.push(summary.segment);
        Ok(())
    }

    /// Reports records that are missing before the segment.
    fn check_beginning(&mut self, path: &Path, first: Seq) {
        if let Some(next) = self.next
            && next != first
            && self.meta.as_ref().is_none_or(|meta| meta.after_hole(next) != first)
        {
            let last = first.0.saturating_sub(1);
            self.damage(path, 0, format!("the records from {next} to {last} are missing"));
        }
    }

    /// Reports what ends the segment before `until`, or, in the newest segment, before a whole record.
    fn check_end(&mut self, path: &Path, summary: &Summary, end: Seq, until: Option<Seq>) {
        match (until, &summary.bad) {
            (Some(until), Some(bad)) => {
                let what = format!("expected records {end} to {}, but {bad}", until.0 - 1);
                self.damage(path, summary.segment.bytes, what);
            }
            (None, Some(bad)) => match summary.later {
                Some(FoundRecord { seq, .. }) => {
                    let what = format!("expected record {end}, but {bad}; a whole record {seq} follows");
                    self.damage(path, summary.segment.bytes, what);
                }
                None => self.found.torn_tail_bytes = summary.torn_bytes,
            },
            (_, None) => {}
        }
    }

    /// Returns the segment's header; if it is damaged, the header it should have.
    fn header(&mut self, path: &Path, file: &dyn FsFile, first: Seq) -> Result<Header, JournalError> {
        let mut bytes = [0; HEADER_BYTES];
        read_full_at(file, &mut bytes, 0).map_err(JournalError::io("read", path))?;
        let expected_id = self.meta.as_ref().map(|meta| meta.id_of_segment(first)).or(self.found.journal_id);
        let what = match Header::decode(&bytes) {
            Ok(header) => {
                let expected = Header { first, journal_id: expected_id.unwrap_or(header.journal_id) };
                self.found.journal_id.get_or_insert(header.journal_id);
                if header != expected {
                    let what = format!(
                        "the header has record {} of journal {}, expected record {first} of journal {}",
                        header.first, header.journal_id, expected.journal_id
                    );
                    self.damage(path, 0, what);
                }
                return Ok(header);
            }
            Err(BadHeader::Version(found)) => format!("the segment has format version {found}"),
            Err(BadHeader::Unreadable) => "the segment's header is not readable".to_owned(),
        };
        self.damage(path, 0, what);
        Ok(Header { first, journal_id: expected_id.unwrap_or(JournalId(uuid::Uuid::nil())) })
    }
}

/// What was found in one segment.
struct Summary {
    segment: SegmentSummary,
    /// Why the scan ended, unless at the segment's last record.
    bad: Option<BadRecord>,
    later: Option<FoundRecord>,
    torn_bytes: u64,
}

impl Summary {
    fn scan(
        file: &Arc<dyn FsFile>,
        path: &Path,
        first: Seq,
        seed: u32,
        next_first: Option<Seq>,
        visit: &mut dyn FnMut(Record<'_>),
    ) -> io::Result<Self> {
        let header = HEADER_BYTES as u64;
        let segment = SegmentSummary {
            path: path.to_owned(),
            first,
            last: None,
            records: 0,
            bytes: header,
            file_bytes: file.size()?,
            received: None,
        };
        let mut summary = Self { segment, bad: None, later: None, torn_bytes: 0 };
        // A service may append to the newest segment meanwhile: a place counts as bad only if it holds no record at
        // the second attempt, too.
        let mut tried_at = None;
        loop {
            summary.walk(file, seed, next_first, visit)?;
            if summary.bad.is_none() || next_first.is_some() {
                return Ok(summary);
            }
            let (end, next) = (summary.segment.bytes, summary.segment.last.map_or(first, Seq::next));
            summary.later = None;
            tail_scan::find_records(file, seed, end, next, &mut |found| {
                summary.later.get_or_insert(found);
            })?;
            if summary.later.is_none() {
                summary.torn_bytes = tail_scan::written_end(&**file, end)? - end;
                return Ok(summary);
            }
            if tried_at.replace(end) == Some(end) {
                return Ok(summary);
            }
        }
    }

    /// Reads records up to the first place that does not hold the next one.
    fn walk(
        &mut self,
        file: &Arc<dyn FsFile>,
        seed: u32,
        next_first: Option<Seq>,
        visit: &mut dyn FnMut(Record<'_>),
    ) -> io::Result<()> {
        let mut cursor = Cursor::new(file.clone(), seed, self.segment.bytes, file.size()?);
        let mut next = self.segment.last.map_or(self.segment.first, Seq::next);
        self.bad = None;
        while next_first != Some(next) {
            match cursor.step()? {
                Step::Record(stored) if stored.seq == next => {
                    let at = stored.message.received_at;
                    let (from, to) = self.segment.received.unwrap_or((at, at));
                    self.segment.received = Some((from.min(at), to.max(at)));
                    self.segment.records += 1;
                    self.segment.last = Some(next);
                    visit(Record { seq: next, message: stored.message });
                    next = next.next();
                }
                Step::Record(stored) => {
                    self.bad = Some(BadRecord::OutOfOrder { expected: next, found: stored.seq });
                    break;
                }
                Step::Bad(bad) => {
                    self.bad = Some(bad);
                    break;
                }
                Step::End => {
                    self.bad = Some(BadRecord::Blank);
                    break;
                }
            }
            self.segment.bytes = cursor.offset();
        }
        Ok(())
    }
}
