//! What the journal does when nothing goes wrong.

use super::*;
use crate::journal::{Fs, GapReason, RealFs};

#[test]
fn records_are_read_in_order_and_as_they_were_appended() {
    let fs = SimFs::default();
    let (journal, recovery) = open(&fs);
    assert!(recovery.created);
    append_many(&journal, 300, 1000);
    assert_eq!(journal.sync().unwrap(), Seq(300));
    assert_eq!(seqs(&journal, 0), numbers(1..=300), "across several segments");
    assert_eq!(seqs(&journal, 123), numbers(124..=300), "from the middle of one");
    assert!(seqs(&journal, 300).is_empty());
    assert!(journal.stats().segments > 3);
}

/// Proves JRN-2, SYS-2.
#[test]
fn a_reader_returns_durable_records_only() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 5, 100);
    assert!(seqs(&journal, 0).is_empty());
    journal.sync().unwrap();
    append_many(&journal, 5, 100);
    let mut reader = journal.reader(Seq::ZERO);
    assert_eq!(reader.read(100, usize::MAX, &mut check).unwrap().records, 5);
    journal.sync().unwrap();
    assert_eq!(reader.read(100, usize::MAX, &mut check).unwrap().records, 5, "the same reader goes on");
}

/// Proves JRN-2, SYS-2.
#[test]
fn in_mode_os_a_reader_syncs_what_it_is_about_to_return() {
    let fs = SimFs::default();
    let notes = Arc::<Notes>::default();
    let (journal, _) =
        try_open_with(&fs, JournalOptions { sync: SyncMode::Os, ..options() }, &notes).unwrap();
    append_many(&journal, 5, 100);
    assert_eq!(*notes.readable.lock().unwrap(), Seq(5), "told at once");
    assert_eq!(journal.positions().synced, Seq::ZERO);
    assert_eq!(seqs(&journal, 0), numbers(1..=5));
    assert_eq!(journal.positions().synced, Seq(5));
    drop(journal);
    fs.power_cut(3);
    assert_eq!(seqs(&open(&fs).0, 0), numbers(1..=5), "what was read survives");
}

/// Proves JRN-2.
#[test]
fn in_mode_before_ack_append_returns_after_the_sync() {
    let fs = SimFs::default();
    let notes = Arc::<Notes>::default();
    let before_ack = JournalOptions { sync: SyncMode::BeforeAck, ..options() };
    let (journal, _) = try_open_with(&fs, before_ack, &notes).unwrap();
    for number in 1..=100 {
        append(&journal, number, 2000).unwrap();
        assert_eq!(journal.positions().synced, Seq(number));
        assert_eq!(*notes.readable.lock().unwrap(), Seq(number));
    }
    drop(journal);
    fs.power_cut(1);
    assert_eq!(seqs(&open(&fs).0, 0), numbers(1..=100));
}

#[test]
fn nothing_new_costs_no_call_and_a_read_is_bounded() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 10, 1000);
    journal.sync().unwrap();
    let mut reader = journal.reader(Seq::ZERO);
    let mut read = |records_max, bytes_max| reader.read(records_max, bytes_max, &mut check).unwrap().records;
    assert_eq!(read(3, usize::MAX), 3);
    assert_eq!(read(100, 2 * 1100), 2, "topics count, a third would not fit");
    assert_eq!(read(100, 0), 1, "always one");
    assert_eq!(read(0, usize::MAX), 1, "always one");
    assert_eq!(read(100, usize::MAX), 3);
    let calls = fs.calls();
    assert_eq!(read(100, usize::MAX), 0);
    assert_eq!(fs.calls(), calls);
}

/// Proves JRN-1.
#[test]
fn seqs_go_on_after_a_reopen_also_when_everything_was_trimmed() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 200, 1000);
    journal.sync().unwrap();
    journal.commit(Seq(200)).unwrap();
    journal.maintain().unwrap();
    journal.close().unwrap();
    let (journal, recovery) = open(&fs);
    assert!(!recovery.created && recovery.records < 70, "{recovery:?}");
    assert_eq!(journal.positions().committed, Seq(200), "the hint");
    append_many(&journal, 1, 10);
    assert_eq!(journal.positions().appended, Seq(201));
    journal.sync().unwrap();
    assert_eq!(seqs(&journal, 200), [201]);
}

