//! What only a server can do.

use std::time::{Duration, Instant};

use super::fixture::{Fixture, assert_stale, assert_transient, at, batch_of, machine, nothing, transition};
use super::postgres_server::Postgres;
use super::run_sizes::rows_written_one_by_one_equal_rows_written_at_once;
use crate::domain::{LinkOutage, OutageReason, RefusedKind, Seq, TransitionReason};
use crate::store::{self, Batch, CommitStep, LivenessRows, Store, StoreError, StoreOptions};

#[test]
fn a_stopped_server_is_transient_and_the_store_goes_on_after_reopening() {
    let mut server = Postgres::start();
    let fixture = Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch_of(journal, 0, 10)).unwrap();

    server.stop();
    assert_transient(store.commit(&batch_of(journal, 10, 10)));
    assert_transient(store.commit(&batch_of(journal, 10, 10)));
    let error = assert_transient(store::open(&fixture.options()).map(|_| ()));
    assert!(matches!(error, StoreError::Connect { .. }), "{error:?}");

    server.restart();
    let mut store = fixture.open();
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().ledger.committed_seq, Seq(10));
    assert_eq!(store.commit(&batch_of(journal, 10, 10)).unwrap().stored, 10);

    server.kill();
    assert_transient(store.commit(&batch_of(journal, 20, 1)));
    server.restart();
    assert_eq!(fixture.open().checkpoint(journal).unwrap().unwrap().ledger.committed_seq, Seq(20));
}

/// Proves STO-2.
#[test]
fn a_commit_waits_for_an_abandoned_one_and_is_stale() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    let mut abandoned = fixture.raw();
    abandoned.execute("BEGIN; UPDATE ingest_checkpoint SET committed_seq = 7");
    let waiting = std::thread::spawn(move || store.commit(&batch_of(journal, 0, 7)));
    let deadline = Instant::now() + Duration::from_secs(10);
    let waits = "pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'andon'";
    while fixture.raw().count(waits) == 0 {
        assert!(
            Instant::now() < deadline && !waiting.is_finished(),
            "the commit does not wait for the abandoned one"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    abandoned.execute("COMMIT");
    assert_stale(waiting.join().unwrap(), 0, Some(7));
    assert_eq!(fixture.raw().count("machine_telemetry"), 0);
}

#[test]
fn a_lock_that_is_never_released_is_transient() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (_, journal) = fixture.with_journal();
    let options = StoreOptions { lock_timeout: Duration::from_millis(50), ..fixture.options() };
    let mut store = store::open(&options).unwrap();
    let mut other = fixture.raw();
    other.execute("BEGIN; LOCK TABLE machine_telemetry");
    let error = assert_transient(store.commit(&batch_of(journal, 0, 1)));
    assert!(matches!(error, StoreError::Commit { step: CommitStep::Readings, .. }), "{error:?}");
    other.execute("COMMIT");
    assert_eq!(store.commit(&batch_of(journal, 0, 1)).unwrap().stored, 1);
}

/// Makes the database refuse the reading of record 2 at the end of the transaction.
fn refuse_2_late(fixture: &Fixture) {
    fixture.raw().execute(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.digest = 2 THEN RAISE EXCEPTION 'too late'; END IF; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON machine_telemetry DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION late()",
    );
}

/// Proves STO-4.
#[test]
fn a_deferred_constraint_costs_only_its_row() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    refuse_2_late(fixture);
    let outcome = store.commit(&batch_of(journal, 0, 3)).unwrap();
    assert_eq!((outcome.stored, outcome.rejected, outcome.poisoned[0].seq), (2, 1, Seq(2)));
}

/// The change is refused at once, and its search by savepoints also checks the readings.
/// Proves STO-4.
#[test]
fn a_deferred_constraint_and_a_refused_change_cost_only_their_rows() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    refuse_2_late(fixture);
    fixture.raw().execute("ALTER TABLE machine_event ADD CHECK (machine_id <> 'cursed')");
    let change = |id| transition(id, TransitionReason::FirstSeen, 0, None);
    let sent = Batch { transitions: vec![change("cursed"), change("new")], ..batch_of(journal, 0, 3) };
    let outcome = store.commit(&sent).unwrap();
    assert_eq!((outcome.stored, outcome.rejected, outcome.poisoned[0].seq), (2, 1, Seq(2)));
    let refused: Vec<_> = outcome.refused.iter().map(|row| (row.kind, row.machine_id.clone())).collect();
    assert_eq!(refused, [(RefusedKind::Event, Some(machine("cursed")))]);
    assert_eq!(fixture.raw().rows(&["machine_id"], "machine_event"), ["new"]);
}

