//! What a repair saves and reports, and what happens if it is interrupted.

use std::collections::BTreeSet;

use super::*;
use crate::journal::segment::HEADER_BYTES;
use crate::journal::{Fs as _, GapReason, Hole, Repair, SEGMENT_BYTES_MIN, repair, verify};

/// Three segments with few and large records; everything is durable. Returns where each record lies.
fn journal(fs: &SimFs) -> Vec<(u64, PathBuf, std::ops::Range<usize>)> {
    let (journal, _) = open(fs);
    let len = SEGMENT_BYTES_MIN as usize / 3 + 300;
    let mut places = Vec::new();
    let mut end = HEADER_BYTES;
    for number in 1..=8 {
        append(&journal, number, if number % 3 == 2 { 5 } else { len }).unwrap();
        let index = journal.stats().segments - 1;
        let path = segment(journal.shared_first_of_segment(index));
        if places.last().is_some_and(|(_, last, _)| *last != path) {
            end = HEADER_BYTES;
        }
        let contents = fs.contents(&path);
        let body = u32::from_le_bytes(*contents[end..].first_chunk().unwrap()) as usize;
        places.push((number, path, end..end + 8 + body));
        end += 8 + body;
    }
    journal.close().unwrap();
    places
}

/// A journal, closed cleanly, and where its records lie.
pub(super) fn three_segments() -> (SimFs, Vec<(u64, PathBuf, std::ops::Range<usize>)>) {
    let fs = SimFs::default();
    let places = journal(&fs);
    let paths: BTreeSet<_> = places.iter().map(|(_, path, _)| path.clone()).collect();
    assert_eq!(paths.len(), 3, "{places:?}");
    (fs, places)
}

pub(super) fn missing(repair: &Repair) -> Vec<u64> {
    let holes = repair.cuts.iter().filter_map(|cut| cut.missing);
    holes.flat_map(|hole| hole.from.0..=hole.to.0).collect()
}

/// Opens a repaired journal and checks that exactly `lost` of the seqs up to `newest` are a damaged gap, and that it
/// goes on.
pub(super) fn assert_saved(fs: &SimFs, lost: &[u64], newest: u64, context: &str) {
    assert_eq!(verify(dir(), fs).unwrap(), [], "{context}");
    for round in 0..2 {
        let (journal, recovery) = try_open(fs).unwrap_or_else(|error| panic!("{context}: {error}"));
        let newest = newest + round;
        assert_eq!(recovery.last, Seq(newest), "{context}");
        let (seqs, gaps) = read_all(&journal, 0).unwrap_or_else(|error| panic!("{context}: {error}"));
        let expected: Vec<u64> = (1..=newest).filter(|seq| !lost.contains(seq)).collect();
        assert_eq!(seqs, expected, "{context}");
        let in_gaps: Vec<u64> = gaps.iter().flat_map(|gap| gap.from.0..=gap.to.0).collect();
        assert_eq!(in_gaps, lost, "{context}");
        assert!(gaps.iter().all(|gap| gap.reason == GapReason::Damaged), "{context}: {gaps:?}");
        assert_eq!(append(&journal, newest + 1, 10).unwrap(), Seq(newest + 1));
        journal.close().unwrap();
    }
}

#[test]
fn a_whole_journal_is_not_touched() {
    let (fs, _) = three_segments();
    let before = fs.names(dir());
    let contents: Vec<_> = before.iter().map(|name| fs.contents(&dir().join(name))).collect();
    assert_eq!(repair(dir(), &fs).unwrap(), Repair::default());
    assert_eq!(fs.names(dir()), before);
    assert_eq!(before.iter().map(|name| fs.contents(&dir().join(name))).collect::<Vec<_>>(), contents);
}

#[test]
fn a_repair_is_refused_while_the_service_runs() {
    let fs = SimFs::default();
    let (_journal, _) = open(&fs);
    assert!(matches!(repair(dir(), &fs), Err(JournalError::Locked { .. })));
}

