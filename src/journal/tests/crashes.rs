//! Every cut, every flip, and what may and may not be made of it.

use super::*;
use crate::journal::segment::HEADER_BYTES;

/// A journal with records of different lengths in one segment; returns where each of them ends.
fn journal_with_records(fs: &SimFs, count: u64, durable: u64) -> Vec<usize> {
    let (journal, _) = open(fs);
    let mut ends = vec![HEADER_BYTES];
    for number in 1..=count {
        append(&journal, number, (number as usize * 37) % 90).unwrap();
        ends.push(usize::try_from(journal.stats().bytes).unwrap());
        if number == durable {
            journal.sync().unwrap();
        }
    }
    ends
}

fn whole_records(ends: &[usize], bytes: usize) -> u64 {
    ends.iter().filter(|end| **end <= bytes).count() as u64 - 1
}

pub(super) fn has_torn_file(fs: &SimFs) -> bool {
    fs.names(dir()).iter().any(|name| name.starts_with("torn-"))
}

/// Proves JRN-6.
#[test]
fn a_cut_at_any_byte_loses_only_what_was_cut_and_is_reported() {
    let original = SimFs::default();
    let ends = journal_with_records(&original, 12, 0);
    let written = *ends.last().unwrap();
    for shortened in [false, true] {
        for cut in HEADER_BYTES..=written {
            let fs = original.fork();
            fs.tamper(&segment(1), |bytes| {
                bytes[cut..].fill(0);
                if shortened {
                    bytes.truncate(cut);
                }
            });
            let (journal, recovery) = open(&fs);
            let whole = whole_records(&ends, cut);
            assert_eq!(journal.positions().appended, Seq(whole), "cut at {cut}");
            assert_eq!(seqs(&journal, 0), if whole == 0 { vec![] } else { numbers(1..=whole) });
            let in_record = fs.contents(&segment(1)).get(ends[whole as usize]).is_some_and(|_| {
                original.contents(&segment(1))[ends[whole as usize]..cut].iter().any(|byte| *byte != 0)
            });
            assert_eq!(recovery.torn.is_some(), in_record, "cut at {cut}");
            assert_eq!(has_torn_file(&fs), in_record);
            append_many(&journal, 3, 50);
            journal.sync().unwrap();
            drop(journal);
            assert_eq!(seqs(&open(&fs).0, 0), numbers(1..=whole + 3), "cut at {cut}: goes on");
        }
    }
}

#[test]
fn the_cut_bytes_are_kept_aside() {
    let fs = SimFs::default();
    let ends = journal_with_records(&fs, 5, 0);
    let cut = ends[5] - 3;
    fs.tamper(&segment(1), |bytes| bytes[cut..].fill(0));
    let before = fs.contents(&segment(1));
    let (_, recovery) = open(&fs);
    let torn = recovery.torn.expect("torn");
    assert_eq!((torn.seq, torn.offset), (Seq(5), ends[4] as u64));
    assert_eq!(torn.bytes, (cut - ends[4]) as u64);
    assert_eq!(fs.contents(&torn.kept[0]), before[ends[4]..cut]);
    assert!(torn.kept[0].to_str().unwrap().contains("torn-5-"));
}

/// Proves JRN-6.
#[test]
fn a_flip_of_any_byte_is_refused_or_harmless_or_a_torn_last_record() {
    let original = SimFs::default();
    let ends = journal_with_records(&original, 8, 8);
    let written = *ends.last().unwrap();
    for at in 0..written + 200 {
        let fs = original.fork();
        fs.tamper(&segment(1), |bytes| bytes[at] ^= 1 << (at % 8));
        let opened = try_open(&fs);
        if at < ends[7] {
            let error = opened.err().unwrap_or_else(|| panic!("byte {at} was accepted"));
            assert!(error.is_damage(), "byte {at}: {error}");
            assert!(error.to_string().contains("andon journal repair"), "{error}");
            assert_eq!(fs.names(dir()), original.names(dir()), "nothing is changed");
            continue;
        }
        let (journal, recovery) = opened.unwrap_or_else(|error| panic!("byte {at}: {error}"));
        let expected = if at < written { 7 } else { 8 };
        assert_eq!(seqs(&journal, 0), numbers(1..=expected), "byte {at}");
        assert!(recovery.torn.is_some(), "byte {at}: never silent");
    }
}

/// Three records, closed in order: all of them are known to be durable. Returns where each record ends.
pub(super) fn closed_journal(fs: &SimFs) -> Vec<usize> {
    let (journal, _) = open(fs);
    let mut ends = vec![HEADER_BYTES];
    for number in 1..=3 {
        append(&journal, number, 50).unwrap();
        ends.push(usize::try_from(journal.stats().bytes).unwrap());
    }
    journal.close().unwrap();
    ends
}

