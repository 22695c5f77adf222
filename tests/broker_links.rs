//! Several brokers, both protocols, what a broker says, and what its session holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::{FreePort, Mosquitto};
use crate::support::poll::wait_until;
use crate::support::publisher::{self, Single};
use crate::support::scripted_broker::{
    Answer, Packet, ScriptedBroker, connack_4, connack_5, connack_5_session_present, disconnect_5, puback,
    suback_4, suback_5, unsuback_5,
};

const TOPIC: &str = "factory/machine/{machine}/telemetry";

fn connections(log: &str) -> usize {
    log.matches("connected to the broker").count()
}

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
    assert_eq!(refusing.connects().len(), 1, "asked before, and once");

    first.stop();
    andon.wait_for_log(&format!("uri: tcp://127.0.0.1:{b}, protocol: 5"));
    publisher::publish_numbered(b, TOPIC, 2, 20..40, 1);
    wait_until("the rows from the second", || rows_stored(&site.sqlite_url()) == 40);

    // Back again: the second stays in use, until it fails in turn.
    first.restart();
    publisher::publish_numbered(b, TOPIC, 2, 40..60, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 60);
    assert_eq!(connections(&andon.log()), 2, "{}", andon.log());
    second.stop();
    wait_until("the first again", || connections(&andon.log()) == 3);
    publisher::publish_numbered(a, TOPIC, 2, 60..80, 1);
    wait_until("the rows from the first again", || rows_stored(&site.sqlite_url()) == 80);
    assert!(andon.stop().success());
}

#[test]
fn a_refusal_of_version_5_is_remembered_for_the_run() {
    let mut taken = 0;
    let broker = ScriptedBroker::start(move |packet| {
        if packet.is_connect() && packet.protocol_level() == 5 {
            Answer::SendAndClose(connack_5(0x84, ""))
        } else if packet.is_connect() {
            Answer::Send(connack_4(0))
        } else if packet.is_subscribe() {
            taken += 1;
            // Twice the connection ends as soon as it is complete.
            let suback = suback_4(packet, 1);
            if taken <= 2 { Answer::SendAndClose(suback) } else { Answer::Send(suback) }
        } else {
            Answer::Send(Vec::new())
        }
    });
    let site = Site::new(broker.port()).set("liveness.publish_prefix=");
    let mut andon = site.run();
    andon.wait_for_log("the broker refuses MQTT 5: continuing with 3.1.1");
    andon.wait_until_connected();
    wait_until("three connections with 3.1.1", || broker.connects().len() >= 4);
    let levels: Vec<u8> = broker.connects().iter().map(Packet::protocol_level).collect();
    assert_eq!(levels[0], 5);
    assert!(levels[1..].iter().all(|level| *level == 4), "asked for 5 again: {levels:?}");
    assert!(andon.stop().success());
}

#[test]
fn a_broker_that_hangs_up_on_version_5_is_spoken_to_in_3_1_1() {
    let broker = ScriptedBroker::start(|packet| match packet {
        _ if packet.is_connect() && packet.protocol_level() == 5 => Answer::SendAndClose(Vec::new()),
        _ if packet.is_connect() => Answer::Send(connack_4(0)),
        _ if packet.is_subscribe() => Answer::Send(suback_4(packet, 1)),
        _ => Answer::Send(Vec::new()),
    });
    let site = Site::new(broker.port()).set("liveness.publish_prefix=");
    let mut andon = site.run();
    andon.wait_for_log("the broker ends the connection in place of an answer");
    andon.wait_until_connected();
    assert!(andon.log().contains("protocol: 3.1.1"), "{}", andon.log());
    let levels: Vec<u8> = broker.connects().iter().map(Packet::protocol_level).collect();
    assert_eq!(levels, [5, 5, 4]);
    assert!(andon.stop().success());
}

#[test]
fn a_broker_that_is_silent_on_version_5_is_spoken_to_in_3_1_1() {
    let broker = ScriptedBroker::start(|packet| match packet {
        _ if packet.is_connect() && packet.protocol_level() == 4 => Answer::Send(connack_4(0)),
        _ if packet.is_subscribe() => Answer::Send(suback_4(packet, 1)),
        _ => Answer::Send(Vec::new()),
    });
    let site = Site::new(broker.port()).set("liveness.publish_prefix=").set("mqtt.connect_timeout=1s");
    let mut andon = site.run();
    andon.wait_for_log("the broker takes the connection and does not answer");
    andon.wait_until_connected();
    let log = andon.log();
    assert!(log.contains("continuing with MQTT 3.1.1") && log.contains("protocol: 3.1.1"), "{log}");
    assert_eq!(log.matches("no connection to the broker").count(), 1, "one line for one reason:\n{log}");
    let levels: Vec<u8> = broker.connects().iter().map(Packet::protocol_level).collect();
    assert_eq!(levels, [5, 5, 4]);
    assert!(andon.stop().success());
}

