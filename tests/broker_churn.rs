//! A broker that breaks every connection, each time at another point, hundreds of times: nothing crashes, nothing piles up.
//!
//! `ANDON_CHURN_CONNECTIONS` sets how often. The test prints what it measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::andon::{Andon, Site};
use crate::support::poll::wait_for;
use crate::support::scripted_broker::{
    Answer, Packet, ScriptedBroker, connack_4, connack_5, puback, publish, suback_4, suback_5,
};

/// Machines that send, and get a status published, in each connection.
const MACHINES: u16 = 12;
/// Points at which a connection breaks.
const POINTS: usize = 9;

fn connections_wanted() -> usize {
    std::env::var("ANDON_CHURN_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(90)
}

/// A CONNACK with the session present, as after any break.
fn connack(v5: bool) -> Vec<u8> {
    if v5 { vec![0x20, 3, 1, 0, 0] } else { vec![0x20, 2, 1, 0] }
}

fn suback(v5: bool, subscribe: &Packet) -> Vec<u8> {
    if v5 { suback_5(subscribe, 1, "") } else { suback_4(subscribe, 1) }
}

fn refusal(v5: bool) -> Vec<u8> {
    if v5 { connack_5(0x88, "") } else { connack_4(3) }
}

/// Messages of machines that are new in this connection.
fn readings(v5: bool, connection: usize) -> Vec<u8> {
    let reading = |number| {
        let topic = format!("factory/machine/m{connection}-{number}/telemetry");
        publish(v5, &topic, r#"{"temperature":1}"#, number)
    };
    (1..=MACHINES).flat_map(reading).collect()
}

/// Answers like a broker that breaks each connection at the next of [`POINTS`] points. `published` counts the client's
/// messages of the connection.
fn breaks(v5: bool, packet: &Packet, published: usize) -> Answer {
    let (point, round) = (packet.connection % POINTS, packet.connection / POINTS);
    if packet.is_connect() {
        return match point {
            0 => Answer::SendAndClose(Vec::new()),
            1 => Answer::SendAndClose(refusal(v5)),
            2 => Answer::SendAndClose(connack(v5)),
            3 => Answer::SendAndReset(connack(v5)),
            _ => Answer::Send(connack(v5)),
        };
    }
    if packet.is_subscribe() {
        let granted = suback(v5, packet);
        return match point {
            4 => Answer::SendAndClose(Vec::new()),
            5 => Answer::SendAndReset(granted),
            // In the middle of a packet.
            6 => Answer::SendAndClose([granted, vec![0x32, 99, 0, 9]].concat()),
            _ => Answer::Send([granted, readings(v5, packet.connection)].concat()),
        };
    }
    if packet.is_publish() && published > round % usize::from(MACHINES) {
        return if point == 7 { Answer::SendAndReset(Vec::new()) } else { Answer::SendAndClose(Vec::new()) };
    }
    Answer::Send(if packet.is_publish() { puback(packet) } else { Vec::new() })
}

/// Answers like a healthy broker.
fn works(v5: bool, packet: &Packet) -> Answer {
    Answer::Send(match packet.head >> 4 {
        1 => connack(v5),
        8 => suback(v5, packet),
        3 => puback(packet),
        10 if v5 => [&[0xb0, 4], &packet.body[..2], &[0, 0]].concat(),
        10 => [&[0xb0, 2], &packet.body[..2]].concat(),
        12 => vec![0xd0, 0],
        _ => Vec::new(),
    })
}

/// Resident memory in KiB, threads, open files.
fn footprint(andon: &Andon) -> [usize; 3] {
    let status = std::fs::read_to_string(format!("/proc/{}/status", andon.pid())).unwrap();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    };
    let files = std::fs::read_dir(format!("/proc/{}/fd", andon.pid())).unwrap().count();
    [number("VmRSS:"), number("Threads:"), files]
}

fn survives(protocol: &str) {
    let v5 = protocol == "5";
    let wanted = connections_wanted();
    let seen = Arc::new(AtomicUsize::new(0));
    let (counted, mut published, mut of) = (Arc::clone(&seen), 0, 0);
    let broker = ScriptedBroker::start(move |packet| {
        counted.store(packet.connection, Ordering::Relaxed);
        published = if packet.connection == of { published } else { 0 } + usize::from(packet.is_publish());
        of = packet.connection;
        if packet.connection < wanted { breaks(v5, packet, published) } else { works(v5, packet) }
    });
    let site = Site::new(broker.port())
        .set(&format!("mqtt.protocol={protocol}"))
        .set("mqtt.backoff_min=10ms")
        .set("mqtt.backoff_max=10ms")
        .set("mqtt.connect_timeout=1s")
        .set("log.level=info");
    let mut andon = site.run();
    let mut steps = Vec::new();
    for quarter in 1..=4 {
        let due = wanted * quarter / 4;
        wait_for_connection(due, &seen, &mut andon);
        steps.push(footprint(&andon));
        println!("MQTT {protocol}, {due} connections: RSS KiB, threads, files: {:?}", steps[quarter - 1]);
    }
    let [_, threads, files] = steps[0];
    let [_, threads_at_the_end, files_at_the_end] = steps[3];
    assert!(threads_at_the_end <= threads + 4, "threads pile up: {steps:?}");
    assert!(files_at_the_end <= files + 8, "open files pile up: {steps:?}");
    let stored = format!("m{}-{MACHINES}", wanted / POINTS * POINTS - 1);
    wait_for("the statuses of the last connection that broke", || {
        let packets = broker.packets();
        let published = packets.iter().filter(|packet| packet.is_publish() && packet.connection >= wanted);
        published
            .map(|packet| String::from_utf8_lossy(&packet.body).into_owned())
            .find(|text| text.contains(&stored))
    });
    assert!(andon.is_running());
    assert!(andon.stop().success());
}

/// Waits until connection `due`, for as long as new ones keep coming.
fn wait_for_connection(due: usize, seen: &AtomicUsize, andon: &mut Andon) {
    let mut last = 0;
    while last < due {
        last = wait_for("another connection", || {
            assert!(andon.is_running(), "it ended:\n{}", andon.log());
            Some(seen.load(Ordering::Relaxed)).filter(|now| *now > last || *now >= due)
        });
    }
}

#[test]
fn version_5_survives_connections_that_break_at_every_point() {
    survives("5");
}

#[test]
fn version_3_1_1_survives_connections_that_break_at_every_point() {
    survives("3.1.1");
}
