//! On PostgreSQL readings that are copied leave the same rows as readings that are inserted, and whatever
//! COPY cannot do is inserted.

use std::sync::Arc;

use super::fixture::{Fixture, Raw, batch, batch_of, machine, reading};
use super::postgres_server::Postgres;
use crate::domain::{JournalHistory, JournalId, Seq, TimeSource, Timestamp};
use crate::store::{CommitOutcome, ReadingRow};

/// A batch of so many readings copies them.
const COPIED: u64 = 64;

/// Notes for each statement that stores readings whether it is a COPY.
fn note_statements(fixture: &Fixture) {
    fixture.raw().execute(
        "CREATE TABLE noted (statement text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO noted VALUES (split_part(current_query(), ' ', 1)); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER INSERT ON machine_telemetry FOR EACH STATEMENT EXECUTE FUNCTION note()",
    );
}

/// Returns the statements noted since the last call.
fn noted(raw: &mut Raw) -> Vec<String> {
    let noted = raw.rows(&["statement"], "noted");
    raw.execute("TRUNCATE noted");
    noted
}

/// Readings with every kind of value; some are repeated.
pub fn of_every_kind(after: u64, count: u64) -> Vec<ReadingRow> {
    let mut rows: Vec<_> = (after + 1..=after + count).map(reading).collect();
    for (nth, row) in (0_u64..).zip(&mut rows) {
        // Their sums are the same in any order.
        let values = [None, Some(0.625), Some(f64::MAX), Some(5e-324), Some(-0.0)];
        row.reading.temperature = values[nth as usize % 5];
        row.reading.humidity = values[nth as usize / 5 % 5];
        row.reading.machine_id = machine(["presse ß 1", "press-1", "Z"][nth as usize % 3]);
        row.reading.extra = [None, Some(r#"{"fw": "1.2", "rpm": 900.5, "p": [1e5, "ä\n"]}"#), Some("{}")]
            [nth as usize % 3]
            .map(str::to_owned);
        row.reading.digest = (nth / 2).wrapping_sub(9);
        row.reading.time_source = if nth % 7 == 0 { TimeSource::Server } else { TimeSource::Device };
        row.retained = nth % 14 == 0;
        if nth % 4 == 0 {
            row.topic = Arc::from("werk/ä\0/maschine");
        }
        if nth % 6 == 1 {
            row.reading.recorded_at =
                Timestamp::from_micros([i64::MIN, -1, 0, i64::MAX][nth as usize / 6 % 4]);
        }
        if nth % 10 == 9 {
            row.reading.machine_id = machine("again");
            row.reading.recorded_at = Timestamp::from_micros(1_767_592_800_000_000);
            row.reading.digest = nth / 20;
        }
    }
    rows
}

/// Commits 300 readings in batches of `size`, then half of them again. Returns the sums of the outcomes.
fn committed(fixture: &Fixture, journal: JournalId, size: u64) -> CommitOutcome {
    let mut store = fixture.migrated();
    store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    note_statements(fixture);
    let rows = of_every_kind(0, 300);
    let again: Vec<_> = rows.iter().filter(|row| row.seq.0 % 2 == 0).cloned().collect();
    let (mut sums, mut after) = (CommitOutcome::default(), 0);
    for rows in rows.chunks(size as usize).chain(again.chunks(size as usize)) {
        let outcome = store.commit(&batch(journal, after, rows.to_vec())).unwrap();
        sums.stored += outcome.stored;
        sums.duplicate += outcome.duplicate;
        sums.ledger = outcome.ledger;
        after += rows.len() as u64;
    }
    sums
}

/// Proves STO-3, STO-7, ROL-1.
#[test]
fn copied_readings_equal_inserted_ones() {
    let server = Postgres::start();
    let new = |name: &str| Fixture::postgres(server.create_database(name));
    let (copied, inserted) = (&new("copied"), &new("inserted"));
    let journal = JournalId(uuid::Uuid::new_v4());
    let outcome = committed(copied, journal, 100);
    assert_eq!(outcome, committed(inserted, journal, COPIED - 1));
    assert!(outcome.stored > 200 && outcome.duplicate > 160, "{outcome:?}");
    assert!(noted(&mut copied.raw()).iter().filter(|statement| *statement == "COPY").count() >= 3);
    assert!(noted(&mut inserted.raw()).iter().all(|statement| statement == "WITH"));
    for table in [
        "machine_telemetry e ORDER BY machine_id, recorded_at, digest",
        "machine_rollup e ORDER BY machine_id, bucket_start",
        "machine_rollup_extra e ORDER BY machine_id, bucket_start, field",
        "retained_seen e ORDER BY machine_id, digest",
    ] {
        let rows = |fixture: &Fixture| fixture.raw().rows(&["(to_jsonb(e) - 'id' - 'created_at')"], table);
        let (found, expected) = (rows(copied), rows(inserted));
        assert!(!expected.is_empty(), "{table}");
        assert_eq!(found, expected, "{table}");
    }
}

/// A repeated reading fails one COPY, not one for each batch, and a batch repeated in itself fails none.
/// Proves STO-3.
#[test]
fn after_a_repeated_reading_commits_insert_until_none_is_repeated() {
    let server = &Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    note_statements(fixture);
    let mut raw = fixture.raw();
    let failed = || server.log().matches("duplicate key value").count();
    let mut twice = batch_of(journal, 0, COPIED);
    twice.readings[9].reading = twice.readings[3].reading.clone();
    let outcome = store.commit(&twice).unwrap();
    assert_eq!((outcome.stored, outcome.duplicate), (COPIED - 1, 1));
    assert_eq!((noted(&mut raw), failed()), (vec!["COPY".to_owned()], 0));

    for number in 1..=10 {
        let mut again = batch_of(journal, number * COPIED, COPIED);
        again.readings[0].reading = reading(1).reading;
        let outcome = store.commit(&again).unwrap();
        assert_eq!((outcome.stored, outcome.duplicate), (COPIED - 1, 1));
        assert_eq!((noted(&mut raw), failed()), (vec!["WITH".to_owned()], 1));
    }
    for (number, statement) in [(11, "WITH"), (12, "COPY"), (13, "COPY")] {
        assert_eq!(store.commit(&batch_of(journal, number * COPIED, COPIED)).unwrap().stored, COPIED);
        assert_eq!((noted(&mut raw), failed()), (vec![statement.to_owned()], 1));
    }
}

/// Proves STO-3.
#[test]
fn a_reading_that_a_trigger_leaves_out_counts_as_a_duplicate() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute(
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.digest = 2 THEN RETURN NULL; END IF; RETURN NEW; END $$;
         CREATE TRIGGER leave_out BEFORE INSERT ON machine_telemetry FOR EACH ROW EXECUTE FUNCTION leave_out()",
    );
    let outcome = store.commit(&batch_of(journal, 0, COPIED)).unwrap();
    assert_eq!((outcome.stored, outcome.duplicate, outcome.rejected), (COPIED - 1, 1, 0));
    assert_eq!(outcome.ledger.committed_seq, Seq(COPIED));
    assert_eq!(fixture.raw().rows(&["sum(readings)"], "machine_rollup"), [(COPIED - 1).to_string()]);
}

#[test]
fn readings_go_into_a_table_that_copy_cannot_write() {
    let server = &Postgres::start();
    server.psql("postgres", "CREATE ROLE plain LOGIN");
    let protect = "ALTER TABLE machine_telemetry ENABLE ROW LEVEL SECURITY;
         ALTER TABLE machine_telemetry FORCE ROW LEVEL SECURITY;
         CREATE POLICY ours ON machine_telemetry USING (site = 'halle-7')";
    let view =
        "ALTER TABLE machine_telemetry RENAME TO moved; CREATE VIEW machine_telemetry AS SELECT * FROM moved";
    for (name, change) in [("protected", protect), ("view", view)] {
        server.psql("postgres", &format!("CREATE DATABASE {name} OWNER plain"));
        server.psql(name, "ALTER SCHEMA public OWNER TO plain");
        let fixture = &Fixture::postgres(server.database_url(name).replace("postgres@", "plain@"));
        let (mut store, journal) = fixture.with_journal();
        fixture.raw().execute(change);
        for number in 0..3 {
            let outcome = store.commit(&batch_of(journal, number * COPIED, COPIED)).unwrap();
            assert_eq!((outcome.stored, outcome.rejected), (COPIED, 0), "{name}");
        }
    }
}
