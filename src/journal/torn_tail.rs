//! Cutting a torn tail: bytes that are no whole record leave the journal, and are kept beside it. As a rule they are of messages
//! that were never durable; of those that were, the journal keeps in mind that they are gone.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::SystemTime;

use super::JournalError;
use super::fs::{Access, FsFile, read_full_at, write_all_at};
use super::meta::Hole;
use super::recovery::{Break, Directory, Row};
use super::segment::HEADER_BYTES;
use super::tail_scan;
use crate::domain::Seq;

const CHUNK_BYTES: usize = 256 * 1024;

/// A torn tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub path: PathBuf,
    /// Where its records end.
    pub offset: u64,
    /// The first seq that is not there; it is given again, unless it had been durable.
    pub seq: Seq,
    /// What is wrong there.
    pub what: String,
    /// How many bytes were cut.
    pub bytes: u64,
    /// The files that keep them.
    pub kept: Vec<PathBuf>,
}

impl Row {
    /// A hole that begins with a segment takes it whole.
    pub(super) fn give_up_newest_before_hole(&mut self) {
        let next = self.next;
        if self.segments.pop_if(|newest| newest.last < newest.first && newest.first < next).is_some() {
            self.end.whole_to = None;
        }
    }
}

impl Directory<'_> {
    /// Whether the newest segment's records end with remains, or with the file: a segment that was filled and followed by
    /// another one, which is missing, ends otherwise.
    pub(super) fn end_is_gone(&self, end: &Break) -> Result<bool, JournalError> {
        let (Some(whole_to), Some(first)) = (end.whole_to, self.names.get(end.index)) else {
            return Ok(false);
        };
        let path = self.path(*first);
        let file = self.open(*first, Access::Read)?;
        let size = file.size().map_err(JournalError::io("read", &path))?;
        let written = tail_scan::written_end(&*file, whole_to).map_err(JournalError::io("read", &path))?;
        Ok(written > whole_to || size == whole_to)
    }

    /// Notes for good that these are gone: the row goes on behind them.
    pub(super) fn name_lost(&mut self, lost: Hole, row: &mut Row) -> Result<(), JournalError> {
        row.next = lost.to.next();
        self.meta.synced = lost.to;
        self.meta.holes.push(lost);
        self.meta.store(self.fs, self.dir)
    }

    /// Cuts what follows the break, the newest segment first, and keeps aside whatever holds bytes.
    pub(super) fn cut(&mut self, row: &mut Row) -> Result<Option<TornTail>, JournalError> {
        let end = &row.end;
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
            // Behind a hole the next segment has another name: both must never be there together.
            self.fs.sync_dir(self.dir).map_err(JournalError::io("sync directory", self.dir))?;
        }
        if let Some(whole_to) = end.whole_to {
            self.cut_segment(self.names[end.index], whole_to, &mut torn)?;
        }
        Ok((torn.bytes > 0).then_some(torn))
    }

    /// Takes a whole segment out of the journal.
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
        copy(&*file, whole_to..written, &*aside, 0).map_err(JournalError::io("write", &kept))?;
        aside.sync_all().map_err(JournalError::io("sync", &kept))?;
        self.fs.sync_dir(self.dir).map_err(JournalError::io("sync directory", self.dir))?;
        file.set_len(whole_to).map_err(JournalError::io("cut", &path))?;
        file.sync_all().map_err(JournalError::io("sync", &path))?;
        torn.bytes += written - whole_to;
        torn.kept.push(kept);
        Ok(())
    }

    fn torn_path(&self, seq: Seq) -> PathBuf {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.dir.join(format!("torn-{seq}-{}.bin", now.as_micros()))
    }
}

/// Copies a range of bytes within bounded memory.
pub(super) fn copy(from: &dyn FsFile, range: Range<u64>, to: &dyn FsFile, mut at: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let wanted = chunk.len().min(usize::try_from(range.end - offset).unwrap_or(usize::MAX));
        let held = read_full_at(from, &mut chunk[..wanted], offset)?;
        if held == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(to, &chunk[..held], at)?;
        offset += held as u64;
        at += held as u64;
    }
    Ok(())
}
