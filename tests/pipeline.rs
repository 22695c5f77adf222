//! From the broker through the real process into both databases.

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::{self, Single};

const TOPIC: &str = "factory/machine/{machine}/telemetry";

fn messages_become_rows_rejections_and_a_ledger(site: Site, url: &str, port: u16) {
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(port, TOPIC, 7, 0..500, 1);
    let mut single = Single::connect(port);
    single.publish("factory/machine/press-9/telemetry", b"not json at all", 1);
    single.publish(
        "factory/machine/press-9/telemetry",
        br#"[{"temperature":NaN},{"temperature":"21.5"},7]"#,
        1,
    );
    single.publish("factory/machine/press-9/telemetry", &[0xff, 0xfe], 1);
    let three_alike = br#"[{"vibration":5},{"vibration":5},{"vibration":5}]"#;
    single.publish("factory/machine/press-9/telemetry", three_alike, 1);
    wait_until("all rows", || rows_stored(url) == 505);
    wait_until("all machines online", || {
        Database::open(url).unwrap().number("SELECT count(*) AS value FROM machine WHERE status = 'online'")
            == 8
    });
    assert!(andon.stop().success());

    let mut database = Database::open(url).unwrap();
    let reasons = database.words("SELECT reason AS value FROM rejected_message ORDER BY seq, element");
    assert_eq!(reasons, ["invalid_json", "not_an_object", "invalid_utf8"].map(|word| Some(word.to_owned())));
    let ledger = |column: &str, database: &mut Database| {
        database.number(&format!("SELECT {column} AS value FROM ingest_checkpoint"))
    };
    assert_eq!(ledger("committed_seq", &mut database), 504);
    assert_eq!(ledger("messages", &mut database), 504);
    assert_eq!(ledger("stored", &mut database), 505);
    assert_eq!(ledger("rejected", &mut database), 3);
    assert_eq!(ledger("duplicate + control", &mut database), 0);
    let first_seen = "SELECT count(*) AS value FROM machine_event WHERE reason = 'first_seen'";
    assert_eq!(database.number(first_seen), 8);
}

#[test]
fn messages_become_rows_in_sqlite() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    messages_become_rows_rejections_and_a_ledger(site, &url, broker.port());
}

#[test]
fn messages_become_rows_in_postgres() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    messages_become_rows_rejections_and_a_ledger(site, &url, broker.port());
}

#[test]
fn mqtt_3_1_1_works_like_5() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("mqtt.protocol=3.1.1");
    let url = site.sqlite_url();
    messages_become_rows_rejections_and_a_ledger(site, &url, broker.port());
}

#[test]
fn every_sync_mode_stores_every_message() {
    for sync in ["before_ack", "background", "os"] {
        let broker = Mosquitto::start("");
        let site = Site::new(broker.port()).set(&format!("journal.sync={sync}"));
        let mut andon = site.run();
        andon.wait_until_connected();
        publisher::publish_numbered(broker.port(), TOPIC, 3, 0..200, 1);
        wait_until("all rows", || rows_stored(&site.sqlite_url()) == 200);
        assert!(andon.stop().success());
    }
}

#[test]
fn what_is_published_while_andon_is_down_is_stored_when_it_is_back() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    assert!(andon.stop().success());
    publisher::publish_numbered(broker.port(), TOPIC, 5, 0..1000, 1);
    let mut andon = site.run();
    andon.wait_for_log("session_present: true");
    wait_until("the backlog", || rows_stored(&site.sqlite_url()) == 1000);
    assert!(andon.stop().success());
}

#[test]
fn a_redelivered_message_makes_no_second_row() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 2, 0..50, 1);
    publisher::publish_numbered(broker.port(), TOPIC, 2, 0..50, 1);
    let url = site.sqlite_url();
    let elements = "SELECT stored + duplicate AS value FROM ingest_checkpoint";
    wait_until("both rounds", || {
        Database::open(&url).and_then(|mut database| database.try_number(elements)) == Some(100)
    });
    assert_eq!(rows_stored(&url), 50);
    assert!(andon.stop().success());
}

#[test]
fn the_service_starts_without_its_database_and_catches_up() {
    let broker = Mosquitto::start("");
    let mut postgres = Postgres::start();
    let url = postgres.create_database("andon");
    postgres.stop();
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 5, 0..300, 1);
    andon.wait_for_log("the database does not accept the data");
    postgres.restart();
    wait_until("the rows", || rows_stored(&url) == 300);

    // The same while it runs: what arrives during an outage waits in the journal.
    postgres.kill();
    publisher::publish_numbered(broker.port(), TOPIC, 5, 300..600, 1);
    postgres.restart();
    wait_until("the rows of the outage", || rows_stored(&url) == 600);
    andon.wait_for_log("the database works again");
    assert!(andon.stop().success());
    let mut database = Database::open(&url).unwrap();
    assert_eq!(database.number("SELECT messages AS value FROM ingest_checkpoint"), 600);
}

#[test]
fn a_database_that_goes_away_while_no_message_arrives_is_noticed() {
    let broker = Mosquitto::start("");
    let mut postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    let mut andon = site.run();
    andon.wait_for_log("attached to the database");
    postgres.stop();
    andon.wait_for_log("the database does not accept the data");
    postgres.restart();
    andon.wait_for_log("the database works again");
    assert!(andon.stop().success());
}