/// Proves STO-4.
#[test]
fn values_that_do_not_fit_cost_only_their_rows() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute(
        "ALTER TABLE machine_telemetry ALTER vibration TYPE real, ADD CHECK (temperature < 100),
             ADD code text UNIQUE, ALTER humidity SET NOT NULL;
         CREATE FUNCTION code() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             NEW.code := nullif(NEW.extra ->> 'code', ''); RETURN NEW; END $$;
         CREATE TRIGGER code BEFORE INSERT ON machine_telemetry FOR EACH ROW EXECUTE FUNCTION code()",
    );
    let mut sent = batch_of(journal, 0, 8);
    for row in &mut sent.readings {
        row.reading.humidity = Some(40.0);
    }
    sent.readings[0].reading.vibration = Some(1e300);
    sent.readings[1].reading.temperature = Some(101.0);
    sent.readings[2].reading.extra = Some(r#"{"code": "one"}"#.to_owned());
    sent.readings[3].reading.extra = Some(r#"{"code": "one"}"#.to_owned());
    sent.readings[4].reading.humidity = None;
    sent.readings[5].reading.extra = Some(r#"{"x": 1e999999}"#.to_owned());
    let outcome = store.commit(&sent).unwrap();
    let states: Vec<_> = outcome.poisoned.iter().map(|row| (row.seq.0, &row.detail[..5])).collect();
    assert_eq!(states, [(1, "22003"), (2, "23514"), (4, "23505"), (5, "23502"), (6, "22003")]);
    assert_eq!((outcome.stored, outcome.duplicate), (3, 0));
}

/// Proves STO-4.
#[test]
fn a_sequence_that_is_behind_is_the_fault_of_no_row() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    let with_outage = |after: u64, minute: i64| {
        let began_at = at(minute * 60_000_000);
        let outage = LinkOutage { began_at, ended_at: None, reason: OutageReason::LinkDown };
        let liveness = LivenessRows { outages: vec![outage], ..LivenessRows::default() };
        Batch { liveness, ..batch_of(journal, after, 5) }
    };
    store.commit(&with_outage(0, 0)).unwrap();
    fixture.raw().execute("ALTER TABLE link_outage ALTER id RESTART WITH 1");
    assert_transient(store.commit(&with_outage(5, 1)));
    assert_eq!(fixture.raw().count("machine_telemetry"), 5);
    // The ids of readings and events have no key that could clash.
    fixture.raw().execute(
        "ALTER TABLE machine_telemetry ALTER id RESTART WITH 1; ALTER TABLE machine_event ALTER id RESTART WITH 1;
         ALTER TABLE link_outage ALTER id RESTART WITH 100",
    );
    let outcome = store.commit(&with_outage(5, 1)).unwrap();
    assert_eq!((outcome.stored, outcome.refused), (5, vec![]));
    assert_eq!(fixture.raw().count("rejected_message"), 0);
}

#[test]
fn a_role_that_may_not_create_functions_suffices() {
    let server = &Postgres::start();
    server.psql("postgres", "CREATE ROLE plain LOGIN");
    server.psql("postgres", "CREATE DATABASE plain OWNER plain");
    server.psql("plain", "ALTER SCHEMA public OWNER TO plain; REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC");
    let fixture = Fixture::postgres(server.database_url("plain").replace("postgres@", "plain@"));
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute("ALTER TABLE machine_telemetry ADD CHECK (digest <> 2)");
    let outcome = store.commit(&batch_of(journal, 0, 3)).unwrap();
    assert_eq!((outcome.stored, outcome.rejected, outcome.poisoned[0].seq), (2, 1, Seq(2)));
}

#[test]
fn functions_of_older_versions_are_dropped() {
    let server = Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    drop(fixture.migrated());
    let mut raw = fixture.raw();
    raw.execute(
        "CREATE FUNCTION andon_store_one_by_one(site text, machine_ids text[], temperatures double precision[],
             humidities double precision[], vibrations double precision[], extras text[], topics text[], recorded timestamptz[],
             time_sources text[], received timestamptz[], digests bigint[],
             OUT ordinal bigint, OUT was_stored boolean, OUT refusal text)
         RETURNS SETOF record LANGUAGE plpgsql AS $$ BEGIN RETURN; END $$;
         CREATE FUNCTION andon_write_one_by_one(statement text, site text, lines jsonb, OUT ordinal bigint, OUT refusal text)
         RETURNS SETOF record LANGUAGE plpgsql AS $$ BEGIN RETURN; END $$;
         DELETE FROM __diesel_schema_migrations WHERE version = '20261129020000'",
    );
    let ours = "pg_proc WHERE proname LIKE 'andon%'";
    assert_eq!(raw.count(ours), 2);
    assert_eq!(fixture.open().migrate().unwrap().applied, ["2026-11-29-020000_drop_one_by_one"]);
    assert_eq!(raw.count(ours), 0);
}

