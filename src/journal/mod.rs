//! The journal: a write-ahead log between the broker's PUBACK and the database.
//!
//! The mqtt side appends every message before it is acknowledged; the parser reads what is durable; the
//! writer commits, and whole segments that are committed are deleted. This module owns the directory
//! `journal.dir`. It knows neither actors nor SQL, logs nothing (it returns facts, see [`Recovery`],
//! [`JournalStats`] and [`JournalListener`]) and never keeps a message in memory instead of on disk.
//!
//! # Files in the directory
//!
//! | file | what |
//! |---|---|
//! | `<first seq, 20 digits>.seg` | a segment: header, then records, then preallocated zeros |
//! | `ahead.tmp`, `own.tmp`, `repair.tmp` | a segment that has no name yet; removed at open |
//! | `room.tmp` | made and removed to see whether a full disk has room again |
//! | `journal.meta` | text: identity, site, openings, boot id of the last opener, first kept, known durable and committed seq, holes (see `meta.rs`) |
//! | `journal.lock` | held with `flock` by the process that appends; holds its pid |
//! | `torn-<seq>-<µs>.bin` | bytes that recovery cut off; never read again, for people only |
//! | `damaged-…-<µs>.bin` | bytes that a repair cut out (see `repair.rs`); the same |
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
//! | 34 | 1 | bits 0–1 QoS, bit 2 retain, bit 3 the topic is no text, bit 4 our clock was unset, others 0 |
//! | 35 | 1 | 0 |
//! | 36 | … | topic, payload |
//!
//! The topic is UTF-8 without U+0000. If bit 3 is set it is anything but that: the bytes that a broker sent in place of a
//! topic. Andon 0.1.0 knows no bits 3 and 4: it takes such a record for damage and refuses to open, rather than misread it.
//!
//! Because the CRC continues the header's, a record counts only in the segment it was written to: neither
//! stale disk blocks nor a payload that imitates a record can be taken for one. The header holds nothing that
//! the file's name and `journal.meta` do not tell, so that records can be checked even if the header is lost.
//!
//! # Invariants
//!
//! - **JRN-1** A seq is given once: it starts at 1, grows by one per record, and survives trimming, crashes and
//!   an empty directory listing (the newest segment's name and `first_kept` hold it).
//! - **JRN-2** `committed ≤ synced ≤ appended`. A [`Reader`] shows nothing beyond `synced` (SYS-2), and
//!   [`Journal::commit`] refuses more.
//! - **JRN-3** A record is in the journal exactly if `append` returned its seq. A failed append leaves at most
//!   bytes without meaning, which the next append overwrites or recovery cuts.
//!   (A write that failed *after* its last byte may come back at the next open: it was not acknowledged, is
//!   delivered again, and the database knows it by its content.)
//! - **JRN-4** A failed fdatasync is final: pages that could not be written may be marked clean, so the next
//!   fdatasync proves nothing. The journal is failed from then on; recovery writes again what it cannot prove durable.
//! - **JRN-5** Nothing is deleted before it is committed (or, with `drop_oldest`, counted as dropped), and
//!   `journal.meta` names the first kept segment before the first file goes: a hole in the row of segments is
//!   damage, never a half-done deletion.
//! - **JRN-6** What cannot be explained by a crash is damage: the journal refuses to open and changes nothing.
//!   The rules stand at the top of `recovery.rs`.
//! - **JRN-7** Memory is bounded: one append buffer, one chunk per reader, a few dozen bytes a segment.
//!
//! # Locks
//!
//! In this order, later ones may be taken while holding earlier ones: `syncing` → `writer` → `ahead` → `meta` → `table`
//! → `space`. Only `syncing`, `ahead` and `meta` are held during an fsync; of these, an append takes `ahead`, when it
//! rotates, and (in mode `before_ack`) `syncing`. No commit or statistic waits for a disk.

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

use crate::domain::{Message, Seq, Timestamp};

pub use error::{JournalError, REPAIR_HINT};
pub use export::{Exported, export};
pub use fs::{Access, Fs, FsFile, LockOutcome, RealFs};
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::fuzz_record;
pub use handle::Journal;
pub use inspect::{Damage, Inspection, SegmentSummary, identity, inspect, inspect_records, verify};
pub use meta::Hole;
pub use reader::Reader;
pub use record::PAYLOAD_BYTES_MAX;
pub use recovery::{Recovery, TornTail};
pub use repair::{Cut, Repair, repair};

pub use crate::domain::{SyncMode, WhenFull};

/// Smallest segment, in bytes; smaller settings are raised to it.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// How far past `max_bytes` appends are still accepted, at least: in-flight messages must have their place.
/// The overrun allowed is the larger of this and one segment.
pub const OVERRUN_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// How to open a journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// The directory; created if absent.
    pub dir: PathBuf,
    /// The site whose messages are journaled; a directory of another one is refused or taken over (see `recovery.rs`).
    pub site: String,
    /// Capacity on the bytes written to all segments together.
    pub max_bytes: u64,
    /// Wanted size of a segment. Used is this, at most a quarter of `max_bytes`, at least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// When records become durable.
    pub sync: SyncMode,
    /// What happens at the bound.
    pub when_full: WhenFull,
}

