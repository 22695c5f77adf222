//! The echo that proves the link: brokers that return it, brokers that do not, and that it leaves no trace.

use std::process::Command;

use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::{Andon, Site};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;
use crate::support::scripted_broker::{Answer, Packet, ScriptedBroker, connack_5, puback, publish, suback_5};
use crate::support::subscriber::Subscriber;

const SILENT: [&str; 2] = ["online - first_seen", "offline online silence"];
const UNUSABLE: &str = "Andon's echo does not work on this broker";

/// Returns the log line that says what to allow; it must be logged once.
fn complaint(andon: &Andon) -> String {
    let log = andon.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(UNUSABLE)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("topic: andon/test/echo"), "{}", lines[0]);
    lines[0].to_owned()
}

#[test]
fn an_access_list_that_withholds_the_echo_is_logged_once_and_silence_is_still_noticed() {
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("acl");
    std::fs::write(&list, "topic readwrite factory/#\ntopic write andon/#\n").unwrap();
    let broker = Mosquitto::start(&format!("acl_file {}", list.display()));
    let site = Site::new(broker.port()).set("liveness.offline_after=1s");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    let mut single = Single::connect(broker.port());
    for machine in ["press-1", "press-2"] {
        speak(&mut single, machine);
        wait_for_events(&url, machine, &SILENT);
    }
    assert!(complaint(&andon).contains("does not return it"), "{}", complaint(&andon));
    assert_eq!(andon.connections(), 1, "a missing echo ends no link");
    assert!(andon.stop().success());
}

#[test]
fn neither_our_echo_nor_a_foreign_one_leaves_a_trace_in_the_journal() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=1s").set("mqtt.subscriptions=#");
    let url = site.sqlite_url();
    let subscriber = Subscriber::start(broker.port(), "andon/test/echo");
    let mut andon = site.run();
    andon.wait_until_seeing();
    let mut single = Single::connect(broker.port());
    for foreign in [&b"0000000000000000-1"[..], b"", b"{\"machine_id\":\"ghost\"}"] {
        single.publish("andon/test/echo", foreign, 1);
    }
    speak(&mut single, "press-1");
    wait_for_events(&url, "press-1", &SILENT);
    assert!(subscriber.len() > 3, "the deadline was proven by an echo");
    assert!(subscriber.received().iter().all(|message| !message.retained));
    assert_eq!(events(&url, "ghost"), Vec::<String>::new());
    assert!(andon.stop().success());
    let grep = |text: &str| {
        Command::new("grep")
            .args(["-raq", "--exclude=subscriptions.json", text])
            .arg(site.journal_dir())
            .status()
            .unwrap()
            .success()
    };
    assert!(grep("factory/machine/press-1/telemetry"), "the journal still holds the telemetry");
    assert!(!grep("andon/test/echo"));
}

/// Returns a broker that delivers one message of press-1 and answers everything; `of_echo` answers packets
/// about the echo.
fn broker_with(mut of_echo: impl FnMut(&Packet) -> Option<Vec<u8>> + Send + 'static) -> ScriptedBroker {
    ScriptedBroker::start(move |packet| {
        let is_of_echo = packet.body.windows(15).any(|bytes| bytes == b"andon/test/echo");
        if let Some(answer) = of_echo(packet).filter(|_| is_of_echo) {
            return Answer::Send(answer);
        }
        Answer::Send(match packet.head >> 4 {
            1 => connack_5(0, ""),
            8 if is_of_echo => suback_5(packet, 1, ""),
            8 => {
                let telemetry = publish(true, "factory/machine/press-1/telemetry", r#"{"temperature":1}"#, 9);
                [suback_5(packet, 1, ""), telemetry].concat()
            }
            3 => puback(packet),
            // UNSUBACK: no subscription existed.
            10 => vec![0xb0, 4, packet.body[0], packet.body[1], 0, 0x11],
            12 => vec![0xd0, 0],
            _ => Vec::new(),
        })
    })
}

fn site_at(broker: &ScriptedBroker) -> Site {
    Site::new(broker.port()).set("liveness.offline_after=1s").set("mqtt.protocol=5")
}

fn silence_is_noticed(site: &Site) -> Andon {
    let mut andon = site.run();
    andon.wait_until_seeing();
    wait_until("its silence", || events(&site.sqlite_url(), "press-1").len() == 2);
    assert_eq!(events(&site.sqlite_url(), "press-1"), SILENT);
    andon
}

#[test]
fn an_echo_that_is_forbidden_by_its_reason_code_is_not_waited_for() {
    let broker = broker_with(|packet| {
        packet.is_publish().then(|| [&[0x40, 3], &packet.packet_id()[..], &[0x87]].concat())
    });
    let site = site_at(&broker);
    let andon = silence_is_noticed(&site);
    assert!(complaint(&andon).to_lowercase().contains("not authorized"), "{}", complaint(&andon));
    assert!(andon.stop().success());
}

#[test]
fn an_echo_with_a_lower_qos_than_telemetry_is_not_used() {
    let broker = broker_with(|packet| packet.is_subscribe().then(|| suback_5(packet, 0, "")));
    let site = site_at(&broker);
    let andon = silence_is_noticed(&site);
    assert!(complaint(&andon).contains("grants QoS 0 for it and 1 for telemetry"), "{}", complaint(&andon));
    assert!(andon.stop().success());
    let echoed = |packet: &Packet| {
        packet.is_publish() && packet.body.windows(15).any(|bytes| bytes == b"andon/test/echo")
    };
    assert!(!broker.packets().iter().any(echoed));
}
