//! `andon config check --connect`: every step is ok or has its reason, and the running service is not disturbed.

use crate::support::andon::Site;
use crate::support::certificates::{Identity, Valid};
use crate::support::mosquitto::{FreePort, Mosquitto};
use crate::support::postgres::Postgres;
use crate::support::scripted_broker::{Answer, ScriptedBroker, connack_4, connack_5, suback_4};

fn check(site: &Site, more: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["config", "check", "--connect"], more].concat();
    let output = site.command(&arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

/// Returns the line of that step.
fn line<'a>(text: &'a str, step: &str) -> &'a str {
    text.lines().find(|line| line.contains(step)).unwrap_or_else(|| panic!("no {step:?} in:\n{text}"))
}

#[test]
fn every_step_that_works_is_ok_and_a_running_service_keeps_its_session() {
    let home = tempfile::tempdir().unwrap();
    let authority = Identity::authority("Plant CA");
    let ca = authority.write(home.path(), "ca");
    let files = authority.issue("localhost", Valid::Days(90)).write(home.path(), "broker");
    let listener =
        format!("cafile {}\ncertfile {}\nkeyfile {}", ca.certificate(), files.certificate(), files.key());
    let broker = Mosquitto::start_with_listener("127.0.0.1", &listener);
    let site = Site::new(broker.second_port())
        .set("mqtt.transport=tls")
        .set("mqtt.host=localhost")
        .set(&format!("mqtt.tls.ca_file={}", ca.certificate()))
        .set("mqtt.subscriptions=factory/machine/+/telemetry,$share/g/other/+/x");
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("database open");
    let (code, text) = check(&site, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        line(&text, " TLS ").contains("ok") && line(&text, " TLS ").contains("'localhost' until "),
        "{text}"
    );
    assert!(line(&text, " TLS ").contains("'Plant CA' until "), "{text}");
    assert!(line(&text, "CONNECT").contains("ok         MQTT 5"), "{text}");
    assert!(line(&text, "SUBSCRIBE factory/machine/+/telemetry").contains("with QoS 1"), "{text}");
    assert!(line(&text, "SUBSCRIBE $share/g/other/+/x").contains("not tried"), "{text}");
    assert!(line(&text, " echo ").contains("came back after"), "{text}");
    assert!(line(&text, "all migrations applied").contains("ok"), "{text}");
    assert!(line(&text, " room ").contains("MiB free"), "{text}");
    assert!(text.contains("a running service keeps its session"), "{text}");

    let (code, json) = check(&site, &["--json"]);
    assert_eq!(code, Some(0), "{json}");
    let start = json.find('{').unwrap();
    let end = json.rfind('}').unwrap();
    let steps: serde_json::Value = serde_json::from_str(&json[start..=end]).unwrap();
    let results: Vec<&str> =
        steps["steps"].as_array().unwrap().iter().map(|step| step["result"].as_str().unwrap()).collect();
    assert_eq!(results.iter().filter(|result| **result == "ok").count(), results.len() - 1, "{json}");

    assert!(andon.is_running());
    let log = andon.log();
    assert!(!log.contains("the link to the broker is down"), "the check took the session over:\n{log}");
    assert!(andon.stop().success());
}

#[test]
fn a_failed_step_is_named_and_the_others_are_still_tried() {
    let unused = FreePort::find();
    let site = Site::new(unused.number())
        .set("store.url=postgres://u:hush-hush-9@127.0.0.1:1/db")
        .set("store.connect_timeout=2s")
        .set("journal.dir=/dev/null/journal");
    let (code, text) = check(&site, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        line(&text, " connect ").contains("FAILED") && line(&text, " connect ").contains("refused"),
        "{text}"
    );
    assert!(line(&text, "database postgres").contains("FAILED"), "{text}");
    assert!(line(&text, " write ").contains("FAILED"), "{text}");
    assert!(text.contains("3 steps failed"), "{text}");
    assert!(!text.contains("hush-hush"), "{text}");
    assert!(!text.contains("CONNECT "), "a step after a failed one:\n{text}");
}

#[test]
fn a_refused_login_and_a_refused_filter_are_named() {
    let broker = ScriptedBroker::start(|_| Answer::SendAndClose(connack_5(0x86, "who are you")));
    let (code, text) = check(&Site::new(broker.port()).set("mqtt.protocol=5"), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        line(&text, "CONNECT").contains("Bad User Name or Password; see mqtt.username and mqtt.password"),
        "{text}"
    );

    let broker = ScriptedBroker::start(|packet| match packet {
        _ if packet.is_connect() && packet.protocol_level() == 5 => Answer::SendAndClose(connack_5(0x84, "")),
        _ if packet.is_connect() => Answer::Send(connack_4(0)),
        _ if packet.is_subscribe() => Answer::Send(suback_4(packet, 0x80)),
        _ => Answer::Send(Vec::new()),
    });
    let (code, text) = check(&Site::new(broker.port()), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(line(&text, "CONNECT").contains("MQTT 3.1.1, because the broker refuses 5"), "{text}");
    assert!(line(&text, "SUBSCRIBE").contains("FAILED"), "{text}");
    let connects = broker.connects();
    let clean = connects.iter().all(|connect| connect.body[7] & 0x02 != 0);
    assert!(clean, "a session that ends with the connection");
}

#[test]
fn an_echo_that_an_access_list_drops_fails_and_names_what_to_allow() {
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("acl");
    std::fs::write(&list, "topic readwrite factory/#\ntopic write andon/#\n").unwrap();
    let broker = Mosquitto::start(&format!("acl_file {}", list.display()));
    let site = Site::new(broker.port());
    let (code, text) = check(&site, &[]);
    assert_eq!(code, Some(1), "{text}");
    let said = line(&text, " echo ");
    assert!(
        said.contains("FAILED") && said.contains("publish and to subscribe to andon/test/echo"),
        "{text}"
    );
    let (code, text) = check(&site.set("liveness.publish_prefix="), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(line(&text, " echo ").contains("not tried"), "{text}");
}

#[test]
fn migrations_are_reported_and_not_applied() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    for _again in 0..2 {
        let (code, text) = check(&site, &[]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("migrations pending; `andon run` applies them"), "{text}");
    }
    let (_, text) = check(&Site::new(broker.port()), &[]);
    assert!(text.contains("does not exist yet; `andon run` creates it"), "{text}");
}
