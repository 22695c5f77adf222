//! The headers of a journal's segments, and `journal.meta` rebuilt from them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::runs;
use crate::domain::{JournalId, Seq};
use crate::journal::JournalError;
use crate::journal::fs::{Access, Fs, FsFile, read_full_at};
use crate::journal::meta::Meta;
use crate::journal::segment::{self, BadHeader, FORMAT_VERSION, HEADER_BYTES, Header};

/// A segment file with its header, if that can be read.
pub(super) struct SegmentHead {
    pub(super) name: Seq,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn FsFile>,
    pub(super) header: Option<Header>,
    /// The journal id that its records have, if the header cannot be read.
    guessed: Option<JournalId>,
}

impl SegmentHead {
    pub(super) fn first(&self) -> Seq {
        self.header.map_or(self.name, |header| header.first)
    }

    pub(super) fn id(&self) -> Option<JournalId> {
        self.header.map(|header| header.journal_id).or(self.guessed)
    }
}

/// Opens the segments from `first_kept` on; leaves out those trimmed meanwhile.
pub(super) fn heads(fs: &dyn Fs, dir: &Path, first_kept: Seq) -> Result<Vec<SegmentHead>, JournalError> {
    let listing = fs.list(dir).map_err(JournalError::io("list", dir))?;
    let mut names: Vec<Seq> = listing.iter().filter_map(|name| segment::parse_segment_name(name)).collect();
    names.sort_unstable();
    let mut heads = Vec::new();
    for name in names.into_iter().filter(|name| *name >= first_kept) {
        let path = segment::segment_path(dir, name);
        let file = match fs.open(&path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(JournalError::io("open", &path))?,
        };
        let mut bytes = [0; HEADER_BYTES];
        read_full_at(&*file, &mut bytes, 0).map_err(JournalError::io("read", &path))?;
        let header = match Header::decode(&bytes) {
            Ok(header) => Some(header),
            Err(BadHeader::Unreadable) => None,
            Err(BadHeader::Version(found)) => {
                return Err(JournalError::Version { path, found, supported: FORMAT_VERSION });
            }
        };
        heads.push(SegmentHead { name, path, file, header, guessed: None });
    }
    Ok(heads)
}

/// Rebuilds `journal.meta` from the headers. Unless they all have the same journal id, the database's position cannot be
/// matched to one: the journal continues under a new id, and everything counts as pending (see `Journal::new_identity`).
pub(super) fn rebuilt(heads: &mut [SegmentHead]) -> Result<Meta, JournalError> {
    let mut ids: Vec<JournalId> = Vec::new();
    for id in heads.iter().filter_map(SegmentHead::id) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    for head in heads.iter_mut().filter(|head| head.header.is_none()) {
        let mut most = 0;
        for id in &ids {
            let header = Header { first: head.name, journal_id: *id };
            let found = runs(&head.file, &header, None).map_err(JournalError::io("read", &head.path))?;
            let records = found.0.iter().map(|run| run.last.since(run.first) + 1).sum();
            if head.guessed.is_none() || records > most {
                (head.guessed, most) = (Some(*id), records);
            }
        }
    }
    let mut meta = Meta::new();
    meta.first_kept = heads.iter().map(SegmentHead::first).min().unwrap_or(Seq(1));
    meta.committed = Seq(meta.first_kept.0 - 1);
    meta.trimmed = meta.committed;
    if let [id] = ids[..] {
        meta.journal_id = id;
        return Ok(meta);
    }
    meta.identity_base = meta.committed;
    let mut known: Vec<(Seq, JournalId)> =
        heads.iter().filter_map(|head| Some((head.first(), head.id()?))).collect();
    known.sort_by_key(|(first, _)| *first);
    for (first, id) in known {
        match meta.earlier.last_mut() {
            Some((upto, last)) if *last == id => *upto = first,
            _ => meta.earlier.push((first, id)),
        }
    }
    Ok(meta)
}
