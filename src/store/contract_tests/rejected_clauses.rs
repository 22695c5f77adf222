//! Rejected elements, listed and retried.

use super::fixture::{Fixture, SITE, at, batch, batch_of, nothing, reading, rejection};
use crate::domain::{JournalId, Qos, RejectReason, Seq};
use crate::store::{
    self, Batch, ReadingRow, RejectedFilter, RejectedPage, RejectedRow, RejectionRow, Retry, RetryOutcome,
    Store, StoreError,
};

const ANY: i64 = i64::MAX;

/// Returns a batch of the rejections of records `after + 1` to `after + count`.
fn rejections(journal: JournalId, after: u64, count: u64) -> Batch {
    let rejections = (after + 1..=after + count).map(rejection).collect();
    Batch { upto: Seq(after + count), messages: count, rejections, ..nothing(journal, Seq(after)) }
}

fn all(store: &mut dyn Store) -> Vec<RejectedRow> {
    store.rejected(&RejectedFilter::default(), RejectedPage::Before(ANY), 1_000, 1_000).unwrap()
}

fn retry(row: &RejectedRow, readings: Vec<ReadingRow>, rejections: Vec<RejectionRow>) -> Retry {
    Retry { id: row.id, journal_id: row.journal_id.clone(), readings, rejections }
}

fn settled(stored: u64, duplicate: u64, rejected: u64) -> RetryOutcome {
    RetryOutcome::Settled { stored, duplicate, rejected }
}

/// Returns `stored, duplicate, rejected` and the position.
fn ledger(store: &mut dyn Store, journal: JournalId) -> [u64; 4] {
    let ledger = store.checkpoint(journal).unwrap().unwrap().ledger;
    [ledger.stored, ledger.duplicate, ledger.rejected, ledger.committed_seq.0]
}

/// Proves STO-6.
pub fn a_retried_element_moves_in_the_ledger_and_loses_its_row(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    store.commit(&rejections(journal, 0, 3)).unwrap();
    store.commit(&batch_of(journal, 3, 2)).unwrap();
    assert_eq!(ledger(&mut *store, journal), [2, 0, 3, 5]);
    let rows = all(&mut *store);

    assert_eq!(store.retry(&retry(&rows[2], vec![reading(1)], Vec::new())).unwrap(), settled(1, 0, 0));
    assert_eq!(ledger(&mut *store, journal), [3, 0, 2, 5]);
    // Reading 4 is in the database already.
    assert_eq!(store.retry(&retry(&rows[1], vec![reading(4)], Vec::new())).unwrap(), settled(0, 1, 0));
    assert_eq!(ledger(&mut *store, journal), [3, 1, 1, 5]);
    assert_eq!(store.retry(&retry(&rows[1], vec![reading(77)], Vec::new())).unwrap(), RetryOutcome::Gone);
    assert_eq!(ledger(&mut *store, journal), [3, 1, 1, 5]);

    let left = all(&mut *store);
    assert_eq!(left, [rows[0].clone()]);
    assert_eq!(fixture.raw().count("machine_telemetry"), 3);
    let received = fixture.raw().rows(&["received_at"], "machine_telemetry WHERE digest = 1");
    assert_eq!(received, ["2026-01-05 06:39:59.001001+00:00"], "the original's");
    // The service continues from its position.
    assert_eq!(store.commit(&batch_of(journal, 5, 1)).unwrap().ledger.stored, 4);
}

pub fn a_message_that_turns_out_to_be_an_array_counts_as_its_elements(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut whole = rejections(journal, 0, 1);
    whole.rejections[0].element = 0;
    store.commit(&whole).unwrap();
    let row = all(&mut *store).remove(0);
    let mut again = rejection(1);
    again.element = 2;
    let outcome = store.retry(&retry(&row, vec![reading(1), reading(2), reading(1)], vec![again])).unwrap();
    assert_eq!(outcome, settled(2, 1, 1));
    assert_eq!(ledger(&mut *store, journal), [2, 1, 1, 1]);
    let left = all(&mut *store);
    assert_eq!(left.iter().map(|row| (row.seq, row.element)).collect::<Vec<_>>(), [(Seq(1), 2)]);
}

