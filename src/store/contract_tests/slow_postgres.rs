//! Statements of PostgreSQL that are cancelled, and errors that look like it.

use std::time::Duration;

use super::fixture::{Fixture, assert_transient, batch_of};
use super::postgres_server::Postgres;
use crate::domain::Seq;
use crate::store::{self, Store, StoreError, StoreOptions};

#[test]
fn a_statement_that_takes_too_long_is_tried_in_smaller_pieces_and_only_then_waits() {
    let server = Postgres::start();
    let new = |name: &str| Fixture::postgres(server.create_database(name));
    a_run_that_takes_too_long_is_made_smaller_and_that_is_remembered(&server, &new("slow"));
    a_constraint_that_is_slow_at_the_end_is_checked_in_pieces(&new("slow_at_the_end"));
    a_row_that_takes_too_long_by_itself_waits_and_is_named(&new("slow_row"), "PERFORM pg_sleep(5);");
    let cancels = "RAISE EXCEPTION 'I cancel' USING ERRCODE = 'query_canceled';";
    a_row_that_takes_too_long_by_itself_waits_and_is_named(&new("cancels"), cancels);
    a_trigger_that_refuses_late_in_a_long_commit_is_believed(&new("late"));
    the_lock_timeout_of_a_trigger_is_no_rows_fault(&new("lock"));
}

/// A store whose statements may take so long.
fn impatient(fixture: &Fixture, statement_timeout: u64) -> Box<dyn Store> {
    let statement_timeout = Duration::from_millis(statement_timeout);
    store::open(&StoreOptions { statement_timeout, ..fixture.options() }).unwrap()
}

/// Lets a trigger do `what` with each reading, at the time that `kind` says.
fn trigger(fixture: &Fixture, kind: &str, what: &str) {
    fixture.raw().execute(&format!(
        "CREATE SEQUENCE turns;
         CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} RETURN NEW; END $$;
         CREATE {kind} FOR EACH ROW EXECUTE FUNCTION meddle()"
    ));
}

/// A thousand rows take longer than a second. The sleeps are few and long: on a loaded machine each of them wakes up late.
const SLOW_ROWS: &str = "IF nextval('turns') % 40 = 0 THEN PERFORM pg_sleep(0.044); END IF;";
const BEFORE: &str = "TRIGGER meddle BEFORE INSERT ON machine_telemetry";

fn cancelled(server: &Postgres) -> usize {
    server.log().matches("canceling statement due to statement timeout").count()
}

fn a_run_that_takes_too_long_is_made_smaller_and_that_is_remembered(server: &Postgres, fixture: &Fixture) {
    let (_, journal) = fixture.with_journal();
    // A sequence counts statements, those that are rolled back, too.
    fixture.raw().execute(
        "CREATE SEQUENCE statements;
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('statements'); RETURN NULL; END $$;
         CREATE TRIGGER note BEFORE INSERT ON machine_telemetry FOR EACH STATEMENT EXECUTE FUNCTION note()",
    );
    trigger(fixture, BEFORE, SLOW_ROWS);
    let mut store = impatient(fixture, 1_000);
    let statements = || fixture.raw().rows(&["last_value"], "statements")[0].parse::<u64>().unwrap();
    assert_eq!(store.commit(&batch_of(journal, 0, 2_048)).unwrap().stored, 2_048);
    let (cancelled_before, before) = (cancelled(server), statements());
    assert!(cancelled_before >= 1, "a thousand rows are too many");
    assert_eq!(store.commit(&batch_of(journal, 2_048, 1_024)).unwrap().stored, 1_024);
    assert_eq!(cancelled(server), cancelled_before, "it begins with what was found out");
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

fn a_constraint_that_is_slow_at_the_end_is_checked_in_pieces(fixture: &Fixture) {
    let (_, journal) = fixture.with_journal();
    let at_the_end =
        "CONSTRAINT TRIGGER meddle AFTER INSERT ON machine_telemetry DEFERRABLE INITIALLY DEFERRED";
    trigger(fixture, at_the_end, SLOW_ROWS);
    let mut store = impatient(fixture, 1_000);
    assert_eq!(store.commit(&batch_of(journal, 0, 1_500)).unwrap().stored, 1_500);
}

fn a_row_that_takes_too_long_by_itself_waits_and_is_named(fixture: &Fixture, what: &str) {
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
    assert_eq!(fixture.open().checkpoint(journal).unwrap().unwrap().committed_seq, Seq::ZERO);
    raw.execute("DROP TRIGGER meddle ON machine_telemetry");
    assert_eq!(store.commit(&batch_of(journal, 0, 9)).unwrap().stored, 9, "over the same connection");
}

/// The commit as a whole takes longer than one statement may.
fn a_trigger_that_refuses_late_in_a_long_commit_is_believed(fixture: &Fixture) {
    let (_, journal) = fixture.with_journal();
    let refuse = "IF NEW.digest = 3000 THEN RAISE EXCEPTION 'not this one'; END IF;";
    trigger(fixture, BEFORE, &format!("PERFORM pg_sleep(0.0002); {refuse}"));
    let mut store = impatient(fixture, 1_000);
    let outcome = store.commit(&batch_of(journal, 0, 3_072)).unwrap();
    assert_eq!((outcome.stored, outcome.rejected, outcome.poisoned[0].seq), (3_071, 1, Seq(3_000)));
    assert_eq!(outcome.poisoned[0].detail, "P0001: not this one");
}

fn the_lock_timeout_of_a_trigger_is_no_rows_fault(fixture: &Fixture) {
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
