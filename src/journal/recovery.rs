//! Opening: what is on disk becomes a journal again, or is refused.
//!
//! # What a crash can leave, and what is done with it
//!
//! Records form one row of seqs from `first_kept` on, across segments. Recovery walks along it; the row *breaks* at the
//! first place where the next record is not there. Let `b` be its seq.
//!
//! | found at the break | how it came about | done |
//! |---|---|---|
//! | zeros to the end of the newest segment | nothing, a clean end | go on there |
//! | remains, then no whole record, in the newest segment | process or machine died while writing | **torn**: cut, kept aside |
//! | newest segment without a readable header and without a record | died while creating it | removed or kept aside, made anew |
//! | whole records after the break, in this or in later segments, machine booted since, none of them with a watermark ≥ `b` | power cut: unsynced pages reach the disk in any order | **torn**: cut, kept aside; later segments too |
//! | the same in the same boot | a process cannot leave this, only a prefix | **damage** |
//! | a watermark ≥ `b`, or `journal.meta` says `synced ≥ b` (`b` was durable once), in the newest segment, no whole record after the break, and remains there or the file's end | a file cut short, a last record overwritten | **torn**: cut, kept aside; the durable ones that are gone become a hole, so that their seqs are not used again and the database learns of them |
//! | `b` was durable once, otherwise | not a crash | **damage** |
//! | the seqs of a hole that `journal.meta` names, between two segments or at the end | a repair, or the cut above | the row goes on behind it |
//! | segments before `first_kept` | died while deleting | deleted |
//! | `ahead.tmp`, `room.tmp`, `own.tmp`, `repair.tmp`, `journal.meta.tmp` | died while creating | deleted |
//! | a header of another journal, another version, another seq than the name; no `journal.meta` beside segments | not a crash | **damage** |
//!
//! In an older segment, what stands after the record before the next segment's first is not looked at: it can only be
//! the remains of an append that failed.
//!
//! What is not proven durable by a watermark or by `journal.meta` is written again and synced before anybody
//! reads it: after a failed fdatasync the kernel may hold pages that look clean and are not on the disk (JRN-4).
//!
//! # Whose it is
//!
//! A directory of another site with records that `journal.meta` does not know to be committed is refused, before anything is
//! changed. With none it is taken over: under a new id that begins behind the newest record, so that nothing in it is read as the
//! new site's. A directory that names no site (made by 0.1.0, or repaired without its `journal.meta`) is the first one's that opens it.
//!
//! On damage nothing has been changed. The boot id is noted last, so that dying during recovery, too, leaves
//! what these rules cover.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalError;
use super::cursor::{Cursor, Step};
use super::fs::{Access, Fs, FsFile, read_full_at, write_all_at};
use super::maintenance::{AHEAD_NAME, ROOM_NAME, create_segment_file};
use super::meta::{Hole, META_NAME, META_TMP_NAME, Meta};
use super::receipt_times::ReceiptTimes;
use super::record::BadRecord;
use super::repair::REPAIR_TMP_NAME;
use super::segment::{self, BadHeader, FORMAT_VERSION, HEADER_BYTES, Header, Segment};
use super::shared::Active;
use super::tail_scan::{self, FoundRecord};
use super::torn_tail::{TornTail, copy};
use super::writer::OWN_NAME;
use crate::domain::{JournalId, Seq};

/// What was found at open, for one log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The journal's name.
    pub journal_id: JournalId,
    /// The directory held no journal.
    pub created: bool,
    /// The machine has booted since the journal was last opened, or that is unknown.
    pub rebooted: bool,
    /// Seq of the oldest record (or of the next one, if there is none).
    pub first: Seq,
    /// Seq of the newest record.
    pub last: Seq,
    /// How many records there are.
    pub records: u64,
    /// Segments.
    pub segments: usize,
    /// Their written bytes.
    pub bytes: u64,
    /// What was cut off.
    pub torn: Option<TornTail>,
    /// Records that had been durable and are gone with the end of the newest segment.
    pub lost: Option<Hole>,
    /// The site whose directory it was before; it had nothing pending.
    pub taken_from: Option<String>,
}

/// What the journal starts with.
pub(super) struct Recovered {
    pub meta: Meta,
    pub segments: VecDeque<Arc<Segment>>,
    pub active: Active,
    pub next: Seq,
    pub ages: ReceiptTimes,
}

/// A directory under recovery.
pub(super) struct Directory<'a> {
    pub fs: &'a dyn Fs,
    pub dir: &'a Path,
    pub meta: Meta,
    /// First seqs of the segments that count, ascending.
    pub names: Vec<Seq>,
    /// Those before `first_kept`.
    pub stale: Vec<Seq>,
    /// Unfinished files, by name.
    pub leftovers: Vec<String>,
}

