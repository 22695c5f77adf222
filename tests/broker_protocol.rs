//! What Andon asks for with MQTT 5 and with 3.1.1, and when it turns from the one to the other.

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::{self, Single};
use crate::support::scripted_broker::{
    Answer, Packet, ScriptedBroker, connack_4, connack_5, suback_4, suback_5,
};

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
            // The first two connections end as soon as they are complete.
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
fn a_broker_that_hangs_up_on_version_5_gets_3_1_1() {
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
fn a_broker_that_is_silent_on_version_5_gets_3_1_1() {
    let broker = ScriptedBroker::start(|packet| match packet {
        _ if packet.is_connect() && packet.protocol_level() == 4 => Answer::Send(connack_4(0)),
        _ if packet.is_subscribe() => Answer::Send(suback_4(packet, 1)),
        _ => Answer::Send(Vec::new()),
    });
    let site = Site::new(broker.port()).set("liveness.publish_prefix=").set("mqtt.connect_timeout=1s");
    let mut andon = site.run();
    andon.wait_for_log("the broker accepts the connection but does not answer");
    andon.wait_until_connected();
    let log = andon.log();
    assert!(log.contains("continuing with MQTT 3.1.1") && log.contains("protocol: 3.1.1"), "{log}");
    assert_eq!(log.matches("no connection to the broker").count(), 1, "one line for one reason:\n{log}");
    let levels: Vec<u8> = broker.connects().iter().map(Packet::protocol_level).collect();
    assert_eq!(levels, [5, 5, 4]);
    assert!(andon.stop().success());
}

/// A broker that accepts every client of version 5 and every subscription.
fn accepting_broker() -> ScriptedBroker {
    ScriptedBroker::start(|packet| match packet {
        _ if packet.is_connect() => Answer::Send(connack_5(0, "")),
        _ if packet.is_subscribe() => Answer::Send(suback_5(packet, 1, "")),
        _ => Answer::Send(Vec::new()),
    })
}

/// The property Maximum Packet Size, as a CONNECT carries it.
fn maximum_packet_size(bytes: u32) -> Vec<u8> {
    [&[0x27], bytes.to_be_bytes().as_slice()].concat()
}

#[test]
fn version_5_names_a_packet_limit_above_the_largest_payload() {
    for (setting, bytes) in [("mqtt.max_payload=1KiB", 4 << 20), ("mqtt.max_payload=3MiB", 6 << 20)] {
        let broker = accepting_broker();
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
    let broker = accepting_broker();
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
    // The last byte of a SUBSCRIBE: QoS, and with 5 also when to send retained messages.
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
fn version_5_gets_retained_messages_for_a_new_subscription_only() {
    let broker = Mosquitto::start("");
    publisher::retain(broker.port(), "factory/machine/press-1/telemetry", r#"{"temperature":1}"#);
    let site = Site::new(broker.port()).set("mqtt.protocol=5");
    let url = site.sqlite_url();
    for rows in [1, 2] {
        let mut andon = site.run();
        andon.wait_until_connected();
        // If a retained message comes, it is stored before this one.
        let live = format!(r#"{{"machine_id":"x","temperature":{rows}}}"#);
        Single::connect(broker.port()).publish("factory/machine/x/telemetry", live.as_bytes(), 1);
        wait_until("the live row", || rows_stored(&url) == 1 + rows);
        assert!(andon.stop().success());
    }
    let messages = "SELECT messages AS value FROM ingest_checkpoint";
    assert_eq!(Database::open(&url).unwrap().number(messages), 3, "the retained message came once");
}