#[test]
fn after_a_flip_of_any_byte_every_other_record_is_saved_with_its_seq() {
    let (original, places) = three_segments();
    let mut flips: Vec<(PathBuf, usize, Vec<u64>)> = Vec::new();
    let heads: BTreeSet<_> = places.iter().map(|(_, path, _)| path.clone()).collect();
    flips.extend(heads.iter().flat_map(|path| (0..HEADER_BYTES).map(|at| (path.clone(), at, vec![]))));
    for (seq, path, range) in &places {
        // Every byte of header and topic and of short payloads, and some of the long ones, which are all alike.
        let some = range.clone().filter(|at| at - range.start < 90 || at % 4001 == 0 || at + 2 > range.end);
        flips.extend(some.map(|at| (path.clone(), at, vec![*seq])));
    }
    for (path, at, lost) in flips {
        let context = format!("{} byte {at}", path.display());
        let fs = original.fork();
        fs.tamper(&path, |bytes| bytes[at] ^= 1 << (at % 8));
        if lost == [8] {
            // The end of the newest segment: nothing to repair, opening it cuts and says so.
            assert_eq!(repair(dir(), &fs).unwrap(), Repair::default(), "{context}");
            assert_eq!(open(&fs).1.lost, Some(Hole { from: Seq(8), to: Seq(8) }), "{context}");
            continue;
        }
        assert!(try_open(&fs).err().is_some_and(|error| error.is_damage()), "{context}");
        let before = fs.contents(&path);
        let done = repair(dir(), &fs).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(missing(&done), lost, "{context}");
        assert_eq!(done.records, 8 - lost.len() as u64, "{context}");
        let [cut] = &done.cuts[..] else { panic!("{context}: {:?}", done.cuts) };
        assert_eq!(cut.path, path, "{context}");
        let cut_range = cut.offset as usize..(cut.offset + cut.bytes) as usize;
        assert!(cut_range.contains(&at), "{context}: {cut:?}");
        assert_eq!(fs.contents(cut.kept.as_ref().unwrap()), before[cut_range], "{context}");
        if !lost.is_empty() && cut.offset > HEADER_BYTES as u64 {
            assert_eq!(fs.contents(&path).len() as u64, cut.offset, "{context}: cut there");
        }
        assert_saved(&fs, &lost, 8, &context);
    }
}

/// Damage of every kind at once, and what is lost by it.
pub(super) fn ruined() -> (SimFs, Vec<u64>) {
    let (fs, places) = three_segments();
    let damage = |index: usize| {
        let (_, path, range) = &places[index];
        fs.tamper(path, |bytes| bytes[range.start + 30] ^= 4);
    };
    // The first record, one in a middle, and the last one.
    damage(0);
    damage(5);
    damage(7);
    let second = &places.iter().find(|(_, path, _)| *path != places[0].1).unwrap().1;
    fs.tamper(second, |bytes| bytes[7] ^= 1);
    (fs, vec![1, 6, 8])
}

#[test]
fn several_places_are_repaired_together() {
    let (fs, lost) = ruined();
    let done = repair(dir(), &fs).unwrap();
    assert_eq!(missing(&done), lost);
    let kept = |fs: &SimFs| -> Vec<Vec<u8>> {
        done.cuts.iter().filter_map(|cut| cut.kept.as_ref()).map(|kept| fs.contents(kept)).collect()
    };
    let before = kept(&fs);
    fs.power_cut(3);
    assert_eq!(kept(&fs), before, "durable");
    assert_saved(&fs, &lost, 8, "several");
    assert_eq!(repair(dir(), &fs).unwrap(), Repair::default(), "once is enough");
}

#[test]
fn a_repair_interrupted_at_any_call_can_be_repeated_and_loses_nothing() {
    let (original, lost) = ruined();
    let mut died = 0;
    for at in 0.. {
        for (kind, power_cut) in [(sim_fs::Kind::Eio, false), (sim_fs::Kind::Short, true)] {
            for seed in 0..if power_cut { 3 } else { 1 } {
                let fs = original.fork();
                fs.fail(sim_fs::Fault { at, kind });
                let first = repair(dir(), &fs);
                if fs.forget_fault() {
                    assert!(died > 50, "the whole repair was tried: {died}");
                    return;
                }
                died += 1;
                assert!(first.is_err(), "call {at}");
                if power_cut {
                    fs.power_cut(at * 7 + seed);
                }
                let context = format!("call {at}, power cut {power_cut}, seed {seed}");
                // In between, a service either refuses to start, or everything is in its place.
                let between = fs.fork();
                if let Ok((journal, _)) = try_open(&between) {
                    drop(journal);
                    assert_saved(&between, &lost, 8, &context);
                }
                repair(dir(), &fs).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_saved(&fs, &lost, 8, &context);
            }
        }
    }
}

