//! `journal.meta`: the few facts about a journal that its segments cannot tell, as text with a checksum.
//!
//! ```text
//! andon journal 2              the version of this file
//! journal_id 67e55044-10b1-426f-9247-bb680e5fe0c8
//! site s1                      whose messages these are; absent: the first site's that opens it
//! boot_id 1f0c…                the machine's boot in which the journal was last opened; absent if unknown
//! first_kept 1                 segments before it are deleted, or about to be
//! synced 0                     at least this is durable; recovery must find it
//! committed 0                  a hint; the database is the truth
//! trimmed 0                    of the records that have left, those up to here were in a database then
//! identity_base 0              seqs up to here belong to an earlier identity
//! before_opens 0               records up to here are from before open ids
//! open 1 <uuid>                the journal was opened, and this was the next seq; a position in the database names the id, which
//!                              is absent until there is one (any number of lines, ascending; see `domain/history.rs`)
//! earlier 1 <uuid>             segments with a first seq up to this one carry that older id (any number of lines)
//! hole 5 9                     these seqs are lost to damage and a repair has said so (any number of lines, ascending)
//! crc 0a1b2c3d                 CRC-32C of everything above
//! ```
//!
//! It is replaced as a whole: written beside, fsynced, renamed, directory fsynced. The old or the new one
//! is there after a crash, never a mixture.
//!
//! Version 1, that of Andon 0.1.0, has no lines `site`, `trimmed`, `before_opens` and `open`. First and last line are the same in
//! every version, so that one to come is known for what it is.

use std::fmt::{self, Write as _};
use std::path::Path;

use super::JournalError;
use super::fs::{Access, Fs, read_full_at, write_all_at};
use crate::domain::{JournalId, Open, OpenId, Seq};

pub(super) const META_NAME: &str = "journal.meta";
pub(super) const META_TMP_NAME: &str = "journal.meta.tmp";
const MAGIC: &str = "andon journal ";
pub(super) const META_VERSION: u32 = 2;
/// Openings that are remembered. A database restored from a backup older than these knows nothing that is believed.
const OPENS_MAX: usize = 256;
/// Room for more holes than a directory can have segments.
const META_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Seqs whose records are lost to damage. After a hole a new segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The first one.
    pub from: Seq,
    /// The last one; at least `from`.
    pub to: Seq,
}

impl Hole {
    /// The seqs from `from` on before `end`; `None` if there are none.
    pub(super) fn before(from: Seq, end: Seq) -> Option<Self> {
        (from < end).then(|| Self { from, to: Seq(end.0 - 1) })
    }

