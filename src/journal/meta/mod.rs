//! `journal.meta`: the few facts about a journal that are not in its segments, as text with a checksum.
//!
//! ```text
//! andon journal 2              the version of this file
//! journal_id 67e55044-10b1-426f-9247-bb680e5fe0c8
//! site s1                      the site that owns the messages; absent: the first site that opens it
//! boot_id 1f0c…                the boot of the machine in which the journal was last opened; absent if unknown
//! first_kept 1                 earlier segments are deleted, or about to be
//! synced 0                     durable at least up to here; recovery must find these records
//! committed 0                  a hint; the database is the truth
//! trimmed 0                    deleted records up to here were in a database when they were deleted
//! identity_base 0              seqs up to here belong to an earlier identity
//! before_opens 0               records up to here are older than open ids
//! open 1 <uuid>                a process opened the journal when this was the next seq. A position in the database names
//!                              the id, which is absent until one was drawn (any number of lines, ascending; see
//!                              `domain/history.rs`)
//! earlier 1 <uuid>             segments with a first seq up to this one carry that older journal id (any number of lines)
//! hole 5 9                     these seqs were lost to damage (any number of lines, ascending)
//! crc 0a1b2c3d                 CRC-32C of everything above
//! ```
//!
//! The file is always replaced as a whole: written to a temporary file, fsynced, renamed, directory fsynced. After a crash
//! the old or the new file is there, never a mixture.
//!
//! Version 1, written by Andon 0.1.0, has no lines `site`, `trimmed`, `before_opens` and `open`. The first and the last line
//! are the same in every version, so that a later version is recognised.

mod text;

use std::fmt;
use std::path::Path;

use super::JournalError;
use super::fs::{Access, Fs, read_full_at, write_all_at};
use crate::domain::{JournalId, Open, Seq};
use text::MetaParseError;

pub(in crate::journal) const META_NAME: &str = "journal.meta";
pub(in crate::journal) const META_TMP_NAME: &str = "journal.meta.tmp";
pub(in crate::journal) const META_VERSION: u32 = 2;
/// Openings kept. A position from before them, in a database restored from an old backup, is not believed.
const OPENS_MAX: usize = 256;
/// Largest file read: room for more holes than a directory can have segments.
const META_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Seqs whose records were lost to damage. A new segment begins after a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The first one.
    pub from: Seq,
    /// The last one; at least `from`.
    pub to: Seq,
}

impl Hole {
    /// Returns the seqs from `from` to before `end`; `None` if there are none.
    pub(in crate::journal) fn before(from: Seq, end: Seq) -> Option<Self> {
        (from < end).then(|| Self { from, to: Seq(end.0 - 1) })
    }

