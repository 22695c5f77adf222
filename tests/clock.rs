//! A clock that is years wrong: what Andon stores and says, and how an operator confirms the clock.

use std::path::PathBuf;

use crate::support::andon::{Andon, Site};
use crate::support::database::{Database, instant};
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

const YEAR_MICROS: i64 = 365 * 86_400 * 1_000_000;
const TOPIC: &str = "factory/machine/press-1/telemetry";
const ALL: &str = "SELECT count(*) AS value FROM machine_telemetry";

struct Scene {
    broker: Mosquitto,
    site: Site,
    url: String,
    clock: PathBuf,
    _postgres: Option<Postgres>,
}

impl Scene {
    fn new(postgres: Option<Postgres>) -> Self {
        let broker = Mosquitto::start("");
        let mut site = Site::new(broker.port())
            .set("store.retention=730d")
            .configure("[[liveness.last_will]]\nfilter = \"factory/machine/+/lwt\"\npayload = \"gone\"");
        let mut url = site.sqlite_url();
        if let Some(server) = &postgres {
            url = server.create_database("andon");
            site = site.set(&format!("store.url={url}"));
        }
        let clock = site.path().join("clock-offset");
        let scene = Self { broker, site, url, clock, _postgres: postgres };
        scene.turn(0);
        scene
    }

    fn turn(&self, micros: i64) {
        std::fs::write(&self.clock, micros.to_string()).unwrap();
    }

    fn failpoint(&self) -> String {
        format!("clock::offset=return({})", self.clock.display())
    }

    fn run(&self) -> Andon {
        let mut andon = self.site.run_with(&self.failpoint());
        andon.wait_until_connected();
        andon
    }

    /// Publishes one message and waits until `rows` are stored.
    fn publish(&self, payload: &str, rows: i64) {
        Single::connect(self.broker.port()).publish(TOPIC, payload.as_bytes(), 1);
        wait_until("the row", || self.number(ALL) == rows);
    }

    fn number(&self, sql: &str) -> i64 {
        Database::open(&self.url).and_then(|mut database| database.try_number(sql)).unwrap_or(-1)
    }

