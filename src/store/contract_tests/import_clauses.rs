//! Taking over from the reference worker: the import. What its application sees then: `reference_view_clauses`.

use chrono::DateTime;

use super::fixture::{Fixture, batch, machine, reading};
use super::postgres_server::Postgres;
use crate::domain::{Reading, TimeSource, Timestamp};
use crate::store::{Found, Import, ImportedReading, OldRow, StoreError, StoreOptions, TakeOver};

/// The table as SQLAlchemy creates it, with an index on the machine.
pub const OLD_TABLE: &str = "CREATE TABLE machine_telemetry (
    id SERIAL PRIMARY KEY, machine_id VARCHAR(100) NOT NULL, temperature DOUBLE PRECISION, humidity REAL, vibration NUMERIC,
    source_topic TEXT, recorded_at TEXT NOT NULL, created_at VARCHAR(64));
    CREATE INDEX ix_machine_telemetry_machine_id ON machine_telemetry (machine_id)";

/// A server with that table in database `plant`, and `rows` rows of three machines a second apart.
pub fn plant(rows: u32) -> (Postgres, Fixture) {
    let server = Postgres::start();
    let url = server.create_database("plant");
    server.psql("plant", OLD_TABLE);
    insert_old(&server, rows);
    (server, Fixture::postgres(url).in_schema("andon"))
}

fn insert_old(server: &Postgres, rows: u32) {
    server.psql(
        "plant",
        &format!(
            "INSERT INTO public.machine_telemetry (machine_id, temperature, humidity, vibration, source_topic, recorded_at, created_at) \
             SELECT 'M-' || i % 3 + 1, i % 40, i % 7, i / 8.0, 'factory/machine/m/telemetry', \
                 to_char(timestamp '2026-01-05 06:00:00' + i * interval '1 s', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
                 to_char(timestamp '2026-01-05 06:00:01' + i * interval '1 s', 'YYYY-MM-DD HH24:MI:SS.MS') \
             FROM generate_series(1, {rows}) i"
        ),
    );
}

/// Reads a row as the command does, in short.
fn read(row: &OldRow) -> Result<ImportedReading, String> {
    let instant = |text: &Option<String>| {
        let text = text.clone().unwrap_or_default().replace(' ', "T");
        let text = if text.ends_with('Z') { text } else { text + "Z" };
        DateTime::parse_from_rfc3339(&text)
            .map(|at| Timestamp::from(at.to_utc()))
            .map_err(|error| error.to_string())
    };
    let reading = Reading {
        machine_id: machine(row.machine_id.as_deref().unwrap_or_default()),
        temperature: row.temperature,
        humidity: row.humidity,
        vibration: row.vibration,
        extra: None,
        recorded_at: instant(&row.recorded_at)?,
        time_source: TimeSource::Device,
        digest: row.id.unsigned_abs(),
    };
    Ok(ImportedReading {
        reading,
        topic: row.source_topic.clone().unwrap_or_default(),
        created_at: instant(&row.created_at)?,
    })
}

fn found(fixture: &Fixture) -> Import {
    match Import::find(&fixture.options()).unwrap() {
        Found::Table(import) => *import,
        Found::Done(_) => panic!("it was imported before"),
        Found::Nothing => panic!("there is no table"),
    }
}

fn step_all(import: &mut Import) {
    if let Some(upto) = import.settle().unwrap() {
        while import.step(upto, &read).unwrap() {}
    }
}

pub fn import(fixture: &Fixture) -> Import {
    let mut import = found(fixture);
    step_all(&mut import);
    import.index().unwrap();
    assert_eq!(import.take_over(&read).unwrap(), TakeOver::Done);
    import
}

/// Proves IMP-1.
#[test]
fn old_rows_become_readings_with_their_ids_and_times_and_the_view_shows_them_as_they_were() {
    let (server, fixture) = plant(7);
    server.psql("plant", "UPDATE machine_telemetry SET temperature = NULL, source_topic = NULL, recorded_at = '2026-01-05T06:00:03.25Z' WHERE id = 3");
    let before = server.psql("plant", "SELECT id, lower(machine_id), temperature, humidity, trim_scale(vibration), source_topic FROM machine_telemetry ORDER BY id");
    let import = import(&fixture);
    assert_eq!((import.state().rows_read, import.state().stored, import.state().late), (7, 7, 0));
    let after = server.psql("plant", "SELECT id, machine_id, temperature, humidity, vibration, source_topic FROM machine_telemetry ORDER BY recorded_at, id");
    assert_eq!(after, before);
    assert_eq!(
        server.psql("plant", "SELECT recorded_at, created_at FROM machine_telemetry WHERE id = 3"),
        "2026-01-05T06:00:03.250000+00:00|2026-01-05T06:00:04.000000+00:00"
    );
    let types = |table: &str| {
        server.psql(
            "plant",
            &format!("SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) \
                      FROM information_schema.columns WHERE table_name = '{table}' AND table_schema = 'public'"),
        )
    };
    let kept = types("machine_telemetry_before_andon");
    assert_eq!(types("machine_telemetry"), kept.replace("id integer", "id bigint"), "the old types");
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry_before_andon"), "7");
}

