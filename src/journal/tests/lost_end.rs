//! The end of the newest segment is gone although it was durable: a hole takes its place.

use super::crashes::{closed_journal, has_torn_file};
use super::*;
use crate::journal::segment::HEADER_BYTES;

/// What happens to the bytes of a segment.
type Damage<'a> = dyn Fn(&mut Vec<u8>) + 'a;

/// Proves JRN-1.
#[test]
fn durable_records_that_are_gone_with_the_end_of_the_newest_segment_become_a_hole() {
    let original = SimFs::default();
    let ends = closed_journal(&original);
    let damages: [(&str, &Damage<'_>, u64); 5] = [
        ("the last record is cut", &|bytes| bytes.truncate(ends[3] - 20), 3),
        ("the last record is overwritten", &|bytes| bytes[ends[3] - 1] ^= 1, 3),
        ("the file ends between two records", &|bytes| bytes.truncate(ends[1]), 2),
        ("the file ends behind its header", &|bytes| bytes.truncate(HEADER_BYTES), 1),
        ("the first record is cut", &|bytes| bytes.truncate(HEADER_BYTES + 9), 1),
    ];
    for (what, damage, first_lost) in damages {
        for rebooted in [false, true] {
            let fs = original.fork();
            if rebooted {
                fs.reboot();
            }
            fs.tamper(&segment(1), damage);
            let (journal, recovery) = open(&fs);
            let lost = recovery.lost.unwrap_or_else(|| panic!("{what}: nothing is said"));
            assert_eq!((lost.from, lost.to), (Seq(first_lost), Seq(3)), "{what}");
            assert_eq!(recovery.torn.is_some(), has_torn_file(&fs), "{what}");
            append_many(&journal, 2, 50);
            journal.sync().unwrap();
            let row: Vec<u64> = (1..first_lost).chain(4..=5).collect();
            let (kept, gaps) = read_all(&journal, 0).unwrap();
            assert_eq!(kept, row, "{what}: no seq is used twice");
            let gaps: Vec<_> = gaps.iter().map(|gap| (gap.from, gap.to)).collect();
            assert_eq!(gaps, [(Seq(first_lost), Seq(3))], "{what}");
            drop(journal);
            let (journal, recovery) = open(&fs);
            assert_eq!((recovery.lost, recovery.torn), (None, None), "{what}: said once");
            assert_eq!(read_all(&journal, 0).unwrap().0, row, "{what}");
            assert_eq!(crate::journal::inspect(dir(), &fs).unwrap().damage, [], "{what}");
        }
    }
}

/// Two segments in which all is known to be durable; the newest one, the first seq in it, and the one after the last.
fn two_closed_segments(fs: &SimFs) -> (PathBuf, u64, u64) {
    let (journal, _) = open(fs);
    while journal.stats().segments == 1 {
        append_many(&journal, 1, 8000);
    }
    append_many(&journal, 2, 8000);
    let (first, next) = (journal.shared_first_of_segment(1), journal.positions().appended.0 + 1);
    journal.close().unwrap();
    (segment(first), first, next)
}

#[test]
fn a_crash_while_the_lost_end_becomes_a_hole_leaves_what_the_next_start_handles() {
    let one = SimFs::default();
    closed_journal(&one);
    let two = SimFs::default();
    let (newest, first, next) = two_closed_segments(&two);
    for (original, path, lost_from, next) in [(&one, &segment(1), 1, 4), (&two, &newest, first, next)] {
        for (remains, power_cut) in [(0, false), (9, false), (0, true), (9, true)] {
            for at in 0.. {
                let what = format!("{} with {remains} bytes, call {at}", path.display());
                let fs = original.fork();
                fs.tamper(path, |bytes| bytes.truncate(HEADER_BYTES + remains));
                fs.fail(sim_fs::Fault { at, kind: sim_fs::Kind::Eio });
                drop(try_open(&fs));
                if fs.forget_fault() {
                    assert!(at > 5, "the whole recovery was tried");
                    break;
                }
                if power_cut {
                    fs.power_cut(at);
                }
                let (journal, _) = try_open(&fs).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(append(&journal, next, 50).unwrap(), Seq(next), "{what}");
                journal.sync().unwrap();
                drop(journal);
                let (kept, gaps) = read_all(&open(&fs).0, 0).unwrap();
                assert_eq!(kept, (1..lost_from).chain(next..=next).collect::<Vec<u64>>(), "{what}");
                assert_eq!((gaps[0].from, gaps[0].to), (Seq(lost_from), Seq(next - 1)), "{what}");
            }
        }
    }
}
