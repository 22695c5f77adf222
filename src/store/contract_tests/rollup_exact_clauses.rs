//! From when on rollups are exact, and that they are while several processes write, prune and read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fixture::{Fixture, batch, batch_of, machine, prune_all, reading, readings_before, rows_bounds};
use super::history_clauses::buckets;
use super::rollup_clauses::{Dice, HOUR, SECOND, START, check};
use crate::domain::{JournalHistory, JournalId, Timestamp};
use crate::store::{BucketsQuery, PruneBounds, StoreError, open, open_history};

const EXACT_FROM: &str = "machine_rollup_exact WHERE exact_from";

pub fn an_empty_site_has_exact_rollups_from_the_beginning(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    assert_eq!(fixture.raw().count(&format!("{EXACT_FROM} < '0002-01-01'")), 1);
    store.commit(&batch(journal, 0, vec![reading(1)])).unwrap();
    store.claim(&JournalHistory::of_new_journal(JournalId(uuid::Uuid::new_v4()))).unwrap();
    assert_eq!(fixture.raw().count(&format!("{EXACT_FROM} < '0002-01-01'")), 1, "it stays");
    assert_eq!(fixture.raw().count("machine_rollup_exact"), 1);
}

/// Proves ROL-2.
pub fn readings_older_than_rollups_are_charted_from_the_readings(fixture: &Fixture) {
    let mut dice = Dice(7);
    for leftover in ["machine_rollup", "machine_telemetry"] {
        let (mut store, journal) = fixture.with_journal();
        store.commit(&batch(journal, 0, (1..=100).map(|seq| dice.row(seq)).collect())).unwrap();
        // As a version without rollups left it; or a person, who deleted the readings and left their rollups.
        fixture.raw().execute(&format!("DELETE FROM {leftover}; DELETE FROM machine_rollup_exact"));
        check(fixture, &mut dice, "unknown");
        let journal = JournalId(uuid::Uuid::new_v4());
        store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
        check(fixture, &mut dice, "not exact");
        let tomorrow = fixture
            .either("strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now', '+1 day')", "now() + interval '24 hours'");
        let at_a_bucket = fixture.either(
            "unixepoch(substr(exact_from, 1, 19)) % 300 = 0",
            "CAST(date_part('epoch', exact_from) AS bigint) % 300 = 0",
        );
        assert_eq!(fixture.raw().count(&format!("{EXACT_FROM} > {tomorrow} AND {at_a_bucket}")), 1);
        store.commit(&batch(journal, 0, (101..=200).map(|seq| dice.row(seq)).collect())).unwrap();
        check(fixture, &mut dice, "late ones");
        fixture.raw().execute(
            "DELETE FROM machine_telemetry; DELETE FROM machine_rollup; DELETE FROM machine_rollup_extra; \
            DELETE FROM machine_rollup_exact",
        );
    }
}

/// Version 0.1.0 filled in rollups. Nothing moves its instant back, and charts before it use the readings.
/// Proves ROL-2.
pub fn a_database_of_version_1_keeps_the_instant_it_had(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut dice = Dice(11);
    store.commit(&batch(journal, 0, (1..=100).map(|seq| dice.row(seq)).collect())).unwrap();
    let (at, bucket) =
        ("2026-01-05 06:30:00.000000+00:00", "bucket_start < '2026-01-05 06:30:00.000000+00:00'");
    fixture.raw().execute(&format!(
        "UPDATE machine_rollup_exact SET exact_from = '{at}'; DELETE FROM machine_rollup WHERE {bucket}"
    ));
    store.claim(&JournalHistory::of_new_journal(JournalId(uuid::Uuid::new_v4()))).unwrap();
    check(fixture, &mut dice, "half of it filled");
    prune_all(&mut *store, Timestamp::from_micros(START + HOUR / 4), 20);
    assert_eq!(fixture.raw().count(&format!("{EXACT_FROM} = '{at}'")), 1);
    check(fixture, &mut dice, "older ones deleted");
}

/// Retries, as the writer does: SQLite's lock is not fair.
fn retrying<T>(mut attempt: impl FnMut() -> Result<T, StoreError>) -> T {
    for _ in 0..20 {
        match attempt() {
            Err(error) if error.is_transient() => {}
            outcome => return outcome.unwrap(),
        }
    }
    panic!("twenty attempts did not get the lock");
}

/// Proves ROL-1.
pub fn rollups_stay_exact_while_two_processes_write_and_a_third_prunes(fixture: &Fixture) {
    let (mut store, _journal) = fixture.with_journal();
    let writer = |first: u64| {
        let options = fixture.options();
        std::thread::spawn(move || {
            let mut store = open(&options).unwrap();
            let journal = JournalId(uuid::Uuid::new_v4());
            retrying(|| store.claim(&JournalHistory::of_new_journal(journal)));
            let mut dice = Dice(first);
            for round in 0..15 {
                let rows = (1..=40).map(|n| dice.row(first + round * 40 + n)).collect();
                let batch = batch(journal, round * 40, rows);
                retrying(|| store.commit(&batch));
            }
        })
    };
    let writers = [writer(0), writer(1_000_000)];
    let mut dice = Dice(3);
    let bounds = PruneBounds { machines_max: 2, ..rows_bounds(5) };
    while writers.iter().any(|writer| !writer.is_finished()) {
        let limits = readings_before(Timestamp::from_micros(START + dice.roll(HOUR)));
        let mut from = None;
        loop {
            let step = retrying(|| store.prune(&limits, from.as_ref(), bounds));
            from = step.next;
            if from.is_none() {
                break;
            }
        }
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    (0..10).for_each(|_| check(fixture, &mut dice, "two writers"));
    let late = "'2026-01-05 07:00:00.000000+00:00'";
    let rows = fixture.raw().count(&format!("machine_telemetry WHERE recorded_at >= {late}"));
    let in_buckets =
        fixture.raw().rows(&["sum(readings)"], &format!("machine_rollup WHERE bucket_start >= {late}"));
    assert_eq!(in_buckets, [rows.to_string()]);
    assert!(rows > 300, "{rows}");
}

/// One step deletes a hundred readings. A concurrent reader finds all of them, or none.
/// Proves ROL-1.
pub fn a_chart_sees_a_deletion_whole_or_not_at_all(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let is_over = Arc::new(AtomicBool::new(false));
    let reader = {
        let (options, is_over) = (fixture.options(), Arc::clone(&is_over));
        std::thread::spawn(move || {
            let mut history = open_history(&options).unwrap();
            let query = BucketsQuery {
                machine_id: machine("press-1"),
                from: Timestamp::from_micros(START),
                to: Timestamp::from_micros(START + 12 * HOUR),
                bucket_seconds: None,
                extra: None,
            };
            let mut counts = BTreeSet::new();
            while !is_over.load(Ordering::Relaxed) {
                counts.insert(buckets(&mut *history, &query)[0].count);
            }
            counts
        })
    };
    for round in 0..40_u64 {
        let start = START + i64::try_from(round).unwrap() * 300 * SECOND;
        let mut sent = batch_of(journal, round * 100, 100);
        for row in &mut sent.readings {
            row.reading.recorded_at = Timestamp::from_micros(start + i64::try_from(row.seq.0 % 100).unwrap());
            row.received_at = row.reading.recorded_at;
        }
        store.commit(&sent).unwrap();
        prune_all(&mut *store, Timestamp::from_micros(start + SECOND), 1_000);
    }
    is_over.store(true, Ordering::Relaxed);
    let counts = reader.join().unwrap();
    assert!(counts.is_subset(&BTreeSet::from([0, 100])), "{counts:?}");
}
