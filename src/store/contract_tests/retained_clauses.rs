//! Retained messages without a usable time of their own.

use std::time::Duration;

use uuid::Uuid;

use super::fixture::{
    Fixture, at, batch, machine, nothing, prune_all, prune_in_steps, reading, readings_before, rejection,
    rows_bounds,
};
use crate::domain::{JournalHistory, JournalId, Seq, TimeSource};
use crate::store::{
    self, Batch, PruneTable, ReadingRow, RejectedFilter, RejectedPage, Retry, RetryOutcome, Store,
};

/// Returns payload `digest` of press-1, received live as record `seq` and dated with its receipt.
fn undated(seq: u64, digest: u64) -> ReadingRow {
    let mut row = reading(seq);
    row.reading.time_source = TimeSource::Server;
    row.reading.digest = digest;
    row
}

/// Returns the same as a retained message.
fn retained(seq: u64, digest: u64) -> ReadingRow {
    ReadingRow { retained: true, ..undated(seq, digest) }
}

/// Commits `rows` after record `after`. Returns how many are stored and how many are duplicates.
fn commit(store: &mut dyn Store, journal: JournalId, after: u64, rows: Vec<ReadingRow>) -> (u64, u64) {
    let outcome = store.commit(&batch(journal, after, rows)).unwrap();
    let counted = store.checkpoint(journal).unwrap().unwrap();
    assert_eq!(
        counted.ledger.messages,
        counted.ledger.stored + counted.ledger.duplicate + counted.ledger.rejected
    );
    (outcome.stored, outcome.duplicate)
}

const A: u64 = 0xA;
const B: u64 = 0xB;

/// Proves STO-7.
pub fn a_retained_message_without_time_is_stored_once_however_often_it_comes(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let (store, mut seq) = (&mut *store, 0);
    let mut handed_over = |digest| {
        seq += 1;
        commit(store, journal, seq - 1, vec![retained(seq, digest)])
    };
    assert_eq!(handed_over(A), (1, 0));
    assert_eq!(handed_over(A), (0, 1));
    assert_eq!(handed_over(B), (1, 0));
    assert_eq!(handed_over(A), (0, 1), "A, B, A are two rows");
    assert_eq!(commit(store, journal, 4, vec![retained(5, 0xC), retained(6, 0xC), retained(7, B)]), (1, 2));

    // Another machine, another time of its own, and live messages are other readings.
    let mut other_machine = retained(8, A);
    other_machine.reading.machine_id = machine("press-2");
    let mut dated = retained(9, A);
    dated.reading.time_source = TimeSource::Device;
    assert_eq!(commit(store, journal, 7, vec![other_machine, dated, undated(10, B), undated(11, B)]), (4, 0));

    // The journal is read again from its beginning under another id.
    let again = JournalId(Uuid::new_v4());
    store.claim(&JournalHistory::of_new_journal(again)).unwrap();
    let all = [A, A, B, A].iter().enumerate().map(|(at, digest)| retained(at as u64 + 1, *digest));
    assert_eq!(commit(store, again, 0, all.collect()), (0, 4));

    let first = &fixture.raw().rows(&["recorded_at"], "machine_telemetry ORDER BY id")[0];
    assert_eq!(first, "2026-01-05 06:39:59.001001+00:00", "the first receipt");
    let elsewhere = store::StoreOptions { site: "elsewhere".to_owned(), ..fixture.options() };
    let mut elsewhere = store::open(&elsewhere).unwrap();
    let other_journal = JournalId(Uuid::new_v4());
    elsewhere.claim(&JournalHistory::of_new_journal(other_journal)).unwrap();
    assert_eq!(commit(&mut *elsewhere, other_journal, 0, vec![retained(1, A)]), (1, 0));
}

