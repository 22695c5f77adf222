//! Steps over the records of one segment file, chunk by chunk, with bounded memory.

use std::io;
use std::sync::Arc;

use super::fs::{FsFile, read_full_at};
use super::record::{self, BadRecord, Stored};

/// Bytes read at once. A larger record gets a chunk of its own size.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// A position between two records of a segment.
pub(super) struct Cursor {
    file: Arc<dyn FsFile>,
    seed: u32,
    chunk: Vec<u8>,
    /// File offset of the chunk's first byte.
    chunk_offset: u64,
    /// Offset of the next record within the chunk; may be its end.
    at: usize,
    /// File offset of the end, exclusive.
    limit: u64,
}

/// What a step has found.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A whole record; the cursor is now after it.
    Record(Stored<'a>),
    /// Not a record; the cursor has not moved.
    Bad(BadRecord),
    /// The limit, exactly.
    End,
}

impl Cursor {
    pub(super) fn new(file: Arc<dyn FsFile>, seed: u32, offset: u64, limit: u64) -> Self {
        Self { file, seed, chunk: Vec::new(), chunk_offset: offset, at: 0, limit }
    }

    /// Returns the file offset of the next record.
    pub(super) fn offset(&self) -> u64 {
        self.chunk_offset + self.at as u64
    }

    /// Returns the bytes of memory that it holds.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn memory(&self) -> usize {
        self.chunk.capacity()
    }

    /// Moves the limit further. The chunk stays valid: the cursor has never read past the old limit.
    pub(super) fn raise_limit(&mut self, limit: u64) {
        debug_assert!(limit >= self.limit, "a segment only grows");
        self.limit = limit;
    }

    /// Undoes the last step, which returned a record of this length.
    pub(super) fn step_back(&mut self, record_len: usize) {
        self.at -= record_len;
    }

    /// Returns whether the next record is in memory, so that the next step calls nothing of the disk.
    pub(super) fn holds_next(&self) -> bool {
        let held = &self.chunk[self.at..];
        let len = held.first_chunk().and_then(|prefix| record::record_len(*prefix).ok());
        len.is_some_and(|len| len <= held.len())
    }

    pub(super) fn step(&mut self) -> io::Result<Step<'_>> {
        if self.offset() >= self.limit {
            return Ok(Step::End);
        }
        if self.fill(record::PREFIX_BYTES)? < record::PREFIX_BYTES {
            let blank = self.chunk[self.at..].iter().all(|byte| *byte == 0);
            return Ok(Step::Bad(if blank { BadRecord::Blank } else { BadRecord::Truncated }));
        }
        let prefix = *self.chunk[self.at..].first_chunk().expect("filled above");
        let len = match record::record_len(prefix) {
            Ok(len) => len,
            Err(bad) => return Ok(Step::Bad(bad)),
        };
        // Checked before allocating memory.
        if len as u64 > self.limit - self.offset() || self.fill(len)? < len {
            return Ok(Step::Bad(BadRecord::Truncated));
        }
        match record::decode(&self.chunk[self.at..self.at + len], self.seed) {
            Ok(stored) => {
                self.at += len;
                Ok(Step::Record(stored))
            }
            Err(bad) => Ok(Step::Bad(bad)),
        }
    }

    /// Makes at least `wanted` bytes from the cursor on available, if the file and the limit have them; returns how many
    /// are available.
    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        let held = self.chunk.len() - self.at;
        if held >= wanted {
            return Ok(held);
        }
        let below_limit = usize::try_from(self.limit - self.offset()).unwrap_or(usize::MAX);
        let target = wanted.max(CHUNK_BYTES).min(below_limit);
        self.chunk_offset = self.offset();
        self.chunk.drain(..self.at);
        self.at = 0;
        if self.chunk.capacity() > CHUNK_BYTES && target <= CHUNK_BYTES {
            self.chunk.shrink_to(CHUNK_BYTES);
        }
        self.chunk.resize(target.max(held), 0);
        let read = read_full_at(&*self.file, &mut self.chunk[held..], self.chunk_offset + held as u64);
        self.chunk.truncate(held + *read.as_ref().unwrap_or(&0));
        read?;
        Ok(self.chunk.len())
    }
}
