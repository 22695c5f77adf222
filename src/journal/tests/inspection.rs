//! What `inspect` and `verify` say.

use super::*;
use crate::journal::{inspect, verify};

#[test]
fn an_inspection_summarises_a_journal_in_use() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 100, 1000);
    journal.sync().unwrap();
    let names = fs.names(dir());
    let found = inspect(dir(), &fs).unwrap();
    let stats = journal.stats();
    assert_eq!(fs.names(dir()), names, "nothing is changed");
    assert_eq!(found.journal_id, Some(journal.id()));
    assert_eq!((found.records, found.bytes, found.segments.len()), (100, stats.bytes, stats.segments));
    assert_eq!(found.segments[0].first, Seq(1));
    assert_eq!(found.segments.last().unwrap().last, Some(Seq(100)));
    let (from, to) = found.segments[0].received.unwrap();
    assert_eq!(from.as_micros(), 1_700_000_000_000_001);
    assert_eq!(to.as_micros(), 1_700_000_000_000_000 + found.segments[0].records as i64);
    assert_eq!((found.damage, found.torn_tail_bytes), (vec![], 0));
}

#[test]
fn a_torn_tail_is_reported_and_is_not_damage() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 3, 100);
    let end = journal.stats().bytes as usize;
    drop(journal);
    fs.tamper(&segment(1), |bytes| bytes[end - 7..].fill(0));
    let found = inspect(dir(), &fs).unwrap();
    assert_eq!((found.records, found.damage), (2, vec![]));
    assert!(found.torn_tail_bytes > 0);
    drop(open(&fs));
    let found = inspect(dir(), &fs).unwrap();
    assert_eq!((found.torn_tail_bytes, found.kept_aside.len()), (0, 1));
}

#[test]
fn verify_finds_a_flip_of_any_byte_that_recovery_refuses() {
    let original = SimFs::default();
    let (journal, _) = open(&original);
    append_many(&journal, 8, 30);
    journal.sync().unwrap();
    let written = journal.stats().bytes as usize;
    drop(journal);
    assert_eq!(verify(dir(), &original).unwrap(), []);
    for at in 0..written {
        let fs = original.fork();
        fs.tamper(&segment(1), |bytes| bytes[at] ^= 1 << (at % 8));
        let refused = try_open(&fs.fork()).is_err();
        let found = verify(dir(), &fs).unwrap();
        assert_eq!(found.is_empty(), !refused, "byte {at}: {found:?}");
        assert!(found.iter().all(|damage| damage.path == segment(1)));
    }
}

#[test]
fn verify_finds_missing_and_foreign_files() {
    use crate::journal::Fs as _;
    let original = SimFs::default();
    let (journal, _) = open(&original);
    append_many(&journal, 200, 1000);
    journal.sync().unwrap();
    let second = journal.shared_first_of_segment(1);
    drop(journal);
    for name in [segment(1), segment(second), dir().join("journal.meta")] {
        let fs = original.fork();
        fs.remove(&name).unwrap();
        assert!(!verify(dir(), &fs).unwrap().is_empty(), "{}", name.display());
    }
    assert!(inspect(Path::new("/nowhere"), &original).unwrap().segments.is_empty());
}