#[test]
fn a_poison_row_is_isolated_and_the_rest_is_stored() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    let mut andon = site.run();
    andon.wait_for_log("database open");
    andon.wait_until_connected();
    let mut database = Database::open(&url).unwrap();
    database.execute("ALTER TABLE machine_telemetry ADD CONSTRAINT plausible CHECK (temperature < 1000)");
    publisher::publish_numbered(broker.port(), TOPIC, 5, 0..100, 1);
    Single::connect(broker.port()).publish(
        "factory/machine/oven/telemetry",
        br#"{"machine_id":"oven","temperature":99999}"#,
        1,
    );
    publisher::publish_numbered(broker.port(), TOPIC, 5, 100..200, 1);
    wait_until("the good rows", || rows_stored(&url) == 200);
    let rejected = "SELECT count(*) AS value FROM rejected_message WHERE reason = 'store_rejected'";
    wait_until("the poison row", || database.number(rejected) == 1);
    assert!(andon.stop().success());
}

#[test]
fn a_stop_while_the_database_is_away_is_clean_and_in_time() {
    let broker = Mosquitto::start("");
    let mut postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    let mut andon = site.run();
    andon.wait_for_log("database open");
    andon.wait_until_connected();
    postgres.stop();
    publisher::publish_numbered(broker.port(), TOPIC, 5, 0..500, 1);
    andon.wait_for_log("the database does not accept the data");
    assert!(andon.stop().success());
    postgres.restart();
    let andon = site.run();
    wait_until("what waited in the journal", || rows_stored(&url) == 500);
    assert!(andon.stop().success());
}

#[test]
fn an_oversized_or_invalid_payload_stalls_nothing() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port())
        .set("mqtt.max_payload=1KiB")
        .set("mqtt.subscriptions=factory/machine/+/telemetry,short/+");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    single.publish("factory/machine/m/telemetry", &vec![b'7'; 200_000], 1);
    single.publish("factory/machine/m/telemetry", &vec![b'7'; 5_000], 1);
    single.publish("factory/machine/m/telemetry", b"", 1);
    single.publish("short/topic", b"{}", 1);
    single.publish("factory/machine/m/telemetry", "[".repeat(1000).as_bytes(), 1);
    single.publish("factory/machine/m/telemetry", br#"{"temperature":1}"#, 1);
    wait_until("the good one", || rows_stored(&url) == 1);
    let mut database = Database::open(&url).unwrap();
    let reasons = database.words("SELECT reason AS value FROM rejected_message ORDER BY seq");
    let expected = ["too_large", "too_large", "invalid_json", "missing_machine_id", "invalid_json"];
    assert_eq!(reasons, expected.map(|word| Some(word.to_owned())));
    let sizes = database
        .words("SELECT detail AS value FROM rejected_message WHERE reason = 'too_large' ORDER BY seq");
    let expected = ["at least 65537 bytes", "5000 bytes"]
        .map(|size| Some(format!("{size}, at most 1024 are allowed (mqtt.max_payload)")));
    assert_eq!(sizes, expected, "the real size, or its known minimum");
    assert!(andon.stop().success());
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_journal_restored_from_an_old_copy_loses_and_doubles_nothing() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let (journal, copy) = (site.journal_dir(), site.path().join("copy"));
    let store = |range: std::ops::Range<u64>| {
        let upto = i64::try_from(range.end).unwrap();
        let mut andon = site.run();
        andon.wait_until_connected();
        publisher::publish_numbered(broker.port(), TOPIC, 5, range, 1);
        wait_until("the rows", || rows_stored(&url) == upto);
        assert!(andon.stop().success());
    };
    store(0..100);
    copy_directory(&journal, &copy);
    store(100..150);
    std::fs::remove_dir_all(&journal).unwrap();
    copy_directory(&copy, &journal);
    // These take seqs that the database has already committed: 101 and so on.
    publisher::publish_numbered(broker.port(), TOPIC, 5, 150..220, 1);
    let mut andon = site.run();
    andon.wait_for_log("the position in the database is not this journal's");
    wait_until("every row", || rows_stored(&url) == 220);
    assert!(andon.stop().success());
    let mut database = Database::open(&url).unwrap();
    assert_eq!(database.number("SELECT count(*) AS value FROM ingest_checkpoint"), 2, "a new journal id");
}

#[test]
fn a_device_cannot_speak_for_another_machine_when_both_ids_must_match() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("payload.machine_id_from=must_match");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut device = Single::connect(broker.port());
    let own_topic = "factory/machine/press-1/telemetry";
    device.publish(own_topic, br#"{"machine_id":"press-2","temperature":1}"#, 1);
    device.publish(own_topic, br#"{"machine_id":"Press-1","temperature":2}"#, 1);
    wait_until("the reading", || rows_stored(&url) == 1);
    assert!(andon.stop().success());
    let mut database = Database::open(&url).unwrap();
    assert_eq!(database.words("SELECT machine_id AS value FROM machine"), [Some("press-1".to_owned())]);
    let details = database.words("SELECT reason || ': ' || detail AS value FROM rejected_message");
    let expected = "machine_id_mismatch: the payload names \"press-2\", the topic \"press-1\" \
         (payload.machine_id_from = \"must_match\")";
    assert_eq!(details, [Some(expected.to_owned())]);
}
