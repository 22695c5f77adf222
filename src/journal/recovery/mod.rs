//! Recovery: opening turns what is on disk into a journal again, or refuses it.
//!
//! # What a crash can leave, and what recovery does with it
//!
//! The records form one sequence of seqs from `first_kept` on, across all segments. Recovery scans it up to the *break*:
//! the first place where the next record is missing. Let `b` be the missing seq.
//!
//! | found at the break | how it came about | what recovery does |
//! |---|---|---|
//! | zeros to the end of the newest segment | nothing: a clean end | continues there |
//! | leftover bytes, then no whole record, in the newest segment | the process or machine died while writing | **torn**: cuts them and keeps them aside |
//! | newest segment without a readable header and without a record | died while creating it | removes it or keeps it aside, makes it again |
//! | whole records after the break, in this or later segments; the machine has booted since; none has a watermark ≥ `b` | power cut: unsynced pages reach the disk in any order | **torn**: cuts them and keeps them aside, later segments too |
//! | the same within one boot | no crash of a process leaves this, only a prefix | **damage** |
//! | a watermark ≥ `b`, or `journal.meta` has `synced ≥ b` (`b` was durable once); in the newest segment, with no whole record after the break, and leftover bytes or the file's end there | a file cut short, or a last record overwritten | **torn**: cuts, keeps aside, and records the lost durable seqs as a hole, so that they are never used again and the database learns of them |
//! | `b` was durable once, any other case | not a crash | **damage** |
//! | the seqs of a hole named in `journal.meta`, between two segments or at the end | a repair, or the cut above | continues after the hole |
//! | segments before `first_kept` | died while deleting | deletes them |
//! | `ahead.tmp`, `room.tmp`, `own.tmp`, `repair.tmp`, `journal.meta.tmp` | died while creating | deletes them |
//! | a header of another journal or version, or with another seq than the file name; no `journal.meta` beside segments | not a crash | **damage** |
//!
//! In an older segment, recovery ignores what lies between the last record and the file's end: only a failed append can
//! have left it.
//!
//! Records that neither a watermark nor `journal.meta` proves durable are written and synced again before anyone reads
//! them. After a failed fdatasync the kernel may hold pages that look clean and are not on disk (JRN-4).
//!
//! # Whose directory it is
//!
//! Recovery refuses the directory of another site, before it changes anything, if records are pending that
//! `journal.meta` does not know to be committed. With nothing pending it takes the directory over: under a new journal id
//! that begins after the newest record, so that no old record is read as the new site's. A directory without a site
//! (made by Andon 0.1.0, or repaired without its `journal.meta`) belongs to the first site that opens it.
//!
//! On damage nothing has been changed. The boot id is stored last, so these rules also cover a crash during recovery.

mod classify;
mod finish;
mod scan;
mod torn_tail;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::JournalError;
use super::fs::Fs;
use super::meta::{Hole, Meta};
use super::receipt_times::ReceiptTimes;
use super::segment::{self, Segment};
use super::shared::Active;
use crate::domain::{JournalId, Seq};
use scan::{Directory, Scan};
pub use torn_tail::TornTail;

/// What recovery found and did, for one log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The journal's id.
    pub journal_id: JournalId,
    /// True if the directory held no journal.
    pub created: bool,
    /// True if the machine has booted since the journal was last opened, or if that is unknown.
    pub rebooted: bool,
    /// Seq of the oldest record (or of the next one, if there is none).
    pub first: Seq,
    /// Seq of the newest record.
    pub last: Seq,
    /// Number of records.
    pub records: u64,
    /// Number of segments.
    pub segments: usize,
    /// Bytes written to the segments.
    pub bytes: u64,
    /// The torn tail that was cut off.
    pub torn: Option<TornTail>,
    /// Records that had been durable and were lost with the end of the newest segment.
    pub lost: Option<Hole>,
    /// The site that owned the directory before, with nothing pending.
    pub taken_from: Option<String>,
}

/// The state with which the journal starts.
pub(super) struct RecoveredState {
    pub meta: Meta,
    pub segments: VecDeque<Arc<Segment>>,
    pub active: Active,
    pub next: Seq,
    pub receipt_times: ReceiptTimes,
}

pub(super) fn recover(
    fs: &dyn Fs,
    dir: &Path,
    site: &str,
    segment_bytes: u64,
) -> Result<(RecoveredState, Recovery), JournalError> {
    let boot_id = fs.boot_id();
    let (mut directory, created) = Directory::load(fs, dir)?;
    let rebooted = boot_id.is_none() || directory.meta.boot_id != boot_id;
    let mut scan = directory.scan()?;
    let tail = directory.classify_tail(&scan, rebooted)?;
    let taken_from = directory.check_site(site, &scan, &tail)?;
    // The hole is recorded before anything is cut: after a crash in between, the next start finds the same tail and a
    // hole that `journal.meta` already names.
    if let Some(lost) = tail.lost {
        directory.record_lost(lost, &mut scan)?;
    }
    scan.drop_newest_before_hole();
    let torn = tail.may_be_torn.then(|| directory.cut(&mut scan)).transpose()?.flatten();
    directory.make_durable(&scan)?;
    directory.remove_leftovers()?;
    let active = directory.open_active(&mut scan, segment_bytes)?;

    // Storing `journal.meta` also syncs the directory, and with it every creation and deletion above.
    let last = Seq(scan.next.0 - 1);
    let mut meta = directory.meta;
    meta.boot_id = boot_id;
    meta.synced = last;
    meta.committed = meta.committed.min(last);
    meta.site = Some(site.to_owned());
    if taken_from.is_some() {
        meta.begin_identity(last, active.segment.first);
    }
    meta.begin_open(scan.next);
    meta.store(fs, dir)?;

    let recovery = Recovery {
        journal_id: meta.journal_id,
        created,
        rebooted,
        first: scan.segments.first().map_or(scan.next, |segment| segment.first),
        last,
        records: scan.records,
        segments: scan.segments.len(),
        bytes: scan.segments.iter().map(|segment| segment.end).sum(),
        torn,
        lost: tail.lost,
        taken_from,
    };
    let segments = shared_segments(&scan, &active);
    Ok((
        RecoveredState { meta, segments, active, next: scan.next, receipt_times: scan.receipt_times },
        recovery,
    ))
}

fn shared_segments(scan: &Scan, active: &Active) -> VecDeque<Arc<Segment>> {
    let sealed = scan.segments.iter().filter(|segment| segment.first < active.segment.first);
    let sealed = sealed.map(|segment| Arc::new(Segment::sealed(segment.first, segment.end, segment.last)));
    sealed.chain([active.segment.clone()]).collect()
}

/// Checks whether the journal would open: returns the error that `recover` would return, and changes nothing. An empty
/// directory passes.
pub(super) fn check(fs: &dyn Fs, dir: &Path) -> Result<(), JournalError> {
    let listing = fs.list(dir).map_err(JournalError::io("list", dir))?;
    let is_empty = !listing.iter().any(|name| segment::parse_segment_name(name).is_some());
    if is_empty && Meta::load(fs, dir)?.is_none() {
        return Ok(());
    }
    let boot_id = fs.boot_id();
    let (directory, _) = Directory::load(fs, dir)?;
    let rebooted = boot_id.is_none() || directory.meta.boot_id != boot_id;
    directory.classify_tail(&directory.scan()?, rebooted).map(drop)
}