/// Proves STO-6.
pub fn a_reading_that_the_database_refuses_stays_rejected(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    fixture.refuse_666();
    store.commit(&rejections(journal, 0, 2)).unwrap();
    let rows = all(&mut *store);
    let devil = || {
        let mut devil = reading(1);
        devil.reading.temperature = Some(666.0);
        devil
    };
    match store.retry(&retry(&rows[0], vec![devil()], Vec::new())).unwrap() {
        RetryOutcome::Refused(words) => assert!(words.contains("der Teufel misst nicht"), "{words}"),
        other => panic!("{other:?}"),
    }
    assert_eq!((ledger(&mut *store, journal), all(&mut *store)), ([0, 0, 2, 2], rows.clone()));

    // Beside readings that are stored, the refused one becomes a rejection.
    let mut refused = devil();
    refused.element = 9;
    assert_eq!(
        store.retry(&retry(&rows[0], vec![reading(1), refused], Vec::new())).unwrap(),
        settled(1, 0, 1)
    );
    assert_eq!(ledger(&mut *store, journal), [1, 0, 2, 2]);
    let newest = all(&mut *store).remove(0);
    assert_eq!((newest.reason.as_str(), newest.element), ("store_rejected", 9));
}

pub fn rejected_elements_of_another_site_are_left_alone(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    store.commit(&rejections(journal, 0, 1)).unwrap();
    let row = all(&mut *store).remove(0);
    let mut other =
        store::open(&store::StoreOptions { site: "elsewhere".to_owned(), ..fixture.options() }).unwrap();
    assert_eq!(all(&mut *other), []);
    assert_eq!(other.rejected_counts(&RejectedFilter::default()).unwrap(), []);
    assert_eq!(other.retry(&retry(&row, vec![reading(1)], Vec::new())).unwrap(), RetryOutcome::Gone);
    assert_eq!((ledger(&mut *store, journal), all(&mut *store).len()), ([0, 0, 1, 1], 1));
    assert_eq!(fixture.raw().count("machine_telemetry"), 0);
}

pub fn without_a_ledger_nothing_is_retried(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    store.commit(&rejections(journal, 0, 1)).unwrap();
    let row = all(&mut *store).remove(0);
    fixture.raw().execute("DELETE FROM ingest_checkpoint");
    let failed = store.retry(&retry(&row, vec![reading(1)], Vec::new()));
    assert!(matches!(failed, Err(StoreError::Retry { id, .. }) if id == row.id), "{failed:?}");
    assert_eq!((all(&mut *store).len(), fixture.raw().count("machine_telemetry")), (1, 0));
}

/// Proves STO-6.
pub fn concurrent_commits_and_retries_lose_no_count(fixture: &Fixture) {
    const EACH: u64 = 60;
    let (mut store, journal) = fixture.with_journal();
    store.commit(&rejections(journal, 0, EACH)).unwrap();
    let rows = all(&mut *store);
    std::thread::scope(|scope| {
        // Two threads retry the same rows: each row is settled by one of them.
        let retriers: Vec<_> = (0..2)
            .map(|_| {
                let mut store = fixture.open();
                let rows = &rows;
                scope.spawn(move || {
                    let mut done = 0;
                    for row in rows {
                        match store.retry(&retry(row, vec![reading(row.seq.0)], Vec::new())).unwrap() {
                            RetryOutcome::Settled { stored, .. } => done += stored,
                            outcome => assert_eq!(outcome, RetryOutcome::Gone),
                        }
                    }
                    done
                })
            })
            .collect();
        for round in 0..EACH {
            store.commit(&batch(journal, EACH + round, vec![reading(EACH + round + 1)])).unwrap();
        }
        let done: u64 = retriers.into_iter().map(|retrier| retrier.join().unwrap()).sum();
        assert_eq!(done, EACH);
    });
    assert_eq!(ledger(&mut *store, journal), [2 * EACH, 0, 0, 2 * EACH]);
    assert_eq!(fixture.raw().count("machine_telemetry"), 2 * EACH);
}

