//! Three roles in PostgreSQL, as docs/operations.md makes them: one migrates, Andon runs with one that writes, one reads.

use std::path::Path;
use std::process::Command;

use crate::support::andon::{Andon, Site};
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::{Single, publish_numbered};

const TOPIC: &str = "factory/machine/{machine}/telemetry";
const CORRECTED: &str = "payload.fields.machine_id=/dev/id";
/// Where the tables are.
const SCHEMA: &str = "options=-csearch_path%3Dandon";

/// Returns the statements of the page that begin with that line.
fn recipe(first: &str) -> String {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let begin = page.find(&format!("    {first}")).unwrap_or_else(|| panic!("no {first:?} in the page"));
    let lines = page[begin..].lines().take_while(|line| line.starts_with("    "));
    lines.collect::<Vec<_>>().join("\n")
}

struct Plant {
    server: Postgres,
    broker: Mosquitto,
}

impl Plant {
    /// Makes the roles, the database and its empty schema.
    fn new() -> Self {
        let (server, broker) = (Postgres::start(), Mosquitto::start(""));
        for statement in recipe("CREATE ROLE andon_owner LOGIN;").lines() {
            server.psql("postgres", statement);
        }
        server.psql("andon", &recipe("REVOKE ALL ON DATABASE andon FROM PUBLIC;"));
        Self { server, broker }
    }

    /// Takes back what the tables of the owner give too much.
    fn take_back(&self) {
        self.server.psql("andon", &recipe("REVOKE INSERT, UPDATE, DELETE ON andon.__diesel"));
    }

    fn url(&self, role: &str) -> String {
        self.server.tcp_url("andon").replace("postgres@", &format!("{role}@"))
    }

    /// Returns the URL with which a test looks at the tables.
    fn seen_from_outside(&self, role: &str) -> String {
        format!("{}?{SCHEMA}", self.url(role))
    }

    fn site(&self) -> Site {
        Site::new(self.broker.port())
            .set(&format!("store.url={}", self.url("andon_writer")))
            .set("store.schema=andon")
    }

    fn as_owner(&self, site: &Site, arguments: &[&str]) -> String {
        let url = format!("store.url={}", self.url("andon_owner"));
        succeeds(site, &[&["--set", &url][..], arguments].concat())
    }

