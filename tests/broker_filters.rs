//! The filters of a session: those that leave the configuration are ended, and shared ones work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::{self, Single};
use crate::support::scripted_broker::{
    Answer, ScriptedBroker, connack_5, connack_5_session_present, puback, suback_5, unsuback_5,
};

const TOPIC: &str = "factory/machine/{machine}/telemetry";
const OLD_TOPIC: &str = "old/machine/{machine}/telemetry";
const BOTH_FILTERS: &str = "mqtt.subscriptions=factory/machine/+/telemetry,old/machine/+/telemetry";
const ONE_FILTER: &str = "mqtt.subscriptions=factory/machine/+/telemetry";

#[test]
fn a_filter_that_is_no_longer_configured_is_unsubscribed_at_the_next_start() {
    for protocol in ["5", "3.1.1"] {
        let broker = Mosquitto::start("");
        let site = Site::new(broker.port()).set(&format!("mqtt.protocol={protocol}"));
        let both = site.set("mqtt.subscriptions=factory/machine/+/telemetry,old/machine/+/telemetry");
        let mut andon = both.run();
        andon.wait_until_connected();
        publisher::publish_numbered(broker.port(), "old/machine/{machine}/telemetry", 2, 0..10, 1);
        wait_until("the rows", || rows_stored(&both.sqlite_url()) == 10);
        assert!(andon.stop().success());

        let fewer = both.set("mqtt.subscriptions=factory/machine/+/telemetry");
        let mut andon = fewer.run();
        andon.wait_until_connected();
        let log = andon.log();
        let line = log.lines().find(|line| line.contains("unsubscribed from a filter")).unwrap();
        assert!(line.contains("filter: old/machine/+/telemetry"), "{line}");
        publisher::publish_numbered(broker.port(), "old/machine/{machine}/telemetry", 2, 10..20, 1);
        publisher::publish_numbered(broker.port(), TOPIC, 2, 20..30, 1);
        wait_until("the rows of the other", || rows_stored(&fewer.sqlite_url()) == 20);
        let messages = "SELECT messages AS value FROM ingest_checkpoint";
        assert_eq!(Database::open(&fewer.sqlite_url()).unwrap().number(messages), 20, "nothing else came");
        assert!(andon.stop().success());

        let mut andon = fewer.run();
        andon.wait_until_connected();
        assert!(!andon.log().contains("unsubscribed"), "unsubscribed twice:\n{}", andon.log());
        assert!(andon.stop().success());
    }
}

/// A broker that never drops the session, and refuses every UNSUBSCRIBE while `refuses` is set.
fn stubborn_broker(refuses: &Arc<AtomicBool>) -> ScriptedBroker {
    let refuses = Arc::clone(refuses);
    ScriptedBroker::start(move |packet| {
        Answer::Send(match packet.head >> 4 {
            1 if packet.connection == 0 => connack_5(0, ""),
            1 => connack_5_session_present(),
            3 => puback(packet),
            8 => suback_5(packet, 1, ""),
            10 if refuses.load(Ordering::SeqCst) => unsuback_5(packet, 0x87, "not you"),
            10 => unsuback_5(packet, 0, ""),
            _ => Vec::new(),
        })
    })
}

#[test]
fn a_refused_unsubscribe_is_logged_and_repeated_at_the_next_connect() {
    const OLD: &str = "old/machine/+/telemetry";
    let refuses = Arc::new(AtomicBool::new(true));
    let broker = stubborn_broker(&refuses);
    let asked = || broker.packets().iter().filter(|packet| packet.ends(OLD)).count();
    let site = Site::new(broker.port()).set("mqtt.protocol=5").set(BOTH_FILTERS);
    let mut andon = site.run();
    andon.wait_until_connected();
    assert!(andon.stop().success());
    assert_eq!(asked(), 0);

    let fewer = site.set(ONE_FILTER);
    for round in 1..=2 {
        let mut andon = fewer.run();
        andon.wait_until_connected();
        let log = andon.log();
        let line =
            log.lines().find(|line| line.contains("keeps a filter that is no longer configured")).unwrap();
        assert!(line.contains(OLD) && line.contains("not authorised") && line.contains("not you"), "{line}");
        assert!(!log.contains("unsubscribed from a filter"), "{log}");
        assert_eq!(asked(), round);
        assert!(andon.stop().success());
    }
    refuses.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        let mut andon = fewer.run();
        andon.wait_until_connected();
        assert!(!andon.log().contains("keeps a filter"), "{}", andon.log());
        assert!(andon.stop().success());
        assert_eq!(asked(), 3, "once it has ended, Andon does not ask again");
    }
}

