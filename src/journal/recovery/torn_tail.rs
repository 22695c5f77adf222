//! Cuts a torn tail: bytes that are not a whole record leave the journal and are kept in a file beside it.
//!
//! They usually belong to messages that were never durable. If some were, the journal records their seqs as a hole.

use std::path::PathBuf;
use std::time::SystemTime;

use super::super::JournalError;
use super::super::fs::{Access, copy_range};
use super::super::meta::Hole;
use super::super::segment::HEADER_BYTES;
use super::super::tail_scan;
use super::scan::{Directory, Scan};
use crate::domain::Seq;

/// A torn tail that recovery has cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub path: PathBuf,
    /// Offset at which its records end.
    pub offset: u64,
    /// The first missing seq; it is given again, unless it had been durable.
    pub seq: Seq,
    /// What was found there.
    pub what: String,
    /// Number of bytes cut.
    pub bytes: u64,
    /// The files that keep these bytes.
    pub kept: Vec<PathBuf>,
}

impl Scan {
    /// Drops the newest segment if a hole begins where it does: no record is left in it.
    pub(super) fn drop_newest_before_hole(&mut self) {
        let next = self.next;
        if self.segments.pop_if(|newest| newest.last < newest.first && newest.first < next).is_some() {
            self.end.whole_to = None;
        }
    }
}

impl Directory<'_> {
    /// Records the lost seqs in `journal.meta`, durably; the sequence continues after them.
    pub(super) fn record_lost(&mut self, lost: Hole, scan: &mut Scan) -> Result<(), JournalError> {
        scan.next = lost.to.next();
        self.meta.synced = lost.to;
        self.meta.holes.push(lost);
        self.meta.store(self.fs, self.dir)
    }

    /// Cuts everything after the break, the newest segment first, and keeps aside what holds bytes.
    pub(super) fn cut(&mut self, scan: &mut Scan) -> Result<Option<TornTail>, JournalError> {
        let end = &scan.end;
        let mut torn = TornTail {
            path: self.path(self.names[end.index]),
            offset: end.whole_to.unwrap_or(0),
            seq: end.seq,
            what: end.what.clone(),
            bytes: 0,
            kept: Vec::new(),
        };
        let whole_segments = end.index + usize::from(end.whole_to.is_some());
        let set_aside = self.names.split_off(whole_segments);
        for first in set_aside.iter().rev() {
            self.set_aside(*first, &mut torn)?;
        }
        if !set_aside.is_empty() {
            // After a hole the next segment gets another name; the old and the new file must never both exist.
            self.fs.sync_dir(self.dir).map_err(JournalError::io("sync directory", self.dir))?;
        }
        if let Some(whole_to) = end.whole_to {
            self.cut_segment(self.names[end.index], whole_to, &mut torn)?;
        }
        Ok((torn.bytes > 0).then_some(torn))
    }

    /// Moves a whole segment out of the journal.
    fn set_aside(&self, first: Seq, torn: &mut TornTail) -> Result<(), JournalError> {
        let path = self.path(first);
        let file = self.open(first, Access::Read)?;
        let written = tail_scan::written_end(&*file, 0).map_err(JournalError::io("read", &path))?;
        if written <= HEADER_BYTES as u64 {
            return self.fs.remove(&path).map_err(JournalError::io("delete", &path));
        }
        let kept = self.torn_path(first);
        self.fs.rename(&path, &kept).map_err(JournalError::io("rename", &path))?;
        torn.bytes += written;
        torn.kept.push(kept);
        Ok(())
    }

    /// Cuts a segment after its last whole record.
    fn cut_segment(&self, first: Seq, whole_to: u64, torn: &mut TornTail) -> Result<(), JournalError> {
        let path = self.path(first);
        let file = self.open(first, Access::ReadWrite)?;
        let written = tail_scan::written_end(&*file, whole_to).map_err(JournalError::io("read", &path))?;
        if written == whole_to {
            return Ok(());
        }
        let kept = self.torn_path(torn.seq);
        let aside = self.fs.create(&kept).map_err(JournalError::io("create", &kept))?;
        copy_range(&*file, whole_to..written, &*aside, 0).map_err(JournalError::io("write", &kept))?;
        aside.sync_all().map_err(JournalError::io("sync", &kept))?;
        self.fs.sync_dir(self.dir).map_err(JournalError::io("sync directory", self.dir))?;
        file.set_len(whole_to).map_err(JournalError::io("cut", &path))?;
        file.sync_all().map_err(JournalError::io("sync", &path))?;
        torn.bytes += written - whole_to;
        torn.kept.push(kept);
        Ok(())
    }

    fn torn_path(&self, seq: Seq) -> PathBuf {
        #[expect(clippy::disallowed_methods, reason = "part of a file name; nothing is decided by it")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.dir.join(format!("torn-{seq}-{}.bin", now.as_micros()))
    }
}
