//! Readings in native partitions by month, as docs/operations.md says how to make them.

use super::fixture::{Fixture, batch, machine, prune_in_steps, reading, rows_bounds};
use super::import_clauses::{import, plant};
use super::postgres_server::Postgres;
use crate::domain::{JournalHistory, JournalId, Timestamp};
use crate::store::{PruneLimits, PruneTable, ReadingRow, Store, StoreOptions, open};

const DAY: i64 = 86_400_000_000;
/// 2026-01-01T00:00:00Z
const JANUARY: i64 = 1_767_225_600_000_000;
const FEBRUARY: i64 = JANUARY + 31 * DAY;
const MARCH: i64 = FEBRUARY + 28 * DAY;

/// The statements of docs/operations.md.
fn partitioning() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let begin = page.find("    ALTER TABLE machine_telemetry RENAME").expect("the recipe is in the page");
    page[begin..].lines().take_while(|line| line.starts_with("    ")).collect::<Vec<_>>().join("\n")
}

/// Returns a database with partitions of January to May 2026 and a default one.
fn partitioned(server: &Postgres) -> (Fixture, Box<dyn Store>, JournalId) {
    let fixture = Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute(&partitioning());
    let tended = store.tend_partitions(&PruneLimits::default(), Timestamp::from_micros(JANUARY)).unwrap();
    assert_eq!(tended.created.len(), 3, "{tended:?}");
    let tended = store.tend_partitions(&PruneLimits::default(), Timestamp::from_micros(MARCH)).unwrap();
    assert_eq!(tended.created, ["public.machine_telemetry_2026_04", "public.machine_telemetry_2026_05"]);
    assert_eq!(tended.troubles, Vec::<String>::new());
    (fixture, store, journal)
}

fn row(seq: u64, recorded: i64) -> ReadingRow {
    let mut row = reading(seq);
    row.reading.machine_id = machine("m");
    row.reading.recorded_at = Timestamp::from_micros(recorded);
    row.received_at = row.reading.recorded_at;
    row
}

fn readings_before(micros: i64) -> PruneLimits {
    PruneLimits::readings_before(Timestamp::from_micros(micros))
}

/// Tends the partitions and deletes the rest. Returns the partitions dropped and the readings deleted one by one.
fn run(store: &mut dyn Store, before: i64) -> (Vec<String>, u64) {
    let tended = store.tend_partitions(&readings_before(before), Timestamp::from_micros(MARCH)).unwrap();
    assert_eq!(tended.troubles, Vec::<String>::new());
    let steps = prune_in_steps(store, &tended.limits, rows_bounds(100));
    let one_by_one =
        steps.iter().filter(|(table, _)| *table == PruneTable::Readings).map(|(_, rows)| rows).sum();
    (tended.dropped.into_iter().map(|part| part.name).collect(), one_by_one)
}

fn partitions(fixture: &Fixture) -> Vec<String> {
    let of = "pg_inherits WHERE inhparent = 'machine_telemetry'::regclass ORDER BY 1";
    fixture.raw().rows(&["inhrelid::regclass"], of)
}

/// Proves ROL-1.
#[test]
fn a_month_goes_whole_once_all_of_it_is_past_and_no_reading_of_it_before() {
    let server = Postgres::start();
    let (fixture, mut store, journal) = partitioned(&server);
    let rows: Vec<ReadingRow> = (0..59).map(|day| row(day as u64 + 1, JANUARY + day * DAY)).collect();
    assert_eq!(store.commit(&batch(journal, 0, rows.clone())).unwrap().stored, 59);
    assert_eq!(store.commit(&batch(journal, 59, rows)).unwrap().duplicate, 59);
    // A device's clock is in the past: its reading is in no month, and is past at once by one age only.
    let stray = ReadingRow { received_at: Timestamp::from_micros(MARCH - 1), ..row(119, JANUARY - DAY) };
    assert_eq!(store.commit(&batch(journal, 118, vec![stray])).unwrap().stored, 1);

    assert_eq!(run(&mut *store, FEBRUARY - DAY), (vec![], 0), "a part of January is not past");
    assert_eq!(fixture.raw().count("machine_telemetry"), 60);
    let (dropped, one_by_one) = run(&mut *store, FEBRUARY + 3 * DAY);
    assert_eq!((dropped, one_by_one), (vec!["public.machine_telemetry_2026_01".to_owned()], 0));
    let mut raw = fixture.raw();
    assert_eq!(raw.count("machine_telemetry"), 29, "February, and the stray one");
    assert_eq!(raw.count("machine_rollup"), 28, "the rollups of that time are gone, too");
    assert_eq!(raw.count("machine_rollup_exact WHERE exact_from >= '2026-02-01 00:00:00+00'"), 1);
    assert_eq!(run(&mut *store, FEBRUARY + 3 * DAY), (vec![], 0));
    assert_eq!(run(&mut *store, MARCH + DAY), (vec!["public.machine_telemetry_2026_02".to_owned()], 1));
    assert_eq!(
        partitions(&fixture),
        ["2026_03", "2026_04", "2026_05", "default"].map(|name| format!("machine_telemetry_{name}"))
    );
}