/// As the version before left it: with keys on the ids, and a publication that replicates deletions by them.
#[test]
fn keys_on_the_ids_are_dropped_without_rewriting_a_table() {
    let server = &Postgres::start();
    let fixture = &Fixture::postgres(server.create_database("plant"));
    let (mut store, journal) = fixture.with_journal();
    let mut raw = fixture.raw();
    raw.execute(
        "ALTER TABLE machine_telemetry REPLICA IDENTITY DEFAULT, ADD PRIMARY KEY (id);
         ALTER TABLE machine_event REPLICA IDENTITY DEFAULT, ADD PRIMARY KEY (id);
         CREATE PUBLICATION mirror FOR ALL TABLES;
         DELETE FROM __diesel_schema_migrations WHERE version = '20261129220000'",
    );
    let sent = Batch {
        transitions: vec![transition("press-1", TransitionReason::FirstSeen, 0, None)],
        ..batch_of(journal, 0, 5)
    };
    store.commit(&sent).unwrap();
    let files =
        ["machine_telemetry", "machine_telemetry_identity", "machine_event", "machine_event_identity"]
            .map(|name| format!("pg_relation_filenode('{name}')"));
    let files = files.iter().map(String::as_str).collect::<Vec<_>>();
    let before = raw.rows(&files, "(VALUES (1)) AS one");

    assert_eq!(fixture.open().migrate().unwrap().applied, ["2026-11-29-220000_no_key_on_id"]);
    let keys = "pg_index WHERE indrelid IN ('machine_telemetry'::regclass, 'machine_event'::regclass) AND indisprimary";
    assert_eq!(raw.count(keys), 0);
    assert_eq!(raw.rows(&files, "(VALUES (1)) AS one"), before);
    // The identity still holds, ids go on, and rows can be deleted.
    let repeated = Batch {
        upto: Seq(8),
        messages: 3,
        readings: sent.readings[..3].to_vec(),
        ..nothing(journal, Seq(5))
    };
    assert_eq!(store.commit(&repeated).unwrap().duplicate, 3);
    assert_eq!(store.commit(&batch_of(journal, 8, 2)).unwrap().stored, 2);
    assert_eq!(raw.count("(SELECT DISTINCT id FROM machine_telemetry) AS ids"), 7);
    raw.execute("DELETE FROM machine_telemetry; DELETE FROM machine_event");
}

#[test]
fn a_database_with_another_encoding_is_refused() {
    let server = &Postgres::start();
    server.psql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let fixture = Fixture::postgres(server.database_url("latin"));
    let error = store::open(&fixture.options()).err().expect("it cannot be used");
    assert!(matches!(error, StoreError::Unsupported { .. }) && !error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("LATIN1"), "{error}");
}

/// Switches it off in each place, before the store connects and after; other settings stay.
#[test]
fn a_commit_is_synchronous_whatever_the_server_is_configured_for() {
    let server = &Postgres::start();
    let fixture = Fixture::postgres(server.create_database("weak"));
    let (mut store, journal) = fixture.with_journal();
    // Records the setting in force when the transaction ends.
    fixture.raw().execute(
        "CREATE TABLE at_commit (value text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO at_commit VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON ingest_checkpoint DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (OLD.committed_seq <> NEW.committed_seq) EXECUTE FUNCTION note()",
    );
    let mut after = 0;
    let mut commit = |store: &mut dyn Store| {
        store.commit(&batch_of(journal, after, 1)).unwrap();
        after += 1;
        let mut raw = fixture.raw();
        let noted = raw.rows(&["value"], "at_commit").pop().unwrap();
        raw.execute("DELETE FROM at_commit");
        noted
    };
    let places = [
        "ALTER DATABASE weak",
        "ALTER ROLE postgres",
        "ALTER ROLE postgres IN DATABASE weak",
        "ALTER SYSTEM",
    ];
    for place in places {
        server.psql("postgres", &format!("{place} SET synchronous_commit = off"));
        server.psql("postgres", "SELECT pg_reload_conf()");
        let mut connected_since = fixture.open();
        assert_eq!(commit(&mut *connected_since), "on", "{place}");
        assert_eq!(commit(&mut *store), "on", "{place}, connected before");
        server.psql("postgres", &format!("{place} RESET synchronous_commit"));
        server.psql("postgres", "SELECT pg_reload_conf()");
    }
    for kept in ["local", "remote_write", "remote_apply", "on"] {
        server.psql("postgres", &format!("ALTER DATABASE weak SET synchronous_commit = {kept}"));
        assert_eq!(commit(&mut *fixture.open()), kept);
    }
}

#[test]
fn a_server_without_fsync_causes_a_warning() {
    let server = &Postgres::start();
    let fixture = Fixture::postgres(server.create_database("no_fsync"));
    let warnings = fixture.open().facts().warnings.join("\n");
    assert!(warnings.contains("fsync is off"), "{warnings}");
}

#[test]
fn wrong_credentials_are_transient_and_keep_the_password_secret() {
    let server = &Postgres::start();
    let fixture =
        Fixture::postgres(format!("postgres://nobody:s3cret-word@127.0.0.1:{}/postgres", server.port()));
    let error = assert_transient(store::open(&fixture.options()).map(|_| ()));
    let cause = std::error::Error::source(&error).expect("the server's message").to_string();
    assert!(cause.contains("nobody"), "{cause}");
    let shown = format!("{error} {error:?} {cause} {:?}", fixture.options());
    assert!(shown.contains("127.0.0.1") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn rows_go_in_one_by_one_as_they_go_in_at_once() {
    let server = Postgres::start();
    let new = |name: &str| Fixture::postgres(server.create_database(name));
    rows_written_one_by_one_equal_rows_written_at_once(&new("at_once"), &new("one_by_one"));
}
