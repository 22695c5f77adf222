//! A segment: its file name, its header, and its state in the running journal.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::JournalError;
use super::fs::{Access, Fs};
use crate::domain::{JournalId, Seq};

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"ANDONJNL";
const CRC_OFFSET: usize = 60;
const SUFFIX: &str = ".seg";
const NAME_DIGITS: usize = 20;

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub first: Seq,
    pub journal_id: JournalId,
}

/// Why bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// The magic or the checksum is wrong, or the file is too short.
    Unreadable,
    /// A whole header of another version.
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..40].copy_from_slice(self.journal_id.0.as_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC_OFFSET]);
        bytes[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Returns the seed of the records' CRCs: the header's own CRC.
    pub(super) fn seed(&self) -> u32 {
        crc32c::crc32c(&self.encode()[..CRC_OFFSET])
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadHeader> {
        let u32_at = |offset: usize| {
            u32::from_le_bytes(*bytes[offset..].first_chunk().expect("offsets lie inside the header"))
        };
        if bytes[0..8] != MAGIC || u32_at(CRC_OFFSET) != crc32c::crc32c(&bytes[..CRC_OFFSET]) {
            return Err(BadHeader::Unreadable);
        }
        if u32_at(8) != FORMAT_VERSION {
            return Err(BadHeader::Version(u32_at(8)));
        }
        let first = u64::from_le_bytes(*bytes[16..].first_chunk().expect("inside the header"));
        let id = uuid::Uuid::from_bytes(*bytes[24..].first_chunk().expect("inside the header"));
        Ok(Self { first: Seq(first), journal_id: JournalId(id) })
    }
}

/// Returns `<first seq, 20 digits>.seg`.
pub(super) fn segment_name(first: Seq) -> String {
    format!("{:0width$}{SUFFIX}", first.0, width = NAME_DIGITS)
}

pub(super) fn segment_path(dir: &Path, first: Seq) -> PathBuf {
    dir.join(segment_name(first))
}

/// Returns the first seq if the name is a segment's.
pub(super) fn parse_segment_name(name: &str) -> Option<Seq> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != NAME_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Seq).filter(|first| *first > Seq::ZERO)
}

/// Returns the length of all segment files of a journal, preallocated parts included: at least what reading it reads.
///
/// # Errors
/// The directory cannot be listed. A segment that is deleted meanwhile counts as empty.
pub fn segment_files_bytes(dir: &Path, fs: &dyn Fs) -> Result<u64, JournalError> {
    let names = fs.list(dir).map_err(JournalError::io("list", dir))?;
    let segments = names.iter().filter_map(|name| parse_segment_name(name));
    let bytes = |first| {
        let file = fs.open(&segment_path(dir, first), Access::Read);
        file.and_then(|file| file.size()).unwrap_or(0)
    };
    Ok(segments.map(bytes).sum())
}

/// A segment of the running journal, shared between writer, table and readers.
#[derive(Debug)]
pub(super) struct Segment {
    pub first: Seq,
    /// Offset of the next record; only whole records lie before it.
    end: AtomicU64,
    /// Last seq of a sealed segment; 0 while it is active.
    last: AtomicU64,
}

impl Segment {
    pub(super) fn active(first: Seq, end: u64) -> Self {
        Self { first, end: AtomicU64::new(end), last: AtomicU64::new(0) }
    }

    pub(super) fn sealed(first: Seq, end: u64, last: Seq) -> Self {
        Self { first, end: AtomicU64::new(end), last: AtomicU64::new(last.0) }
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    pub(super) fn last(&self) -> Option<Seq> {
        match self.last.load(Ordering::Acquire) {
            0 => None,
            last => Some(Seq(last)),
        }
    }

    /// Seals the segment after `last`. The writer calls it before the next segment gets its first record.
    pub(super) fn seal(&self, last: Seq) {
        debug_assert!(last >= self.first, "an empty segment is not sealed");
        self.last.store(last.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_twenty_digits_and_sort_like_seqs() {
        assert_eq!(segment_name(Seq(42)), "00000000000000000042.seg");
        assert_eq!(parse_segment_name("00000000000000000042.seg"), Some(Seq(42)));
        assert_eq!(parse_segment_name(&segment_name(Seq(u64::MAX))), Some(Seq(u64::MAX)));
        for name in ["42.seg", "00000000000000000000.seg", "0000000000000000004x.seg", "ahead.tmp"] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }

    #[test]
    fn every_changed_byte_of_a_header_is_detected() {
        let header = Header { first: Seq(9), journal_id: JournalId(uuid::Uuid::from_bytes([7; 16])) };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for index in 0..HEADER_BYTES {
            let mut changed = bytes;
            changed[index] ^= 0x10;
            assert_eq!(Header::decode(&changed), Err(BadHeader::Unreadable), "byte {index}");
        }
    }
}