/// Proves STO-7.
pub fn the_retained_copy_of_the_newest_reading_is_a_duplicate(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    assert_eq!(commit(&mut *store, journal, 0, vec![undated(1, A), undated(2, B)]), (2, 0));
    assert_eq!(commit(&mut *store, journal, 2, vec![retained(3, B)]), (0, 1));
    assert_eq!(commit(&mut *store, journal, 3, vec![undated(4, 0xC), retained(5, 0xC)]), (1, 1));
    // It is older than B: published again while Andon was away.
    assert_eq!(commit(&mut *store, journal, 5, vec![retained(6, A)]), (1, 0));
    // The newest reading has a time of its own: it is another message, even with equal bytes.
    let mut dated = reading(7);
    dated.reading.digest = 0xD;
    assert_eq!(commit(&mut *store, journal, 6, vec![dated, retained(8, 0xD)]), (2, 0));
}

pub fn a_refused_retained_message_is_stored_when_it_comes_again(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    fixture.refuse_666();
    let devil = |seq| {
        let mut devil = retained(seq, A);
        devil.reading.temperature = Some(666.0);
        devil
    };
    let outcome = store.commit(&batch(journal, 0, vec![devil(1), retained(2, B)])).unwrap();
    assert_eq!((outcome.stored, outcome.duplicate, outcome.rejected), (1, 0, 1));
    fixture
        .raw()
        .execute(fixture.either("DROP TRIGGER no_devils", "DROP TRIGGER no_devils ON machine_telemetry"));
    let rejected =
        store.rejected(&RejectedFilter::default(), RejectedPage::Before(i64::MAX), 10, 10).unwrap();
    let retry = |readings| Retry {
        id: rejected[0].id,
        journal_id: rejected[0].journal_id.clone(),
        readings,
        rejections: Vec::new(),
    };
    assert_eq!(commit(&mut *store, journal, 2, vec![devil(3), retained(4, B)]), (1, 1));
    // The rejected one is the same message.
    let settled = RetryOutcome::Settled { stored: 0, duplicate: 1, rejected: 0 };
    assert_eq!(store.retry(&retry(vec![devil(1)])).unwrap(), settled);
}

/// Proves STO-7.
pub fn rejected_copies_of_a_retained_message_become_one_reading(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let rejections = (1..=3).map(rejection).collect();
    store.commit(&Batch { upto: Seq(3), messages: 3, rejections, ..nothing(journal, Seq::ZERO) }).unwrap();
    let rejected = store.rejected(&RejectedFilter::default(), RejectedPage::After(i64::MIN), 10, 10).unwrap();
    let settled = |stored, duplicate| RetryOutcome::Settled { stored, duplicate, rejected: 0 };
    for (row, expected) in rejected.iter().zip([settled(1, 0), settled(0, 1), settled(0, 1)]) {
        let journal_id = row.journal_id.clone();
        let readings = vec![retained(row.seq.0, A)];
        let retry = Retry { id: row.id, journal_id, readings, rejections: Vec::new() };
        assert_eq!(store.retry(&retry).unwrap(), expected);
    }
    assert_eq!(commit(&mut *store, journal, 3, vec![retained(4, A)]), (0, 1), "also when it comes again");
}

pub fn a_retained_message_is_forgotten_once_its_last_receipt_is_past_retention(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let late = |seq, digest| {
        let mut row = retained(seq, digest);
        row.received_at = row.received_at.plus(Duration::from_secs(60));
        row.reading.recorded_at = row.received_at;
        row
    };
    commit(&mut *store, journal, 0, vec![retained(1, A), retained(2, B), late(3, B)]);
    assert_eq!(prune_all(&mut *store, at(1_000_000), 100), [2]);
    assert_eq!(fixture.raw().count("retained_seen"), 1);
    assert_eq!(commit(&mut *store, journal, 3, vec![late(4, A), late(5, B)]), (1, 1), "B came again later");
    let steps = prune_in_steps(&mut *store, &readings_before(at(120_000_000)), rows_bounds(1));
    let forgotten =
        steps.iter().filter(|(table, _)| *table == PruneTable::RetainedSeen).map(|(_, rows)| *rows);
    assert_eq!(forgotten.collect::<Vec<_>>(), [1, 1, 0], "in bounded steps");
}
