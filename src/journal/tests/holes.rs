//! Holes: the seqs that damage has lost, from the repair that records them to the commit that forgets them.

use super::repairs::{assert_saved, missing, ruined, three_segments};
use super::*;
use crate::journal::segment::HEADER_BYTES;
use crate::journal::{Fs as _, GapReason, Hole, Repair, repair, verify};

#[test]
fn holes_are_found_again_when_journal_meta_is_lost_after_a_repair() {
    let (fs, lost) = ruined();
    repair(dir(), &fs).unwrap();
    fs.tamper(&dir().join("journal.meta"), |bytes| bytes[3] ^= 1);
    repair(dir(), &fs).unwrap();
    let (journal, _) = open(&fs);
    let (seqs, gaps) = read_all(&journal, 1).unwrap();
    assert_eq!(seqs, [2, 3, 4, 5, 7]);
    let gaps: Vec<_> = gaps.iter().map(|gap| (gap.from.0, gap.to.0)).collect();
    assert_eq!(gaps, [(6, 6), (8, 8)], "of record 1 nothing tells any more; of {lost:?} the others");
}

#[test]
fn a_hole_is_remembered_until_it_is_committed_and_trimming_goes_over_it() {
    let (fs, lost) = ruined();
    repair(dir(), &fs).unwrap();
    let (journal, _) = open(&fs);
    journal.commit(Seq(5)).unwrap();
    journal.maintain().unwrap();
    drop(journal);
    let (journal, _) = open(&fs);
    assert_eq!(journal.positions().first, Seq(7), "the segment with 4 and 5 is gone");
    let (read, gaps) = read_all(&journal, 5).unwrap();
    let gap = |seq| Gap { from: Seq(seq), to: Seq(seq), reason: GapReason::Damaged };
    assert_eq!((read, gaps), (vec![7], vec![gap(6), gap(8)]), "{lost:?}");
    journal.commit(Seq(8)).unwrap();
    append_many(&journal, 1, 10);
    journal.sync().unwrap();
    assert_eq!(seqs(&journal, 8), [9]);
    journal.maintain().unwrap();
    drop(journal);
    assert_eq!(verify(dir(), &fs).unwrap(), []);
}

#[test]
fn a_reader_may_start_within_a_hole() {
    let (original, places) = three_segments();
    let second = &places.iter().find(|(_, path, _)| *path != places[0].1).unwrap().1;
    let fs = original.fork();
    fs.remove(second).unwrap();
    let hole = repair(dir(), &fs).unwrap().cuts[0].missing.unwrap();
    assert!(hole.seqs() > 1, "{hole}");
    let (journal, _) = open(&fs);
    let (_, gaps) = read_all(&journal, hole.from.0).unwrap();
    assert_eq!(gaps, [Gap { from: hole.from.next(), to: hole.to, reason: GapReason::Damaged }]);
    let new = journal.new_identity("plant").unwrap();
    let (_, gaps) = read_all(&journal, 0).unwrap();
    assert_eq!(gaps.len(), 1, "the hole is one under {new}, too");
    let fs = original.fork();
    fs.remove(&segment(1)).unwrap();
    let hole = repair(dir(), &fs).unwrap().cuts[0].missing.unwrap();
    let (journal, _) = open(&fs);
    journal.new_identity("plant").unwrap();
    let (_, gaps) = read_all(&journal, 0).unwrap();
    assert_eq!(gaps, [Gap { from: hole.from, to: hole.to, reason: GapReason::Damaged }], "in front, too");
}

#[test]
fn behind_a_hole_at_the_end_a_new_segment_begins_even_if_the_empty_one_is_damaged() {
    let (fs, places) = three_segments();
    fs.remove(&places[7].1).unwrap();
    repair(dir(), &fs).unwrap();
    fs.tamper(&segment(9), |bytes| bytes[0] ^= 1);
    assert_saved(&fs, &[7, 8], 8, "made anew");
}

#[test]
fn a_hole_names_its_seqs() {
    let hole = |from, to| Hole { from: Seq(from), to: Seq(to) };
    assert_eq!((hole(5, 5).to_string(), hole(5, 5).seqs()), ("5".to_owned(), 1));
    assert_eq!((hole(5, 9).to_string(), hole(5, 9).seqs()), ("5 to 9".to_owned(), 5));
}

#[test]
fn from_the_moment_that_journal_meta_names_a_hole_a_half_done_repair_is_refused() {
    let original = SimFs::default();
    let (journal, _) = open(&original);
    append_many(&journal, 10, 50);
    let len = (journal.stats().bytes as usize - HEADER_BYTES) / 10;
    drop(journal);
    original.tamper(&segment(1), |bytes| bytes[HEADER_BYTES + 8 * len + 20] ^= 1);
    let mut refused = 0;
    for at in 0.. {
        let fs = original.fork();
        fs.fail(sim_fs::Fault { at, kind: sim_fs::Kind::Eio });
        let done = repair(dir(), &fs);
        if fs.forget_fault() {
            assert!(refused > 2, "{refused}");
            return;
        }
        assert!(done.is_err());
        fs.reboot();
        let names_the_hole = !crate::journal::inspect(dir(), &fs).unwrap().holes.is_empty();
        if names_the_hole && try_open(&fs.fork()).is_err() {
            refused += 1;
        } else if names_the_hole {
            assert_saved(&fs, &[9], 10, &format!("call {at}"));
        }
    }
}

#[test]
fn what_has_moved_counts_once_even_if_the_cut_was_never_made() {
    let (fs, places) = three_segments();
    fs.tamper(&places[1].1, |bytes| bytes[places[1].2.start + 30] ^= 4);
    let uncut = fs.contents(&segment(1));
    repair(dir(), &fs).unwrap();
    fs.tamper(&segment(1), |bytes| *bytes = uncut.clone());
    assert_eq!(repair(dir(), &fs).unwrap(), Repair::default(), "a segment ends where the hole begins");
    fs.remove(&dir().join("journal.meta")).unwrap();
    let done = repair(dir(), &fs).unwrap();
    assert_eq!((done.records, missing(&done)), (7, vec![2]));
    assert_saved(&fs, &[2], 8, "moved");
}