/// Takes every client of version 5 and every subscription.
fn willing_broker() -> ScriptedBroker {
    ScriptedBroker::start(|packet| match packet {
        _ if packet.is_connect() => Answer::Send(connack_5(0, "")),
        _ if packet.is_subscribe() => Answer::Send(suback_5(packet, 1, "")),
        _ => Answer::Send(Vec::new()),
    })
}

/// What the Maximum Packet Size of a CONNECT looks like.
fn maximum_packet_size(bytes: u32) -> Vec<u8> {
    [&[0x27], bytes.to_be_bytes().as_slice()].concat()
}

#[test]
fn version_5_bounds_packets_by_what_payloads_may_be() {
    for (setting, bytes) in [("mqtt.max_payload=1KiB", 4 << 20), ("mqtt.max_payload=3MiB", 6 << 20)] {
        let broker = willing_broker();
        let site = Site::new(broker.port()).set("liveness.publish_prefix=").set(setting);
        let mut andon = site.run();
        andon.wait_until_connected();
        let properties = broker.packets()[0].connect_properties().to_vec();
        let wanted = maximum_packet_size(bytes);
        assert!(properties.windows(wanted.len()).any(|window| window == wanted), "{setting}: {properties:?}");
        andon.signal("KILL");
        andon.wait();
    }
}

/// Proves MQTT-2.
#[test]
fn version_5_asks_for_what_is_configured() {
    let broker = willing_broker();
    let site = Site::new(broker.port())
        .set("liveness.publish_prefix=")
        .set("mqtt.session_expiry=1h")
        .set("mqtt.max_packet=1MB")
        .set("mqtt.receive_maximum=77");
    let mut andon = site.run();
    andon.wait_until_connected();
    let packets = broker.packets();
    let properties = packets[0].connect_properties();
    let expiry = [&[0x11], 3600_u32.to_be_bytes().as_slice()].concat();
    let receive_maximum = [&[0x21], 77_u16.to_be_bytes().as_slice()].concat();
    for wanted in [expiry, receive_maximum, maximum_packet_size(1_000_000)] {
        assert!(properties.windows(wanted.len()).any(|window| window == wanted), "{properties:?}");
    }
    assert_eq!(packets[0].body[7] & 0x02, 0, "no clean start");
    let subscribe = packets.iter().find(|packet| packet.is_subscribe()).unwrap();
    let options = *subscribe.body.last().unwrap();
    assert_eq!(options, 0x10 | 1, "QoS 1, retained messages only for a new subscription");
    andon.signal("KILL");
    andon.wait();
}

#[test]
fn qos_2_is_asked_for_with_version_5_only() {
    // The last byte of a SUBSCRIBE: QoS, and with 5 when retained messages are wanted.
    for (protocol, asked) in [("5", 0x10 | 2), ("3.1.1", 1)] {
        let broker = ScriptedBroker::start(move |packet| match packet {
            _ if packet.is_connect() && protocol == "5" => Answer::Send(connack_5(0, "")),
            _ if packet.is_connect() => Answer::Send(connack_4(0)),
            _ if packet.is_subscribe() && protocol == "5" => Answer::Send(suback_5(packet, 2, "")),
            _ if packet.is_subscribe() => Answer::Send(suback_4(packet, 1)),
            _ => Answer::Send(Vec::new()),
        });
        let site = Site::new(broker.port())
            .set("liveness.publish_prefix=")
            .set("mqtt.qos=2")
            .set(&format!("mqtt.protocol={protocol}"));
        let mut andon = site.run();
        andon.wait_until_connected();
        let packets = broker.packets();
        let subscribe = packets.iter().find(|packet| packet.is_subscribe()).unwrap();
        assert_eq!(*subscribe.body.last().unwrap(), asked, "{protocol}");
        if protocol == "3.1.1" {
            andon.wait_for_log("a subscription was granted a lower QoS than configured");
        }
        andon.signal("KILL");
        andon.wait();
    }
}