/// The row of records up to its break.
pub(super) struct Row {
    pub segments: Vec<ScannedSegment>,
    pub next: Seq,
    pub records: u64,
    /// The largest one seen.
    pub watermark: Seq,
    pub ages: ReceiptTimes,
    pub end: Break,
}

pub(super) struct ScannedSegment {
    pub first: Seq,
    /// Its last record; the seq before `first` if it has none.
    pub last: Seq,
    pub end: u64,
}

/// Where the row ends.
pub(super) struct Break {
    /// Of the segment, in `Directory::names`.
    pub index: usize,
    /// Up to where that segment is whole; `None` if not even its header is, or it is not the one expected.
    pub whole_to: Option<u64>,
    /// The seq that is not there.
    pub seq: Seq,
    pub what: String,
}

/// What is to be made of the row's end.
struct Tail {
    /// Something may have to be cut.
    may_be_torn: bool,
    /// Records that had been durable are gone with it.
    lost: Option<Hole>,
}

pub(super) fn recover(
    fs: &dyn Fs,
    dir: &Path,
    site: &str,
    segment_bytes: u64,
) -> Result<(Recovered, Recovery), JournalError> {
    let boot_id = fs.boot_id();
    let (mut directory, created) = Directory::load(fs, dir)?;
    let rebooted = boot_id.is_none() || directory.meta.boot_id != boot_id;
    let mut row = directory.scan()?;
    let tail = directory.judge(&row, rebooted)?;
    let taken_from = directory.check_site(site, &row, &tail)?;
    // Before anything is cut: dying in between leaves what was just found, but for the hole, which has its name then.
    if let Some(lost) = tail.lost {
        directory.name_lost(lost, &mut row)?;
    }
    row.give_up_newest_before_hole();
    let torn = tail.may_be_torn.then(|| directory.cut(&mut row)).transpose()?.flatten();
    directory.make_durable(&row)?;
    directory.remove_leftovers()?;
    let active = directory.open_active(&mut row, segment_bytes)?;

    // Storing it also syncs the directory, and with it what has been created and deleted above.
    let last = Seq(row.next.0 - 1);
    let mut meta = directory.meta;
    meta.boot_id = boot_id;
    meta.synced = last;
    meta.committed = meta.committed.min(last);
    meta.site = Some(site.to_owned());
    if taken_from.is_some() {
        meta.begin_identity(last, active.segment.first);
    }
    meta.begin_open(row.next);
    meta.store(fs, dir)?;

    let recovery = Recovery {
        journal_id: meta.journal_id,
        created,
        rebooted,
        first: row.segments.first().map_or(row.next, |segment| segment.first),
        last,
        records: row.records,
        segments: row.segments.len(),
        bytes: row.segments.iter().map(|segment| segment.end).sum(),
        torn,
        lost: tail.lost,
        taken_from,
    };
    let segments = shared_segments(&row, &active);
    Ok((Recovered { meta, segments, active, next: row.next, ages: row.ages }, recovery))
}

fn shared_segments(row: &Row, active: &Active) -> VecDeque<Arc<Segment>> {
    let sealed = row.segments.iter().filter(|segment| segment.first < active.segment.first);
    let sealed = sealed.map(|segment| Arc::new(Segment::sealed(segment.first, segment.end, segment.last)));
    sealed.chain([active.segment.clone()]).collect()
}

/// Whether the journal would open: the error that `recover` would end with, and nothing is changed. An empty
/// directory would become a journal.
pub(super) fn check(fs: &dyn Fs, dir: &Path) -> Result<(), JournalError> {
    let listing = fs.list(dir).map_err(JournalError::io("list", dir))?;
    let is_empty = !listing.iter().any(|name| segment::parse_segment_name(name).is_some());
    if is_empty && Meta::load(fs, dir)?.is_none() {
        return Ok(());
    }
    let boot_id = fs.boot_id();
    let (directory, _) = Directory::load(fs, dir)?;
    let rebooted = boot_id.is_none() || directory.meta.boot_id != boot_id;
    directory.judge(&directory.scan()?, rebooted).map(drop)
}

