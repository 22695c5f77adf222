//! `max_bytes`, full disks, records larger than a segment.

use super::*;
use crate::journal::maintenance::MaintenanceOutcome;
use crate::journal::{FullReason, GapReason, OVERRUN_BYTES_MIN};

const MAX: u64 = 1 << 20;

const SEGMENT_BYTES: u64 = 128 * 1024;

fn bounded(fs: &SimFs, when_full: WhenFull) -> (Journal, Arc<Notes>) {
    let notes = Arc::<Notes>::default();
    let options = JournalOptions { max_bytes: MAX, segment_bytes: SEGMENT_BYTES, when_full, ..options() };
    (try_open_with(fs, options, &notes).unwrap().0, notes)
}

fn said(notes: &Notes) -> Vec<Space> {
    notes.space.lock().unwrap().clone()
}

#[test]
fn hold_reports_full_at_the_bound_accepts_the_overrun_and_is_free_below_90_percent() {
    let fs = SimFs::default();
    let (journal, notes) = bounded(&fs, WhenFull::Hold);
    while journal.stats().bytes < MAX {
        assert_eq!(said(&notes), []);
        append_many(&journal, 1, 8000);
    }
    let full = Space::Full(FullReason::MaxBytes);
    assert_eq!(said(&notes), [full]);
    let refused = loop {
        let number = journal.positions().appended.0 + 1;
        match append(&journal, number, 64_000) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, JournalError::Full { .. }), "{refused}");
    assert!(journal.stats().bytes >= MAX + OVERRUN_BYTES_MIN);

    let newest = journal.sync().unwrap();
    let mut committed = Seq::ZERO;
    while journal.stats().bytes >= MAX / 10 * 9 {
        assert_eq!(said(&notes), [full]);
        committed = committed.next();
        journal.commit(committed).unwrap();
    }
    assert_eq!(said(&notes), [full, Space::Free]);
    assert_eq!(seqs(&journal, committed.0), numbers(committed.0 + 1..=newest.0), "nothing was dropped");
}

#[test]
fn a_journal_opened_at_its_bound_reports_full() {
    let fs = SimFs::default();
    let (journal, _) = bounded(&fs, WhenFull::Hold);
    append_many(&journal, 140, 8000);
    journal.close().unwrap();
    let (journal, notes) = bounded(&fs, WhenFull::Hold);
    assert_eq!(said(&notes), [Space::Full(FullReason::MaxBytes)]);
    assert_eq!(journal.stats().space, Space::Full(FullReason::MaxBytes));
}

#[test]
fn an_active_segment_alone_at_the_bound_does_not_hold_for_ever() {
    let fs = SimFs::default();
    let (journal, notes) = bounded(&fs, WhenFull::Hold);
    append_many(&journal, 1, 2 << 20);
    assert_eq!(said(&notes), [Space::Full(FullReason::MaxBytes)]);
    journal.sync().unwrap();
    journal.commit(Seq(1)).unwrap();
    journal.maintain().unwrap();
    assert_eq!(said(&notes), [Space::Full(FullReason::MaxBytes), Space::Free]);
    append_many(&journal, 1, 100);
    drop(journal);
    let (journal, _) = bounded(&fs, WhenFull::Hold);
    assert_eq!(journal.positions().appended, Seq(2));
}

/// Proves JRN-5.
#[test]
fn drop_oldest_stays_below_the_bound_and_readers_report_the_gap() {
    let fs = SimFs::default();
    let (journal, notes) = bounded(&fs, WhenFull::DropOldest);
    for _ in 0..400 {
        append_many(&journal, 1, 8000);
        journal.sync().unwrap();
        assert!(journal.stats().bytes <= MAX + 8200);
    }
    assert_eq!(said(&notes), [], "never full");
    let first = journal.positions().first;
    assert_eq!(journal.stats().dropped_records, first.0 - 1);
    let gap = Gap { from: Seq(1), to: Seq(first.0 - 1), reason: GapReason::Dropped };
    assert_eq!(read_all(&journal, 0).unwrap(), (numbers(first.0..=400), vec![gap]));
    journal.maintain().unwrap();
    drop(journal);
    let (journal, _) = bounded(&fs, WhenFull::DropOldest);
    assert_eq!(read_all(&journal, 0).unwrap(), (numbers(first.0..=400), vec![gap]), "also after a reopen");
}

#[test]
fn a_gap_in_the_middle_of_a_read_is_reported_by_the_next_read() {
    let fs = SimFs::default();
    let (journal, _) = bounded(&fs, WhenFull::DropOldest);
    append_many(&journal, 100, 8000);
    journal.sync().unwrap();
    let mut reader = journal.reader(Seq::ZERO);
    assert_eq!(reader.read(3, usize::MAX, &mut check).unwrap().records, 3);
    append_many(&journal, 100, 8000);
    journal.sync().unwrap();
    let first = journal.positions().first;
    // The segment that is open is read to its end, though it has been dropped.
    let outcome = reader.read(1000, usize::MAX, &mut check).unwrap();
    assert_eq!((outcome.gap, outcome.records), (None, 13));
    let outcome = reader.read(1000, usize::MAX, &mut check).unwrap();
    assert_eq!(outcome.gap, Some(Gap { from: Seq(17), to: Seq(first.0 - 1), reason: GapReason::Dropped }));
    assert_eq!(reader.position(), Seq(200));
}