#[test]
fn a_missing_segment_is_a_gap_wherever_it_was() {
    let (original, places) = three_segments();
    let paths: BTreeSet<_> = places.iter().map(|(_, path, _)| path.clone()).collect();
    for path in &paths {
        let fs = original.fork();
        fs.remove(path).unwrap();
        let lost: Vec<u64> = places.iter().filter(|place| place.1 == *path).map(|place| place.0).collect();
        assert!(try_open(&fs).is_err());
        let done = repair(dir(), &fs).unwrap();
        assert_eq!(missing(&done), lost);
        assert_eq!(done.cuts[0].path, *path);
        assert_saved(&fs, &lost, 8, &path.display().to_string());
    }
    let fs = original.fork();
    paths.iter().for_each(|path| fs.remove(path).unwrap());
    assert_eq!(missing(&repair(dir(), &fs).unwrap()), numbers(1..=8));
    assert_saved(&fs, &numbers(1..=8), 8, "all of them");
}

#[test]
fn journal_meta_is_rebuilt_under_the_id_of_the_headers() {
    let (original, places) = three_segments();
    let id = open(&original.fork()).0.id();
    let meta = dir().join("journal.meta");
    for missing_header in [false, true] {
        for removed in [false, true] {
            let fs = original.fork();
            if removed {
                fs.remove(&meta).unwrap();
            } else {
                fs.tamper(&meta, |bytes| bytes.truncate(30));
            }
            if missing_header {
                fs.tamper(&places[0].1, |bytes| bytes[..HEADER_BYTES].fill(0));
            }
            let done = repair(dir(), &fs).unwrap();
            assert_eq!((missing(&done), done.new_identity, done.records), (vec![], None, 8));
            assert_eq!(open(&fs).0.id(), id);
            assert_saved(&fs, &[], 8, "journal.meta");
        }
    }
}

#[test]
fn without_any_id_a_new_one_is_given_and_the_files_are_kept() {
    let (fs, places) = three_segments();
    let id = open(&fs.fork()).0.id();
    fs.remove(&dir().join("journal.meta")).unwrap();
    let paths: BTreeSet<_> = places.iter().map(|(_, path, _)| path.clone()).collect();
    paths.iter().for_each(|path| fs.tamper(path, |bytes| bytes[0] ^= 1));
    let done = repair(dir(), &fs).unwrap();
    let (journal, _) = open(&fs);
    assert_ne!(journal.id(), id);
    assert_eq!(done.new_identity, Some(journal.id()));
    assert!(journal.positions().appended >= Seq(6), "no seq that a file's name tells of is given again");
}

#[test]
fn with_two_ids_a_new_one_is_given_and_all_records_are_pending() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 3, 1000);
    let second = journal.new_identity("plant").unwrap();
    append_many(&journal, 100, 1000);
    journal.close().unwrap();
    fs.remove(&dir().join("journal.meta")).unwrap();
    let done = repair(dir(), &fs).unwrap();
    let (journal, _) = open(&fs);
    assert_eq!((done.new_identity, done.records), (Some(journal.id()), 103));
    assert_ne!(journal.id(), second);
    assert_eq!(seqs(&journal, 0), numbers(1..=103));
}

#[test]
fn a_foreign_segment_is_taken_out_whole_and_its_seqs_are_a_gap() {
    let (fs, places) = three_segments();
    let other = SimFs::default();
    journal(&other);
    let second = &places.iter().find(|(_, path, _)| *path != places[0].1).unwrap().1;
    let lost: Vec<u64> = places.iter().filter(|place| place.1 == *second).map(|place| place.0).collect();
    let bytes = other.contents(second);
    fs.tamper(second, |old| *old = bytes.clone());
    let done = repair(dir(), &fs).unwrap();
    assert_eq!(missing(&done), lost);
    let cut = done.cuts.iter().find(|cut| cut.bytes > 0).unwrap();
    assert!(cut.what.contains("belongs to journal"), "{cut:?}");
    let kept = fs.contents(cut.kept.as_ref().unwrap());
    assert_eq!(kept, bytes[..kept.len()]);
    assert!(bytes[kept.len()..].iter().all(|byte| *byte == 0));
    assert_saved(&fs, &lost, 8, "foreign");
}

