//! Statements that PostgreSQL cancels, and errors that look like it.

use std::time::Duration;

use super::fixture::{Fixture, assert_transient, batch_of};
use super::postgres_server::Postgres;
use crate::domain::Seq;
use crate::store::{self, Store, StoreError, StoreOptions};

/// Opens a store with this statement timeout, in milliseconds.
fn impatient(fixture: &Fixture, statement_timeout: u64) -> Box<dyn Store> {
    let statement_timeout = Duration::from_millis(statement_timeout);
    store::open(&StoreOptions { statement_timeout, ..fixture.options() }).unwrap()
}

/// Creates a trigger of `kind` that does `what` with each reading.
fn trigger(fixture: &Fixture, kind: &str, what: &str) {
    fixture.raw().execute(&format!(
        "CREATE SEQUENCE turns;
         CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} RETURN NEW; END $$;
         CREATE {kind} FOR EACH ROW EXECUTE FUNCTION meddle()"
    ));
}

/// Makes a thousand rows take longer than a second. Few, long sleeps: on a loaded machine each one ends late.
const SLOW_ROWS: &str = "IF nextval('turns') % 40 = 0 THEN PERFORM pg_sleep(0.044); END IF;";
const BEFORE: &str = "TRIGGER meddle BEFORE INSERT ON machine_telemetry";

fn cancelled(server: &Postgres) -> usize {
    server.log().matches("canceling statement due to statement timeout").count()
}

#[test]
fn a_run_that_takes_too_long_shrinks_and_later_commits_remember_its_size() {
    let server = &Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (_, journal) = fixture.with_journal();
    // A sequence counts statements, also those that are rolled back.
    fixture.raw().execute(
        "CREATE SEQUENCE statements;
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('statements'); RETURN NULL; END $$;
         CREATE TRIGGER note BEFORE INSERT ON machine_telemetry FOR EACH STATEMENT EXECUTE FUNCTION note()",
    );
    trigger(fixture, BEFORE, SLOW_ROWS);
    let mut store = impatient(fixture, 1_000);
    let statements = || fixture.raw().rows(&["last_value"], "statements")[0].parse::<u64>().unwrap();
    assert_eq!(store.commit(&batch_of(journal, 0, 1_536)).unwrap().stored, 1_536);
    let (cancelled_before, before) = (cancelled(server), statements());
    assert!(cancelled_before >= 1, "1,536 rows are too many");
    assert_eq!(store.commit(&batch_of(journal, 1_536, 1_536)).unwrap().stored, 1_536);
    assert_eq!(cancelled(server), cancelled_before, "it starts with the size found before");
    assert!(statements() - before >= 4, "{before}");
    fixture.raw().execute("DROP TRIGGER meddle ON machine_telemetry");
    for commit in 0..11 {
        store.commit(&batch_of(journal, 3_072 + commit, 1)).unwrap();
    }
    let before = statements();
    store.commit(&batch_of(journal, 3_083, 1_024)).unwrap();
    assert_eq!(statements() - before, 1, "quick commits let it grow back");
    assert_eq!(fixture.raw().count("rejected_message"), 0);
}

#[test]
fn a_slow_deferred_constraint_is_checked_in_pieces() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (_, journal) = fixture.with_journal();
    let at_the_end =
        "CONSTRAINT TRIGGER meddle AFTER INSERT ON machine_telemetry DEFERRABLE INITIALLY DEFERRED";
    trigger(fixture, at_the_end, SLOW_ROWS);
    let mut store = impatient(fixture, 1_000);
    assert_eq!(store.commit(&batch_of(journal, 0, 1_500)).unwrap().stored, 1_500);
}

#[test]
fn a_row_that_takes_too_long_by_itself_waits_and_is_named() {
    one_slow_row("PERFORM pg_sleep(5);");
}

#[test]
fn a_row_whose_trigger_cancels_waits_and_is_named() {
    one_slow_row("RAISE EXCEPTION 'I cancel' USING ERRCODE = 'query_canceled';");
}

/// Commits a batch in which a trigger does `what` with reading 7.
fn one_slow_row(what: &str) {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (_, journal) = fixture.with_journal();
    trigger(fixture, BEFORE, &format!("IF NEW.digest = 7 THEN {what} END IF;"));
    let mut store = impatient(fixture, 200);
    for _ in 0..2 {
        let error = assert_transient(store.commit(&batch_of(journal, 0, 9)));
        assert!(matches!(error, StoreError::SlowRow { .. }), "{error:?}");
        assert!(error.to_string().contains("(seq 7, element 0)"), "{error}");
    }
    let mut raw = fixture.raw();
    assert_eq!((raw.count("rejected_message"), raw.count("machine_telemetry")), (0, 0));
    assert_eq!(fixture.open().checkpoint(journal).unwrap().unwrap().ledger.committed_seq, Seq::ZERO);
    raw.execute("DROP TRIGGER meddle ON machine_telemetry");
    assert_eq!(store.commit(&batch_of(journal, 0, 9)).unwrap().stored, 9, "over the same connection");
}

/// The whole commit takes longer than one statement may.
/// Proves STO-4.
#[test]
fn a_refusal_late_in_a_long_commit_counts_as_one() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (_, journal) = fixture.with_journal();
    let refuse = "IF NEW.digest = 3000 THEN RAISE EXCEPTION 'not this one'; END IF;";
    trigger(fixture, BEFORE, &format!("PERFORM pg_sleep(0.0002); {refuse}"));
    let mut store = impatient(fixture, 1_000);
    let outcome = store.commit(&batch_of(journal, 0, 3_072)).unwrap();
    assert_eq!((outcome.stored, outcome.rejected, outcome.poisoned[0].seq), (3_071, 1, Seq(3_000)));
    assert_eq!(outcome.poisoned[0].detail, "P0001: not this one");
}

/// Proves STO-4.
#[test]
fn a_lock_timeout_in_a_trigger_is_the_fault_of_no_row() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (_, journal) = fixture.with_journal();
    fixture.raw().execute("CREATE TABLE theirs (n int)");
    trigger(fixture, BEFORE, "INSERT INTO theirs VALUES (1);");
    let mut other = fixture.raw();
    other.execute("BEGIN; LOCK TABLE theirs");
    let options = StoreOptions { lock_timeout: Duration::from_millis(50), ..fixture.options() };
    let mut store = store::open(&options).unwrap();
    let error = assert_transient(store.commit(&batch_of(journal, 0, 1)));
    assert!(matches!(error, StoreError::Commit { .. }), "{error:?}");
    other.execute("COMMIT");
    assert_eq!(fixture.raw().count("rejected_message"), 0);
    assert_eq!(fixture.open().commit(&batch_of(journal, 0, 1)).unwrap().stored, 1);
}