#[test]
fn the_brokers_own_words_are_in_the_log() {
    let mut connects = 0;
    let broker = ScriptedBroker::start(move |packet| {
        if packet.is_connect() {
            connects += 1;
            match connects {
                // The client library does not hand on the words of a CONNACK.
                1 => Answer::SendAndClose(connack_5(0x87, "licence for ten clients")),
                _ => Answer::Send(connack_5(0, "")),
            }
        } else if packet.is_subscribe() {
            Answer::SendAndClose([suback_5(packet, 1, ""), disconnect_5(0x8b, "closing\ntime")].concat())
        } else {
            Answer::Send(Vec::new())
        }
    });
    let site = Site::new(broker.port()).set("liveness.publish_prefix=").set("mqtt.protocol=5");
    let mut andon = site.run();
    andon.wait_for_log("reason: \"connect: Not authorized; see mqtt.username and mqtt.password");
    andon.wait_for_log("closing time");
    let log = andon.log();
    let line = |words: &str| log.lines().find(|line| line.contains(words)).unwrap().to_owned();
    assert!(line("closing time").contains("the broker ended the connection"), "{log}");
    assert!(andon.is_running());
    andon.signal("KILL");
    andon.wait();
}

#[test]
fn a_refused_subscription_is_told_with_the_brokers_words() {
    let broker = ScriptedBroker::start(|packet| match packet {
        _ if packet.is_connect() => Answer::Send(connack_5(0, "")),
        _ if packet.is_subscribe() => Answer::Send(suback_5(packet, 0x97, "two filters a day")),
        _ => Answer::Send(Vec::new()),
    });
    let site = Site::new(broker.port()).set("liveness.publish_prefix=");
    let mut andon = site.run();
    andon.wait_for_log("two filters a day");
    let log = andon.log();
    let line = log.lines().find(|line| line.contains("two filters a day")).unwrap();
    assert!(line.contains("a subscription was refused") && line.contains("quota exceeded"), "{line}");
    assert!(andon.is_running());
    andon.signal("KILL");
    andon.wait();
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
    // 100, 200, 400 ms, then the cap. The wait begins after the broker has seen the connect: it cannot look shorter.
    assert!(waits[3..].iter().all(|wait| *wait >= BACKOFF_MAX), "{waits:?}");
    // One of them may have been kept waiting by a busy machine.
    assert!(waits[..3].iter().any(|wait| *wait < BACKOFF_MAX), "the first waits are short: {waits:?}");
    assert!(andon.is_running());
    assert!(andon.stop().success());
}

#[test]
fn what_is_no_longer_configured_is_unsubscribed_at_the_next_start() {
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
        assert!(!andon.log().contains("unsubscribed"), "once is enough:\n{}", andon.log());
        assert!(andon.stop().success());
    }
}

/// A broker that holds the session for good, and refuses to end the old filter while it is told to.
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
fn a_refused_unsubscribe_is_said_and_asked_again_at_the_next_connect() {
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
        assert_eq!(asked(), 3, "once it is ended nobody asks again");
    }
}

const OLD_TOPIC: &str = "old/machine/{machine}/telemetry";
const BOTH_FILTERS: &str = "mqtt.subscriptions=factory/machine/+/telemetry,old/machine/+/telemetry";
const ONE_FILTER: &str = "mqtt.subscriptions=factory/machine/+/telemetry";

fn hosts(ports: [u16; 2]) -> String {
    format!("mqtt.hosts=127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1])
}

/// Of what is published to both filters only the configured one's comes.
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
    wait_until("the second broker", || connections(&andon.log()) == 2);
    assert!(andon.stop().success());

    let fewer = both.set(ONE_FILTER);
    let mut andon = fewer.run();
    andon.wait_until_connected();
    let ended = |log: &str| log.matches("unsubscribed from a filter").count();
    assert_eq!(ended(&andon.log()), 1, "{}", andon.log());
    first.restart();
    second.stop();
    wait_until("the first broker", || connections(&andon.log()) == 2);
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

#[test]
fn version_5_gets_retained_messages_for_a_new_subscription_only() {
    let broker = Mosquitto::start("");
    publisher::retain(broker.port(), "factory/machine/press-1/telemetry", r#"{"temperature":1}"#);
    let site = Site::new(broker.port()).set("mqtt.protocol=5");
    let url = site.sqlite_url();
    for rows in [1, 2] {
        let mut andon = site.run();
        andon.wait_until_connected();
        // What comes after the retained message, if there is one, is stored after it.
        let live = format!(r#"{{"machine_id":"x","temperature":{rows}}}"#);
        Single::connect(broker.port()).publish("factory/machine/x/telemetry", live.as_bytes(), 1);
        wait_until("the live row", || rows_stored(&url) == 1 + rows);
        assert!(andon.stop().success());
    }
    let messages = "SELECT messages AS value FROM ingest_checkpoint";
    assert_eq!(Database::open(&url).unwrap().number(messages), 3, "the retained message came once");
}
