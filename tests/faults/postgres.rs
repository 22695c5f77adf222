//! Strikes PostgreSQL: away, hung, cut off, full, locked, slow, read-only, altered by hand, and migrated by other versions.

use std::time::Duration;

use super::plant::Plant;
use super::proxy::{Cut, Proxy};
use super::tmpfs::Disk;
use super::{FaultRun, Report, disk, faults};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;

faults![
    a_postgres_that_is_stopped_and_started_loses_nothing,
    a_postgres_that_is_killed_loses_nothing,
    a_postgres_that_acknowledges_early_and_is_killed_loses_nothing,
    a_postgres_restored_from_a_backup_is_filled_again_and_what_is_gone_is_named,
    a_postgres_that_hangs_is_abandoned_and_nothing_is_stored_twice,
    a_commit_that_never_reached_the_server_is_repeated,
    a_commit_whose_answer_was_cut_off_is_not_repeated,
    a_postgres_without_disk_space_is_waited_for,
    a_postgres_that_became_read_only_is_waited_for,
    a_statement_timeout_is_retried,
    rows_slower_than_the_statement_timeout_are_stored_in_smaller_statements,
    a_row_slower_than_the_statement_timeout_waits_and_is_named,
    a_deadlock_is_retried,
    a_missing_table_is_waited_for,
    a_database_of_an_older_version_is_migrated_under_load,
    a_database_of_a_newer_version_is_left_alone_and_waited_for,
];

const MESSAGES: u64 = 1_000;
const REFUSED: &str = "the database does not accept the data";

/// Breaks and mends the database under load; Andon must log why it waits.
fn outage(
    mut plant: Plant,
    run: &mut FaultRun,
    breaks: impl Fn(&mut Plant),
    mends: impl Fn(&mut Plant),
    reason: &str,
) -> Report {
    plant.open();
    for _ in 0..run.scale {
        let load = plant.load(MESSAGES);
        run.rng.pause(Duration::from_millis(200));
        breaks(&mut plant);
        // The load may be over: publish something that must wait.
        plant.publish(50);
        // The first logged reason may be a broken connection.
        wait_until(&format!("{reason:?}"), || {
            plant.andon().log().lines().any(|line| line.contains(REFUSED) && line.contains(reason))
        });
        run.rng.pause(Duration::from_millis(300));
        load.join();
        mends(&mut plant);
        plant.fault_is_over();
        plant.publish(50);
    }
    plant.finish()
}

fn a_postgres_that_is_stopped_and_started_loses_nothing(run: &mut FaultRun) -> Report {
    outage(Plant::postgres(run), run, |plant| plant.server().stop(), |plant| plant.server().restart(), "")
}

fn a_postgres_that_is_killed_loses_nothing(run: &mut FaultRun) -> Report {
    outage(Plant::postgres(run), run, |plant| plant.server().kill(), |plant| plant.server().restart(), "")
}

