//! `journal.meta`: the few facts about a journal that its segments cannot tell, as text with a checksum.
//!
//! ```text
//! andon journal 1
//! journal_id 67e55044-10b1-426f-9247-bb680e5fe0c8
//! boot_id 1f0c…                the machine's boot in which the journal was last opened; absent if unknown
//! first_kept 1                 segments before it are deleted, or about to be
//! synced 0                     at least this is durable; recovery must find it
//! committed 0                  a hint; the database is the truth
//! identity_base 0              seqs up to here belong to an earlier identity
//! earlier 1 <uuid>             segments with a first seq up to this one carry that older id (any number of lines)
//! hole 5 9                     these seqs are lost to damage and a repair has said so (any number of lines, ascending)
//! crc 0a1b2c3d                 CRC-32C of everything above
//! ```
//!
//! It is replaced as a whole: written beside, fsynced, renamed, directory fsynced. The old or the new one
//! is there after a crash, never a mixture.

use std::fmt::{self, Write as _};
use std::path::Path;

use super::JournalError;
use super::fs::{Access, Fs, read_full_at, write_all_at};
use crate::domain::{JournalId, Seq};

pub(super) const META_NAME: &str = "journal.meta";
pub(super) const META_TMP_NAME: &str = "journal.meta.tmp";
const MAGIC_LINE: &str = "andon journal 1";
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
    pub boot_id: Option<String>,
    pub first_kept: Seq,
    pub synced: Seq,
    pub committed: Seq,
    pub identity_base: Seq,
    /// Ascending: segments with a first seq up to and including this one carry that id.
    pub earlier: Vec<(Seq, JournalId)>,
    /// Ascending, apart from each other. All of them lie at or below `synced`.
    pub holes: Vec<Hole>,
}

impl Meta {
    pub(super) fn new() -> Self {
        Self {
            journal_id: JournalId(uuid::Uuid::new_v4()),
            boot_id: None,
            first_kept: Seq(1),
            synced: Seq::ZERO,
            committed: Seq::ZERO,
            identity_base: Seq::ZERO,
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

    /// The seq behind the hole that begins with `seq`; `seq` itself if none does.
    pub(super) fn behind_hole(&self, seq: Seq) -> Seq {
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
        let meta = std::str::from_utf8(&bytes[..len]).ok().and_then(Self::parse);
        meta.map(Some)
            .ok_or_else(|| JournalError::damaged(&path, 0, "the file is not readable as journal.meta"))
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
        let mut text = format!("{MAGIC_LINE}\njournal_id {}\n", self.journal_id);
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args).expect("writing to a String cannot fail");
            text.push('\n');
        };
        if let Some(boot_id) = &self.boot_id {
            line(format_args!("boot_id {boot_id}"));
        }
        line(format_args!("first_kept {}", self.first_kept));
        line(format_args!("synced {}", self.synced));
        line(format_args!("committed {}", self.committed));
        line(format_args!("identity_base {}", self.identity_base));
        for (upto, id) in &self.earlier {
            line(format_args!("earlier {upto} {id}"));
        }
        for Hole { from, to } in &self.holes {
            line(format_args!("hole {from} {to}"));
        }
        let crc = crc32c::crc32c(text.as_bytes());
        text + &format!("crc {crc:08x}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let crc_at = text.strip_suffix('\n')?.rfind('\n')? + 1;
        let (body, crc_line) = text.split_at(crc_at);
        if crc_line != format!("crc {:08x}\n", crc32c::crc32c(body.as_bytes())) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != MAGIC_LINE {
            return None;
        }
        let mut meta = Self::new();
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            let seq = || value.parse().ok().map(Seq);
            match key {
                "journal_id" => meta.journal_id = parse_id(value)?,
                "boot_id" => meta.boot_id = Some(value.to_owned()),
                "first_kept" => meta.first_kept = seq()?,
                "synced" => meta.synced = seq()?,
                "committed" => meta.committed = seq()?,
                "identity_base" => meta.identity_base = seq()?,
                "earlier" => {
                    let (upto, id) = value.split_once(' ')?;
                    meta.earlier.push((Seq(upto.parse().ok()?), parse_id(id)?));
                }
                "hole" => {
                    let (from, to) = value.split_once(' ')?;
                    meta.holes.push(Hole { from: Seq(from.parse().ok()?), to: Seq(to.parse().ok()?) });
                }
                _ => return None,
            }
        }
        Some(meta)
    }
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
        meta.boot_id = Some("b-1".to_owned());
        meta.first_kept = Seq(7);
        meta.earlier = vec![(Seq(9), Meta::new().journal_id)];
        meta.holes = vec![Hole { from: Seq(11), to: Seq(12) }];
        let text = meta.to_text();
        assert_eq!(Meta::parse(&text), Some(meta));
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] ^= 1;
            let changed = String::from_utf8(changed).expect("still ASCII");
            assert_eq!(Meta::parse(&changed), None, "byte {index}");
        }
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
