//! The journal: a write-ahead log between the broker's PUBACK and the database.
//!
//! The mqtt actor appends every message before it is acknowledged, the parser reads durable records, and the writer
//! commits; then whole committed segments are deleted. This module owns the directory `journal.dir`. It knows neither
//! actors nor SQL, logs nothing (it returns facts: [`Recovery`], [`JournalStats`], [`JournalListener`]), and never keeps
//! a message in memory instead of on disk.
//!
//! # Files in the directory
//!
//! | file | content |
//! |---|---|
//! | `<first seq, 20 digits>.seg` | a segment: header, then records, then preallocated zeros |
//! | `ahead.tmp`, `own.tmp`, `repair.tmp` | a segment without its name; removed at open |
//! | `room.tmp` | created and removed to find out whether a full disk has room again |
//! | `journal.meta` | text: journal id, site, openings, boot id, first kept segment, known durable and committed seq, holes (see `meta.rs`) |
//! | `journal.lock` | locked with `flock` by the process that appends; holds its pid |
//! | `torn-<seq>-<µs>.bin` | bytes that recovery cut off; for people only, never read again; deleted after 90 days (see `kept_aside.rs`) |
//! | `damaged-…-<µs>.bin` | bytes that a repair cut out (see `repair.rs`); for people only |
//!
//! # Format version 1
//!
//! All integers are little-endian. CRC is CRC-32C (Castagnoli).
//!
//! Segment header, 64 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `ANDONJNL` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | header length, 64 |
//! | 16 | 8 | seq of the first record (equal to the file's name) |
//! | 24 | 16 | journal id (UUID) |
//! | 40 | 20 | zero |
//! | 60 | 4 | CRC of bytes 0..60 |
//!
//! Record, 36 bytes + topic + payload, without padding:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | length of everything after the CRC (28 + topic + payload); never 0 |
//! | 4 | 4 | CRC of the length and of everything after the CRC, *continued from the segment header's CRC* |
//! | 8 | 8 | seq |
//! | 16 | 8 | received_at, µs since the Unix epoch, signed |
//! | 24 | 8 | watermark: the newest seq known to be durable when this record was appended |
//! | 32 | 2 | topic length |
//! | 34 | 1 | bits 0–1 QoS, bit 2 retain, bit 3 the topic is not text, bit 4 our clock was unset, others 0 |
//! | 35 | 1 | 0 |
//! | 36 | … | topic, payload |
//!
//! The topic is UTF-8 without U+0000. With bit 3 set it is anything else that a broker sent as a topic. Andon 0.1.0 does
//! not know bits 3 and 4: it treats such a record as damage and refuses to open, rather than misread it.
//!
//! The CRC continues the header's, so a record is valid only in its own segment: neither stale disk blocks nor a payload
//! that imitates a record can pass for one. The header can be rebuilt from the file's name and `journal.meta`, so records
//! can be checked even if the header is lost.
//!
//! # Invariants
//!
//! - **JRN-1** Each seq is used once: seqs start at 1, grow by one per record, and survive trimming, crashes and an empty
//!   directory (the newest segment's name and `first_kept` hold them).
//! - **JRN-2** `committed ≤ synced ≤ appended`: a [`Reader`] returns nothing after `synced` (SYS-2), and
//!   [`Journal::commit`] refuses positions after it.
//! - **JRN-3** A record is in the journal exactly if `append` returned its seq (after `append_unsynced` in mode
//!   `before_ack`: if a sync has covered it since); a failed append leaves at most bytes that the next append overwrites
//!   or recovery cuts. (A write that failed *after* its last byte may reappear at the next open.
//!   It was not acknowledged, the broker delivers it again, and the database recognises it by its content.)
//! - **JRN-4** A failed fdatasync is final, because the kernel may mark the unwritten pages clean: the journal has failed
//!   from then on, and recovery writes again every record that it cannot prove durable.
//! - **JRN-5** No record is deleted before it is committed (or, with `drop_oldest`, counted as dropped), and `journal.meta`
//!   names the first kept segment before the first file is removed: a missing segment is damage, never a half-done deletion.
//! - **JRN-6** Whatever no crash explains is damage: the journal refuses to open and changes nothing. `recovery/mod.rs` has
//!   the rules.
//! - **JRN-7** Memory is bounded: one append buffer, one chunk per reader, a few dozen bytes per segment.
//!
//! # Locks
//!
//! Locks are taken in this order: `syncing` → `writer` → `ahead` → `meta` → `table` → `space`. Only `syncing`, `ahead` and
//! `meta` are held during an fsync. Of these, an append takes `ahead` when it rotates, and `syncing` in mode `before_ack`.
//! No commit and no statistic waits for the disk.