/// Proves RET-1.
#[test]
fn a_month_with_a_late_reading_or_one_of_another_site_is_deleted_one_by_one() {
    let server = Postgres::start();
    let (fixture, mut store, journal) = partitioned(&server);
    let late = ReadingRow { received_at: Timestamp::from_micros(MARCH), ..row(1, JANUARY) };
    let rows = vec![late, row(2, JANUARY + DAY), row(3, FEBRUARY + DAY), row(4, FEBRUARY + 2 * DAY)];
    store.commit(&batch(journal, 0, rows)).unwrap();
    let mut other = open(&StoreOptions { site: "halle-8".to_owned(), ..fixture.options() }).unwrap();
    let others_journal = JournalId(uuid::Uuid::new_v4());
    other.claim(&JournalHistory::of_new_journal(others_journal)).unwrap();
    other.commit(&batch(others_journal, 0, vec![row(5, FEBRUARY)])).unwrap();

    assert_eq!(run(&mut *store, MARCH), (vec![], 3));
    assert_eq!(fixture.raw().rows(&["digest"], "machine_telemetry ORDER BY digest"), ["1", "5"]);
    // Once the last row is past, the whole month goes.
    assert_eq!(run(&mut *store, MARCH + 1), (vec!["public.machine_telemetry_2026_01".to_owned()], 0));
    assert_eq!(run(&mut *other, MARCH), (vec!["public.machine_telemetry_2026_02".to_owned()], 0));
    assert_eq!(fixture.raw().count("machine_telemetry"), 0);
}

#[test]
fn a_month_that_a_reader_holds_stays_whole_until_the_next_run() {
    let server = Postgres::start();
    let (fixture, mut store, journal) = partitioned(&server);
    store.commit(&batch(journal, 0, (1..=9).map(|seq| row(seq, JANUARY)).collect())).unwrap();
    let mut reader = fixture.raw();
    reader.execute("BEGIN; SELECT count(*) FROM machine_telemetry");
    assert_eq!(run(&mut *store, MARCH), (vec![], 0), "nothing is deleted one by one meanwhile");
    reader.execute("COMMIT");
    let expected = ["2026_01", "2026_02"].map(|name| format!("public.machine_telemetry_{name}"));
    assert_eq!(run(&mut *store, MARCH), (expected.to_vec(), 0));
}

/// A role that only writes may not drop: its readings go one by one, and the reason is named.
#[test]
fn a_role_that_may_not_drop_deletes_one_by_one() {
    let server = Postgres::start();
    let (fixture, mut store, journal) = partitioned(&server);
    store.commit(&batch(journal, 0, (1..=9).map(|seq| row(seq, JANUARY)).collect())).unwrap();
    drop(store);
    fixture.raw().execute(
        "CREATE ROLE scribe LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO scribe",
    );
    let scribe = Fixture::postgres(fixture.url.replace("postgres@", "scribe@"));
    let mut store = scribe.open();
    let tended =
        store.tend_partitions(&readings_before(MARCH), Timestamp::from_micros(MARCH + 40 * DAY)).unwrap();
    assert!(tended.dropped.is_empty() && tended.created.is_empty());
    let troubles = tended.troubles.join("\n");
    assert!(troubles.contains("create ") && troubles.contains("drop "), "{troubles}");
    let steps = prune_in_steps(&mut *store, &tended.limits, rows_bounds(100));
    assert_eq!(steps[0], (PruneTable::Readings, 9));
}

/// An existing table of years can become the first partition.
#[test]
fn a_partition_wider_than_a_month_is_deleted_from_one_by_one() {
    let server = Postgres::start();
    let fixture = Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute(&partitioning().replace(
        "DROP TABLE machine_telemetry_plain",
        "ALTER TABLE machine_telemetry ATTACH PARTITION machine_telemetry_plain FOR VALUES FROM (MINVALUE) TO ('2026-03-01 00:00:00+00')",
    ));
    store
        .commit(&batch(journal, 0, (0..40).map(|day| row(day as u64 + 1, JANUARY + day * DAY)).collect()))
        .unwrap();
    assert_eq!(run(&mut *store, JANUARY + 9 * DAY + 1), (vec![], 10));
    let (dropped, one_by_one) = run(&mut *store, MARCH);
    assert_eq!((dropped, one_by_one), (vec!["public.machine_telemetry_plain".to_owned()], 0));
}

/// Proves IMP-1, IMP-3.
#[test]
fn rows_of_the_reference_worker_go_into_partitions_and_its_view_shows_and_deletes_them() {
    let (server, fixture) = plant(7);
    let mut store = fixture.open();
    store.migrate().unwrap();
    fixture.raw().execute(&partitioning());
    let tended = store.tend_partitions(&PruneLimits::default(), Timestamp::from_micros(JANUARY)).unwrap();
    assert_eq!(tended.created.len(), 3, "{tended:?}");
    drop(store);
    let ids = "SELECT string_agg(id::text, ',' ORDER BY recorded_at) FROM machine_telemetry";
    let before = server.psql("plant", ids);
    let done = import(&fixture);
    assert_eq!((done.state().stored, done.state().unreadable), (7, 0));
    assert_eq!(server.psql("plant", ids), before);
    let mut raw = fixture.raw();
    assert_eq!(raw.count("machine_telemetry_2026_01"), 7);
    assert_eq!(
        server.psql(
            "plant",
            "DELETE FROM machine_telemetry WHERE id <= 3; SELECT count(*) FROM machine_telemetry"
        ),
        "4"
    );
    assert_eq!(raw.rows(&["sum(readings)"], "machine_rollup"), ["4"]);
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch(journal, 0, vec![row(1, FEBRUARY), row(2, FEBRUARY + 1)])).unwrap();
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry WHERE id > 7"), "2", "ids grow");
    // Nobody misses a month that is past: neither the view nor Andon.
    let (dropped, one_by_one) = run(&mut *store, FEBRUARY + DAY);
    assert_eq!((dropped, one_by_one), (vec!["andon.machine_telemetry_2026_01".to_owned()], 0));
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry"), "2");
}