fn hosts(ports: [u16; 2]) -> String {
    format!("mqtt.hosts=127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1])
}

/// Publishes to both filters, and asserts that only messages of the configured one arrive.
fn gets_only_what_is_configured(site: &Site, port: u16) {
    publisher::publish_numbered(port, OLD_TOPIC, 2, 0..10, 1);
    publisher::publish_numbered(port, TOPIC, 2, 10..20, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 10);
    let messages = "SELECT messages AS value FROM ingest_checkpoint";
    assert_eq!(Database::open(&site.sqlite_url()).unwrap().number(messages), 10, "nothing else came");
}

#[test]
fn each_broker_is_asked_to_end_a_removed_filter_when_it_is_next_connected() {
    let mut first = Mosquitto::start("");
    let mut second = Mosquitto::start("");
    let site = Site::new(1883).without("mqtt.host").set(&hosts([first.port(), second.port()]));
    let both = site.set(BOTH_FILTERS);
    let mut andon = both.run();
    andon.wait_until_connected();
    first.stop();
    wait_until("the second broker", || andon.connections() == 2);
    assert!(andon.stop().success());

    let fewer = both.set(ONE_FILTER);
    let mut andon = fewer.run();
    andon.wait_until_connected();
    let ended = |log: &str| log.matches("unsubscribed from a filter").count();
    assert_eq!(ended(&andon.log()), 1, "{}", andon.log());
    first.restart();
    second.stop();
    wait_until("the first broker", || andon.connections() == 2);
    assert_eq!(ended(&andon.log()), 2, "{}", andon.log());
    gets_only_what_is_configured(&fewer, first.port());
    assert!(andon.stop().success());
}

#[test]
fn a_removed_filter_is_ended_also_through_another_broker_of_the_cluster() {
    // Two addresses of one broker: one session, as in a cluster.
    let cluster = Mosquitto::start_with_listener("127.0.0.1", "");
    let site = Site::new(1883).without("mqtt.host");
    let both = site.set(BOTH_FILTERS).set(&hosts([cluster.port(), cluster.second_port()]));
    let mut andon = both.run();
    andon.wait_until_connected();
    assert!(andon.stop().success());

    let fewer = both.set(ONE_FILTER).set(&hosts([cluster.second_port(), cluster.port()]));
    let mut andon = fewer.run();
    andon.wait_for_log("unsubscribed from a filter");
    andon.wait_until_connected();
    gets_only_what_is_configured(&fewer, cluster.port());
    assert!(andon.stop().success());
}

#[test]
fn a_shared_subscription_gives_readings_of_the_right_machine() {
    for protocol in ["5", "3.1.1"] {
        let broker = Mosquitto::start("");
        let site = Site::new(broker.port())
            .set(&format!("mqtt.protocol={protocol}"))
            .configure("[mqtt]\nsubscriptions = [{ filter = \"$share/andon/plant/+/+/data\", machine_segment = 2 }, \"factory/machine/+/telemetry\"]");
        let mut andon = site.run();
        andon.wait_until_connected();
        let mut single = Single::connect(broker.port());
        single.publish(
            "plant/oven-7/line/data",
            br#"{"temperature":1,"timestamp":"2026-01-01T00:00:00Z"}"#,
            1,
        );
        single.publish("factory/machine/press-1/telemetry", br#"{"temperature":2}"#, 1);
        let url = site.sqlite_url();
        wait_until("both rows", || rows_stored(&url) == 2);
        let readings =
            "SELECT machine_id || ' ' || source_topic AS value FROM machine_telemetry ORDER BY temperature";
        let found = Database::open(&url).unwrap().words(readings);
        let expected = ["oven-7 plant/oven-7/line/data", "press-1 factory/machine/press-1/telemetry"];
        assert_eq!(found, expected.map(|words| Some(words.to_owned())));
        wait_until("both machines online", || {
            let online = "SELECT count(*) AS value FROM machine WHERE status = 'online'";
            Database::open(&url).unwrap().number(online) == 2
        });
        assert!(andon.stop().success());
    }
}
