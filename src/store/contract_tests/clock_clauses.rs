//! The record of the trusted time.

use std::time::Duration;

use super::fixture::{Fixture, T0, at, batch_of};
use crate::domain::{ClockRecord, JournalHistory};
use crate::store::{self, Claim, Store};

fn record(seq: u64) -> ClockRecord {
    let (trusted_at, wall_at) = (at(1), at(2));
    ClockRecord { seq, trusted_at, wall_at, step_held: Some(Duration::from_micros(77)) }
}

fn exchange(store: &mut dyn Store, ours: Option<ClockRecord>) -> Option<ClockRecord> {
    store.exchange_clock(ours).unwrap()
}

pub fn the_newer_record_of_the_trusted_time_stays(fixture: &Fixture) {
    let mut store = fixture.migrated();
    let store = &mut *store;
    assert_eq!(exchange(store, None), None);
    assert_eq!(exchange(store, Some(record(5))), None, "kept");
    assert_eq!(exchange(store, None), Some(record(5)));
    let newer = ClockRecord { step_held: None, ..record(6) };
    assert_eq!(exchange(store, Some(newer)), None);
    assert_eq!(
        exchange(store, Some(ClockRecord { trusted_at: at(9), ..record(5) })),
        Some(newer),
        "and stays"
    );
    let same = ClockRecord { trusted_at: at(10), ..newer };
    assert_eq!(
        (exchange(store, Some(same)), exchange(store, None)),
        (None, Some(same)),
        "a later record with the same number"
    );
    let mut elsewhere =
        store::open(&store::StoreOptions { site: "elsewhere".to_owned(), ..fixture.options() }).unwrap();
    assert_eq!(exchange(&mut *elsewhere, None), None);
    // A person changed the table.
    fixture.raw().execute("UPDATE clock_record SET seq = 9223372036854775807");
    assert_eq!((exchange(store, Some(record(7))), exchange(store, None)), (None, Some(record(7))));
}

/// Spoils the record and the newest commit of a site without `exact_from`, such as one of version 0.1.0.
pub fn an_unreadable_clock_record_is_named_and_stops_no_claim(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch_of(journal, 0, 3)).unwrap();
    exchange(&mut *store, Some(record(5)));
    let bad_time = fixture.either("'yesterday'", "'infinity'");
    let whole = "DELETE FROM machine_rollup_exact; UPDATE ingest_checkpoint SET updated_at =";
    fixture.raw().execute(&format!("UPDATE clock_record SET wall_at = {bad_time}; {whole} {bad_time}"));

    let options = fixture.options();
    let mut store = store::open(&options).unwrap();
    let claim = store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    assert!(matches!(claim, Claim::Granted(_)), "{claim:?}");
    assert_eq!(fixture.raw().count("machine_rollup_exact"), 1);
    let named: Vec<_> =
        options.unreadable.take_unnamed().into_iter().map(|row| (row.table, row.key)).collect();
    let journal_id = format!("{:?}", journal.to_string());
    assert_eq!(
        named,
        [("clock_record", "of site \"halle-7\"".to_owned()), ("ingest_checkpoint", journal_id)]
    );
    assert_eq!(exchange(&mut *store, None), None);
    assert_eq!(exchange(&mut *store, Some(record(1))), None, "a readable one replaces it");
    assert_eq!(exchange(&mut *store, None), Some(record(1)));
}

pub fn without_a_record_the_newest_commit_is_the_trusted_time(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    assert_eq!(exchange(&mut *store, None), None, "nothing was committed");
    store.commit(&batch_of(journal, 0, 3)).unwrap();
    let trace = exchange(&mut *store, None).unwrap();
    let age = crate::clock::wall_now().since(trace.trusted_at);
    assert!(age < Duration::from_secs(60) && trace.trusted_at.as_micros() > T0, "{age:?}");
    assert_eq!((trace.seq, trace.wall_at, trace.step_held), (0, trace.trusted_at, None));
    exchange(&mut *store, Some(record(1)));
    assert_eq!(exchange(&mut *store, None), Some(record(1)));
}
