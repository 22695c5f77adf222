//! The running service keeps every table within its bound, and says what it deleted.

use crate::support::andon::{Andon, Site};
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

const MIB: i64 = 1 << 20;
const BYTES: &str = "SELECT CAST(coalesce(sum(length(payload)), 0) AS bigint) AS value FROM rejected_message";

fn number(url: &str, sql: &str) -> i64 {
    Database::open(url).and_then(|mut database| database.try_number(sql)).unwrap_or(-1)
}

fn run(site: &Site) -> Andon {
    let mut andon = site.run();
    andon.wait_until_connected();
    andon
}

fn each_table_has_its_bound(site: Site, url: &str, broker: &Mosquitto) {
    let site = site
        .set("store.rejected_max_bytes=1MiB")
        .set("store.retention_events=30d")
        .set("store.retention_audit=30d");
    let andon = run(&site);
    let mut machine = Single::connect(broker.port());
    // Each is no JSON, has 60,000 bytes, and ends with its number.
    for n in 0..40 {
        let payload = format!("{}{n:04}", "x".repeat(59_996));
        machine.publish("factory/machine/press-1/telemetry", payload.as_bytes(), 1);
    }
    machine.publish("factory/machine/press-1/telemetry", br#"{"temperature":1}"#, 1);
    wait_until("all messages", || number(url, "SELECT messages AS value FROM ingest_checkpoint") == 41);
    assert_eq!(number(url, BYTES), 40 * 60_000);
    assert!(andon.stop().success());

    let is_sqlite = url.starts_with("sqlite");
    let old =
        if is_sqlite { "'2023-01-01 00:00:00.000000+00:00'" } else { "timestamptz '2023-01-01 00:00:00+00'" };
    let mut database = Database::open(url).unwrap();
    for (what, columns, values) in [
        (
            "machine_event",
            "machine_id, status, reason, occurred_at",
            format!("'press-1', 'offline', 'silence', {old}"),
        ),
        ("link_outage", "began_at, ended_at, reason", format!("{old}, {old}, 'link_down'")),
        ("audit_event", "at, actor, source, action, outcome", format!("{old}, 'a', 'b', 'login', 'refused'")),
    ] {
        database.execute(&format!("INSERT INTO {what} (site, {columns}) VALUES ('test', {values})"));
    }
    // The event is older than the one of now, and so is its id.
    database.execute("UPDATE machine_event SET id = 0 WHERE status = 'offline' AND reason = 'silence'");

    // Every start begins a run.
    let mut andon = run(&site);
    wait_until("the bound", || number(url, BYTES) <= MIB);
    andon.wait_for_log("deleted the oldest rejected messages, because of store.rejected_max_bytes");
    let newest = "SELECT count(*) AS value FROM rejected_message WHERE seq = 40";
    assert_eq!(number(url, newest), 1, "the newest stays");
    assert!(number(url, BYTES) > MIB - MIB / 64 - 60_000, "no more than needed went");
    for table in ["machine_event", "link_outage", "audit_event"] {
        let is_it = |line: &str| line.contains("deleted rows past retention") && line.contains(table);
        wait_until(table, || andon.log().lines().any(is_it));
    }
    assert_eq!(number(url, "SELECT count(*) AS value FROM audit_event"), 0);
    assert_eq!(number(url, "SELECT count(*) AS value FROM machine_event WHERE status = 'online'"), 1);
    let ledger = "SELECT messages - stored - duplicate - rejected - control AS value FROM ingest_checkpoint";
    assert_eq!(
        (number(url, ledger), number(url, "SELECT rejected AS value FROM ingest_checkpoint")),
        (0, 40)
    );
    assert!(andon.stop().success());
}

#[test]
fn each_table_has_its_bound_in_sqlite() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    each_table_has_its_bound(site, &url, &broker);
}

#[test]
fn each_table_has_its_bound_in_postgres() {
    let (broker, server) = (Mosquitto::start(""), Postgres::start());
    let url = server.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    each_table_has_its_bound(site, &url, &broker);
}
