//! Our own downtime, link losses and backlogs make no machine offline, and are written down.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::{Andon, Site};
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;

/// `reason open|closed` of our own outages, oldest first; those that end before they begin would be `wrong`.
fn outages(url: &str) -> Vec<String> {
    let sql = "SELECT reason || CASE WHEN ended_at IS NULL THEN ' open' WHEN ended_at < began_at THEN ' wrong' \
               ELSE ' closed' END AS value FROM link_outage ORDER BY began_at";
    let words = Database::open(url).and_then(|mut database| database.try_words(sql)).unwrap_or_default();
    words.into_iter().flatten().collect()
}

fn wait_for_outages(url: &str, expected: &[&str]) {
    wait_until(&format!("{expected:?}, found {:?}", outages(url)), || outages(url) == expected);
}

#[test]
fn each_time_in_which_we_could_not_see_is_written_down_once_with_its_reason() {
    let mut broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    wait_for_outages(&url, &[]);
    broker.stop();
    wait_for_outages(&url, &["link_down open"]);
    broker.restart();
    wait_for_outages(&url, &["link_down closed"]);
    assert!(andon.stop().success());
    assert_eq!(outages(&url), ["link_down closed", "stopped open"]);

    let andon = site.run();
    wait_for_outages(&url, &["link_down closed", "stopped closed"]);
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    andon.kill();
    let andon = site.run();
    let all = ["link_down closed", "stopped closed", "start closed"];
    wait_for_outages(&url, &all);
    let mut database = Database::open(&url).unwrap();
    let overlaps = "SELECT count(*) AS value FROM link_outage a JOIN link_outage b \
                    ON a.id < b.id AND a.began_at < b.ended_at AND b.began_at < a.ended_at";
    assert_eq!(database.number(overlaps), 0);
    let after_the_message =
        "SELECT count(*) AS value FROM link_outage, machine WHERE began_at = last_seen_at";
    assert_eq!(database.number(after_the_message), 1, "killed: blind from the last message on");
    assert!(andon.stop().success());
}

#[test]
fn a_backlog_of_our_own_downtime_makes_no_false_event() {
    const OFFLINE_AFTER: Duration = Duration::from_secs(4);
    let broker = Mosquitto::start("");
    let offline_after = format!("liveness.offline_after={}s", OFFLINE_AFTER.as_secs());
    let site = Site::new(broker.port()).set(&offline_after);
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    assert!(andon.stop().success());
    for _ in 0..50 {
        speak(&mut single, "press-1");
        speak(&mut single, "press-2");
    }
    // Longer than offline_after: whoever counted our own downtime would say offline.
    std::thread::sleep(OFFLINE_AFTER + Duration::from_millis(500));
    let seen_again = chrono::Utc::now();
    let mut andon = site.run();
    andon.wait_until_connected();
    wait_for_events(&url, "press-2", &["online - first_seen", "offline online silence"]);
    wait_for_events(&url, "press-1", &["online - first_seen", "offline online silence"]);
    let mut database = Database::open(&url).unwrap();
    let earliest = (seen_again + OFFLINE_AFTER).format("%Y-%m-%d %H:%M:%S%.6f");
    let too_early = format!(
        "SELECT count(*) AS value FROM machine_event WHERE reason = 'silence' AND occurred_at < '{earliest}'"
    );
    assert_eq!(
        database.number(&too_early),
        0,
        "each had offline_after to speak, counted from when we saw again"
    );
    assert!(andon.stop().success());
}