    /// Returns the number of seqs.
    #[must_use]
    pub fn seqs(&self) -> u64 {
        self.to.since(self.from) + 1
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { self.from.fmt(f) } else { write!(f, "{} to {}", self.from, self.to) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct Meta {
    pub journal_id: JournalId,
    pub site: Option<String>,
    pub boot_id: Option<String>,
    pub first_kept: Seq,
    pub synced: Seq,
    pub committed: Seq,
    pub trimmed: Seq,
    pub identity_base: Seq,
    pub before_opens: Seq,
    /// Ascending by first seq; empty until this version of Andon has opened the journal.
    pub opens: Vec<Open>,
    /// Ascending: segments with a first seq up to and including this one carry that id.
    pub earlier: Vec<(Seq, JournalId)>,
    /// Ascending and not adjacent. All of them lie at or below `synced`.
    pub holes: Vec<Hole>,
}

impl Meta {
    pub(in crate::journal) fn new() -> Self {
        Self {
            journal_id: JournalId(uuid::Uuid::new_v4()),
            site: None,
            boot_id: None,
            first_kept: Seq(1),
            synced: Seq::ZERO,
            committed: Seq::ZERO,
            trimmed: Seq::ZERO,
            identity_base: Seq::ZERO,
            before_opens: Seq::ZERO,
            opens: Vec::new(),
            earlier: Vec::new(),
            holes: Vec::new(),
        }
    }

    /// Returns the journal id in the header of the segment with this first seq.
    pub(in crate::journal) fn id_of_segment(&self, first: Seq) -> JournalId {
        let earlier = self.earlier.iter().find(|(upto, _)| first <= *upto);
        earlier.map_or(self.journal_id, |(_, id)| *id)
    }

    /// Removes entries about deleted segments. A hole stays until the database is past it.
    pub(in crate::journal) fn prune(&mut self) {
        let (first_kept, committed) = (self.first_kept, self.committed);
        self.earlier.retain(|(upto, _)| *upto >= first_kept);
        self.holes.retain(|hole| hole.to >= first_kept || hole.to > committed);
    }

    /// Adds the opening of a process that will append from `next` on. An opening without an id is continued: no position
    /// was ever written under it.
    pub(in crate::journal) fn begin_open(&mut self, next: Seq) {
        if self.opens.is_empty() {
            self.before_opens = Seq(next.0 - 1);
        }
        if self.opens.last().is_none_or(|open| open.id.is_some()) {
            self.opens.push(Open { first: next, id: None });
        }
        let surplus = self.opens.len().saturating_sub(OPENS_MAX);
        self.opens.drain(..surplus);
    }

    /// Gives the journal a new id, under which seqs up to `base` never held a message. Segments up to the one that begins
    /// with `newest_segment` carry the old id.
    pub(in crate::journal) fn begin_identity(&mut self, base: Seq, newest_segment: Seq) {
        self.earlier.push((newest_segment, self.journal_id));
        self.journal_id = JournalId(uuid::Uuid::new_v4());
        self.identity_base = base;
        self.committed = base;
        self.before_opens = Seq::ZERO;
        self.opens = vec![Open { first: base.next(), id: None }];
    }

    /// Returns the seq after the hole that begins with `seq`; `seq` itself if none does.
    pub(in crate::journal) fn after_hole(&self, seq: Seq) -> Seq {
        self.holes.iter().find(|hole| hole.from == seq).map_or(seq, |hole| hole.to.next())
    }

    /// Returns the seq at which a segment ends, exclusive: the first of the next segment, or of the hole before it. A hole
    /// that begins at or before the segment itself does not count.
    pub(in crate::journal) fn end_of_segment(&self, first: Seq, next_first: Seq) -> Seq {
        let hole = self.holes.iter().find(|hole| hole.to.next() == next_first && hole.from > first);
        hole.map_or(next_first, |hole| hole.from)
    }

    /// Returns the last seq before `first_kept` and before a hole that ends there.
    pub(in crate::journal) fn base_of(&self, first_kept: Seq) -> Seq {
        let hole = self.holes.iter().find(|hole| hole.to.next() == first_kept);
        Seq(hole.map_or(first_kept, |hole| hole.from).0 - 1)
    }

    /// Reads the file; `None` if it does not exist.
    pub(in crate::journal) fn load(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>, JournalError> {
        let path = dir.join(META_NAME);
        let file = match fs.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(JournalError::io("open", &path)(error)),
        };
        let size = file.size().map_err(JournalError::io("read", &path))?.min(META_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(size).expect("bounded above")];
        let len = read_full_at(&*file, &mut bytes, 0).map_err(JournalError::io("read", &path))?;
        match std::str::from_utf8(&bytes[..len]).map_or(Err(MetaParseError::Unreadable), Self::parse) {
            Ok(meta) => Ok(Some(meta)),
            Err(MetaParseError::Newer(found)) => {
                Err(JournalError::Version { path, found, supported: META_VERSION })
            }
            Err(MetaParseError::Unreadable) => {
                Err(JournalError::damaged(&path, 0, "the file is not readable as journal.meta"))
            }
        }
    }

    /// Returns an error if a newer Andon wrote the directory: then not even its lock may be touched.
    pub(in crate::journal) fn refuse_newer(fs: &dyn Fs, dir: &Path) -> Result<(), JournalError> {
        match Self::load(fs, dir) {
            // A repair may follow.
            Err(JournalError::Damaged { .. }) => Ok(()),
            loaded => loaded.map(drop),
        }
    }

    pub(in crate::journal) fn store(&self, fs: &dyn Fs, dir: &Path) -> Result<(), JournalError> {
        let (tmp, path) = (dir.join(META_TMP_NAME), dir.join(META_NAME));
        let file = fs.create(&tmp).map_err(JournalError::io("create", &tmp))?;
        let write = write_all_at(&*file, self.to_text().as_bytes(), 0);
        write.map_err(JournalError::io("write", &tmp))?;
        file.sync_all().map_err(JournalError::io("sync", &tmp))?;
        fs.rename(&tmp, &path).map_err(JournalError::io("replace", &path))?;
        fs.sync_dir(dir).map_err(JournalError::io("sync directory", dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OpenId;

    #[test]
    fn only_openings_with_an_id_are_kept_and_a_bounded_number_of_them() {
        let mut meta = Meta::new();
        let draw_id = |meta: &mut Meta| {
            meta.opens.last_mut().unwrap().id = Some(OpenId(uuid::Uuid::new_v4()));
        };
        meta.begin_open(Seq(41));
        assert_eq!((meta.before_opens, meta.opens.len()), (Seq(40), 1));
        meta.begin_open(Seq(51));
        assert_eq!(meta.opens, [Open { first: Seq(41), id: None }], "an opening without an id is continued");
        draw_id(&mut meta);
        meta.begin_open(Seq(61));
        assert_eq!((meta.before_opens, meta.opens[1]), (Seq(40), Open { first: Seq(61), id: None }));
        for start in 0..1_000 {
            draw_id(&mut meta);
            meta.begin_open(Seq(62 + start));
        }
        assert_eq!((meta.opens.len(), meta.opens[255].first), (OPENS_MAX, Seq(1_061)));
    }

    #[test]
    fn a_segment_has_the_journal_id_it_was_created_with() {
        let (old, older) = (Meta::new().journal_id, Meta::new().journal_id);
        let mut meta = Meta { earlier: vec![(Seq(4), older), (Seq(9), old)], ..Meta::new() };
        let ids = [4, 5, 9, 10].map(|first| meta.id_of_segment(Seq(first)));
        assert_eq!(ids, [older, old, old, meta.journal_id]);
        meta.first_kept = Seq(5);
        meta.prune();
        assert_eq!(meta.earlier, vec![(Seq(9), old)]);
    }
}