    /// How many seqs it has.
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
pub(super) struct Meta {
    pub journal_id: JournalId,
    pub site: Option<String>,
    pub boot_id: Option<String>,
    pub first_kept: Seq,
    pub synced: Seq,
    pub committed: Seq,
    pub trimmed: Seq,
    pub identity_base: Seq,
    pub before_opens: Seq,
    /// Ascending by their first seq; empty until this version has opened the journal.
    pub opens: Vec<Open>,
    /// Ascending: segments with a first seq up to and including this one carry that id.
    pub earlier: Vec<(Seq, JournalId)>,
    /// Ascending, apart from each other. All of them lie at or below `synced`.
    pub holes: Vec<Hole>,
}

/// Why a text is no `journal.meta`.
#[derive(Debug, PartialEq, Eq)]
enum MetaParseError {
    Unreadable,
    Newer(u32),
}

impl Meta {
    pub(super) fn new() -> Self {
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

    /// The id that the header of the segment with this first seq holds.
    pub(super) fn id_of_segment(&self, first: Seq) -> JournalId {
        let earlier = self.earlier.iter().find(|(upto, _)| first <= *upto);
        earlier.map_or(self.journal_id, |(_, id)| *id)
    }

    /// Forgets what only concerned segments that are gone. A hole is remembered until the database is past it.
    pub(super) fn prune(&mut self) {
        let (first_kept, committed) = (self.first_kept, self.committed);
        self.earlier.retain(|(upto, _)| *upto >= first_kept);
        self.holes.retain(|hole| hole.to >= first_kept || hole.to > committed);
    }

    /// A process begins to append at `next`. Times that no database was told of need no end: nothing was written in their name.
    pub(super) fn begin_open(&mut self, next: Seq) {
        if self.opens.is_empty() {
            self.before_opens = Seq(next.0 - 1);
        }
        if self.opens.last().is_none_or(|open| open.id.is_some()) {
            self.opens.push(Open { first: next, id: None });
        }
        let surplus = self.opens.len().saturating_sub(OPENS_MAX);
        self.opens.drain(..surplus);
    }

    /// Goes on under a new name: seqs up to `base` never held a message under it. Segments up to the one that begins with
    /// `newest_segment` carry the old one.
    pub(super) fn begin_identity(&mut self, base: Seq, newest_segment: Seq) {
        self.earlier.push((newest_segment, self.journal_id));
        self.journal_id = JournalId(uuid::Uuid::new_v4());
        self.identity_base = base;
        self.committed = base;
        self.before_opens = Seq::ZERO;
        self.opens = vec![Open { first: base.next(), id: None }];
    }

    /// The seq behind the hole that begins with `seq`; `seq` itself if none does.
    pub(super) fn after_hole(&self, seq: Seq) -> Seq {
        self.holes.iter().find(|hole| hole.from == seq).map_or(seq, |hole| hole.to.next())
    }

    /// The seq that ends a segment: the first of the next one, or of the hole before that. A segment that a hole
    /// should have taken whole has no such end.
    pub(super) fn end_of_segment(&self, first: Seq, next_first: Seq) -> Seq {
        let hole = self.holes.iter().find(|hole| hole.to.next() == next_first && hole.from > first);
        hole.map_or(next_first, |hole| hole.from)
    }

    /// The last seq that neither a segment from `first_kept` on nor a hole right before it tells of.
    pub(super) fn base_of(&self, first_kept: Seq) -> Seq {
        let hole = self.holes.iter().find(|hole| hole.to.next() == first_kept);
        Seq(hole.map_or(first_kept, |hole| hole.from).0 - 1)
    }

    /// `None` if the file is not there.
    pub(super) fn load(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>, JournalError> {
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

    /// The error of a directory that a newer Andon has written: not even its lock is to be touched.
    pub(super) fn refuse_newer(fs: &dyn Fs, dir: &Path) -> Result<(), JournalError> {
        match Self::load(fs, dir) {
            // It may be repaired.
            Err(JournalError::Damaged { .. }) => Ok(()),
            loaded => loaded.map(drop),
        }
    }

    pub(super) fn store(&self, fs: &dyn Fs, dir: &Path) -> Result<(), JournalError> {
        let (tmp, path) = (dir.join(META_TMP_NAME), dir.join(META_NAME));
        let file = fs.create(&tmp).map_err(JournalError::io("create", &tmp))?;
        let write = write_all_at(&*file, self.to_text().as_bytes(), 0);
        write.map_err(JournalError::io("write", &tmp))?;
        file.sync_all().map_err(JournalError::io("sync", &tmp))?;
        fs.rename(&tmp, &path).map_err(JournalError::io("replace", &path))?;
        fs.sync_dir(dir).map_err(JournalError::io("sync directory", dir))
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{MAGIC}{META_VERSION}\njournal_id {}\n", self.journal_id);
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args).expect("writing to a String cannot fail");
            text.push('\n');
        };
        if let Some(site) = &self.site {
            line(format_args!("site {site}"));
        }
        if let Some(boot_id) = &self.boot_id {
            line(format_args!("boot_id {boot_id}"));
        }
        line(format_args!("first_kept {}", self.first_kept));
        line(format_args!("synced {}", self.synced));
        line(format_args!("committed {}", self.committed));
        line(format_args!("trimmed {}", self.trimmed));
        line(format_args!("identity_base {}", self.identity_base));
        line(format_args!("before_opens {}", self.before_opens));
        for Open { first, id } in &self.opens {
            match id {
                Some(id) => line(format_args!("open {first} {id}")),
                None => line(format_args!("open {first}")),
            }
        }
        for (upto, id) in &self.earlier {
            line(format_args!("earlier {upto} {id}"));
        }
        for Hole { from, to } in &self.holes {
            line(format_args!("hole {from} {to}"));
        }
        let crc = crc32c::crc32c(text.as_bytes());
        text + &format!("crc {crc:08x}\n")
    }

    fn parse(text: &str) -> Result<Self, MetaParseError> {
        let body = checked(text).ok_or(MetaParseError::Unreadable)?;
        let (magic, rest) = body.split_once('\n').ok_or(MetaParseError::Unreadable)?;
        let version: u32 = magic
            .strip_prefix(MAGIC)
            .and_then(|version| version.parse().ok())
            .ok_or(MetaParseError::Unreadable)?;
        if version > META_VERSION {
            return Err(MetaParseError::Newer(version));
        }
        let mut meta = Self::new();
        for line in rest.lines() {
            meta.read_line(line).ok_or(MetaParseError::Unreadable)?;
        }
        if version == 1 {
            meta.trimmed = meta.committed.min(Seq(meta.first_kept.0.saturating_sub(1)));
        }
        Ok(meta)
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once(' ')?;
        let seq = || value.parse().ok().map(Seq);
        match key {
            "journal_id" => self.journal_id = parse_id(value)?,
            "site" => self.site = Some(value.to_owned()),
            "boot_id" => self.boot_id = Some(value.to_owned()),
            "first_kept" => self.first_kept = seq()?,
            "synced" => self.synced = seq()?,
            "committed" => self.committed = seq()?,
            "trimmed" => self.trimmed = seq()?,
            "identity_base" => self.identity_base = seq()?,
            "before_opens" => self.before_opens = seq()?,
            "open" => {
                let (first, id) =
                    value.split_once(' ').map_or((value, None), |(first, id)| (first, Some(id)));
                let id = id.map(|id| id.parse().map(OpenId)).transpose().ok()?;
                self.opens.push(Open { first: Seq(first.parse().ok()?), id });
            }
            "earlier" => {
                let (upto, id) = value.split_once(' ')?;
                self.earlier.push((Seq(upto.parse().ok()?), parse_id(id)?));
            }
            "hole" => {
                let (from, to) = value.split_once(' ')?;
                self.holes.push(Hole { from: Seq(from.parse().ok()?), to: Seq(to.parse().ok()?) });
            }
            _ => return None,
        }
        Some(())
    }
}

/// The lines before the checksum, if it is right.
fn checked(text: &str) -> Option<&str> {
    let crc_at = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (body, crc_line) = text.split_at(crc_at);
    (crc_line == format!("crc {:08x}\n", crc32c::crc32c(body.as_bytes()))).then_some(body)
}

fn parse_id(text: &str) -> Option<JournalId> {
    text.parse().ok().map(JournalId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_reads_back_and_a_changed_byte_is_noticed() {
        let mut meta = Meta::new();
        meta.site = Some("plant-1".to_owned());
        meta.boot_id = Some("b-1".to_owned());
        meta.first_kept = Seq(7);
        (meta.trimmed, meta.before_opens) = (Seq(6), Seq(3));
        meta.opens = vec![
            Open { first: Seq(4), id: Some(OpenId(uuid::Uuid::new_v4())) },
            Open { first: Seq(8), id: None },
        ];
        meta.earlier = vec![(Seq(9), Meta::new().journal_id)];
        meta.holes = vec![Hole { from: Seq(11), to: Seq(12) }];
        let text = meta.to_text();
        assert_eq!(Meta::parse(&text), Ok(meta));
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] ^= 1;
            let changed = String::from_utf8(changed).expect("still ASCII");
            assert_eq!(Meta::parse(&changed), Err(MetaParseError::Unreadable), "byte {index}");
        }
    }