#[test]
fn retained_telemetry_is_no_sign_of_life_at_any_reconnect() {
    let mut broker = Mosquitto::start("");
    let port = broker.port();
    let published = Command::new("mosquitto_pub")
        .args(["-p", &port.to_string(), "-q", "1", "-r", "-t", "factory/machine/press-1/telemetry"])
        .args(["-m", r#"{"machine_id":"press-1","temperature":20,"timestamp":"2026-01-02T03:04:05Z"}"#])
        .status()
        .unwrap();
    assert!(published.success());
    let site = Site::new(port);
    let url = site.sqlite_url();
    let mut andon = site.run();
    for connects in 1..=3 {
        wait_until("the link", || andon.log().matches("connected to the broker").count() == connects);
        let marker = format!("press-2-{connects}");
        speak(&mut Single::connect(port), &marker);
        wait_for_events(&url, &marker, &["online - first_seen"]);
        assert_eq!(events(&url, "press-1"), Vec::<String>::new());
        if connects < 3 {
            broker.restart();
        }
    }
    let mut database = Database::open(&url).unwrap();
    let stored = "SELECT count(*) AS value FROM machine_telemetry WHERE machine_id = 'press-1'";
    assert_eq!(database.number(stored), 1, "stored once, however often it came");
    andon.wait_for_log("status");
    assert!(andon.stop().success());
}

/// A gateway: many machines speak through its one connection, every second, whether or not the broker listens.
struct Gateway {
    child: Child,
    writer: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Gateway {
    fn start(port: u16, machines: usize) -> Self {
        let mut child = Command::new("mosquitto_pub")
            .args(["-p", &port.to_string(), "-q", "0", "-l", "-t", "factory/machine/x/telemetry"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, over) = (child.stdin.take().unwrap(), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&over);
        let writer = std::thread::spawn(move || speak_on(stdin, machines, &is_over));
        Self { child, writer: Some(writer), over }
    }
}

fn speak_on(mut stdin: ChildStdin, machines: usize, is_over: &AtomicBool) {
    let mut order: Vec<usize> = (0..machines).collect();
    while !is_over.load(Ordering::Relaxed) {
        // Whoever spoke first the last time speaks last: the first deadline is that of the last word in the broker's queue.
        order.reverse();
        let lines: String =
            order.iter().map(|number| format!("{{\"machine_id\":\"m-{number}\"}}\n")).collect();
        if stdin.write_all(lines.as_bytes()).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _written = self.writer.take().map(JoinHandle::join);
    }
}

type Act = fn(&Mosquitto, &Andon);
const FREEZE: Act = |broker, _| broker.freeze();
const THAW: Act = |broker, _| broker.thaw();
const STOP: Act = |_, andon| andon.signal("STOP");
const CONTINUE: Act = |_, andon| andon.signal("CONT");

/// A gateway goes on speaking for thousands of machines, each about once a second, while somebody stands still.
fn nobody_is_offline_after_a_standstill(settings: &[&str], standstill: Duration, freeze: Act, thaw: Act) {
    const MACHINES: usize = 3_000;
    let broker = Mosquitto::start("");
    let site = settings.iter().fold(Site::new(broker.port()), |site, setting| site.set(setting));
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    let gateway = Gateway::start(broker.port(), MACHINES);
    let mut database = Database::open(&url).unwrap();
    let first_seen = "SELECT count(*) AS value FROM machine_event WHERE reason = 'first_seen'";
    wait_until("all of them", || database.number(first_seen) == MACHINES as i64);
    speak(&mut Single::connect(broker.port()), "silent");
    wait_for_events(&url, "silent", &["online - first_seen"]);
    freeze(&broker, &andon);
    // With the second before it, it is longer than offline_after: whoever believed the first answer after it would say offline
    // of all.
    std::thread::sleep(standstill);
    thaw(&broker, &andon);
    // Its deadline and theirs passed at the same time: once it is judged, so are they.
    wait_for_events(&url, "silent", &["online - first_seen", "offline online silence"]);
    let silences = "SELECT count(*) AS value FROM machine_event WHERE reason = 'silence'";
    assert_eq!(database.number(silences), 1, "{}", andon.log());
    assert_eq!(andon.log().matches("connected to the broker").count(), 1, "the link was never lost");
    drop(gateway);
    assert!(andon.stop().success());
}

#[test]
fn m8_a_broker_that_was_frozen_makes_no_machine_offline_that_spoke_meanwhile() {
    nobody_is_offline_after_a_standstill(
        &["liveness.offline_after=5s"],
        Duration::from_secs(8),
        FREEZE,
        THAW,
    );
}

#[test]
fn m8_nor_does_one_that_thaws_just_before_their_time_is_over() {
    let standstill = Duration::from_millis(4_750);
    nobody_is_offline_after_a_standstill(&["liveness.offline_after=5s"], standstill, FREEZE, THAW);
}

#[test]
fn m8_nor_does_a_frozen_broker_to_which_nothing_is_published() {
    let settings = ["liveness.offline_after=5s", "liveness.publish_prefix="];
    nobody_is_offline_after_a_standstill(&settings, Duration::from_secs(8), FREEZE, THAW);
}

#[test]
fn m8_a_standstill_of_our_own_makes_no_machine_offline_that_spoke_meanwhile() {
    nobody_is_offline_after_a_standstill(
        &["liveness.offline_after=5s"],
        Duration::from_secs(8),
        STOP,
        CONTINUE,
    );
}

#[test]
fn m8_nor_does_one_that_is_hardly_longer_than_their_time() {
    let standstill = Duration::from_millis(2_900);
    nobody_is_offline_after_a_standstill(&["liveness.offline_after=2500ms"], standstill, STOP, CONTINUE);
}

#[test]
fn t4_a_message_that_the_session_delivers_while_subscriptions_are_checked_is_a_sign_of_life() {
    let mut broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=1h");
    let mut andon = site.run_with("mqtt::subscribe=sleep(1000)");
    let address = andon.wait_for_http();
    andon.wait_until_seeing();
    speak(&mut Single::connect(broker.port()), "press-1");
    let shown = || Client::new(&address).json("/api/v1/machines/press-1")["status"].clone();
    wait_until("it to be online", || shown() == "online");
    broker.restart();
    wait_until("the loss to be noticed", || shown() == "unknown");
    // The broker keeps it for the session, which gets it at once; "up" is said a second later.
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_until("it to be online again", || shown() == "online");
    assert_eq!(events(&site.sqlite_url(), "press-1"), ["online - first_seen"], "{}", andon.log());
    assert!(andon.stop().success());
}

#[test]
fn a_last_will_that_the_broker_retains_is_news_when_it_comes_and_not_at_each_reconnect() {
    let mut broker = Mosquitto::start("");
    // With 3.1.1 a broker hands over what it retains at each subscribe.
    let site = Site::new(broker.port())
        .set("liveness.offline_after=1h")
        .set("mqtt.protocol=3.1.1")
        .configure("[[liveness.last_will]]\nfilter = \"factory/machine/+/lwt\"\npayload = \"gone\"");
    let url = site.sqlite_url();
    let port = broker.port().to_string();
    let say_gone = || {
        let retained = ["-p", &port, "-q", "1", "-r", "-t", "factory/machine/press-1/lwt", "-m", "gone"];
        assert!(Command::new("mosquitto_pub").args(retained).status().unwrap().success());
    };
    say_gone();
    let mut andon = site.run();
    andon.wait_until_seeing();
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    say_gone();
    wait_for_events(&url, "press-1", &["online - first_seen", "offline online last_will"]);
    speak(&mut Single::connect(broker.port()), "press-1");
    let all = ["online - first_seen", "offline online last_will", "online offline message"];
    wait_for_events(&url, "press-1", &all);
    broker.restart();
    wait_until("the link", || andon.log().matches("connected to the broker").count() == 2);
    speak(&mut Single::connect(broker.port()), "press-2");
    wait_for_events(&url, "press-2", &["online - first_seen"]);
    assert_eq!(events(&url, "press-1"), all, "{}", andon.log());
    let mut database = Database::open(&url).unwrap();
    let control = "SELECT control AS value FROM ingest_checkpoint";
    assert_eq!(database.number(control), 3, "at the first subscribe, when it came, and at the second");
    assert!(andon.stop().success());
}
