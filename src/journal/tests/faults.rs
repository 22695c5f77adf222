//! Every call of the file system fails once, in every way; afterwards nothing that was promised is missing.

use super::sim_fs::{Fault, Kind};
use super::*;

/// What was promised before the journal went away.
#[derive(Debug, Default, Clone, Copy)]
struct Promised {
    acknowledged: u64,
    durable: u64,
    committed: u64,
}

/// A short life: appends over several segments, syncs, commits, deletions, reads. Ends early when it is told to.
fn live(fs: &SimFs, sync: SyncMode) -> Promised {
    let mut promised = Promised::default();
    let notes = Arc::<Notes>::default();
    let options = JournalOptions { sync, ..options() };
    let Ok((journal, _)) = try_open_with(fs, options, &notes) else { return promised };
    for round in 0..4u64 {
        for index in 0..8u64 {
            let len = 100 + 3500 * (index as usize % 4);
            let number = promised.acknowledged + 1;
            // A message that was not taken is delivered again.
            match append(&journal, number, len).or_else(|_| append(&journal, number, len / 2)) {
                Ok(seq) => assert_eq!(seq, Seq(number)),
                Err(_) => return promised,
            }
            promised.acknowledged = number;
            promised.durable = promised.durable.max(journal.positions().synced.0);
        }
        if let Ok(synced) = journal.sync() {
            promised.durable = synced.0;
        }
        // Both may fail; both are tried again another time.
        let (_, _) = (journal.maintain(), read_all(&journal, promised.committed));
        if round == 2 && journal.commit(Seq(promised.durable - 3)).is_ok() {
            promised.committed = promised.durable - 3;
        }
    }
    let (_, _) = (journal.maintain(), journal.close());
    promised
}

fn check_all(fs: &SimFs, promised: Promised, at_least: u64, what: &str) {
    fs.forget_fault();
    let (journal, recovery) = try_open(fs).unwrap_or_else(|error| panic!("{what}: {error}"));
    let last = recovery.last.0;
    assert!(last >= at_least && last <= promised.acknowledged + 1, "{what}: {last} of {promised:?}");
    journal.commit(Seq(promised.committed)).unwrap();
    assert_eq!(
        seqs(&journal, promised.committed),
        (promised.committed + 1..=last).collect::<Vec<_>>(),
        "{what}"
    );
    append_many(&journal, 1, 100);
    journal.sync().unwrap();
}

/// Proves JRN-2, JRN-3, JRN-4.
#[test]
fn whichever_call_fails_nothing_promised_is_missing() {
    for sync in [SyncMode::Background, SyncMode::BeforeAck] {
        for kind in [Kind::Eio, Kind::Enospc, Kind::Short] {
            for at in 0.. {
                let what = format!("{kind:?} at call {at} in {sync:?}");
                let fs = SimFs::default();
                fs.fail(Fault { at, kind });
                let promised = live(&fs, sync);
                if fs.forget_fault() {
                    assert!(at > 100, "the whole life was tried");
                    break;
                }
                check_all(&fs, promised, promised.acknowledged, &what);

                let fs = SimFs::default();
                fs.fail(Fault { at, kind });
                let promised = live(&fs, sync);
                fs.power_cut(at);
                check_all(&fs, promised, promised.durable, &format!("{what}, then power cut"));
            }
        }
    }
}

/// Proves JRN-6.
#[test]
fn whichever_call_of_recovery_fails_the_next_one_succeeds() {
    for rebooted in [false, true] {
        for at in 0.. {
            let fs = SimFs::default();
            let (journal, _) = open(&fs);
            append_many(&journal, 30, 8000);
            journal.sync().unwrap();
            journal.commit(Seq(10)).unwrap();
            journal.maintain().unwrap();
            append_many(&journal, 3, 8000);
            drop(journal);
            if rebooted {
                fs.power_cut(at % 7);
            }
            fs.fail(Fault { at, kind: Kind::Eio });
            let opened = try_open(&fs);
            if fs.forget_fault() {
                opened.expect("no fault, no error");
                assert!(at > 20);
                break;
            }
            drop(opened);
            // Dying in the middle of recovery, also by another power cut, changes nothing.
            if rebooted {
                fs.power_cut(at);
            }
            let (journal, recovery) = try_open(&fs).unwrap_or_else(|error| panic!("call {at}: {error}"));
            let last = recovery.last.0;
            assert!(if rebooted { (30..=33).contains(&last) } else { last == 33 }, "call {at}: {last}");
            assert_eq!(seqs(&journal, 10), numbers(11..=last), "call {at}");
        }
    }
}

/// Proves JRN-4.
#[test]
fn a_failed_sync_is_final_and_reported_once() {
    let fs = SimFs::default();
    let notes = Arc::<Notes>::default();
    let (journal, _) = try_open_with(&fs, options(), &notes).unwrap();
    append_many(&journal, 2, 100);
    journal.sync().unwrap();
    append_many(&journal, 2, 100);
    fs.fail(Fault { at: 0, kind: Kind::Eio });
    assert!(matches!(journal.sync(), Err(JournalError::Failed { .. })));
    assert!(matches!(journal.sync(), Err(JournalError::Failed { .. })), "not tried again");
    assert!(matches!(append(&journal, 5, 100), Err(JournalError::Failed { .. })));
    assert_eq!(journal.positions().synced, Seq(2));
    assert_eq!(seqs(&journal, 0), [1, 2]);
    assert_eq!(notes.failures.lock().unwrap().len(), 1);
    assert!(journal.stats().failed);
    assert!(journal.close().is_err());
    drop(open(&fs));
}

/// Proves JRN-1, JRN-3.
#[test]
fn a_failed_append_uses_no_seq_and_leaves_no_record() {
    for kind in [Kind::Eio, Kind::Short] {
        let fs = SimFs::default();
        let (journal, _) = open(&fs);
        append_many(&journal, 2, 100);
        fs.fail(Fault { at: 0, kind });
        append(&journal, 3, 5000).expect_err("the write failed");
        assert_eq!(journal.positions().appended, Seq(2));
        drop(journal);
        let (journal, recovery) = open(&fs);
        assert_eq!(recovery.last, Seq(2));
        assert_eq!(recovery.torn.is_some(), kind == Kind::Short, "half a record was there");
        append_many(&journal, 1, 50);
        journal.sync().unwrap();
        assert_eq!(seqs(&journal, 0), numbers(1..=3));
    }
}

/// Proves JRN-3.
#[test]
fn leftover_bytes_of_a_failed_append_in_an_older_segment_are_not_damage() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 2, 100);
    fs.fail(Fault { at: 0, kind: Kind::Short });
    append(&journal, 3, 50_000).expect_err("the write failed");
    append_many(&journal, 1, 65_400);
    journal.sync().unwrap();
    assert_eq!(journal.stats().segments, 2);
    drop(journal);
    assert_eq!(seqs(&open(&fs).0, 0), numbers(1..=3));
}