    /// As Andon 0.1.0 wrote it.
    const VERSION_1: &str = "\
andon journal 1
journal_id 67e55044-10b1-426f-9247-bb680e5fe0c8
boot_id 8c2e1f6a-0d5b-4a55-9d0e-3f1f1a2b3c4d
first_kept 7
synced 12
committed 9
identity_base 2
earlier 9 3f0e9a52-6f4b-4a3c-8d5e-0a1b2c3d4e5f
hole 11 12
\
crc e70ffbe8
";

    #[test]
    fn version_1_is_read_and_rewritten_as_the_present_one() {
        let meta = Meta::parse(VERSION_1).unwrap();
        let wanted = Meta {
            journal_id: parse_id("67e55044-10b1-426f-9247-bb680e5fe0c8").unwrap(),
            boot_id: Some("8c2e1f6a-0d5b-4a55-9d0e-3f1f1a2b3c4d".to_owned()),
            first_kept: Seq(7),
            synced: Seq(12),
            committed: Seq(9),
            trimmed: Seq(6),
            identity_base: Seq(2),
            earlier: vec![(Seq(9), parse_id("3f0e9a52-6f4b-4a3c-8d5e-0a1b2c3d4e5f").unwrap())],
            holes: vec![Hole { from: Seq(11), to: Seq(12) }],
            ..Meta::new()
        };
        assert_eq!(meta, wanted);
        assert_eq!(Meta::parse(&meta.to_text()), Ok(meta));
    }