/// Proves JRN-5.
#[test]
fn whole_committed_segments_are_deleted_and_no_others() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 300, 1000);
    journal.sync().unwrap();
    let segments: Vec<String> = fs.names(dir()).into_iter().filter(|name| name.ends_with(".seg")).collect();
    let second = super::super::segment::parse_segment_name(&segments[1]).unwrap();
    journal.commit(Seq(second.0 - 2)).unwrap();
    journal.maintain().unwrap();
    assert!(fs.names(dir()).contains(&segments[0]), "one of its records is pending");
    journal.commit(Seq(second.0 - 1)).unwrap();
    journal.maintain().unwrap();
    assert!(!fs.names(dir()).contains(&segments[0]));
    assert!(fs.names(dir()).contains(&segments[1]));
    assert_eq!(journal.positions().first, second);
    let missing = Gap { from: Seq(1), to: Seq(second.0 - 1), reason: GapReason::Restored };
    assert_eq!(read_all(&journal, 0).unwrap(), (numbers(second.0..=300), vec![missing]));
}

/// Proves JRN-2.
#[test]
fn a_position_beyond_the_journal_is_refused() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 3, 10);
    assert!(matches!(journal.commit(Seq(1)), Err(JournalError::Ahead { newest: Seq::ZERO, .. })), "unsynced");
    journal.sync().unwrap();
    assert!(matches!(journal.commit(Seq(4)), Err(JournalError::Ahead { newest: Seq(3), .. })));
    let mut reader = journal.reader(Seq(4));
    append_many(&journal, 3, 10);
    journal.sync().unwrap();
    let read = reader.read(10, 1000, &mut check);
    assert!(matches!(read, Err(JournalError::Ahead { position: Seq(4), newest: Seq(3) })), "also later");
}

#[test]
fn a_new_identity_keeps_every_record_pending() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    let old = journal.id();
    append_many(&journal, 150, 1000);
    journal.sync().unwrap();
    journal.commit(Seq(100)).unwrap();
    journal.maintain().unwrap();
    let first = journal.positions().first;
    let new = journal.new_identity("plant").unwrap();
    assert_ne!(old, new);
    append_many(&journal, 150, 1000);
    journal.sync().unwrap();
    let earlier = Gap { from: Seq(1), to: Seq(first.0 - 1), reason: GapReason::EarlierIdentity };
    assert_eq!(read_all(&journal, 0).unwrap(), (numbers(first.0..=300), vec![earlier]));
    drop(journal);
    let (journal, recovery) = open(&fs);
    assert_eq!(recovery.journal_id, new, "segments of both identities are accepted");
    assert_eq!(read_all(&journal, 0).unwrap(), (numbers(first.0..=300), vec![earlier]));
    journal.commit(Seq(300)).unwrap();
    journal.maintain().unwrap();
    journal.close().unwrap();
    assert_eq!(open(&fs).1.journal_id, new);
}

#[test]
fn a_closed_journal_accepts_nothing_and_its_readers_go_on() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 3, 10);
    let clone = journal.clone();
    journal.close().unwrap();
    assert!(matches!(append(&clone, 4, 10), Err(JournalError::Closed)));
    assert_eq!(seqs(&clone, 0), numbers(1..=3));
    let (reopened, recovery) = open(&fs);
    assert_eq!((recovery.last, recovery.torn), (Seq(3), None));
    drop(reopened);
}

#[test]
fn the_oldest_pending_record_and_the_unsynced_age_are_reported() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    assert_eq!(journal.stats().oldest_pending, None);
    append_many(&journal, 2, 10);
    let stats = journal.stats();
    assert_eq!(stats.oldest_pending, Some(Timestamp::from_micros(1_700_000_000_000_001)));
    let started = std::time::Instant::now();
    while journal.stats().unsynced_age.is_zero() {
        assert!(started.elapsed().as_secs() < 10, "it receipt_times");
    }
    journal.sync().unwrap();
    assert!(journal.stats().unsynced_age.is_zero());
    journal.commit(Seq(2)).unwrap();
    assert_eq!(journal.stats().oldest_pending, None);
}

#[test]
fn a_second_opener_learns_who_has_the_journal_open() {
    let temp = tempfile::tempdir().unwrap();
    let options = JournalOptions { dir: temp.path().join("a/b"), ..options() };
    let open = || Journal::open(options.clone(), Arc::new(RealFs), Arc::<Notes>::default());
    let (journal, _) = open().expect("directories are created");
    let second = open().err().expect("locked");
    let pid = std::process::id();
    assert!(matches!(second, JournalError::Locked { pid: Some(found), .. } if found == pid), "{second}");
    assert!(second.to_string().contains(&format!("pid {pid}")), "{second}");
    drop(journal);
    open().expect("dropping the last handle unlocks").0.close().unwrap();
    open().expect("closing unlocks");
    assert!(RealFs.boot_id().is_none_or(|id| !id.is_empty()));
}
