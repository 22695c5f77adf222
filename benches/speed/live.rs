//! A publisher sends as fast as the broker takes it, while one contender after the other receives.

use std::io::{BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::contenders::{NAMES, Target, start_plain, subscribe_plain};
use super::measure::{Cost, Table, of_child};
use super::support::mosquitto::Mosquitto;
use super::support::postgres::Postgres;
use super::support::publisher;

/// QoS 1 messages that the broker has not acknowledged, at most.
const WINDOW: u64 = 1_000;
const BROKER: &str = "max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 1000";

pub fn run(qos: i32, messages: u64, rounds: u64, postgres: &Postgres) {
    let mut table = Table::new(&format!("live at QoS {qos}"), messages, NAMES);
    for round in 1..=rounds {
        table.round(round, &one_round(qos, round, messages, postgres));
    }
    let (sqlite, pg) = if qos == 0 { (0.8, 0.65) } else { (1.0, 0.85) };
    table.medians(&[("SQLite", sqlite, None), ("PostgreSQL", pg, None)]);
}

fn one_round(qos: i32, round: u64, messages: u64, postgres: &Postgres) -> Vec<Cost> {
    super::in_turn(round, NAMES.len(), |which| {
        // A broker for each: nothing is queued for the others.
        let broker = Mosquitto::start(BROKER);
        let port = broker.port();
        let Some(index) = which.checked_sub(1) else {
            subscribe_plain(port);
            let child = start_plain(port, qos, messages);
            // It has a session, but not at this QoS, until it has subscribed again.
            std::thread::sleep(Duration::from_millis(500));
            let begun = Instant::now();
            return std::thread::scope(|scope| {
                scope.spawn(|| publish(port, qos, messages));
                of_child(child, begun)
            });
        };
        let target = &Target::all(port, &format!("live{qos}x{round}x{which}"), qos, postgres)[index];
        let mut andon = target.start();
        andon.wait_until_connected();
        let (begun, database_before) = (Instant::now(), target.database_cpu());
        publish(port, qos, messages);
        target.stored(andon, messages, begun, database_before)
    })
}

/// Publishes over MQTT 3.1.1, with little CPU, and returns when all have been sent (QoS 1: acknowledged).
fn publish(port: u16, qos: i32, messages: u64) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut out = BufWriter::with_capacity(1 << 16, stream);
    out.write_all(b"\x10\x15\x00\x04MQTT\x04\x02\x00\x3c\x00\x09publisher").unwrap();
    out.flush().unwrap();
    let mut connack = [0; 4];
    answers.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0], "the broker accepts the publisher");
    let mut packet = Vec::new();
    let mut acknowledged = 0;
    for number in 0..messages {
        if qos == 1 && number - acknowledged == WINDOW {
            out.flush().unwrap();
            let mut pubacks = [0; 4 * WINDOW as usize / 2];
            answers.read_exact(&mut pubacks).unwrap();
            acknowledged += WINDOW / 2;
        }
        let (topic, payload) =
            publisher::numbered("factory/machine/{machine}/telemetry", super::MACHINES, number);
        encode(&mut packet, qos, u16::try_from(number % 60_000).unwrap() + 1, &topic, &payload);
        out.write_all(&packet).unwrap();
    }
    out.flush().unwrap();
    if qos == 1 {
        let mut pubacks = vec![0; 4 * usize::try_from(messages - acknowledged).unwrap()];
        answers.read_exact(&mut pubacks).unwrap();
    }
    out.write_all(&[0xE0, 0]).unwrap();
}

fn encode(packet: &mut Vec<u8>, qos: i32, id: u16, topic: &str, payload: &str) {
    let length = 2 + topic.len() + 2 * usize::from(qos > 0) + payload.len();
    let [low, high] = [(length % 128) as u8 | 0x80, (length / 128) as u8];
    packet.clear();
    packet.extend_from_slice(&[0x30 | (qos as u8) << 1, low, high]);
    packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    packet.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        packet.extend_from_slice(&id.to_be_bytes());
    }
    packet.extend_from_slice(payload.as_bytes());
}
