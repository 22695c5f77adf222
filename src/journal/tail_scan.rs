//! Scans a segment after the place where its records end: for nothing, leftover bytes, or whole records.

use std::io;
use std::sync::Arc;

use super::cursor::{Cursor, Step};
use super::fs::{FsFile, read_full_at};
use super::record::{self, RECORD_HEADER_BYTES, Stored};
use crate::domain::Seq;

const CHUNK_BYTES: usize = 256 * 1024;
/// Length, CRC and seq: enough to rule out most bytes as a record.
const PEEK_BYTES: usize = 16;
/// A run of zeros of this length is skipped, except its last three bytes: a record's length field begins with at most
/// three zero bytes.
const ZERO_RUN_BYTES: usize = 64;

/// A whole record found where none should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundRecord {
    pub offset: u64,
    /// Length of the whole record, in bytes.
    pub len: u64,
    pub seq: Seq,
    pub watermark: Seq,
}

/// Visits the whole records with a seq of at least `seq_min`, at any byte offset from `from` on.
pub(super) fn find_records(
    file: &Arc<dyn FsFile>,
    seed: u32,
    from: u64,
    seq_min: Seq,
    visit: &mut dyn FnMut(FoundRecord),
) -> io::Result<()> {
    let len = file.size()?;
    let seq_max = Seq(seq_min.0.saturating_add(len / RECORD_HEADER_BYTES as u64));
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut chunk_offset = from;
    while chunk_offset + RECORD_HEADER_BYTES as u64 <= len {
        let held = read_full_at(&**file, &mut chunk, chunk_offset)?;
        let mut at = 0;
        while at + PEEK_BYTES <= held {
            if let Some(skip) = zero_run(&chunk[at..held]) {
                at += skip;
                continue;
            }
            let offset = chunk_offset + at as u64;
            let passed = if is_plausible(&chunk[at..], len - offset, seq_min, seq_max) {
                whole_records(file, seed, offset, len, visit)?
            } else {
                0
            };
            at += usize::try_from(passed).unwrap_or(usize::MAX).max(1);
        }
        // The last bytes of the chunk are too few to check; a record may also have extended past the chunk.
        if at == 0 {
            break;
        }
        chunk_offset += at as u64;
    }
    Ok(())
}

fn zero_run(bytes: &[u8]) -> Option<usize> {
    let run = bytes.first_chunk::<ZERO_RUN_BYTES>()?;
    (*run == [0; ZERO_RUN_BYTES]).then_some(ZERO_RUN_BYTES - 3)
}

fn is_plausible(bytes: &[u8], remaining: u64, seq_min: Seq, seq_max: Seq) -> bool {
    let prefix = *bytes.first_chunk().expect("the caller left PEEK_BYTES");
    let seq = record::stored_seq(bytes);
    (seq_min..=seq_max).contains(&seq) && record::record_len(prefix).is_ok_and(|len| len as u64 <= remaining)
}

/// Visits the consecutive whole records from `offset` on; returns their total length.
fn whole_records(
    file: &Arc<dyn FsFile>,
    seed: u32,
    offset: u64,
    len: u64,
    visit: &mut dyn FnMut(FoundRecord),
) -> io::Result<u64> {
    let mut cursor = Cursor::new(file.clone(), seed, offset, len);
    loop {
        let offset_of_record = cursor.offset();
        match cursor.step()? {
            Step::Record(stored) => {
                let Stored { seq, watermark, .. } = stored;
                let len = stored.record_len() as u64;
                visit(FoundRecord { offset: offset_of_record, len, seq, watermark });
            }
            Step::Bad(_) | Step::End => return Ok(cursor.offset() - offset),
        }
    }
}

/// Returns the offset after the last non-zero byte from `from` on; `from` if there is none.
pub(super) fn written_end(file: &dyn FsFile, from: u64) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = from;
    let mut end = from;
    loop {
        let held = read_full_at(file, &mut chunk, offset)?;
        if held == 0 {
            return Ok(end);
        }
        if let Some(last) = chunk[..held].iter().rposition(|byte| *byte != 0) {
            end = offset + last as u64 + 1;
        }
        offset += held as u64;
    }
}
