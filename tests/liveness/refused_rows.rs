//! A database that refuses the rows of one machine: nothing stalls, all other rows are stored, and its status
//! is still published.

use crate::machines::{speak, wait_for_events};
use crate::support::andon::{Andon, Site};
use crate::support::database::{Database, rows_stored};
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;
use crate::support::subscriber::Subscriber;

const SQLITE: [&str; 2] = [
    "CREATE TRIGGER no_event BEFORE INSERT ON machine_event WHEN NEW.machine_id = 'cursed'
     BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    "CREATE TRIGGER no_machine BEFORE INSERT ON machine WHEN NEW.machine_id = 'cursed'
     BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END",
];
const POSTGRES: [&str; 2] = [
    "ALTER TABLE machine_event ADD CONSTRAINT not_this_one CHECK (machine_id <> 'cursed')",
    "ALTER TABLE machine ADD CONSTRAINT not_this_one CHECK (machine_id <> 'cursed')",
];

fn lines(andon: &Andon, kind: &str) -> Vec<String> {
    let log = andon.log();
    let refused = log.lines().filter(|line| line.contains("the database refuses a row"));
    refused.filter(|line| line.contains(&format!("kind: {kind}"))).map(str::to_owned).collect()
}

fn refused_rows_of_one_machine_affect_no_other(site: Site, url: &str, broker: &Mosquitto, refuse: [&str; 2]) {
    let site = site.set("liveness.offline_after=1s");
    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    let http = Client::new(&andon.wait_for_http());
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "first");
    wait_for_events(url, "first", &["online - first_seen"]);
    let mut database = Database::open(url).unwrap();
    refuse.into_iter().for_each(|statement| database.execute(statement));
    drop(database);
    for machine in ["cursed", "press-1", "cursed"] {
        speak(&mut single, machine);
    }
    wait_until("its silence on MQTT", || {
        subscriber.live("/cursed/status", "status").starts_with(&["online", "offline"].map(str::to_owned))
    });
    speak(&mut single, "press-1");
    wait_until("the readings", || rows_stored(url) == 5);
    wait_for_events(
        url,
        "press-1",
        &["online - first_seen", "offline online silence", "online offline message"],
    );
    wait_until("both changes refused", || {
        http.get("/metrics").body.contains("andon_refused_rows_total{kind=\"event\"} 2")
    });

    let errors = lines(&andon, "event");
    assert_eq!(errors.len(), 2, "one line each: {errors:?}");
    for (line, status) in errors.iter().zip(["online", "offline"]) {
        for part in [" ERROR ", "machine_id: cursed", &format!("status: {status}"), "occurred_at: 20", "not"]
        {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
    }
    assert!(!lines(&andon, "machine").is_empty());
    let ledger = http.json("/api/v1/status")["ledger"].clone();
    let expected = [("journaled", 5), ("committed", 5), ("pending", 0), ("stored", 5), ("rejected", 0)];
    for (field, value) in expected {
        assert_eq!(ledger[field], value, "{field} in {ledger}");
    }
    assert!(andon.stop().success());
    let mut database = Database::open(url).unwrap();
    assert_eq!(database.number("SELECT count(*) AS value FROM machine_event WHERE machine_id = 'cursed'"), 0);
    assert_eq!(
        database.number("SELECT count(*) AS value FROM machine_telemetry WHERE machine_id = 'cursed'"),
        2
    );
}

#[test]
fn rows_of_one_machine_refused_by_sqlite_affect_no_other() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    refused_rows_of_one_machine_affect_no_other(site, &url, &broker, SQLITE);
}

#[test]
fn rows_of_one_machine_refused_by_postgres_affect_no_other() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    refused_rows_of_one_machine_affect_no_other(site, &url, &broker, POSTGRES);
}
