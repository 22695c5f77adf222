//! Readings that SQLite gets many in one statement end as they would one by one.

use super::fixture::{Fixture, at, batch, batch_of, machine, reading};
use crate::domain::Seq;
use crate::store::ReadingRow;

/// More than one run of each length, and a rest.
const ROWS: u64 = 64 + 64 + 8 + 8 + 3;

/// Returns reading `of` of three machines, in record `seq`.
fn row(seq: u64, of: u64) -> ReadingRow {
    let mut row = ReadingRow { seq: Seq(seq), ..reading(of) };
    row.reading.machine_id = machine(["press-3", "press-1", "press-2"][(of % 3) as usize]);
    row.reading.temperature = Some(of as f64);
    row
}

/// The rollups count each stored reading once (ROL-1).
fn assert_rolled_up(fixture: &Fixture) {
    let of = |columns: &str, table: &str| fixture.raw().rows(&[columns], table);
    assert_eq!(
        of("sum(readings) || ' ' || sum(temperature_sum)", "machine_rollup"),
        of("count(*) || ' ' || sum(temperature)", "machine_telemetry")
    );
}

fn poisoned(outcome: &crate::store::CommitOutcome) -> Vec<u64> {
    outcome.poisoned.iter().map(|row| row.seq.0).collect()
}

/// Proves STO-3, ROL-1.
#[test]
fn duplicates_are_counted_exactly_wherever_they_are_in_a_run() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    let known: Vec<ReadingRow> = (1..=40).map(|seq| row(seq, 5 * seq)).collect();
    assert_eq!(store.commit(&batch(journal, 0, known)).unwrap().stored, 40);
    // Every reading twice, those from above among them; runs end between the two of a pair.
    let rows = (0..2 * ROWS).map(|place| row(41 + place, place / 2 + 1)).collect();
    let second = store.commit(&batch(journal, 40, rows)).unwrap();
    let known_already = ROWS / 5;
    assert_eq!(second.stored, ROWS - known_already);
    assert_eq!((second.duplicate, second.rejected), (ROWS + known_already, 0));
    assert_eq!(fixture.raw().count("machine_telemetry"), 40 + second.stored);
    assert_rolled_up(&fixture);
    let again = (0..ROWS).map(|place| row(1_000 + place, place + 1)).collect();
    let third = store.commit(&batch(journal, 40 + 2 * ROWS, again)).unwrap();
    assert_eq!((third.stored, third.duplicate, third.ledger.stored), (0, ROWS, 40 + second.stored));
    assert_rolled_up(&fixture);
}

/// Proves STO-4.
#[test]
fn rows_of_a_run_that_a_constraint_refuses_are_set_aside_and_no_others() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute("CREATE UNIQUE INDEX own ON machine_telemetry (temperature)");
    let mut rows: Vec<ReadingRow> = (1..=ROWS).map(|seq| row(seq, seq)).collect();
    for (place, like) in [(100, 2), (30, 4), (140, 5)] {
        rows[place].reading.temperature = Some(like as f64);
    }
    rows[90] = row(91, 7);
    let outcome = store.commit(&batch(journal, 0, rows)).unwrap();
    assert_eq!((outcome.stored, outcome.duplicate, outcome.rejected), (ROWS - 4, 1, 3));
    assert_eq!(poisoned(&outcome), [31, 101, 141]);
    let rejected = fixture.raw().rows(&["seq", "reason"], "rejected_message ORDER BY id");
    assert_eq!(rejected, ["31|store_rejected", "101|store_rejected", "141|store_rejected"]);
    assert_rolled_up(&fixture);
}

/// Proves STO-4.
#[test]
fn a_row_that_a_triggers_own_statement_refuses_is_set_aside() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute(
        "CREATE TABLE seen (temperature UNIQUE);
         CREATE TRIGGER note AFTER INSERT ON Machine_Telemetry
         BEGIN INSERT INTO seen VALUES (min(NEW.temperature, 60)); END",
    );
    let outcome = store.commit(&batch(journal, 0, (1..=70).map(|seq| row(seq, seq)).collect())).unwrap();
    assert_eq!((outcome.stored, outcome.rejected), (60, 10));
    assert_eq!(poisoned(&outcome), (61..=70).collect::<Vec<_>>());
    assert_rolled_up(&fixture);
}

#[test]
fn counts_are_exact_when_the_greatest_id_is_taken() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch(journal, 0, vec![row(1, 50)])).unwrap();
    fixture.raw().execute("UPDATE machine_telemetry SET id = 9223372036854775807");
    let outcome = store.commit(&batch(journal, 1, (1..=ROWS).map(|of| row(of + 1, of)).collect())).unwrap();
    assert_eq!((outcome.stored, outcome.duplicate), (ROWS - 1, 1));
    assert_rolled_up(&fixture);
}

#[test]
fn a_batch_is_in_the_table_in_the_order_of_machines_and_times() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    let mut rows: Vec<ReadingRow> = (1..=9).map(|seq| row(seq, seq)).collect();
    rows[8].reading.recorded_at = at(0);
    store.commit(&batch(journal, 0, rows)).unwrap();
    let digests = fixture.raw().rows(&["digest"], "machine_telemetry ORDER BY id");
    assert_eq!(digests, ["1", "4", "7", "2", "5", "8", "9", "3", "6"]);
    assert_eq!(store.commit(&batch_of(journal, 9, 1)).unwrap().stored, 1);
}