/// Proves JRN-2.
#[test]
fn unsynced_records_are_not_dropped() {
    let fs = SimFs::default();
    let (journal, _) = bounded(&fs, WhenFull::DropOldest);
    append_many(&journal, 200, 8000);
    assert_eq!(journal.positions().first, Seq(1));
    journal.sync().unwrap();
    append_many(&journal, 1, 8000);
    assert!(journal.positions().first > Seq(1));
}

#[test]
fn a_full_disk_is_reported_early_and_messages_in_flight_have_room() {
    let fs = SimFs::default();
    let (journal, notes) = bounded(&fs, WhenFull::Hold);
    journal.maintain().unwrap();
    fs.set_disk_full(true);
    assert_eq!(said(&notes), [], "a segment is still ahead");
    while journal.stats().segments == 1 {
        append_many(&journal, 1, 8000);
    }
    assert_eq!(journal.maintain().unwrap(), MaintenanceOutcome::Retry);
    let full = Space::Full(FullReason::DiskFull);
    assert_eq!(said(&notes), [full]);
    let before = journal.positions().appended;
    let refused = loop {
        let number = journal.positions().appended.0 + 1;
        if let Err(error) = append(&journal, number, 8000) {
            break error;
        }
    };
    assert!(refused.is_disk_full(), "{refused}");
    assert!(journal.positions().appended.since(before) >= 14, "a segment's worth was in flight");
    fs.set_disk_full(false);
    assert_eq!(journal.maintain().unwrap(), MaintenanceOutcome::Done);
    assert_eq!(said(&notes), [full, Space::Free]);
    append_many(&journal, 30, 8000);
    let newest = journal.sync().unwrap();
    assert_eq!(seqs(&journal, 0), numbers(1..=newest.0));
}

#[test]
fn after_a_full_disk_messages_are_admitted_when_there_is_room_for_several_segments() {
    let fs = SimFs::default();
    let (journal, notes) = bounded(&fs, WhenFull::Hold);
    journal.maintain().unwrap();
    fs.set_disk_full(true);
    while journal.stats().segments == 1 {
        append_many(&journal, 1, 8000);
    }
    assert_eq!(journal.maintain().unwrap(), MaintenanceOutcome::Retry);
    // What one segment frees that was committed.
    fs.set_room(SEGMENT_BYTES);
    for _ in 0..3 {
        assert_eq!(journal.maintain().unwrap(), MaintenanceOutcome::Retry);
    }
    let full = Space::Full(FullReason::DiskFull);
    assert_eq!(said(&notes), [full], "not in and out again with every segment");
    assert!(!fs.names(dir()).iter().any(|name| name == "room.tmp"));
    fs.set_room(SEGMENT_BYTES * 4);
    assert_eq!(journal.maintain().unwrap(), MaintenanceOutcome::Done);
    assert_eq!(said(&notes), [full, Space::Free]);
    assert!(!fs.names(dir()).iter().any(|name| name == "room.tmp"), "it gives back what it took");
}

#[test]
fn a_drained_journal_on_a_small_disk_needs_room_for_one_segment_only() {
    let fs = SimFs::default();
    let (journal, notes) = bounded(&fs, WhenFull::Hold);
    journal.maintain().unwrap();
    fs.set_disk_full(true);
    while journal.stats().segments == 1 {
        append_many(&journal, 1, 8000);
    }
    assert_eq!(journal.maintain().unwrap(), MaintenanceOutcome::Retry);
    fs.set_room(SEGMENT_BYTES);
    assert_eq!(journal.maintain().unwrap(), MaintenanceOutcome::Retry);
    let newest = journal.sync().unwrap();
    journal.commit(newest).unwrap();
    assert_eq!(journal.maintain().unwrap(), MaintenanceOutcome::Done);
    assert_eq!(said(&notes), [Space::Full(FullReason::DiskFull), Space::Free]);
}

#[test]
fn a_file_system_without_preallocation_works_and_reports_a_full_disk_on_append() {
    let fs = SimFs::default();
    fs.set_no_fallocate();
    let (journal, notes) = bounded(&fs, WhenFull::Hold);
    append_many(&journal, 50, 8000);
    fs.fail(sim_fs::Fault { at: 0, kind: sim_fs::Kind::Enospc });
    assert!(append(&journal, 51, 8000).expect_err("no room").is_disk_full());
    assert_eq!(said(&notes), [Space::Full(FullReason::DiskFull)]);
    journal.maintain().unwrap();
    assert_eq!(said(&notes).last(), Some(&Space::Free));
    append_many(&journal, 1, 8000);
    journal.sync().unwrap();
    drop(journal);
    assert_eq!(seqs(&bounded(&fs, WhenFull::Hold).0, 0), numbers(1..=51));
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own_size() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 1, 300_000);
    append_many(&journal, 3, 100);
    append_many(&journal, 1, 200_000);
    append_many(&journal, 3, 100);
    journal.sync().unwrap();
    assert_eq!(seqs(&journal, 0), numbers(1..=8));
    drop(journal);
    assert_eq!(seqs(&open(&fs).0, 0), numbers(1..=8));
}