    /// Runs SQL as that role; returns its output, or the server's complaint.
    fn sql(&self, role: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(self.server.programs().join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(self.seen_from_outside(role));
        let output = psql.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn refuses(&self, role: &str, sql: &str, why: &str) {
        let refused = self.sql(role, sql).expect_err(sql);
        assert!(refused.contains(why), "{role}: {sql}: {refused}");
    }

    fn number(&self, sql: &str) -> i64 {
        self.server.psql("andon", &format!("SET search_path = andon; SELECT {sql}")).parse().unwrap()
    }
}

fn succeeds(site: &Site, arguments: &[&str]) -> String {
    let output = site.command(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (said, complaints) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{arguments:?}: {said}{complaints}");
    assert!(!complaints.contains("permission denied"), "{arguments:?}: {complaints}");
    said + &complaints
}

fn assert_nothing_was_refused(plant: &Plant, andon: &Andon) {
    for (what, log) in [("Andon", andon.log()), ("PostgreSQL", plant.server.log())] {
        assert!(!log.contains("permission denied") && !log.contains("must be owner"), "{what}: {log}");
    }
}

#[test]
fn andon_runs_with_the_role_that_writes_once_another_has_migrated() {
    let plant = Plant::new();
    let site = plant.site();
    let seen = plant.seen_from_outside("andon_reader");
    // Nobody has migrated yet: it journals, says who must, and goes on by itself.
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("the role andon_writer may not, because Andon's tables belong to andon_owner");
    publish_numbered(plant.broker.port(), TOPIC, 3, 0..300, 1);
    let said = plant.as_owner(&site, &["db", "migrate"]);
    assert!(said.contains("applied"), "{said}");
    plant.take_back();
    wait_until("the rows", || rows_stored(&seen) == 300);

    // Everything that the service and the commands do works.
    let mut machine = Single::connect(plant.broker.port());
    machine.publish("a/b", br#"{"dev":{"id":"press-9"},"temperature":1}"#, 1);
    machine.publish("factory/machine/press-7/telemetry", br#"{"timestamp":"2025-02-03","temperature":1}"#, 1);
    machine.publish("factory/machine/press-8/telemetry", b"no JSON", 1);
    wait_until("the others", || plant.number("messages FROM ingest_checkpoint") >= 302);
    assert!(succeeds(&site, &["db", "migrate"]).contains("is up to date"));
    assert!(succeeds(&site, &["machines", "forget", "press-002"]).contains("forgotten: press-002"));
    succeeds(&site, &["--set", CORRECTED, "rejected", "retry", "--all"]);
    succeeds(&site, &["db", "status"]);
    succeeds(&site, &["config", "check", "--connect"]);
    succeeds(&site, &["machines"]);
    succeeds(&site, &["export"]);
    succeeds(&site, &["db", "prune", "--confirm-clock"]);
    let actions = plant.sql("andon_reader", "SELECT DISTINCT action FROM audit_event ORDER BY 1").unwrap();
    let expected = ["db migrate", "db prune --confirm-clock", "machines forget", "rejected retry"];
    assert_eq!(actions, expected.join("\n"));
    assert_nothing_was_refused(&plant, &andon);
    assert!(andon.stop().success());

    // Retention: as long ago as its times say.
    plant.server.psql(
        "andon",
        "UPDATE andon.machine_telemetry SET recorded_at = recorded_at - interval '5 years', received_at = received_at - \
         interval '5 years' WHERE machine_id = 'press-000'; UPDATE andon.rejected_message SET received_at = '2024-01-01'; \
         UPDATE andon.audit_event SET at = '2020-01-01' WHERE action = 'rejected retry'",
    );
    let left = plant.number("count(*) FROM machine_telemetry WHERE machine_id <> 'press-000'");
    let site = site.set("store.retention=1000d").set("store.retention_events=1000d");
    let andon = site.run();
    wait_until("the readings to go", || plant.number("count(*) FROM machine_telemetry") == left);
    wait_until("the rejected ones to go", || plant.number("count(*) FROM rejected_message") == 0);
    let retried = "count(*) FROM audit_event WHERE action = 'rejected retry'";
    wait_until("the old audit row to go", || plant.number(retried) == 0);
    assert_nothing_was_refused(&plant, &andon);
    assert!(andon.stop().success());
    assert_eq!(plant.number("count(*) FROM ingest_checkpoint WHERE stored + rejected + duplicate >= 302"), 1);

    for (role, sql) in [
        ("andon_writer", "CREATE TABLE andon.mine (a int)"),
        ("andon_writer", "DROP TABLE machine_telemetry"),
        ("andon_writer", "TRUNCATE machine_telemetry"),
        ("andon_writer", "UPDATE audit_event SET actor = 'somebody else'"),
        ("andon_writer", "DELETE FROM __diesel_schema_migrations"),
        ("andon_reader", "INSERT INTO machine_forget VALUES ('test', 'press-001', now(), false)"),
        ("andon_reader", "DELETE FROM audit_event"),
        ("andon_reader", "CREATE TABLE andon.mine (a int)"),
        ("andon_reader", "CREATE TEMPORARY TABLE mine (a int)"),
    ] {
        let why = if sql.starts_with("DROP") { "must be owner" } else { "permission denied" };
        plant.refuses(role, sql, why);
    }
    assert_eq!(
        plant.sql("andon_reader", "SELECT count(*) FROM machine_telemetry").unwrap(),
        left.to_string()
    );
}

/// Partitions the readings as the page says, and gives the roles what they have on every table.
fn partition(plant: &Plant, site: &Site) {
    plant.as_owner(site, &["db", "migrate"]);
    plant.sql("andon_owner", &recipe("ALTER TABLE machine_telemetry RENAME TO")).unwrap();
    let said = plant.as_owner(site, &["db", "migrate"]);
    assert!(said.contains("created ahead") && !said.contains("installed"), "{said}");
}

fn store(plant: &Plant, recorded_at: &str, received_at: &str, site: &str) {
    plant.server.psql(
        "andon",
        &format!(
            "INSERT INTO andon.machine_telemetry (site, machine_id, source_topic, recorded_at, time_source, received_at, digest) \
             VALUES ('{site}', 'press-1', 't', '{recorded_at}', 'device', '{received_at}', 1)"
        ),
    );
}

#[test]
fn the_role_that_writes_creates_and_drops_months_by_the_functions_of_the_owner() {
    let plant = Plant::new();
    let site = plant.site().set("store.retention=1000d");
    partition(&plant, &site);
    for month in ["2020-01-01", "2020-02-01", "2020-03-01"] {
        plant.sql("andon_writer", &format!("SELECT andon_create_month('{month}')")).unwrap();
    }
    for (recorded, received, of) in [
        ("2020-01-05", "2020-01-05", "test"),
        ("2020-02-05", "2020-02-05", "test"),
        // Received lately: this month is deleted from one by one.
        ("2020-03-05", "2020-03-05", "test"),
        ("2020-03-06", "2026-11-01", "test"),
    ] {
        store(&plant, recorded, received, of);
    }
    let newest = "DROP TABLE andon.machine_telemetry_' || to_char(now() + interval '2 months', 'YYYY_MM')";
    let drop = plant.server.psql("andon", &format!("SELECT '{newest}"));
    plant.server.psql("andon", &drop);

    let mut andon = site.run();
    andon.wait_until_connected();
    let months = "count(*) FROM pg_inherits WHERE inhparent = 'andon.machine_telemetry'::regclass";
    // March 2020, this month and two more, and the default.
    wait_until("the months", || plant.number(months) == 5);
    wait_until("the readings", || plant.number("count(*) FROM machine_telemetry") == 1);
    andon.wait_for_log("partition");
    assert_nothing_was_refused(&plant, &andon);
    assert!(andon.stop().success());
}

#[test]
fn the_functions_do_nothing_else_for_nobody_else() {
    let plant = Plant::new();
    let site = plant.site();
    partition(&plant, &site);
    plant.sql("andon_writer", "SELECT andon_create_month('2020-01-17')").unwrap();
    store(&plant, "2020-01-05", "2020-01-05", "test");
    let drop = |part: &str, of_site: &str, before: &str| {
        format!("SELECT andon_drop_month('{part}', '{of_site}', '{before}')")
    };
    let january = "andon.machine_telemetry_2020_01";
    // A month that must stay.
    for (of_site, before) in [("other", "2020-06-01"), ("test", "2020-01-20"), ("test", "2020-01-05")] {
        let answer = plant.sql("andon_writer", &drop(january, of_site, before));
        assert!(answer.as_deref().is_ok_and(|kept| kept == "f") || answer.is_err(), "{before}: {answer:?}");
    }
    // Whose, and until when, is not said: nothing is proven.
    for (of_site, before) in [("NULL", "NULL"), ("'test'", "NULL"), ("NULL", "'infinity'")] {
        let call = format!("SELECT andon_drop_month('{january}', {of_site}, {before})");
        assert_eq!(plant.sql("andon_writer", &call).as_deref(), Ok(""), "{call}");
    }
    // What is no month of the readings.
    for part in [
        "andon.machine_telemetry_default",
        "andon.machine_telemetry",
        "andon.audit_event",
        "pg_catalog.pg_class",
        "andon.absent",
        "andon.machine_telemetry_2020_01; DROP TABLE andon.audit_event",
    ] {
        assert!(plant.sql("andon_writer", &drop(part, "test", "infinity")).is_err(), "{part}");
    }
    // Objects of the caller that look like the catalog's: with them another table would be a month that is past.
    let disguise = "CREATE TEMPORARY TABLE pg_inherits (inhparent oid, inhrelid oid); \
                    INSERT INTO pg_inherits SELECT 'andon.machine_telemetry'::regclass, 'andon.rejected_message'::regclass; \
                    CREATE TEMPORARY TABLE pg_class AS SELECT 'andon.rejected_message'::regclass::oid AS oid, c.relpartbound \
                        FROM pg_catalog.pg_class c WHERE c.oid = 'andon.machine_telemetry_2020_01'::regclass; \
                    GRANT SELECT ON pg_inherits, pg_class TO PUBLIC; SET search_path = pg_temp, andon, pg_catalog; ";
    let disguised = format!("{disguise}{}", drop("andon.rejected_message", "test", "infinity"));
    plant.refuses("andon_writer", &disguised, "is no partition of");
    // Nobody but roles that may delete all readings anyway.
    for call in [drop(january, "test", "2020-06-01"), "SELECT andon_create_month('2019-01-01')".to_owned()] {
        plant.refuses("andon_reader", &call, "permission denied for function");
    }
    plant.server.psql("andon", "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA andon TO andon_reader");
    plant.refuses("andon_reader", &drop(january, "test", "2020-06-01"), "only a role that may delete from");
    let facts = "string_agg(DISTINCT pg_get_userbyid(proowner) || prosecdef || proconfig::text, ';') FROM pg_proc \
                 WHERE proname LIKE 'andon%'";
    let facts = plant.server.psql("andon", &format!("SELECT {facts}"));
    assert!(
        facts.starts_with("andon_ownertrue") && facts.contains("search_path=pg_catalog, pg_temp"),
        "{facts}"
    );
    assert!(!facts.contains(';'), "one owner, one search path: {facts}");

    assert_eq!(plant.number("count(*) FROM machine_telemetry"), 1);
    assert_eq!(plant.sql("andon_writer", &drop(january, "test", "2020-06-01")), Ok("t".to_owned()));
    assert_eq!(plant.number("count(*) FROM machine_telemetry"), 0);
}

/// A role may lack DELETE, or the functions: what is left of retention is done one by one, and said.
#[test]
fn tables_of_a_superuser_get_no_functions() {
    let plant = Plant::new();
    let site = plant.site();
    partition(&plant, &site);
    plant.server.psql(
        "andon",
        "DROP FUNCTION andon.andon_create_month, andon.andon_drop_month; ALTER TABLE andon.machine_telemetry OWNER TO postgres",
    );
    let url = format!("store.url={}", plant.server.tcp_url("andon"));
    let said = succeeds(&site, &["--set", &url, "db", "migrate"]);
    assert!(said.contains("belongs to the superuser postgres"), "{said}");
    assert_eq!(plant.number("count(*) FROM pg_proc WHERE proname LIKE 'andon%'"), 0);
}

#[test]
fn an_upgrade_with_the_role_that_writes_says_who_must_migrate_and_changes_nothing() {
    let plant = Plant::new();
    let site = plant.site();
    plant.as_owner(&site, &["db", "migrate"]);
    plant.take_back();
    // As if this version had one migration more than the one before.
    plant.server.psql(
        "andon",
        "DELETE FROM andon.__diesel_schema_migrations WHERE version = (SELECT max(version) FROM andon.__diesel_schema_migrations); \
         DROP TABLE andon.machine_forget",
    );
    let output = site.command(&["db", "migrate"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["the role andon_writer may not", "belong to andon_owner", "andon db migrate"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("the role andon_writer may not, because Andon's tables belong to andon_owner");
    publish_numbered(plant.broker.port(), TOPIC, 3, 0..30, 1);
    assert!(Database::open(&plant.seen_from_outside("andon_reader")).is_some());
    plant.as_owner(&site, &["db", "migrate"]);
    let seen = plant.seen_from_outside("andon_reader");
    wait_until("the rows", || rows_stored(&seen) == 30);
    assert!(andon.stop().success());
}