pub fn rejections_keep_whether_the_clock_was_unset(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    fixture.refuse_666();
    let mut sent = rejections(journal, 0, 3);
    sent.rejections[1].clock_unset = true;
    let mut devil = ReadingRow { clock_unset: true, ..reading(4) };
    devil.reading.temperature = Some(666.0);
    sent.readings = vec![devil];
    sent.upto = Seq(4);
    store.commit(&sent).unwrap();
    // As an older version left the row.
    fixture.raw().execute("UPDATE rejected_message SET clock_unset = NULL WHERE seq = 3");
    let mut rows: Vec<_> = all(&mut *store).into_iter().map(|row| (row.seq.0, row.clock_unset)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [(1, false), (2, true), (3, false), (4, true)]);
}

pub fn rejected_elements_are_listed_in_pages_and_counted(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = rejections(journal, 0, 7);
    for (index, row) in sent.rejections.iter_mut().enumerate() {
        row.received_at = at(index as i64 * 1_000_000);
        row.rejection.payload = vec![index as u8; 300];
        if index % 2 == 1 {
            row.rejection.reason = RejectReason::TooLarge;
            row.topic = "other/topic".into();
        }
    }
    store.commit(&sent).unwrap();
    let mut seqs = |filter: &RejectedFilter, page, rows_max| -> Vec<u64> {
        let rows = store.rejected(filter, page, rows_max, 10).unwrap();
        rows.iter().map(|row| row.seq.0).collect()
    };
    let every = RejectedFilter::default();
    assert_eq!(seqs(&every, RejectedPage::Before(ANY), 3), [7, 6, 5]);
    assert_eq!(seqs(&every, RejectedPage::After(i64::MIN), 2), [1, 2]);
    let large = RejectedFilter { reason: Some("too_large".to_owned()), ..RejectedFilter::default() };
    assert_eq!(seqs(&large, RejectedPage::Before(ANY), 10), [6, 4, 2]);
    let span =
        RejectedFilter { from: Some(at(1_000_000)), to: Some(at(4_000_000)), ..RejectedFilter::default() };
    assert_eq!(seqs(&span, RejectedPage::Before(ANY), 10), [4, 3, 2], "from is inclusive, to is not");

    let row = store.rejected(&every, RejectedPage::Before(ANY), 1, 10).unwrap().remove(0);
    assert_eq!((row.payload.as_slice(), row.payload_bytes), (&[6_u8; 10][..], 300));
    assert_eq!(
        (row.journal_id, row.element, row.qos, row.retained),
        (journal.to_string(), 3, Qos::ExactlyOnce, true)
    );
    let older = store.rejected(&every, RejectedPage::Before(row.id), 1, 10).unwrap().remove(0);
    assert_eq!(older.seq, Seq(6));
    let only = store.rejected(&every, RejectedPage::Only(older.id), 1, 1_000).unwrap().remove(0);
    assert_eq!((only.seq, only.payload.len()), (Seq(6), 300));

    let mut counts: Vec<_> = store
        .rejected_counts(&every)
        .unwrap()
        .into_iter()
        .map(|count| (count.reason, count.topic, count.elements))
        .collect();
    counts.sort();
    let usual = "factory/machine/press-1/telemetry".to_owned();
    assert_eq!(
        counts,
        [("invalid_json".to_owned(), usual, 4), ("too_large".to_owned(), "other/topic".to_owned(), 3)]
    );
    assert_eq!(store.rejected_counts(&large).unwrap().len(), 1);
    assert_eq!(SITE, "halle-7");
}