#[test]
fn ids_grow_from_old_rows_to_new_ones() {
    let (server, fixture) = plant(5);
    import(&fixture);
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch(journal, 0, (1..=3).map(reading).collect())).unwrap();
    let ids = server.psql("plant", "SELECT id <= 5, count(*) FROM machine_telemetry GROUP BY 1 ORDER BY 1");
    assert_eq!(ids, "f|3\nt|5", "old ids stay, new ones are larger");
}

#[test]
fn ids_that_andon_used_before_are_not_used_again() {
    let (server, fixture) = plant(5);
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch(journal, 0, (1..=4).map(reading).collect())).unwrap();
    let state = import(&fixture).state().clone();
    assert_eq!(state.id_offset, 4);
    store.commit(&batch(journal, 4, (5..=6).map(reading).collect())).unwrap();
    assert_eq!(server.psql("plant", "SELECT count(*), count(DISTINCT id) FROM machine_telemetry"), "11|11");
    let order =
        "SELECT string_agg(machine_id, ' ' ORDER BY id) FROM machine_telemetry WHERE id BETWEEN 5 AND 9";
    assert_eq!(server.psql("plant", order), "m-2 m-3 m-1 m-2 m-3");
}

/// Proves IMP-1.
#[test]
fn a_message_that_both_stored_is_one_reading_and_equal_old_rows_stay_two() {
    let (server, fixture) = plant(4);
    server.psql("plant", "INSERT INTO machine_telemetry SELECT 10, machine_id, temperature, humidity, vibration, source_topic, recorded_at, created_at FROM machine_telemetry WHERE id = 2");
    let (mut store, journal) = fixture.with_journal();
    let mut same = reading(1);
    // The digest of the payload, which no old row has.
    same.reading.digest = 4_711;
    same.topic = "factory/machine/m/telemetry".into();
    same.reading = Reading {
        machine_id: machine("m-2"),
        temperature: Some(1.0),
        humidity: Some(1.0),
        vibration: Some(0.125),
        ..same.reading
    };
    same.reading.recorded_at =
        Timestamp::from(DateTime::parse_from_rfc3339("2026-01-05T06:00:01Z").unwrap().to_utc());
    store.commit(&batch(journal, 0, vec![same])).unwrap();
    let state = import(&fixture).state().clone();
    assert_eq!((state.rows_read, state.stored, state.known), (5, 4, 1));
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry"), "5");
}

/// Proves IMP-1.
#[test]
fn an_import_that_was_killed_goes_on_and_one_that_is_done_does_nothing() {
    let (server, fixture) = plant(12_000);
    server.psql("plant", "UPDATE machine_telemetry SET recorded_at = 'yesterday' WHERE id IN (3, 11000)");
    let mut first = found(&fixture);
    let upto = first.settle().unwrap().unwrap();
    assert!(first.step(upto, &read).unwrap());
    assert_eq!((first.state().stored, first.state().unreadable), (4_999, 1));
    drop(first);
    assert_eq!(
        server.psql("plant", "SELECT count(*) FROM machine_telemetry"),
        "12000",
        "the application reads the old table"
    );
    // As after a kill in the midst of building the index.
    server.psql("plant", "CREATE UNIQUE INDEX machine_telemetry_reference ON andon.machine_telemetry (id); \
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'andon.machine_telemetry_reference'::regclass");
    let state = import(&fixture).state().clone();
    assert_eq!((state.rows_read, state.stored, state.known, state.unreadable), (12_000, 11_998, 0, 2));
    assert!(
        server
            .psql("plant", "SELECT indexdef FROM pg_indexes WHERE indexname = 'machine_telemetry_reference'")
            .contains("reference_text")
    );

    let Found::Done(mut again) = Import::find(&fixture.options()).unwrap() else { panic!("it is done") };
    let unreadable = again.unreadable(10).unwrap();
    assert_eq!(unreadable.iter().map(|row| row.id).collect::<Vec<_>>(), [3, 11_000]);
    assert_eq!(again.read_again(&read).unwrap(), 0, "nobody corrected them");
    server.psql(
        "plant",
        "UPDATE machine_telemetry_before_andon SET recorded_at = '2026-01-05T07:00:00Z' WHERE id = 3",
    );
    assert_eq!(again.read_again(&read).unwrap(), 1);
    assert_eq!(again.read_again(&read).unwrap(), 0, "each is stored once");
    assert_eq!(
        server.psql("plant", "SELECT recorded_at FROM machine_telemetry WHERE id = 3"),
        "2026-01-05T07:00:00.000000+00:00"
    );
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry"), "11999");
    assert_eq!(
        server.psql("plant", "SELECT old_row ->> 'recorded_at' FROM andon.reference_unreadable"),
        "yesterday"
    );
    server.psql("plant", "DROP TABLE machine_telemetry_before_andon");
    let Found::Done(mut dropped) = Import::find(&fixture.options()).unwrap() else { panic!("it is done") };
    assert_eq!((dropped.read_again(&read).unwrap(), dropped.state().unreadable), (0, 1));
}