mod capacity;
mod cursor;
mod disk_stall;
mod error;
mod export;
mod fs;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod handle;
mod inspect;
mod kept_aside;
mod lock;
mod maintenance;
mod meta;
mod reader;
mod receipt_times;
mod record;
mod recovery;
mod repair;
mod salvage;
mod segment;
mod shared;
mod sync;
mod tail_scan;
mod threads;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::{Message, Seq, Timestamp, word_enum};

pub use error::{JournalError, REPAIR_HINT};
pub use export::{Exported, export};
pub use fs::{Access, Fs, FsFile, LockOutcome, RealFs};
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::fuzz_record;
pub use handle::Journal;
pub use inspect::{Damage, Inspection, SegmentSummary, identity, inspect, inspect_records, verify};
pub use lock::{Holder, holder};
pub use meta::Hole;
pub use reader::Reader;
pub use record::PAYLOAD_BYTES_MAX;
pub use recovery::{Recovery, TornTail};
pub use repair::{Cut, Repair, repair};
pub use segment::segment_files_bytes;

pub use crate::domain::{SyncMode, WhenFull};

/// Smallest segment, in bytes; smaller settings are raised to it.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// Smallest overrun: how far past `max_bytes` appends are still accepted, so that messages in flight have room.
/// The overrun is the larger of this and one segment.
pub const OVERRUN_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// How to open a journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// The directory; created if absent.
    pub dir: PathBuf,
    /// The site whose messages are journaled. The directory of another site is refused or taken over (see
    /// `recovery/mod.rs`).
    pub site: String,
    /// Bound on the bytes written to all segments together.
    pub max_bytes: u64,
    /// Size of a segment, at most a quarter of `max_bytes` and at least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// When records become durable.
    pub sync: SyncMode,
    /// What happens at the bound.
    pub when_full: WhenFull,
}

impl JournalOptions {
    /// Returns the size of a segment within its bounds.
    #[must_use]
    pub fn effective_segment_bytes(&self) -> u64 {
        self.segment_bytes.min(self.max_bytes / 4).max(SEGMENT_BYTES_MIN)
    }

    /// Returns the written bytes beyond which an append is refused: `max_bytes` plus the overrun.
    #[must_use]
    pub fn hard_limit_bytes(&self) -> u64 {
        self.max_bytes.saturating_add(OVERRUN_BYTES_MIN.max(self.effective_segment_bytes()))
    }
}

/// A disk call that takes this long means that the disk stalls.
pub const DISK_STALL_MIN: Duration = Duration::from_secs(1);

/// Whether the journal has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// There is room.
    Free,
    /// There is none: stop receiving. Messages in flight still have room.
    Full(FullReason),
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullReason {
    /// `max_bytes` is reached; ends below 90 % of it.
    MaxBytes,
    /// The disk or quota has no room for the next segment; retried every second.
    DiskFull,
}

impl fmt::Display for FullReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxBytes => "bound",
            Self::DiskFull => "disk_full",
        })
    }
}