/// With `synchronous_commit = off` the last commits die with the server, after the journal has deleted their records. Andon must ask
/// for more.
fn a_postgres_that_acknowledges_early_and_is_killed_loses_nothing(run: &mut FaultRun) -> Report {
    let mut plant = Plant::postgres(run).set(&["journal.segment_bytes=64KiB", "journal.max_bytes=64MiB"]);
    for setting in ["wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'"] {
        plant.server().psql("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    let places = ["ALTER SYSTEM", "ALTER DATABASE andon", "ALTER ROLE postgres"];
    plant.server().psql("postgres", &format!("{} SET synchronous_commit = off", run.rng.pick(&places)));
    plant.server().psql("postgres", "SELECT pg_reload_conf()");
    plant.open();
    for _ in 0..run.scale {
        plant.publish(2 * MESSAGES);
        plant.wait_until_stored(plant.sent.numbered);
        plant.server().kill();
        plant.server().restart();
        plant.fault_is_over();
        plant.publish(50);
    }
    plant.finish()
}

/// The database goes back in time under the running service, to before the oldest record of the journal.
fn a_postgres_restored_from_a_backup_is_filled_again_and_what_is_gone_is_named(run: &mut FaultRun) -> Report {
    let when_full = *run.rng.pick(&["hold", "drop_oldest"]);
    let mut plant = Plant::postgres(run).set(&[
        "journal.segment_bytes=64KiB",
        "journal.max_bytes=64MiB",
        &format!("journal.when_full={when_full}"),
    ]);
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    let disconnect = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'andon'";
    plant.andon().signal("STOP");
    plant.server().psql("postgres", disconnect);
    plant.server().psql("postgres", "CREATE DATABASE backup TEMPLATE andon");
    plant.andon().signal("CONT");
    plant.publish(2 * MESSAGES);
    plant.wait_until_stored(plant.sent.numbered);
    plant.server().psql("postgres", "ALTER DATABASE andon ALLOW_CONNECTIONS false");
    plant.server().psql("postgres", disconnect);
    plant.server().psql("postgres", "DROP DATABASE andon WITH (FORCE)");
    plant.server().psql("postgres", "ALTER DATABASE backup RENAME TO andon");
    plant.publish(50);
    plant.fault_is_over();
    plant.sent.may_have_gaps = true;
    plant.andon().wait_for_log("the database is older than its last commit");
    plant.andon().wait_for_log("reason: restored");
    let mut report = plant.finish();
    disk::assert_lost_is_what_the_gaps_name(&mut report);
    report
}

/// Proves SYS-3.
fn a_postgres_that_hangs_is_abandoned_and_nothing_is_stored_twice(run: &mut FaultRun) -> Report {
    let plant = Plant::postgres(run).set(&["store.connect_timeout=2s", "store.statement_timeout=500ms"]);
    outage(
        plant,
        run,
        |plant| plant.server().freeze(),
        |plant| plant.server().thaw(),
        "no answer from the database within",
    )
}

/// Several commits in a row meet `cut`.
fn cut_commits(cut: Cut, run: &mut FaultRun) -> Report {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let cable = Proxy::start(postgres.port());
    let over_cable = format!("store.url=postgres://postgres@127.0.0.1:{}/andon", cable.port());
    let site = Site::new(broker.port()).set(&over_cable);
    let mut plant = Plant::new(run, broker, Some(postgres), site, url);
    plant.open();
    let load = plant.load(MESSAGES * run.scale);
    let wanted = 3 * u32::try_from(run.scale).unwrap();
    for done in 0..wanted {
        run.rng.pause(Duration::from_millis(60));
        cable.cut_next(cut);
        wait_until("the next commit", || cable.cuts() > done || load.is_over());
    }
    load.join();
    plant.publish(50); // A cut that is still armed strikes here.
    while cable.cuts() < wanted {
        let done = cable.cuts();
        cable.cut_next(cut);
        plant.publish(10);
        wait_until("a commit after the load", || cable.cuts() > done);
    }
    plant.fault_is_over();
    let report = plant.finish();
    drop(cable);
    report
}

fn a_commit_that_never_reached_the_server_is_repeated(run: &mut FaultRun) -> Report {
    cut_commits(Cut::BeforeCommit, run)
}

/// Proves SYS-3.
fn a_commit_whose_answer_was_cut_off_is_not_repeated(run: &mut FaultRun) -> Report {
    let report = cut_commits(Cut::AnswerOfCommit, run);
    assert_eq!(
        report.verdict.duplicate, 0,
        "the position shows that the commit happened: nothing is sent twice"
    );
    report
}

fn a_postgres_without_disk_space_is_waited_for(run: &mut FaultRun) -> Report {
    let disk = Disk::shared(32 * 1024 * 1024);
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    postgres.own(disk.path());
    postgres.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()));
    postgres.psql("postgres", "CREATE DATABASE andon TABLESPACE small");
    let url = postgres.database_url("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    let mut plant = Plant::new(run, broker, Some(postgres), site, url);
    plant.open();
    disk.fill();
    let load = plant.load(MESSAGES * run.scale);
    plant.andon().wait_for_log(REFUSED);
    load.join();
    disk.free();
    plant.fault_is_over();
    let log = plant.andon().log();
    assert!(log.contains("No space left on device"), "{log}");
    let report = plant.finish();
    drop(disk);
    report
}

fn a_postgres_that_became_read_only_is_waited_for(run: &mut FaultRun) -> Report {
    let set = |plant: &mut Plant, value: &str| {
        let sql = format!("ALTER DATABASE andon SET default_transaction_read_only = {value}");
        plant.server().psql("postgres", &sql);
        // The setting applies to new sessions only.
        plant.server().psql(
            "postgres",
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'andon'",
        );
    };
    outage(
        Plant::postgres(run),
        run,
        |plant| set(plant, "on"),
        |plant| set(plant, "off"),
        "read-only transaction",
    )
}

/// Another session locks what Andon needs, for longer than Andon waits.
fn locked(plant: Plant, run: &mut FaultRun, lock: &'static str, reason: &str) -> Report {
    let url = plant.url.clone();
    let session = std::cell::RefCell::new(None);
    outage(
        plant,
        run,
        |_| {
            let mut other = Database::open(&url).unwrap();
            other.execute("BEGIN");
            other.execute(lock);
            *session.borrow_mut() = Some(other);
        },
        |_| drop(session.borrow_mut().take()),
        reason,
    )
}

fn a_statement_timeout_is_retried(run: &mut FaultRun) -> Report {
    // The lock timeout is longer than the statement timeout.
    let settings = ["store.statement_timeout=300ms", "store.lock_timeout=1m", "store.connect_timeout=2s"];
    let plant = Plant::postgres(run).set(&settings);
    locked(plant, run, "LOCK TABLE machine_telemetry IN EXCLUSIVE MODE", "statement timeout")
}

/// Adds a trigger that does `what` with each reading.
fn add_trigger(plant: &mut Plant, what: &str) {
    let function = format!(
        "CREATE OR REPLACE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} RETURN NEW; END $$"
    );
    plant.server().psql("andon", &function);
    plant.server().psql(
        "andon",
        "CREATE TRIGGER delay BEFORE INSERT ON machine_telemetry FOR EACH ROW EXECUTE FUNCTION delay()",
    );
}

/// A full statement takes five times the timeout, and all rows together twice the time after which a silent database is abandoned.
fn rows_slower_than_the_statement_timeout_are_stored_in_smaller_statements(run: &mut FaultRun) -> Report {
    let mut plant = Plant::postgres(run).set(&["store.connect_timeout=2s", "store.statement_timeout=1s"]);
    plant.open();
    add_trigger(&mut plant, "PERFORM pg_sleep(0.005);");
    plant.publish(2_400 * run.scale);
    plant.fault_is_over();
    let all = plant.sent.numbered;
    plant.wait_until_stored(all);
    assert!(plant.server().log().contains("statement timeout"), "no statement was made smaller");
    assert!(!plant.andon().log().contains(REFUSED), "the writer waited instead of making statements smaller");
    plant.server().psql("andon", "DROP TRIGGER delay ON machine_telemetry");
    plant.publish(50);
    plant.finish()
}

fn a_row_slower_than_the_statement_timeout_waits_and_is_named(run: &mut FaultRun) -> Report {
    let mut plant = Plant::postgres(run).set(&["store.connect_timeout=2s", "store.statement_timeout=300ms"]);
    plant.open();
    add_trigger(&mut plant, "IF NEW.extra->>'n' = '67' THEN PERFORM pg_sleep(5); END IF;");
    plant.publish(100 * run.scale);
    let http = Client::new(&plant.andon().wait_for_http());
    let names_it = "one row alone takes longer than store.statement_timeout: the reading of";
    wait_until("health names the row", || {
        let ready = http.get("/readyz");
        ready.status == 503 && ready.body.contains(names_it)
    });
    assert!(http.get("/api/v1/status").body.contains(names_it));
    let said = |plant: &mut Plant| plant.andon().log().lines().filter(|line| line.contains(REFUSED)).count();
    let server_log = plant.server().log().len();
    wait_until("several attempts", || {
        plant.server().log()[server_log..].matches("statement timeout").count() >= 3
    });
    assert_eq!(said(&mut plant), 1, "said once: {}", plant.andon().log());
    plant.server().psql("andon", "DROP TRIGGER delay ON machine_telemetry");
    plant.fault_is_over();
    let report = plant.finish();
    assert_eq!(report.verdict.duplicate, 0);
    report
}

/// Andon locks its position and waits for the table; the other session has the table and wants the position. The first session that
/// checks for a deadlock is the victim, and the other one checks late.
fn a_deadlock_is_retried(run: &mut FaultRun) -> Report {
    let mut plant = Plant::postgres(run).set(&["store.lock_timeout=1m"]);
    plant.server().psql("postgres", "ALTER SYSTEM SET deadlock_timeout = '1s'");
    plant.server().psql("postgres", "SELECT pg_reload_conf()");
    plant.open();
    for _ in 0..run.scale {
        let mut other = Database::open(&plant.url).unwrap();
        other.execute("SET deadlock_timeout = '1min'");
        other.execute("BEGIN");
        other.execute("LOCK TABLE machine_telemetry IN EXCLUSIVE MODE");
        let load = plant.load(MESSAGES);
        let waiting = "SELECT count(*) AS value FROM pg_locks WHERE NOT granted";
        wait_until("Andon to wait for the table", || other.number(waiting) > 0);
        other.number("SELECT committed_seq AS value FROM ingest_checkpoint FOR UPDATE");
        other.execute("ROLLBACK");
        load.join();
    }
    // Andon may succeed at its second try, and log nothing.
    let log = plant.server().log();
    assert!(log.contains("deadlock detected"), "{log}");
    plant.fault_is_over();
    plant.finish()
}

fn a_missing_table_is_waited_for(run: &mut FaultRun) -> Report {
    outage(
        Plant::postgres(run),
        run,
        |plant| {
            plant.server().psql("andon", "ALTER TABLE machine_telemetry RENAME TO put_aside");
        },
        |plant| {
            plant.server().psql("andon", "ALTER TABLE put_aside RENAME TO machine_telemetry");
        },
        "machine_telemetry",
    )
}

/// The tables are those of the first version; a start with messages waiting must migrate them.
fn a_database_of_an_older_version_is_migrated_under_load(run: &mut FaultRun) -> Report {
    let mut plant = Plant::postgres(run);
    let first_version = include_str!("../../migrations/postgres/2026-01-10-000000_initial/up.sql");
    plant.server().psql("andon", first_version);
    plant.server().psql(
        "andon",
        "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp DEFAULT now()); \
         INSERT INTO __diesel_schema_migrations (version) VALUES ('20260110000000')",
    );
    plant.start();
    plant.andon().wait_until_connected();
    let load = plant.load(MESSAGES * run.scale);
    plant.andon().wait_for_log("attached to the database");
    plant.note_idle();
    let log = plant.andon().log();
    let opened = log.lines().find(|line| line.contains("database open")).unwrap();
    assert!(!opened.contains("migrations_applied: 0"), "{opened}");
    load.join();
    plant.fault_is_over();
    plant.finish()
}

fn a_database_of_a_newer_version_is_left_alone_and_waited_for(run: &mut FaultRun) -> Report {
    outage(
        Plant::postgres(run),
        run,
        |plant| {
            let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')";
            plant.server().psql("andon", newer);
            // Andon checks the version when it connects.
            plant.server().restart();
        },
        |plant| {
            let sql = "DELETE FROM __diesel_schema_migrations WHERE version = '20991231000000'";
            plant.server().psql("andon", sql);
        },
        "a newer Andon migrated it",
    )
}
