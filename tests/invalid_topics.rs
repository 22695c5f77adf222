//! Topics that MQTT forbids and some brokers let through: not UTF-8, or with a NUL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::poll::wait_until;
use crate::support::scripted_broker::{
    Answer, Packet, ScriptedBroker, connack_4, connack_5, puback, publish_bytes, pubrel, suback_4, suback_5,
};

/// Topic, and the words under which it is kept. The last one comes through the filter of the last wills, and looks like one.
const BAD: [(&[u8], &str, &str); 3] = [
    (
        b"factory/machine/m\xff/telemetry",
        "factory/machine/m\u{FFFD}/telemetry",
        "the topic is not UTF-8 at byte 17; its bytes in hex: 666163746f72792f6d616368696e652f6dff2f74656c656d65747279",
    ),
    (
        b"factory/machine/m\0/telemetry",
        "factory/machine/m\u{FFFD}/telemetry",
        "the topic contains a NUL; its bytes in hex: 666163746f72792f6d616368696e652f6d002f74656c656d65747279",
    ),
    (
        b"will/m1/\xed\xa0\x80",
        "will/m1/\u{FFFD}\u{FFFD}\u{FFFD}",
        "the topic is not UTF-8 at byte 8; its bytes in hex: 77696c6c2f6d312feda080",
    ),
];
const GONE: &[u8] = b"gone";

/// What the broker has to deliver, by packet id: everything that is not acknowledged comes again at the next connect.
type Queue = Arc<Mutex<BTreeMap<u16, Vec<u8>>>>;

/// Good and bad messages in turn, with every QoS.
fn queue(v5: bool) -> Queue {
    let mut queue = BTreeMap::new();
    for qos in [0, 1, 2] {
        for (topic, _, _) in BAD {
            let id = u16::try_from(queue.len() + 1).unwrap();
            queue.insert(id, publish_bytes(v5, qos, topic, GONE, id));
            let good = format!(r#"{{"n":{id},"timestamp":"2026-01-01T00:00:{id:02}Z"}}"#);
            let good = publish_bytes(v5, qos, b"factory/machine/good/telemetry", good.as_bytes(), id + 1);
            queue.insert(id + 1, good);
        }
    }
    Arc::new(Mutex::new(queue))
}

fn broker(v5: bool, queue: &Queue) -> ScriptedBroker {
    let (queue, mut delivered_on) = (Arc::clone(queue), None);
    let settled = move |packet: &Packet, queue: &Queue| {
        queue.lock().unwrap().remove(&u16::from_be_bytes([packet.body[0], packet.body[1]]));
        Answer::Send(Vec::new())
    };
    ScriptedBroker::start(move |packet| match packet.head >> 4 {
        1 => Answer::Send(if v5 { connack_5(0, "") } else { connack_4(0) }),
        3 => Answer::Send(puback(packet)),
        4 | 7 => settled(packet, &queue),
        5 => Answer::Send(pubrel(packet)),
        8 => {
            let mut answer = if v5 { suback_5(packet, 2, "") } else { suback_4(packet, 1) };
            if delivered_on.replace(packet.connection) != Some(packet.connection) {
                answer.extend(queue.lock().unwrap().values().flatten());
            }
            // Nobody repeats QoS 0.
            queue.lock().unwrap().retain(|_, publish| publish[0] & 0b110 != 0);
            Answer::Send(answer)
        }
        _ => Answer::Send(Vec::new()),
    })
}

fn site(broker: &ScriptedBroker, protocol: &str) -> Site {
    let will = "[[liveness.last_will]]\nfilter = \"will/+/#\"\npayload = \"gone\"\nmachine_segment = 2";
    let site = Site::new(broker.port()).configure(will).set("mqtt.qos=2");
    site.set(&format!("mqtt.protocol={protocol}"))
}

#[test]
fn a_topic_that_is_no_text_is_a_rejected_message_with_every_qos() {
    for protocol in ["5", "3.1.1"] {
        let queue = queue(protocol == "5");
        let broker = broker(protocol == "5", &queue);
        let site = site(&broker, protocol);
        let mut andon = site.run();
        andon.wait_until_connected();
        let url = site.sqlite_url();
        wait_until("the good rows", || rows_stored(&url) == 9);
        wait_until("every acknowledgement", || queue.lock().unwrap().is_empty());
        assert!(andon.is_running());
        assert!(andon.stop().success());
        let mut database = Database::open(&url).unwrap();
        let rows = database.words(
            "SELECT reason || '|' || topic || '|' || detail AS value FROM rejected_message ORDER BY seq",
        );
        let expected = BAD.map(|(_, topic, detail)| Some(format!("invalid_topic|{topic}|{detail}")));
        assert_eq!(rows, [expected.clone(), expected.clone(), expected].concat(), "{protocol}");
        let ledger = "SELECT messages || ' ' || stored || ' ' || rejected || ' ' || control AS value FROM ingest_checkpoint";
        assert_eq!(database.words(ledger), [Some("18 9 9 0".to_owned())], "{protocol}");
        let gone = "SELECT count(*) AS value FROM machine_event WHERE reason = 'last_will'";
        assert_eq!(database.number(gone), 0, "it only looks like a last will");
    }
}

/// Proves MQTT-1.
#[test]
fn a_topic_that_is_no_text_survives_kill_9_before_it_is_acknowledged() {
    for protocol in ["5", "3.1.1"] {
        let queue = queue(protocol == "5");
        let broker = broker(protocol == "5", &queue);
        let site = site(&broker, protocol);
        // Three of QoS 0 and as many good ones: then the first that the broker will deliver again.
        let mut andon = site.run_with("mqtt::before_ack=6*off->return(hold)");
        andon.wait_for_log("held at");
        andon.kill();
        let left = queue.lock().unwrap().len();
        assert_eq!(left, 12, "nothing of QoS 1 and 2 was acknowledged");
        let mut andon = site.run();
        andon.wait_until_connected();
        wait_until("every acknowledgement", || queue.lock().unwrap().is_empty());
        let url = site.sqlite_url();
        wait_until("the good rows", || rows_stored(&url) == 9);
        assert!(andon.stop().success());
        let mut database = Database::open(&url).unwrap();
        let rejected =
            database.number("SELECT count(*) AS value FROM rejected_message WHERE reason = 'invalid_topic'");
        // The one that was held is in the journal, and was delivered again.
        assert_eq!(rejected, 10, "{protocol}");
        let retried = site.command(&["rejected", "retry", "--all"]).output().unwrap();
        let said = String::from_utf8_lossy(&retried.stdout).into_owned();
        assert!(said.contains("0 readings stored") && said.contains("10 still rejected"), "{said}");
    }
}