#[test]
fn after_a_clean_close_all_records_but_the_last_are_protected_from_flips() {
    let original = SimFs::default();
    let ends = closed_journal(&original);
    for at in 0..ends[2] {
        let fs = original.fork();
        fs.reboot();
        fs.tamper(&segment(1), |bytes| bytes[at] ^= 0x80);
        assert!(try_open(&fs).err().is_some_and(|error| error.is_damage()), "byte {at}");
    }
}

/// Proves JRN-6.
#[test]
fn a_missing_newest_segment_is_damage_and_not_a_torn_tail() {
    let original = SimFs::default();
    let (journal, _) = open(&original);
    append_many(&journal, 140, 1000);
    let newest = journal.shared_first_of_segment(journal.stats().segments - 1);
    journal.close().unwrap();
    let fs = original.fork();
    crate::journal::Fs::remove(&fs, &segment(newest)).unwrap();
    assert!(try_open(&fs).err().is_some_and(|error| error.is_damage()));
}

/// Proves JRN-6.
#[test]
fn a_flip_in_an_older_segment_is_damage_even_in_its_last_record() {
    let original = SimFs::default();
    let (journal, _) = open(&original);
    append_many(&journal, 140, 1000);
    journal.sync().unwrap();
    append_many(&journal, 1, 1000);
    let second = journal.shared_first_of_segment(1);
    drop(journal);
    let written = original.contents(&segment(1)).iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for at in (0..written).step_by(97).chain([written - 1]) {
        for rebooted in [false, true] {
            let fs = original.fork();
            if rebooted {
                fs.reboot();
            }
            fs.tamper(&segment(1), |bytes| bytes[at] ^= 0x11);
            assert!(try_open(&fs).err().is_some_and(|error| error.is_damage()), "byte {at}");
        }
    }
    let fs = original.fork();
    fs.tamper(&segment(second), |bytes| bytes[9] ^= 1);
    assert!(try_open(&fs).err().is_some_and(|error| error.is_damage()), "header");
}

/// Proves JRN-6.
#[test]
fn a_power_cut_in_the_unsynced_tail_is_torn_but_a_hole_below_a_watermark_is_damage() {
    let original = SimFs::default();
    let ends = journal_with_records(&original, 10, 4);
    let flipped = |record: usize, rebooted: bool| {
        let fs = original.fork();
        if rebooted {
            fs.reboot();
        }
        fs.tamper(&segment(1), |bytes| bytes[ends[record - 1] + 20] ^= 1);
        (try_open(&fs).map(|(journal, recovery)| (journal.positions().appended, recovery.torn)), fs)
    };
    assert!(flipped(4, true).0.unwrap_err().is_damage(), "4 was durable: 5 says so");
    assert!(flipped(6, false).0.unwrap_err().is_damage(), "a killed process leaves no hole");
    let (opened, fs) = flipped(6, true);
    let (appended, torn) = opened.unwrap();
    assert_eq!(appended, Seq(5));
    assert_eq!(torn.unwrap().bytes as usize, ends[10] - ends[5], "7 to 10 are kept aside as well");
    assert_eq!(seqs(&open(&fs).0, 0), numbers(1..=5));
}

#[test]
fn a_power_cut_across_a_rotation_cuts_both_segments() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 10, 1000);
    journal.sync().unwrap();
    append_many(&journal, 140, 1000);
    drop(journal);
    fs.reboot();
    fs.tamper(&segment(1), |bytes| bytes[30_000] ^= 1);
    let (journal, recovery) = open(&fs);
    let torn = recovery.torn.expect("torn");
    assert_eq!(torn.kept.len(), 3);
    assert_eq!(journal.positions().appended, Seq(torn.seq.0 - 1));
    assert_eq!(seqs(&journal, 0), numbers(1..=torn.seq.0 - 1));
}