    fn prune(&self, arguments: &[&str]) -> String {
        let mut command = self.site.command(&[&["db", "prune"], arguments].concat());
        let output = command.env("FAILPOINTS", self.failpoint()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(output.status.success(), "{text}");
        text
    }
}

/// Returns the value of a metric without labels.
fn metric(url: &str, name: &str) -> f64 {
    let text = Client::new(url).get("/metrics").body;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

fn an_operator_confirms_a_clock_that_andon_does_not_trust(scene: Scene) {
    let andon = scene.run();
    scene.publish(r#"{"temperature":1}"#, 1);
    assert!(andon.stop().success());
    scene.turn(3 * YEAR_MICROS);
    let mut andon = scene.run();
    let url = andon.wait_for_http();
    andon.wait_for_log("has jumped, and nothing confirms it");
    scene.publish(r#"{"temperature":2}"#, 2);
    assert_eq!(metric(&url, "andon_clock_step_waiting"), 1.0);
    assert!(metric(&url, "andon_clock_step_seconds") > 2.9 * 365.0 * 86_400.0);
    let status = Client::new(&url).json("/api/v1/status");
    assert!(status["clock"]["step_seconds"].as_i64().unwrap() > 90_000_000, "{status}");
    assert!(status["clock"]["trusted"].as_str().unwrap() < status["now"].as_str().unwrap(), "{status}");
    // An unconfirmed clock deletes nothing, and the command says so.
    let said = scene.prune(&[]);
    assert!(said.contains("0 readings recorded before") && said.contains("--confirm-clock"), "{said}");
    assert_eq!(scene.number(ALL), 2);

    let said = scene.prune(&["--confirm-clock"]);
    assert!(said.contains("is confirmed: 20") && said.contains("1 reading recorded before"), "{said}");
    assert_eq!(scene.number("SELECT count(*) AS value FROM machine_telemetry WHERE temperature = 2"), 1);
    assert_eq!(scene.number(ALL), 1);
    andon.wait_for_log("an operator has confirmed it");
    wait_until("the metric", || metric(&url, "andon_clock_step_waiting") == 0.0);
    assert!(andon.stop().success());
    // The next run keeps it.
    let mut andon = scene.run();
    let url = andon.wait_for_http();
    wait_until("the database to be attached", || andon.log().contains("attached to the database"));
    assert_eq!(metric(&url, "andon_clock_step_waiting"), 0.0);
    assert!(!andon.log().contains("has jumped"), "{}", andon.log());
    assert!(andon.stop().success());
}

#[test]
fn an_operator_confirms_a_clock_that_andon_does_not_trust_in_sqlite() {
    an_operator_confirms_a_clock_that_andon_does_not_trust(Scene::new(None));
}

#[test]
fn an_operator_confirms_a_clock_that_andon_does_not_trust_in_postgres() {
    an_operator_confirms_a_clock_that_andon_does_not_trust(Scene::new(Some(Postgres::start())));
}

fn with_a_dead_battery_times_are_those_of_devices_or_the_trusted_one(scene: Scene) {
    let andon = scene.run();
    scene.publish(r#"{"temperature":1}"#, 1);
    assert!(andon.stop().success());
    // About 1973.
    scene.turn(-53 * YEAR_MICROS);
    let mut andon = scene.run();
    andon.wait_for_log("the clock of this computer is not set");
    // Three weeks after the record: the machine was off.
    let device_time = chrono::Utc::now() + chrono::Duration::days(21);
    let device_time = device_time.format("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    scene.publish(&format!(r#"{{"temperature":2,"timestamp":"{device_time}"}}"#), 2);
    scene.publish(r#"{"temperature":3}"#, 3);
    let of_device = format!(
        "SELECT count(*) AS value FROM machine_telemetry WHERE temperature = 2 AND time_source = 'device' AND \
         recorded_at = '{}'",
        device_time.replace('T', " ").replace('Z', "+00:00")
    );
    assert_eq!(scene.number(&of_device), 1, "the clock that was never set overruled the device");
    let year = chrono::Utc::now().format("%Y-01-01 00:00:00.000000+00:00").to_string();
    let old = |table: &str, column: &str| {
        scene.number(&format!("SELECT count(*) AS value FROM {table} WHERE {column} < '{year}'"))
    };
    let recent = [
        ("machine_telemetry", "received_at"),
        ("machine_telemetry", "recorded_at"),
        ("machine_telemetry", "created_at"),
        ("machine_event", "occurred_at"),
        ("machine", "last_seen_at"),
        ("link_outage", "began_at"),
        ("ingest_checkpoint", "updated_at"),
    ];
    for (table, column) in recent {
        assert_eq!(old(table, column), 0, "{table}.{column}");
    }
    // A replay interprets the messages as the first run did.
    andon.kill();
    scene.turn(0);
    let andon = scene.run();
    assert_eq!((scene.number(ALL), scene.number(&of_device)), (3, 1));
    assert!(andon.stop().success());
}

#[test]
fn with_a_dead_battery_times_are_those_of_devices_or_the_trusted_one_in_sqlite() {
    with_a_dead_battery_times_are_those_of_devices_or_the_trusted_one(Scene::new(None));
}

#[test]
fn with_a_dead_battery_times_are_those_of_devices_or_the_trusted_one_in_postgres() {
    with_a_dead_battery_times_are_those_of_devices_or_the_trusted_one(Scene::new(Some(Postgres::start())));
}

/// Returns status and `occurred_at` of the machine's events, in the order in which they were recorded.
fn events(scene: &Scene) -> Vec<(String, chrono::DateTime<chrono::Utc>)> {
    let sql = "SELECT status || ' ' || occurred_at AS value FROM machine_event WHERE machine_id = 'press-1' ORDER BY id";
    let words =
        Database::open(&scene.url).and_then(|mut database| database.try_words(sql)).unwrap_or_default();
    let read = |text: String| {
        let (status, at) = text.split_once(' ').unwrap();
        (status.to_owned(), instant(at))
    };
    words.into_iter().flatten().map(read).collect()
}

type Instant = chrono::DateTime<chrono::Utc>;

/// The statuses of the machine, in the order in which they happen.
const STATUSES: [&str; 7] = ["online", "offline", "online", "offline", "online", "offline", "online"];

fn last_seen(url: &str) -> Instant {
    let sql = "SELECT last_seen_at || '' AS value FROM machine";
    let words = Database::open(url).and_then(|mut database| database.try_words(sql));
    let text = words.unwrap_or_default().into_iter().flatten().next().unwrap_or_default();
    instant(&text)
}

/// Two of the events happened while the clock was an hour ahead.
fn events_follow_the_clock(recorded: &[(String, Instant)], begun: Instant) {
    let statuses: Vec<_> = recorded.iter().map(|(status, _)| status.as_str()).collect();
    assert_eq!(statuses, STATUSES);
    let now = chrono::Utc::now();
    for (nth, (_, at)) in recorded.iter().enumerate() {
        let ahead = chrono::Duration::hours(i64::from((2..4).contains(&nth)));
        assert!(begun + ahead < *at && *at < now + ahead, "{nth} of {recorded:?}");
    }
    let apart = recorded.windows(2).map(|two| (two[1].1 - two[0].1).num_microseconds());
    assert!(apart.into_iter().all(|micros| micros != Some(1)), "{recorded:?}");
}

fn api_and_board_list_events_in_their_order(client: &Client, recorded: &[(String, Instant)], begun: Instant) {
    let listed = client.json("/api/v1/events?machine_id=press-1");
    let listed = listed["events"].as_array().unwrap().iter().rev().map(|event| {
        let at: chrono::DateTime<chrono::Utc> = event["occurred_at"].as_str().unwrap().parse().unwrap();
        (event["status"].as_str().unwrap().to_owned(), at)
    });
    assert_eq!(listed.collect::<Vec<_>>(), recorded);
    let page = client.get("/machines/press-1").body;
    assert!(page.contains("Changes"), "{page}");
    let listed = page.split("<ol>").nth(1).unwrap().split("</ol>").next().unwrap();
    let words: Vec<_> =
        listed.split("data-state=\"").skip(1).map(|li| li.split('"').next().unwrap()).collect();
    assert_eq!(words, STATUSES);
    let machine = client.json("/api/v1/machines/press-1");
    let seen: chrono::DateTime<chrono::Utc> = machine["last_seen_at"].as_str().unwrap().parse().unwrap();
    assert!(begun < seen && seen < chrono::Utc::now(), "{machine}");
}

fn last_seen_and_events_are_right_once_the_clock_is_right(scene: Scene) {
    const HOUR_MICROS: i64 = 3_600_000_000;
    let begun = chrono::Utc::now();
    let mut andon = scene.run();
    andon.wait_until_seeing();
    let last_seen = || last_seen(&scene.url);
    let gone = |changes: usize| {
        Single::connect(scene.broker.port()).publish("factory/machine/press-1/lwt", b"gone", 1);
        wait_until("the last will's event", || events(&scene).len() == changes);
    };
    scene.publish(r#"{"temperature":1}"#, 1);
    gone(2);
    scene.turn(HOUR_MICROS);
    scene.publish(r#"{"temperature":2}"#, 2);
    gone(4);
    assert!(last_seen() > begun + chrono::Duration::minutes(59), "{}", last_seen());

    scene.turn(0);
    scene.publish(r#"{"temperature":3}"#, 3);
    wait_until("the return", || events(&scene).len() == 5);
    let now = chrono::Utc::now();
    assert!(begun < last_seen() && last_seen() < now, "{}", last_seen());
    gone(6);
    scene.publish(r#"{"temperature":4}"#, 4);
    wait_until("the return", || events(&scene).len() == 7);
    let recorded = events(&scene);
    events_follow_the_clock(&recorded, begun);
    api_and_board_list_events_in_their_order(&Client::new(&andon.wait_for_http()), &recorded, begun);

    // The next process continues from there.
    assert!(andon.stop().success());
    let mut andon = scene.run();
    andon.wait_until_seeing();
    let before = last_seen();
    scene.publish(r#"{"temperature":5}"#, 5);
    assert!(before < last_seen() && last_seen() < chrono::Utc::now());
    gone(8);
    assert_eq!(events(&scene)[..7], recorded[..]);
    assert!(andon.stop().success());
}

#[test]
fn last_seen_and_events_are_right_once_the_clock_is_right_in_sqlite() {
    last_seen_and_events_are_right_once_the_clock_is_right(Scene::new(None));
}

#[test]
fn last_seen_and_events_are_right_once_the_clock_is_right_in_postgres() {
    last_seen_and_events_are_right_once_the_clock_is_right(Scene::new(Some(Postgres::start())));
}