/// Proves IMP-2.
#[test]
fn rows_that_come_in_meanwhile_are_brought_over_and_later_ones_are_refused() {
    let (server, fixture) = plant(100);
    let mut import = found(&fixture);
    step_all(&mut import);
    insert_old(&server, 30);
    import.index().unwrap();
    // A transaction of the application holds the old table.
    let mut application = fixture.raw();
    application.execute("BEGIN; LOCK TABLE public.machine_telemetry IN ACCESS SHARE MODE");
    assert_eq!(import.take_over(&read).unwrap(), TakeOver::Busy);
    application.execute("COMMIT");
    // The old worker stands in a queue for its table while the view takes its place.
    assert_eq!(import.take_over(&read).unwrap(), TakeOver::Done);
    assert_eq!((import.state().stored, import.state().late), (130, 30));
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry"), "130");
    let refused = |sql: &str| {
        let sql = format!(
            "DO $$ BEGIN {sql}; RAISE EXCEPTION 'accepted'; EXCEPTION WHEN object_not_in_prerequisite_state THEN \
                           RAISE WARNING 'refused'; END $$"
        );
        server.psql("plant", &sql);
    };
    refused(
        "INSERT INTO machine_telemetry (machine_id, recorded_at) VALUES (''x'', ''y'')"
            .replace("''", "'")
            .as_str(),
    );
    refused("UPDATE machine_telemetry SET temperature = 1 WHERE id = 1");
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry"), "130");
}

#[test]
fn many_rows_that_came_in_meanwhile_are_not_left_to_the_transaction_that_takes_over() {
    let (server, fixture) = plant(10);
    let mut import = found(&fixture);
    step_all(&mut import);
    insert_old(&server, 6_000);
    assert_eq!(import.take_over(&read).unwrap(), TakeOver::Behind);
    step_all(&mut import);
    assert_eq!(import.take_over(&read).unwrap(), TakeOver::Done);
    assert_eq!(import.state().stored, 6_010);
}

#[test]
fn what_cannot_be_imported_is_refused_with_the_reason_and_left_alone() {
    let (server, fixture) = plant(5);
    let refused = |options: StoreOptions| match Import::find(&options) {
        Err(StoreError::ImportRefused { reason }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was accepted"),
    };
    assert!(refused(StoreOptions { schema: None, ..fixture.options() }).contains("store.schema"));
    assert!(refused(Fixture::sqlite().options()).contains("store.url"));
    server.psql("plant", "CREATE ROLE other LOGIN; CREATE SCHEMA andon AUTHORIZATION other");
    let other = Fixture::postgres(fixture.url.replace("postgres@", "other@")).in_schema("andon");
    assert!(refused(other.options()).contains("does not own"), "another role");
    server.psql("plant", "CREATE TABLE machine_telemetry_before_andon (x int)");
    assert!(refused(fixture.options()).contains("exists already"));
    server.psql("plant", "DROP TABLE machine_telemetry_before_andon; ALTER TABLE machine_telemetry DROP CONSTRAINT machine_telemetry_pkey; \
        ALTER TABLE machine_telemetry ALTER id DROP NOT NULL; UPDATE machine_telemetry SET id = NULL WHERE id = 3");
    assert!(refused(fixture.options()).contains("without an id"));
    assert_eq!(server.psql("plant", "SELECT count(*) FROM machine_telemetry"), "5");
    server.psql("plant", "UPDATE machine_telemetry SET id = 3 WHERE id IS NULL; CREATE VIEW newest AS SELECT max(recorded_at) FROM machine_telemetry");
    let mut import = found(&fixture);
    assert_eq!(import.dependents().unwrap(), ["the view public.newest"]);
}
