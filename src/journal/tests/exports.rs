//! What an export returns and reports.

use std::ops::ControlFlow;

use super::repairs::ruined;
use super::*;
use crate::journal::{Fs as _, export, repair};

fn exported(fs: &SimFs, from: u64, to: u64) -> (Vec<u64>, usize) {
    let mut seqs = Vec::new();
    let done = export(dir(), fs, Seq(from), Seq(to), &mut |record| {
        check(record);
        seqs.push(record.seq.0);
        ControlFlow::Continue(())
    });
    let done = done.unwrap();
    assert_eq!(done.records, seqs.len() as u64);
    (seqs, done.skipped.len())
}

#[test]
fn an_export_returns_readable_records_and_reports_the_rest() {
    let (fs, lost) = ruined();
    let names = fs.names(dir());
    assert_eq!(
        exported(&fs, 1, u64::MAX),
        (vec![2, 3, 4, 5, 7], 4),
        "three records and a header of {lost:?}"
    );
    assert_eq!(fs.names(dir()), names);
    assert_eq!(exported(&fs, 3, 4).0, [3, 4]);
    repair(dir(), &fs).unwrap();
    assert_eq!(exported(&fs, 1, u64::MAX), (vec![2, 3, 4, 5, 7], 0), "told once");
    fs.remove(&dir().join("journal.meta")).unwrap();
    assert_eq!(exported(&fs, 1, u64::MAX).0, [2, 3, 4, 5, 7]);
}

#[test]
fn an_export_beside_a_running_service_finds_no_damage() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 150, 1000);
    journal.commit(journal.sync().unwrap()).unwrap();
    journal.maintain().unwrap();
    append_many(&journal, 50, 1000);
    let first = journal.positions().first.0;
    assert!(first > 1);
    assert_eq!(exported(&fs, 1, u64::MAX), (numbers(first..=200), 0));
    let mut seen = 0;
    let stopped = export(dir(), &fs, Seq(1), Seq(u64::MAX), &mut |_| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((stopped.unwrap().records, seen), (3, 3));
}
