//! Who writes, deletes or cleans up while a step of filling is halfway: PostgreSQL only, for SQLite has one writer at a time.
//!
//! A trigger stops the step in the middle of a statement for as long as the test holds a lock of its own.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::fixture::{Fixture, Raw, SITE, batch, machine, prune_all, reading};
use super::postgres_server::Postgres;
use super::rollup_clauses::{Dice, START, check};
use crate::domain::{JournalHistory, JournalId, Timestamp};
use crate::store::{ReadingRow, RollupFill, Store, StoreError, StoreOptions, open};

const SPAN: Duration = Duration::from_secs(3_600);

#[test]
fn figures_are_exact_whatever_happens_while_a_step_is_halfway() {
    let server = Postgres::start();
    let new = |name: &str| Fixture::postgres(server.create_database(name));
    rows_committed_between_clearing_and_reading_are_counted_once(&new("clearing"));
    rows_committed_between_reading_and_writing_are_counted_once(&new("writing"));
    rows_deleted_after_they_were_counted_are_in_no_bucket(&new("deleting"));
    a_writer_without_the_lock_undoes_the_step(&new("lawless"));
    other_sites_and_vacuum_do_not_wait(&new("others"));
}

/// A step that stands still.
struct Halfway {
    gate: Raw,
    step: JoinHandle<Result<RollupFill, StoreError>>,
}

impl Halfway {
    /// Stops a step before it deletes or inserts (`operation`) the bucket of `m-1`.
    fn at(fixture: &Fixture, operation: &str) -> Self {
        let row = if operation == "DELETE" { "OLD" } else { "NEW" };
        let mut gate = fixture.raw();
        gate.execute(&format!(
            "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM pg_advisory_xact_lock(42); RETURN {row}; END $$;
             CREATE TRIGGER stop BEFORE {operation} ON machine_rollup FOR EACH ROW
                 WHEN ({row}.site = '{SITE}' AND {row}.machine_id = 'm-1') EXECUTE FUNCTION stop()"
        ));
        gate.execute("SELECT pg_advisory_lock(42)");
        let step = in_background(fixture, |store| store.fill_rollups(SPAN));
        wait_until("the step is halfway", || waiting(fixture) == 1);
        Self { gate, step }
    }

    fn go_on(mut self) -> Result<RollupFill, StoreError> {
        self.gate.execute("SELECT pg_advisory_unlock(42)");
        self.step.join().unwrap()
    }
}

/// Sessions of a store that wait for a lock.
fn waiting(fixture: &Fixture) -> u64 {
    fixture.raw().count(
        "pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'andon' AND datname = current_database()",
    )
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn in_background<T: Send + 'static>(
    fixture: &Fixture,
    job: impl FnOnce(&mut dyn Store) -> T + Send + 'static,
) -> JoinHandle<T> {
    let options = fixture.options();
    thread::spawn(move || job(&mut *open(&options).unwrap()))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(START + seconds * 1_000_000)
}

fn row(seq: u64, machine_id: &str, seconds: i64) -> ReadingRow {
    let mut row = reading(seq);
    row.reading.machine_id = machine(machine_id);
    row.reading.recorded_at = at(seconds);
    row.received_at = at(seconds);
    row
}

fn commit(store: &mut dyn Store, row: ReadingRow) -> u64 {
    let journal = JournalId(uuid::Uuid::new_v4());
    store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    store.commit(&batch(journal, 0, vec![row])).unwrap().stored
}

/// A reading each of two machines, and their buckets, which are not trusted.
fn two_readings(fixture: &Fixture) {
    let mut store = fixture.migrated();
    assert_eq!(commit(&mut *store, row(1, "m-1", 10)) + commit(&mut *store, row(2, "m-2", 20)), 2);
}

fn assert_exact(fixture: &Fixture) {
    let mut dice = Dice(5);
    (0..10).for_each(|_| check(fixture, &mut dice, "after the step"));
}

fn a_row_is_counted_once(fixture: &Fixture, operation: &str) {
    two_readings(fixture);
    let halfway = Halfway::at(fixture, operation);
    let writer = in_background(fixture, |store| commit(store, row(3, "m-2", 400)));
    wait_until("the writer waits or is done", || writer.is_finished() || waiting(fixture) == 2);
    assert_eq!(halfway.go_on().unwrap(), RollupFill::More);
    assert_eq!(writer.join().unwrap(), 1);
    assert_exact(fixture);
    assert_eq!(fixture.raw().rows(&["sum(readings)"], "machine_rollup"), ["3"]);
}

