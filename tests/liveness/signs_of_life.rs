//! Which messages are signs of life, and which retained ones are not.

use std::process::Command;

use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;

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
        wait_until("the link", || andon.connections() == connects);
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
    assert_eq!(database.number(stored), 1, "stored once, however often the broker delivers it");
    andon.wait_for_log("status");
    assert!(andon.stop().success());
}

/// Proves TRK-4.
#[test]
fn a_message_delivered_while_subscriptions_are_checked_is_a_sign_of_life() {
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
    // The broker delivers it as soon as the session is back; the link counts as up a second later.
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_until("it to be online again", || shown() == "online");
    assert_eq!(events(&site.sqlite_url(), "press-1"), ["online - first_seen"], "{}", andon.log());
    assert!(andon.stop().success());
}

#[test]
fn a_retained_last_will_counts_when_it_is_published_and_not_at_each_reconnect() {
    let mut broker = Mosquitto::start("");
    // With 3.1.1 a broker delivers its retained messages at each subscribe.
    let site = Site::new(broker.port())
        .set("liveness.offline_after=1h")
        .set("mqtt.protocol=3.1.1")
        .configure("[[liveness.last_will]]\nfilter = \"factory/machine/+/lwt\"\npayload = \"gone\"");
    let url = site.sqlite_url();
    let port = broker.port().to_string();
    let publish_last_will = || {
        let retained = ["-p", &port, "-q", "1", "-r", "-t", "factory/machine/press-1/lwt", "-m", "gone"];
        assert!(Command::new("mosquitto_pub").args(retained).status().unwrap().success());
    };
    publish_last_will();
    let mut andon = site.run();
    andon.wait_until_seeing();
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    publish_last_will();
    wait_for_events(&url, "press-1", &["online - first_seen", "offline online last_will"]);
    speak(&mut Single::connect(broker.port()), "press-1");
    let all = ["online - first_seen", "offline online last_will", "online offline message"];
    wait_for_events(&url, "press-1", &all);
    broker.restart();
    wait_until("the link", || andon.connections() == 2);
    speak(&mut Single::connect(broker.port()), "press-2");
    wait_for_events(&url, "press-2", &["online - first_seen"]);
    assert_eq!(events(&url, "press-1"), all, "{}", andon.log());
    let mut database = Database::open(&url).unwrap();
    let control = "SELECT control AS value FROM ingest_checkpoint";
    assert_eq!(database.number(control), 3, "at the first subscribe, when it came, and at the second");
    assert!(andon.stop().success());
}
