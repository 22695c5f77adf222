//! Rejected messages are listed, shown and, with a corrected mapping, retried beside the running service.

use std::fs;

use serde_json::Value;

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::{self, Single};

const TOPIC: &str = "factory/machine/{machine}/telemetry";
/// The topic has too few segments to name a machine, and the default mapping does not look into "dev".
const NESTED: u64 = 30;
const USUAL: u64 = 400;
const CORRECTED: &str = r#"payload.fields={machine_id="/dev/id"}"#;

struct Finished {
    code: Option<i32>,
    text: String,
    complaints: String,
}

fn run(site: &Site, arguments: &[&str]) -> Finished {
    let output = site.command(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), text: text(output.stdout), complaints: text(output.stderr) }
}

fn json(site: &Site, arguments: &[&str]) -> Value {
    let done = run(site, arguments);
    assert_eq!(done.code, Some(0), "{}", done.complaints);
    serde_json::from_str(&done.text).unwrap()
}

fn ledger(url: &str) -> [i64; 6] {
    let mut database = Database::open(url).unwrap();
    ["messages", "stored", "duplicate", "rejected", "control", "committed_seq"]
        .map(|column| database.number(&format!("SELECT {column} AS value FROM ingest_checkpoint")))
}

fn rejected_messages_are_listed_and_shown(site: &Site, rejected: i64) {
    let list = json(site, &["rejected", "list", "--json", "--limit", "10"]);
    assert_eq!(list["counts"]["missing_machine_id"], NESTED + 1);
    assert_eq!(list["rejected"].as_array().unwrap().len(), 10);
    let older = list["next"].as_i64().unwrap().to_string();
    let rest = json(site, &["rejected", "list", "--json", "--before", &older, "--topic", "short/nested"]);
    assert_eq!(rest["rejected"].as_array().unwrap().len() as i64, rejected - 10);
    assert_eq!(rest["next"], Value::Null);
    assert_eq!(
        json(site, &["rejected", "list", "--json", "--to", "2026-01-01"])["counts"],
        serde_json::json!({})
    );
    let text = run(site, &["rejected", "list", "--since", "1h", "--reason", "invalid_utf8"]).text;
    assert!(text.contains(r"\u{1b}[2Jno \xff text") && !text.contains('\u{1b}'), "{text}");

    let hopeless = json(site, &["rejected", "list", "--json", "--topic", "+/hopeless"]);
    let id = hopeless["rejected"][0]["id"].to_string();
    let shown = run(site, &["rejected", "show", &id]).text;
    assert!(shown.contains("1b 5b 32 4a") && shown.contains("not UTF-8 at byte"), "{shown}");
    let raw = site.command(&["rejected", "show", &id, "--raw"]).output().unwrap().stdout;
    assert_eq!(raw, b"\x1b[2Jno \xff text");
    assert_eq!(run(site, &["rejected", "show", "999999"]).code, Some(1));
}

fn a_retry_by_the_same_rules_changes_nothing(site: &Site, url: &str) {
    assert_eq!(run(site, &["rejected", "retry"]).code, Some(2), "nothing is selected");
    let before = ledger(url);
    let dry = run(site, &["--set", CORRECTED, "rejected", "retry", "--all", "--dry-run"]);
    assert!(dry.text.contains("31 readings would be stored"), "{}", dry.text);
    let by_present_rules = run(site, &["rejected", "retry", "--all"]);
    assert!(
        by_present_rules.text.contains("0 readings stored, 0 already stored, 34 still rejected"),
        "{}",
        by_present_rules.text
    );
    assert_eq!(ledger(url), before, "nothing changed");
}

fn a_corrected_mapping_is_retried_beside_the_running_service(site: Site, url: &str, broker: &Mosquitto) {
    let site =
        site.set("mqtt.subscriptions=factory/machine/+/telemetry,short/+").set("mqtt.max_payload=1KiB");
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    for number in 0..NESTED {
        let payload = format!(r#"{{"dev":{{"id":"M-{}"}},"temperature":{number}}}"#, number % 3);
        single.publish("short/nested", payload.as_bytes(), 1);
    }
    single.publish("short/nested", br#"[{"dev":{"id":"m-9"}},5]"#, 1);
    single.publish("short/hopeless", b"\x1b[2Jno \xff text", 1);
    single.publish("short/large", &vec![b'7'; 200_000], 1);
    let rejected = NESTED as i64 + 4;
    wait_until("the rejections", || {
        Database::open(url)
            .and_then(|mut database| database.try_number("SELECT count(*) AS value FROM rejected_message"))
            == Some(rejected)
    });

    rejected_messages_are_listed_and_shown(&site, rejected);
    a_retry_by_the_same_rules_changes_nothing(&site, url);

    // With traffic, and with commits of the service between the retries.
    std::thread::scope(|scope| {
        scope.spawn(|| publisher::publish_numbered(broker.port(), TOPIC, 3, 0..USUAL, 1));
        let done = run(&site, &["--set", CORRECTED, "rejected", "retry", "--all"]);
        assert_eq!(done.code, Some(0), "{}", done.complaints);
        assert!(
            done.text.contains("31 readings stored, 0 already stored, 3 still rejected"),
            "{}",
            done.text
        );
        assert!(done.text.contains("only a part of its payload was kept"), "{}", done.text);
    });
    wait_until("every row", || rows_stored(url) == (USUAL + NESTED + 1) as i64);
    let [messages, stored, duplicate, rejected, control, seq] = ledger(url);
    let sent = (NESTED + 3 + USUAL) as i64;
    assert_eq!((messages, seq, control), (sent, sent, 0));
    assert_eq!((stored, duplicate, rejected), ((USUAL + NESTED + 1) as i64, 0, 3));
    let mut database = Database::open(url).unwrap();
    assert_eq!(database.number("SELECT count(*) AS value FROM rejected_message"), 3);
    assert_eq!(
        database.number("SELECT count(*) AS value FROM machine_telemetry WHERE machine_id = 'm-1'"),
        10
    );
    // The service notices that another process has changed its ledger.
    andon.wait_for_log(&format!("stored: {stored}, duplicate: 0, rejected: 3"));
    assert!(andon.stop().success());
}

#[test]
fn a_corrected_mapping_is_retried_in_sqlite() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    a_corrected_mapping_is_retried_beside_the_running_service(site, &url, &broker);
}

#[test]
fn a_corrected_mapping_is_retried_in_postgresql() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    a_corrected_mapping_is_retried_beside_the_running_service(site, &url, &broker);
}

#[test]
fn without_a_database_nothing_is_created() {
    let site = Site::new(1);
    let done = run(&site, &["rejected", "list"]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaints.contains("there is no database"), "{}", done.complaints);
    assert!(!fs::exists(site.path().join("andon.db")).unwrap());
}