#[test]
fn a_foreign_file_that_is_called_like_a_segment_costs_no_record() {
    let (original, places) = three_segments();
    let firsts: BTreeSet<_> = places.iter().map(|(_, path, _)| path.clone()).collect();
    let inside = places.iter().filter(|(seq, ..)| !firsts.contains(&segment(*seq)));
    for (seq, ..) in inside {
        for content in [&b"hallo\n"[..], b"", &[7; 5_000]] {
            let fs = original.fork();
            fs.create(&segment(*seq)).unwrap();
            fs.tamper(&segment(*seq), |bytes| *bytes = content.to_vec());
            assert!(try_open(&fs).err().is_some_and(|error| error.is_damage()), "record {seq}");
            let done = repair(dir(), &fs).unwrap();
            assert_eq!((missing(&done), done.records), (vec![], 8), "record {seq}: {:?}", done.cuts);
            assert_saved(&fs, &[], 8, &format!("record {seq}"));
        }
    }
}

#[test]
fn a_renamed_segment_gets_its_name_back() {
    let (fs, places) = three_segments();
    fs.rename(&places[7].1, &segment(77)).unwrap();
    let done = repair(dir(), &fs).unwrap();
    assert_eq!((missing(&done), done.cuts.len()), (vec![], 1));
    assert_saved(&fs, &[], 8, "renamed");
}

#[test]
fn a_newer_format_is_left_alone() {
    let (fs, places) = three_segments();
    fs.tamper(&places[0].1, |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    fs.tamper(&places[7].1, |bytes| bytes[HEADER_BYTES + 3] ^= 1);
    for meta_is_there in [true, false] {
        if !meta_is_there {
            fs.remove(&dir().join("journal.meta")).unwrap();
        }
        let names = fs.names(dir());
        let error = repair(dir(), &fs).unwrap_err();
        assert!(matches!(error, JournalError::Version { .. }) && error.is_misuse(), "{error}");
        assert_eq!(fs.names(dir()), names);
    }
}

#[test]
fn a_whole_record_behind_a_broken_unsynced_one_is_kept() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 10, 50);
    let stats = journal.stats();
    drop(journal);
    let len = (stats.bytes as usize - HEADER_BYTES) / 10;
    fs.tamper(&segment(1), |bytes| bytes[HEADER_BYTES + 8 * len + 20] ^= 1);
    assert!(try_open(&fs).is_err(), "the same boot");
    assert_eq!(missing(&repair(dir(), &fs).unwrap()), [9]);
    fs.reboot();
    assert_saved(&fs, &[9], 10, "unsynced");
}

/// Proves JRN-4.
#[test]
fn what_stays_in_its_place_after_a_failed_sync_is_written_again() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 3, 2000);
    journal.sync().unwrap();
    append_many(&journal, 4, 2000);
    fs.fail(sim_fs::Fault { at: 0, kind: sim_fs::Kind::Eio });
    journal.sync().expect_err("the disk failed");
    let len = (journal.stats().bytes as usize - HEADER_BYTES) / 7;
    drop(journal);
    fs.damage_pages(&segment(1), HEADER_BYTES + 5 * len + 100);
    assert_eq!(missing(&repair(dir(), &fs).unwrap()), [6]);
    fs.power_cut(5);
    assert_saved(&fs, &[6], 7, "after the power cut");
}

#[test]
fn verify_and_open_agree_about_the_newest_segments_header() {
    let original = SimFs::default();
    let (journal, _) = open(&original);
    append_many(&journal, 70, 1000);
    journal.sync().unwrap();
    let second = journal.shared_first_of_segment(1);
    drop(journal);
    for (records_there, rebooted, is_damage) in
        [(false, false, false), (false, true, false), (true, false, true), (true, true, false)]
    {
        let fs = original.fork();
        if rebooted {
            fs.reboot();
        }
        fs.tamper(&segment(second), |bytes| {
            bytes[3] ^= 1;
            if !records_there {
                bytes[HEADER_BYTES..].fill(0);
            }
        });
        let found = crate::journal::inspect(dir(), &fs).unwrap();
        assert_eq!((found.damage.is_empty(), found.torn.is_empty()), (!is_damage, is_damage), "{found:?}");
        assert_eq!(repair(dir(), &fs.fork()).unwrap().cuts.is_empty(), !is_damage);
        assert_eq!(try_open(&fs).is_ok(), !is_damage);
    }
}