impl<'a> Directory<'a> {
    fn load(fs: &'a dyn Fs, dir: &'a Path) -> Result<(Self, bool), JournalError> {
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

    pub(super) fn path(&self, first: Seq) -> PathBuf {
        segment::segment_path(self.dir, first)
    }

    pub(super) fn open(&self, first: Seq, access: Access) -> Result<Arc<dyn FsFile>, JournalError> {
        let path = self.path(first);
        self.fs.open(&path, access).map_err(JournalError::io("open", &path))
    }

    fn header(&self, first: Seq) -> Header {
        Header { first, journal_id: self.meta.id_of_segment(first) }
    }

    /// Whether the segment has its header. One that is whole but not ours is damage.
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

    /// Walks along the row of records to its break.
    fn scan(&self) -> Result<Row, JournalError> {
        let headers = self.names.iter().map(|first| self.check_header(*first));
        let headers: Vec<bool> = headers.collect::<Result<_, _>>()?;
        let mut row = Row {
            segments: Vec::new(),
            next: self.meta.first_kept,
            records: 0,
            watermark: Seq::ZERO,
            ages: ReceiptTimes::new(),
            end: Break { index: 0, whole_to: None, seq: Seq::ZERO, what: "there is no segment".to_owned() },
        };
        for (index, first) in self.names.iter().copied().enumerate() {
            if self.meta.behind_hole(row.next) == first {
                row.next = first;
            }
            row.end = if first != row.next {
                let what =
                    format!("the segments with the records from {} to {} are missing", row.next, first.0 - 1);
                Break { index, whole_to: None, seq: row.next, what }
            } else if !headers[index] {
                let what = "the segment's header is not readable".to_owned();
                Break { index, whole_to: None, seq: row.next, what }
            } else {
                let next_first = self.names.get(index + 1).copied();
                let end = next_first.map(|next_first| self.meta.end_of_segment(first, next_first));
                let bad = self.scan_segment(&mut row, first, end)?;
                let whole_to = row.segments.last().map(|segment| segment.end);
                let Some(bad) = bad else { continue };
                Break { index, whole_to, seq: row.next, what: bad.to_string() }
            };
            break;
        }
        // Died after a hole at the end was named, before the segment behind it was made.
        if row.end.index + 1 >= self.names.len() {
            row.next = self.meta.behind_hole(row.next);
        }
        row.end.seq = row.next;
        Ok(row)
    }

    /// Adds a segment to the row, up to the seq that ends it; `None` if it goes on in the next segment.
    fn scan_segment(
        &self,
        row: &mut Row,
        first: Seq,
        end: Option<Seq>,
    ) -> Result<Option<BadRecord>, JournalError> {
        let path = self.path(first);
        let file = self.open(first, Access::Read)?;
        let len = file.size().map_err(JournalError::io("read", &path))?;
        let mut cursor = Cursor::new(file, self.header(first).seed(), HEADER_BYTES as u64, len);
        let bad = loop {
            if end == Some(row.next) {
                break None;
            }
            let step = cursor.step().map_err(JournalError::io("read", &path))?;
            match step {
                Step::Record(stored) if stored.seq == row.next => {
                    row.ages.note(stored.seq, stored.message.received_at);
                    row.watermark = row.watermark.max(stored.watermark);
                    row.next = row.next.next();
                    row.records += 1;
                }
                Step::Record(stored) => {
                    let (found, len) = (stored.seq, stored.record_len());
                    cursor.step_back(len);
                    break Some(BadRecord::OutOfOrder { expected: row.next, found });
                }
                Step::Bad(bad) => break Some(bad),
                Step::End => break Some(BadRecord::Blank),
            }
        };
        let last = Seq(row.next.0 - 1);
        row.segments.push(ScannedSegment { first, last, end: cursor.offset() });
        Ok(bad)
    }

    /// Whether the row ends as a crash can leave it, or at worst with the end of its newest segment gone.
    fn judge(&self, row: &Row, rebooted: bool) -> Result<Tail, JournalError> {
        let end = &row.end;
        let path =
            self.names.get(end.index).map_or_else(|| self.dir.join(META_NAME), |first| self.path(*first));
        let damaged = |why: String| {
            let what = format!("record {} is expected, but {}; {why}", end.seq, end.what);
            Err(JournalError::damaged(&path, end.whole_to.unwrap_or(0), what))
        };
        let mut later: Option<FoundRecord> = None;
        let mut durable = row.watermark.max(self.meta.synced);
        self.find_later(row, &mut |found| {
            durable = durable.max(found.watermark);
            later = later.or(Some(found));
        })?;
        let is_expected =
            end.whole_to.is_some() || self.names.get(end.index).is_none_or(|first| *first == end.seq);
        let in_newest = is_expected && end.index + 1 >= self.names.len();
        if durable >= end.seq {
            let lost = Hole { from: end.seq, to: durable };
            return if later.is_none() && in_newest && self.end_is_gone(end)? {
                Ok(Tail { may_be_torn: true, lost: Some(lost) })
            } else {
                damaged(format!("records up to {durable} were durable"))
            };
        }
        if let Some(found) = later
            && !rebooted
        {
            return damaged(format!("record {} follows it, whole, at byte {}", found.seq, found.offset));
        }
        if !in_newest && !rebooted {
            return damaged("other segments follow".to_owned());
        }
        Ok(Tail { may_be_torn: !self.names.is_empty(), lost: None })
    }

    /// The other site whose directory this is, if it can be taken over.
    fn check_site(&self, site: &str, row: &Row, tail: &Tail) -> Result<Option<String>, JournalError> {
        let Some(owner) = self.meta.site.clone().filter(|owner| owner != site) else { return Ok(None) };
        let newest = tail.lost.map_or(Seq(row.next.0 - 1), |lost| lost.to);
        match newest.since(self.meta.committed) {
            0 => Ok(Some(owner)),
            pending => {
                let (dir, site) = (self.dir.to_owned(), site.to_owned());
                Err(JournalError::OtherSite { dir, owner, site, pending })
            }
        }
    }

    /// Finds whole records after the break.
    fn find_later(&self, row: &Row, visit: &mut dyn FnMut(FoundRecord)) -> Result<(), JournalError> {
        for (index, first) in self.names.iter().copied().enumerate().skip(row.end.index) {
            let from = match row.end.whole_to {
                Some(whole_to) if index == row.end.index => whole_to,
                _ => HEADER_BYTES as u64,
            };
            let file = self.open(first, Access::Read)?;
            let found = tail_scan::find_records(&file, self.header(first).seed(), from, row.end.seq, visit);
            found.map_err(JournalError::io("read", &self.path(first)))?;
        }
        Ok(())
    }

    /// Writes again and syncs what is not proven durable.
    fn make_durable(&self, row: &Row) -> Result<(), JournalError> {
        let proven = self.meta.synced.max(row.watermark);
        for segment in &row.segments {
            // An empty segment, too: its header may not be durable.
            if segment.last.max(segment.first) <= proven {
                continue;
            }
            let path = self.path(segment.first);
            let file = self.open(segment.first, Access::ReadWrite)?;
            let from = self.offset_after(segment, &file, proven)?;
            copy(&*file, from..segment.end, &*file, from).map_err(JournalError::io("write", &path))?;
            file.sync_data().map_err(JournalError::io("sync", &path))?;
        }
        Ok(())
    }

    /// Offset of the record after `seq`, or of the header if that is the first.
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

    fn remove_leftovers(&self) -> Result<(), JournalError> {
        let stale = self.stale.iter().map(|first| self.path(*first));
        for path in stale.chain(self.leftovers.iter().map(|name| self.dir.join(name))) {
            match self.fs.remove(&path) {
                // Creating `journal.meta` has used up the remains of an earlier attempt.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(JournalError::io("delete", &path))?,
            }
        }
        Ok(())
    }

    /// Opens the newest segment for appending, or makes one.
    fn open_active(&self, row: &mut Row, segment_bytes: u64) -> Result<Active, JournalError> {
        // Behind a hole the row goes on in a segment of its own.
        let Some(newest) = row.segments.last().filter(|newest| newest.last.next() == row.next) else {
            return self.create_next(row, segment_bytes);
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
                // What has no place yet will find its way to the next segment, once there is room for one.
                capacity = file.size().map_err(JournalError::io("read", &path))?;
            }
            Ok(()) => file.sync_all().map_err(JournalError::io("sync", &path))?,
        }
        let segment = Arc::new(Segment::active(newest.first, newest.end));
        Ok(Active { segment, file, seed: self.header(newest.first).seed(), capacity })
    }

    fn create_next(&self, row: &mut Row, segment_bytes: u64) -> Result<Active, JournalError> {
        let (tmp, path) = (self.dir.join(OWN_NAME), self.path(row.next));
        let file = create_segment_file(self.fs, &tmp, segment_bytes)?;
        let header = self.header(row.next);
        write_all_at(&*file, &header.encode(), 0).map_err(JournalError::io("write", &tmp))?;
        file.sync_all().map_err(JournalError::io("sync", &tmp))?;
        self.fs.rename(&tmp, &path).map_err(JournalError::io("create", &path))?;
        let end = HEADER_BYTES as u64;
        row.segments.push(ScannedSegment { first: row.next, last: Seq(row.next.0 - 1), end });
        let segment = Arc::new(Segment::active(row.next, end));
        Ok(Active { segment, file, seed: header.seed(), capacity: segment_bytes })
    }
}
