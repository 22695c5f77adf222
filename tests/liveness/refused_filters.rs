//! A filter that the broker refuses makes only the machines that come through it unknown; another broker is
//! tried.

use crate::machines::wait_for_events;
use crate::support::andon::{Andon, Site};
use crate::support::database::{Database, rows_stored};
use crate::support::dynamic_security::{self, allow_all};
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;
use crate::support::scripted_broker::{Answer, ScriptedBroker, connack_5, puback, suback_5};

const FILTERS: &str = "mqtt.subscriptions=factory/machine/+/telemetry,old/machine/+/telemetry";

/// Returns a broker that refuses `old/…` until everything is allowed.
fn broker_that_refuses(directory: &std::path::Path) -> Mosquitto {
    dynamic_security::start(directory, &["factory/#", "andon/#"])
}

fn speak(broker: &Mosquitto, topic: &str) {
    Single::connect(broker.port()).publish(topic, br#"{"temperature":1}"#, 1);
}

fn shown(client: &Client, machine: &str) -> String {
    client.json(&format!("/api/v1/machines/{machine}"))["status"].as_str().unwrap().to_owned()
}

fn broker_state(client: &Client) -> String {
    client.json("/api/v1/status")["broker"]["state"].as_str().unwrap().to_owned()
}

fn events(url: &str, machine: &str) -> i64 {
    let sql = format!("SELECT count(*) AS value FROM machine_event WHERE machine_id = '{machine}'");
    Database::open(url).unwrap().number(&sql)
}

/// Returns the outages of refused filters.
fn outages(url: &str) -> Vec<String> {
    let sql = "SELECT reason || CASE WHEN ended_at IS NULL THEN ', lasting' ELSE ', over' END AS value FROM link_outage \
        WHERE reason = 'filter_refused' ORDER BY began_at";
    Database::open(url).unwrap().words(sql).into_iter().flatten().collect()
}

fn start(site: &Site) -> (Andon, Client) {
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    (andon, client)
}

/// Proves TRK-11, OUT-3.
#[test]
fn a_refused_filter_makes_only_the_machines_that_come_through_it_unknown() {
    for protocol in ["5", "3.1.1"] {
        let directory = tempfile::tempdir().unwrap();
        let broker = broker_that_refuses(directory.path());
        allow_all(&broker, true);
        let site = Site::new(broker.port())
            .set(FILTERS)
            .set(&format!("mqtt.protocol={protocol}"))
            .set("liveness.offline_after=1s");
        let url = site.sqlite_url();
        let (mut andon, _) = start(&site);
        andon.wait_until_connected();
        speak(&broker, "old/machine/old-1/telemetry");
        speak(&broker, "factory/machine/press-1/telemetry");
        wait_until("both rows", || rows_stored(&url) == 2);
        assert!(andon.stop().success());
        allow_all(&broker, false);
        let known = events(&url, "old-1");

        let (mut andon, client) = start(&site);
        andon.wait_for_log("a subscription was refused");
        speak(&broker, "factory/machine/press-1/telemetry");
        wait_until("press-1 is seen", || shown(&client, "press-1") == "online");
        assert_eq!(shown(&client, "old-1"), "unknown");
        wait_until("press-1 falls silent", || shown(&client, "press-1") == "offline");
        // It is requested again all the while, and logged once.
        speak(&broker, "factory/machine/press-1/telemetry");
        wait_until("press-1 is back", || shown(&client, "press-1") == "online");
        wait_until("press-1 is silent again", || shown(&client, "press-1") == "offline");
        assert_eq!((shown(&client, "old-1").as_str(), events(&url, "old-1")), ("unknown", known));
        let why =
            |machine: &str| client.json(&format!("/api/v1/machines/{machine}"))["unknown_reason"].clone();
        assert_eq!((why("old-1"), why("press-1")), ("filter_refused".into(), serde_json::Value::Null));
        assert_eq!(broker_state(&client), "restricted");
        assert_eq!(client.get("/readyz").status, 503);
        let page = client.get("/metrics").body;
        assert!(page.contains("andon_broker_connected 0"), "{page}");
        assert!(page.contains(r#"andon_broker_state{state="restricted"} 1"#), "{page}");
        wait_until("the outage", || outages(&url) == ["filter_refused, lasting"]);
        let log = andon.log();
        assert_eq!(log.matches("a subscription was refused").count(), 1, "{log}");
        assert!(!log.contains("the link to the broker is down"), "{log}");

        allow_all(&broker, true);
        andon.wait_until_connected();
        speak(&broker, "old/machine/old-1/telemetry");
        wait_until("old-1 is seen", || shown(&client, "old-1") == "online");
        wait_until("old-1 falls silent", || shown(&client, "old-1") == "offline");
        assert_eq!(broker_state(&client), "connected");
        wait_until("its end", || outages(&url) == ["filter_refused, over"]);
        let all = [
            "online - first_seen",
            "offline online silence",
            "online offline message",
            "offline online silence",
        ];
        wait_for_events(&url, "old-1", if known == 1 { &all[..2] } else { &all });
        assert!(andon.stop().success());
    }
}

#[test]
fn another_broker_is_tried_after_a_while_and_less_and_less_often_if_all_refuse() {
    let refusing = || {
        ScriptedBroker::start(|packet| match packet.head >> 4 {
            1 => Answer::Send(connack_5(0, "")),
            8 if packet.body.windows(4).any(|bytes| bytes == b"old/") => {
                Answer::Send(suback_5(packet, 0x87, "not that one"))
            }
            8 => Answer::Send(suback_5(packet, 1, "")),
            3 => Answer::Send(puback(packet)),
            _ => Answer::Send(Vec::new()),
        })
    };
    let (first, second) = (refusing(), refusing());
    let site = Site::new(1883)
        .without("mqtt.host")
        .set(&format!("mqtt.hosts=127.0.0.1:{},127.0.0.1:{}", first.port(), second.port()))
        .set("mqtt.protocol=5")
        .set("mqtt.backoff_min=100ms")
        .set("mqtt.backoff_max=200ms")
        .set("liveness.publish_prefix=")
        .set(FILTERS);
    let mut andon = site.run();
    let asked = |broker: &ScriptedBroker, connection: usize| {
        let packets = broker.packets();
        let of_it = packets.iter().filter(|packet| packet.connection == connection && packet.is_subscribe());
        of_it.filter(|packet| packet.body.windows(4).any(|bytes| bytes == b"old/")).count()
    };
    wait_until("the first broker again", || first.connects().len() == 2);
    wait_until("the second broker again", || second.connects().len() == 2);
    // Once at the connection, and 3, 6 and 12 times after it.
    assert_eq!([asked(&first, 0), asked(&second, 0), asked(&first, 1)], [4, 7, 13]);
    assert!(andon.is_running());
    let log = andon.log();
    assert!(log.contains("keeps refusing a subscription; trying the next broker"), "{log}");
    andon.signal("KILL");
    andon.wait();
}

#[test]
fn andon_moves_to_a_broker_that_grants_everything() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (broker_that_refuses(directory.path()), Mosquitto::start(""));
    let site = Site::new(1883)
        .without("mqtt.host")
        .set(&format!("mqtt.hosts=127.0.0.1:{},127.0.0.1:{}", first.port(), second.port()))
        .set(FILTERS);
    let (mut andon, client) = start(&site);
    andon.wait_for_log("a subscription was refused");
    andon.wait_until_connected();
    assert_eq!(broker_state(&client), "connected");
    speak(&second, "old/machine/old-1/telemetry");
    wait_until("its row", || rows_stored(&site.sqlite_url()) == 1);
    assert!(andon.stop().success());
}
