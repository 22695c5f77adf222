//! The real thing: a real disk, the journal's own threads, an appender, a reader that commits, an inspector.

use std::sync::Condvar;
use std::time::{Duration, Instant};

use super::*;
use crate::journal::{RealFs, inspect, verify};

const RECORDS: u64 = 20_000;
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Bell {
    readable: Mutex<Seq>,
    rung: Condvar,
}

impl JournalListener for Bell {
    fn readable(&self, upto: Seq) {
        let mut readable = self.readable.lock().unwrap();
        *readable = upto.max(*readable);
        self.rung.notify_all();
    }

    fn space(&self, space: Space) {
        panic!("unexpected: {space:?}");
    }

    fn failed(&self, error: &JournalError) {
        panic!("unexpected: {error}");
    }
}

impl Bell {
    fn wait_beyond(&self, position: Seq) {
        let readable = self.readable.lock().unwrap();
        let waited = self.rung.wait_timeout_while(readable, DEADLINE, |upto| *upto <= position).unwrap().1;
        assert!(!waited.timed_out(), "nothing became readable after {position}");
    }
}

fn read_and_commit(journal: &Journal, bell: &Bell) {
    let mut reader = journal.reader(Seq::ZERO);
    let mut next = 1;
    while reader.position() < Seq(RECORDS) {
        bell.wait_beyond(reader.position());
        let outcome = reader.read(500, 1 << 20, &mut |record| {
            assert_eq!(record.seq, Seq(next));
            check(record);
            next += 1;
        });
        assert_eq!(outcome.unwrap().gap, None);
        journal.commit(reader.position()).unwrap();
    }
}

#[test]
fn appender_reader_and_inspector_work_side_by_side() {
    for sync in [SyncMode::Background, SyncMode::Os] {
        let temp = tempfile::tempdir().unwrap();
        let options = JournalOptions { dir: temp.path().to_owned(), sync, ..options() };
        let bell = Arc::<Bell>::default();
        let open = || Journal::open(options.clone(), Arc::new(RealFs), bell.clone());
        let (journal, _) = open().unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_and_commit(&journal, &bell));
            let appender = scope.spawn(|| append_many(&journal, RECORDS, 200));
            while !reader.is_finished() {
                assert_eq!(verify(temp.path(), &RealFs).unwrap(), [], "nothing looks damaged meanwhile");
            }
            appender.join().unwrap();
            reader.join().unwrap();
        });
        let started = Instant::now();
        while inspect(temp.path(), &RealFs).unwrap().segments.len() > 1 {
            assert!(started.elapsed() < DEADLINE, "committed segments are deleted");
            std::thread::yield_now();
        }
        journal.close().unwrap();
        let (journal, recovery) = open().unwrap();
        assert_eq!((recovery.last, recovery.torn), (Seq(RECORDS), None));
        assert_eq!(journal.positions().committed, Seq(RECORDS));
    }
}

#[test]
fn a_sync_that_fails_in_the_background_is_reported_and_ends_the_appends() {
    let fs = SimFs::default();
    let notes = Arc::<Notes>::default();
    let (journal, _) = Journal::open(options(), Arc::new(fs.clone()), notes.clone()).unwrap();
    fs.set_syncs_fail();
    append_many(&journal, 1, 10);
    let started = Instant::now();
    while !journal.stats().failed {
        assert!(started.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    assert!(matches!(append(&journal, 2, 10), Err(JournalError::Failed { .. })));
    drop(journal);
    assert_eq!(notes.failures.lock().unwrap().len(), 1);
}

#[test]
fn a_full_disk_that_has_room_again_is_noticed_without_help() {
    let fs = SimFs::default();
    fs.set_disk_full(true);
    let notes = Arc::<Notes>::default();
    // The first segment needs room.
    let opened = Journal::open(options(), Arc::new(fs.clone()), notes.clone());
    assert!(opened.err().is_some_and(|error| error.is_disk_full()));
    fs.set_disk_full(false);
    drop(open(&fs));
    fs.set_disk_full(true);
    let (journal, _) = Journal::open(options(), Arc::new(fs.clone()), notes.clone()).unwrap();
    append_many(&journal, 1, 10);
    let wait_for = |changes: usize| {
        let started = Instant::now();
        while notes.space.lock().unwrap().len() < changes {
            assert!(started.elapsed() < DEADLINE);
            std::thread::yield_now();
        }
    };
    wait_for(1);
    fs.set_disk_full(false);
    wait_for(2);
    assert_eq!(journal.stats().space, Space::Free);
}