    #[test]
    fn a_version_to_come_is_known_by_its_first_line_and_a_damaged_one_is_not() {
        let body = "andon journal 3\nwhat we cannot know\n";
        let text = format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes()));
        assert_eq!(Meta::parse(&text), Err(MetaParseError::Newer(3)));
        assert_eq!(
            Meta::parse(&VERSION_1.replace("andon journal 1", "andon journal 3")),
            Err(MetaParseError::Unreadable)
        );
    }

    #[test]
    fn only_openings_that_a_database_knows_of_are_kept_and_not_for_ever() {
        let mut meta = Meta::new();
        let told = |meta: &mut Meta| {
            meta.opens.last_mut().unwrap().id = Some(OpenId(uuid::Uuid::new_v4()));
        };
        meta.begin_open(Seq(41));
        assert_eq!((meta.before_opens, meta.opens.len()), (Seq(40), 1));
        meta.begin_open(Seq(51));
        assert_eq!(meta.opens, [Open { first: Seq(41), id: None }], "the time since 41 is one");
        told(&mut meta);
        meta.begin_open(Seq(61));
        assert_eq!((meta.before_opens, meta.opens[1]), (Seq(40), Open { first: Seq(61), id: None }));
        for start in 0..1_000 {
            told(&mut meta);
            meta.begin_open(Seq(62 + start));
        }
        assert_eq!((meta.opens.len(), meta.opens[255].first), (OPENS_MAX, Seq(1_061)));
    }

    #[test]
    fn a_segment_has_the_id_of_its_time() {
        let (old, older) = (Meta::new().journal_id, Meta::new().journal_id);
        let mut meta = Meta { earlier: vec![(Seq(4), older), (Seq(9), old)], ..Meta::new() };
        let ids = [4, 5, 9, 10].map(|first| meta.id_of_segment(Seq(first)));
        assert_eq!(ids, [older, old, old, meta.journal_id]);
        meta.first_kept = Seq(5);
        meta.prune();
        assert_eq!(meta.earlier, vec![(Seq(9), old)]);
    }
}