fn rows_committed_between_clearing_and_reading_are_counted_once(fixture: &Fixture) {
    a_row_is_counted_once(fixture, "DELETE");
}

fn rows_committed_between_reading_and_writing_are_counted_once(fixture: &Fixture) {
    a_row_is_counted_once(fixture, "INSERT");
}

fn rows_deleted_after_they_were_counted_are_in_no_bucket(fixture: &Fixture) {
    two_readings(fixture);
    let halfway = Halfway::at(fixture, "INSERT");
    let pruner = in_background(fixture, |store| prune_all(store, at(15), 10).iter().sum::<u64>());
    wait_until("the pruner waits or is done", || pruner.is_finished() || waiting(fixture) == 2);
    assert_eq!(halfway.go_on().unwrap(), RollupFill::More);
    assert_eq!(pruner.join().unwrap(), 1);
    assert_exact(fixture);
}

fn a_writer_without_the_lock_undoes_the_step(fixture: &Fixture) {
    two_readings(fixture);
    let halfway = Halfway::at(fixture, "DELETE");
    // As an Andon of before the lock: the row, and its bucket, which the step has not seen.
    let copy = |table: &str, columns: &str, values: &str| {
        format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {table} WHERE machine_id = 'm-2';")
    };
    let figures = "temperature_count, temperature_min, temperature_max, temperature_sum, humidity_count, humidity_min, \
        humidity_max, humidity_sum, vibration_count, vibration_min, vibration_max, vibration_sum, extra_left_out";
    let columns = "site, machine_id, temperature, vibration, source_topic, time_source, received_at, digest, recorded_at";
    let values = columns.replace("recorded_at", "recorded_at + interval '400 s'");
    fixture.raw().execute(
        &[
            copy("machine_telemetry", columns, &values),
            copy(
                "machine_rollup",
                &format!("site, machine_id, bucket_start, readings, {figures}"),
                &format!("site, machine_id, bucket_start + interval '300 s', readings, {figures}"),
            ),
        ]
        .concat(),
    );
    assert_eq!(halfway.go_on().unwrap(), RollupFill::Disturbed);
    assert_eq!(fixture.raw().count("machine_rollup_filled"), 0, "nothing of it is left");
    assert_exact(fixture);
    assert_eq!(fixture.open().fill_rollups(SPAN).unwrap(), RollupFill::More);
    assert_exact(fixture);
    assert_eq!(fixture.raw().rows(&["sum(readings)"], "machine_rollup"), ["3"]);
}

fn other_sites_and_vacuum_do_not_wait(fixture: &Fixture) {
    two_readings(fixture);
    let halfway = Halfway::at(fixture, "INSERT");
    let site = "halle-8".to_owned();
    let mut other = open(&StoreOptions { site, ..fixture.options() }).unwrap();
    assert_eq!(commit(&mut *other, row(4, "m-1", 10)), 1);
    assert_eq!(other.fill_rollups(SPAN).unwrap(), RollupFill::More);
    assert_eq!(prune_all(&mut *other, at(15), 10), [1]);
    let mut cleaner = fixture.raw();
    cleaner.execute("SET lock_timeout = '5s'");
    for table in ["machine_telemetry", "machine_rollup", "machine_rollup_extra", "machine_rollup_filled"] {
        cleaner.execute(&format!("VACUUM {table}"));
    }
    // An Andon of before the lock deletes and fills under this one.
    cleaner.execute("BEGIN; SET LOCAL lock_timeout = '20ms'");
    let Raw::Postgres(older) = &mut cleaner else { unreachable!() };
    let error = diesel::connection::SimpleConnection::batch_execute(
        older,
        "LOCK TABLE machine_rollup_filled IN SHARE ROW EXCLUSIVE MODE",
    );
    assert!(error.unwrap_err().to_string().contains("lock timeout"));
    assert!(!halfway.step.is_finished(), "all that was while the step stood still");
    assert_eq!(halfway.go_on().unwrap(), RollupFill::More);
    assert_exact(fixture);
}