/// Proves JRN-6.
#[test]
fn foreign_renamed_missing_and_newer_segments_are_refused() {
    let original = SimFs::default();
    let (journal, _) = open(&original);
    append_many(&journal, 200, 1000);
    journal.sync().unwrap();
    append_many(&journal, 1, 1000);
    let second = journal.shared_first_of_segment(1);
    let third = journal.shared_first_of_segment(2);
    drop(journal);
    let refusal = |change: &dyn Fn(&SimFs)| {
        let fs = original.fork();
        fs.reboot();
        change(&fs);
        try_open(&fs).err().expect("refused")
    };
    use crate::journal::Fs as _;
    assert!(refusal(&|fs| fs.remove(&segment(second)).unwrap()).is_damage(), "missing in the middle");
    assert!(refusal(&|fs| fs.remove(&segment(1)).unwrap()).is_damage(), "missing in front");
    let meta = dir().join("journal.meta");
    assert!(refusal(&|fs| fs.remove(&meta).unwrap()).is_damage(), "missing meta");
    assert!(refusal(&|fs| fs.tamper(&meta, |bytes| bytes[20] ^= 1)).is_damage(), "damaged meta");
    let renamed = refusal(&|fs| fs.rename(&segment(third), &segment(third + 1)).unwrap());
    assert!(renamed.is_damage(), "renamed: {renamed}");
    let foreign = SimFs::default();
    drop(open(&foreign));
    let bytes = foreign.contents(&segment(1));
    let error = refusal(&|fs| fs.tamper(&segment(1), |old| *old = bytes.clone()));
    assert!(error.to_string().contains("belongs to journal"), "{error}");
    let newer = refusal(&|fs| {
        fs.tamper(&segment(1), |bytes| {
            bytes[8] = 2;
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        });
    });
    assert!(matches!(newer, JournalError::Version { found: 2, supported: 1, .. }), "{newer}");
}

#[test]
fn a_half_created_segment_is_created_again() {
    for written in [0, 1, 30, 63, 64] {
        let fs = SimFs::default();
        let (journal, _) = open(&fs);
        append_many(&journal, 70, 1000);
        let second = journal.shared_first_of_segment(1);
        drop(journal);
        fs.tamper(&segment(second), |bytes| bytes[written..].fill(0));
        let (journal, recovery) = open(&fs);
        assert_eq!(recovery.last, Seq(second - 1), "{written} bytes of the header");
        append_many(&journal, 1, 10);
        journal.sync().unwrap();
        assert_eq!(seqs(&journal, 0), numbers(1..=second));
    }
}

/// Proves JRN-5.
#[test]
fn a_half_done_deletion_is_finished_at_the_next_open() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 300, 1000);
    journal.sync().unwrap();
    journal.commit(Seq(290)).unwrap();
    // The first deletion works, the second does not.
    let calls_of_meta_and_one_deletion = 6;
    fs.fail(sim_fs::Fault { at: calls_of_meta_and_one_deletion, kind: sim_fs::Kind::Eio });
    journal.maintain().expect_err("the second deletion fails");
    assert!(!fs.forget_fault());
    let first = journal.positions().first.0;
    drop(journal);
    assert!(fs.names(dir()).iter().filter(|name| name.ends_with(".seg")).count() > 2);
    let (journal, recovery) = open(&fs);
    assert_eq!(recovery.first, Seq(first));
    assert_eq!(seqs(&journal, first - 1), numbers(first..=300));
    assert_eq!(fs.names(dir()).iter().filter(|name| name.ends_with(".seg")).count(), recovery.segments);
}

#[test]
fn a_payload_that_imitates_a_record_is_not_taken_for_one() {
    use crate::journal::record;
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    // A whole record as another journal would write it, inside a payload; then the tail is torn right before it.
    let mut image = Vec::new();
    let message = Message {
        received_at: Timestamp::from_micros(0),
        qos: Qos::AtLeastOnce,
        retained: false,
        clock_unset: false,
        topic: "x".into(),
        payload: b"y",
    };
    record::encode(&mut image, 0, Seq(2), Seq(2), &message);
    journal.append(&Message { payload: &image.repeat(4), ..message }).unwrap();
    drop(journal);
    fs.tamper(&segment(1), |bytes| bytes[HEADER_BYTES + 4] ^= 1);
    let (_, recovery) = open(&fs);
    assert_eq!(recovery.last, Seq::ZERO, "torn, not damaged");
    assert!(recovery.torn.is_some());
}

/// Proves JRN-4.
#[test]
fn records_recovered_after_a_failed_sync_are_written_again() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 3, 100);
    journal.sync().unwrap();
    append_many(&journal, 3, 2000);
    fs.fail(sim_fs::Fault { at: 0, kind: sim_fs::Kind::Eio });
    journal.sync().expect_err("the disk failed");
    drop(journal);
    // The kernel still shows the pages, and takes them for clean.
    let (journal, _) = open(&fs);
    assert_eq!(seqs(&journal, 0), numbers(1..=6));
    drop(journal);
    fs.power_cut(5);
    assert_eq!(seqs(&open(&fs).0, 0), numbers(1..=6), "what a reader saw survives");
}
