//! Several brokers, and how often Andon tries one.

use std::time::Duration;

use crate::support::andon::Site;
use crate::support::database::rows_stored;
use crate::support::mosquitto::{FreePort, Mosquitto};
use crate::support::poll::wait_until;
use crate::support::publisher;
use crate::support::scripted_broker::{Answer, ScriptedBroker, connack_5};

const TOPIC: &str = "factory/machine/{machine}/telemetry";

#[test]
fn of_several_brokers_one_that_works_is_found_and_kept_until_it_fails() {
    let mut first = Mosquitto::start("");
    let mut second = Mosquitto::start("");
    let nobody = FreePort::find();
    let refusing = ScriptedBroker::start(|_| Answer::SendAndClose(connack_5(0x87, "")));
    let (a, b, no) = (first.port(), second.port(), refusing.port());
    let site = Site::new(1883)
        .without("mqtt.host")
        .set(&format!("mqtt.hosts=127.0.0.1:{nobody},127.0.0.1:{no},127.0.0.1:{a},127.0.0.1:{b}"));
    let mut andon = site.run();
    andon.wait_for_log(&format!("uri: tcp://127.0.0.1:{a}, protocol: 5"));
    publisher::publish_numbered(a, TOPIC, 2, 0..20, 1);
    wait_until("the rows from the first", || rows_stored(&site.sqlite_url()) == 20);
    assert_eq!(refusing.connects().len(), 1, "asked once, before the one that works");

    first.stop();
    andon.wait_for_log(&format!("uri: tcp://127.0.0.1:{b}, protocol: 5"));
    publisher::publish_numbered(b, TOPIC, 2, 20..40, 1);
    wait_until("the rows from the second", || rows_stored(&site.sqlite_url()) == 40);

    // The first is back, but the second stays in use until it fails in turn.
    first.restart();
    publisher::publish_numbered(b, TOPIC, 2, 40..60, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 60);
    assert_eq!(andon.connections(), 2, "{}", andon.log());
    second.stop();
    wait_until("the first again", || andon.connections() == 3);
    publisher::publish_numbered(a, TOPIC, 2, 60..80, 1);
    wait_until("the rows from the first again", || rows_stored(&site.sqlite_url()) == 80);
    assert!(andon.stop().success());
}

/// Proves MQTT-5.
#[test]
fn at_the_cap_a_broker_sees_at_most_one_connect_in_backoff_max() {
    const BACKOFF_MAX: Duration = Duration::from_millis(800);
    let broker = ScriptedBroker::start(|_| Answer::SendAndClose(connack_5(0x88, "")));
    let site = Site::new(broker.port())
        .set("mqtt.protocol=5")
        .set("mqtt.backoff_min=100ms")
        .set(&format!("mqtt.backoff_max={}ms", BACKOFF_MAX.as_millis()));
    let mut andon = site.run();
    wait_until("a dozen connects", || broker.connects().len() >= 12);
    let connects = broker.connects();
    let waits: Vec<Duration> = connects.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    // 100, 200, 400 ms, then the cap. The wait begins after the broker has seen the connect, so it cannot look too short.
    assert!(waits[3..].iter().all(|wait| *wait >= BACKOFF_MAX), "{waits:?}");
    // A busy computer may have delayed one of them.
    assert!(waits[..3].iter().any(|wait| *wait < BACKOFF_MAX), "the first waits are short: {waits:?}");
    assert!(andon.is_running());
    assert!(andon.stop().success());
}