/// Receives what happens in the journal, on the thread where it happens. Must not block, must not panic, and must not
/// call back into the journal.
pub trait JournalListener: Send + Sync {
    /// Records up to here can be read: they are durable, or appended in mode `os`. May repeat or arrive late: the largest
    /// counts.
    fn readable(&self, upto: Seq);
    /// The journal has become full, or free again. Called on changes only; a new journal is free.
    fn space(&self, space: Space);
    /// The journal has failed for good, e.g. an fdatasync: every later append is refused. Called once.
    fn failed(&self, error: &JournalError);
    /// Preallocating or deleting failed for a reason other than a full disk. Retried every second; called once per series
    /// of failures.
    fn maintenance_failed(&self, error: &JournalError) {
        let _ = error;
    }
}

/// A record as a reader returns it, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its seq.
    pub seq: Seq,
    /// The message as it was appended.
    pub message: Message<'a>,
}

impl Record<'_> {
    /// Returns its length on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let content = self.message.topic.as_bytes().len() + self.message.payload.len();
        (record::RECORD_HEADER_BYTES + content) as u64
    }
}

/// Seqs whose records a reader will never return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first one.
    pub from: Seq,
    /// The last one; at least `from`.
    pub to: Seq,
    /// Why.
    pub reason: GapReason,
}

word_enum! {
    /// Why records are missing. The word is stored in `journal_gap`.
    #[derive(Hash)]
    pub enum GapReason {
        /// Deleted unread by `drop_oldest`.
        Dropped = "drop_oldest",
        /// Deleted after they were committed. The database that asks for them is older: restored from a backup, or new.
        Restored = "restored",
        /// Lost to damage; a repair or recovery has recorded which ones.
        Damaged = "damaged",
        /// Seqs of an earlier identity of this journal (see [`Journal::new_identity`]) or of another site. Under the current
        /// identity they never held a message; nothing is lost.
        EarlierIdentity = "earlier_identity",
    }
}

/// Result of one [`Reader::read`]. With nothing new, `records` is 0 and `gap` is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOutcome {
    /// Number of records visited.
    pub records: usize,
    /// Bytes of their topics and payloads.
    pub bytes: usize,
    /// Seqs missing directly *before* the records of this read. A gap met after records is reported by the next read.
    pub gap: Option<Gap>,
}

/// The journal's positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Seq of the oldest record kept; of the next record if there is none.
    pub first: Seq,
    /// Newest appended seq.
    pub appended: Seq,
    /// Newest seq known to be durable.
    pub synced: Seq,
    /// Newest seq known to be in the database; right after opening, a hint that may be too low.
    pub committed: Seq,
}

/// Positions, sizes and timings, for metrics and people. Cheap; never waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalStats {
    /// The journal's positions.
    pub positions: Positions,
    /// Bytes written to the segments kept.
    pub bytes: u64,
    /// Bound on these bytes.
    pub bytes_max: u64,
    /// Number of segments kept.
    pub segments: usize,
    /// How long the oldest unsynced record has waited; zero if there is none.
    pub unsynced_age: Duration,
    /// `received_at` of the oldest uncommitted record, at most a second too early (with a very long backlog: a thousandth
    /// of its span); `None` if everything is committed.
    pub oldest_pending: Option<Timestamp>,
    /// Whether there is room.
    pub space: Space,
    /// Records that `drop_oldest` has dropped unread since open.
    pub dropped_records: u64,
    /// Number of syncs since open.
    pub syncs: u64,
    /// The longest of them.
    pub sync_longest: Duration,
    /// How long the oldest disk call still under way has taken; zero if none is under way.
    pub disk_busy_for: Duration,
    /// Whether the journal has failed for good.
    pub failed: bool,
}

impl JournalStats {
    /// Returns how long the disk has been stalled, if it is.
    #[must_use]
    pub fn stalled_for(&self) -> Option<Duration> {
        (self.disk_busy_for >= DISK_STALL_MIN).then_some(self.disk_busy_for)
    }
}