impl JournalOptions {
    /// The size of a segment that is really used.
    #[must_use]
    pub fn effective_segment_bytes(&self) -> u64 {
        self.segment_bytes.min(self.max_bytes / 4).max(SEGMENT_BYTES_MIN)
    }

    /// The written bytes beyond which an append is refused: the bound and the overrun.
    #[must_use]
    pub fn hard_limit_bytes(&self) -> u64 {
        self.max_bytes.saturating_add(OVERRUN_BYTES_MIN.max(self.effective_segment_bytes()))
    }
}

/// A call that has taken this long means that the disk stalls.
pub const DISK_STALL_MIN: Duration = Duration::from_secs(1);

/// Whether the journal has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// It has.
    Free,
    /// It has not: stop the inflow. What is in flight still has its place.
    Full(FullReason),
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullReason {
    /// `max_bytes` is reached; over when less than 90 % of it is used.
    MaxBytes,
    /// The disk (or quota) has no room for the next segment; tried again every second.
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

/// Is told what happens in the journal, from whichever thread it happens on. Must not block, must not panic,
/// and must not call back into the journal.
pub trait JournalListener: Send + Sync {
    /// Records up to here can be read now: they are durable, or (`Os`) appended. May repeat, and may come
    /// late: take the largest.
    fn readable(&self, upto: Seq);
    /// The journal has become full, or free again. Only called on a change; a new journal is free.
    fn space(&self, space: Space);
    /// The journal has failed for good, e.g. an fdatasync: every later append is refused. Called once.
    fn failed(&self, error: &JournalError);
    /// Preallocating or deleting failed for another reason than a full disk; it is tried again every second.
    /// Called once per series of failures.
    fn maintenance_failed(&self, error: &JournalError) {
        let _ = error;
    }
}

/// A record as it is shown to a reader, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place.
    pub seq: Seq,
    /// The message as it was appended.
    pub message: Message<'a>,
}

/// Seqs that a reader will never get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first one.
    pub from: Seq,
    /// The last one; at least `from`.
    pub to: Seq,
    /// Why.
    pub reason: GapReason,
}

/// Why records are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// Deleted unread by `drop_oldest`.
    Dropped,
    /// Deleted after they were committed. The database that asks for them is older than that: restored from a backup, or new.
    Restored,
    /// Lost to damage; a repair has found out which ones they are.
    Damaged,
    /// These seqs belong to an earlier identity of this journal (see [`Journal::new_identity`]) or to another site; under the
    /// present one they never held a message, and nothing is lost.
    EarlierIdentity,
}

impl GapReason {
    /// The word stored in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "drop_oldest",
            Self::Restored => "restored",
            Self::Damaged => "damaged",
            Self::EarlierIdentity => "earlier_identity",
        }
    }
}

/// What one [`Reader::read`] did. Nothing new: `records` is 0 and `gap` is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOutcome {
    /// How many records were visited.
    pub records: usize,
    /// Their topics and payloads together, in bytes.
    pub bytes: usize,
    /// Seqs missing directly *before* the records of this read. A gap met after records is reported by the next read.
    pub gap: Option<Gap>,
}

/// Where the journal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Seq of the oldest record kept (or, if there is none, of the next one).
    pub first: Seq,
    /// Newest appended.
    pub appended: Seq,
    /// Newest known to be durable.
    pub synced: Seq,
    /// Newest known to be in the database; right after open it is a hint that may be too low.
    pub committed: Seq,
}

/// Positions and figures, for metrics and people. Cheap; waits for no disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalStats {
    /// Where the journal stands.
    pub positions: Positions,
    /// Bytes written to all segments kept.
    pub bytes: u64,
    /// The bound on it.
    pub bytes_max: u64,
    /// Segments kept.
    pub segments: usize,
    /// How long the oldest unsynced record has been waiting; zero if there is none.
    pub unsynced_age: Duration,
    /// `received_at` of the oldest record not committed, or up to a second (with a very long backlog: a
    /// thousandth of its span) before; `None` if everything is committed.
    pub oldest_pending: Option<Timestamp>,
    /// Whether there is room.
    pub space: Space,
    /// Records dropped unread by `drop_oldest` since open.
    pub dropped_records: u64,
    /// fdatasyncs of the newest segment since open.
    pub syncs: u64,
    /// The longest of them.
    pub sync_longest: Duration,
    /// How long the disk has kept an append, a sync or another call waiting that is still under way; zero if none is.
    pub disk_busy_for: Duration,
    /// Whether the journal has failed for good.
    pub failed: bool,
}

impl JournalStats {
    /// For how long the disk has been stalled, if it is.
    #[must_use]
    pub fn stalled_for(&self) -> Option<Duration> {
        (self.disk_busy_for >= DISK_STALL_MIN).then_some(self.disk_busy_for)
    }
}
