//! Machines online and offline: silence, return, restart, and a broker that is away.

use std::time::Duration;

use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

pub fn speak(single: &mut Single, machine: &str) {
    let topic = format!("factory/machine/{machine}/telemetry");
    single.publish(&topic, format!(r#"{{"machine_id":"{machine}","temperature":20}}"#).as_bytes(), 1);
}

/// Returns `status previous_status reason` of a machine's events, oldest first.
pub fn events(url: &str, machine: &str) -> Vec<String> {
    let sql = format!(
        "SELECT status || ' ' || coalesce(previous_status, '-') || ' ' || reason AS value \
         FROM machine_event WHERE machine_id = '{machine}' ORDER BY id"
    );
    let words = Database::open(url).and_then(|mut database| database.try_words(&sql)).unwrap_or_default();
    words.into_iter().flatten().collect()
}

pub fn wait_for_events(url: &str, machine: &str, expected: &[&str]) {
    wait_until(&format!("{machine}: {expected:?}"), || events(url, machine) == expected);
}

#[test]
fn silence_and_return_are_one_event_each_at_the_exact_time() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=1s");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen", "offline online silence"]);
    speak(&mut single, "press-1");
    let all =
        ["online - first_seen", "offline online silence", "online offline message", "offline online silence"];
    wait_for_events(&url, "press-1", &all);
    assert!(andon.stop().success());

    let mut database = Database::open(&url).unwrap();
    let exact = "SELECT count(*) AS value FROM machine_event WHERE reason = 'silence' AND \
                 abs((julianday(substr(occurred_at, 1, 23)) - julianday(substr(last_seen_at, 1, 23))) * 86400 - 1.0) < 0.002";
    assert_eq!(database.number(exact), 2, "offline exactly at last_seen + offline_after");
    assert_eq!(database.words("SELECT status AS value FROM machine"), [Some("offline".to_owned())]);
}

#[test]
fn a_restart_records_no_event_and_an_expected_machine_without_messages_one() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port())
        .set("liveness.offline_after=1s")
        .configure("[liveness.machines.\"press-0\"]\nexpected = true\n[liveness.machines.\"press-1\"]\noffline_after = \"1h\"");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    wait_for_events(&url, "press-0", &["offline - never_seen"]);
    andon.kill();
    let mut andon = site.run();
    andon.wait_until_connected();
    speak(&mut single, "press-2");
    wait_for_events(&url, "press-2", &["online - first_seen", "offline online silence"]);
    assert_eq!(events(&url, "press-1"), ["online - first_seen"], "still online, and recorded once");
    assert_eq!(events(&url, "press-0"), ["offline - never_seen"], "not again after a restart");
    speak(&mut single, "press-0");
    wait_for_events(
        &url,
        "press-0",
        &["offline - never_seen", "online offline first_seen", "offline online silence"],
    );
    assert!(andon.stop().success());
}

#[test]
fn a_broker_outage_makes_no_machine_offline() {
    let mut broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=4s");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    broker.kill();
    andon.wait_for_log("the link to the broker is down");
    // Longer than offline_after: counting silence during the outage would make the machine offline now.
    std::thread::sleep(Duration::from_secs(5));
    broker.restart();
    wait_until("the link", || andon.connections() == 2);
    // Long enough that silence counted from before the outage would show.
    std::thread::sleep(Duration::from_secs(1));
    let back = chrono::Utc::now().format("%Y-%m-%d %H:%M:%S%.6f");
    speak(&mut Single::connect(broker.port()), "press-1");
    let mut database = Database::open(&url).unwrap();
    let silence = format!(
        "SELECT count(*) AS value FROM machine_event WHERE reason = 'silence' AND last_seen_at >= '{back}'"
    );
    wait_until("its silence from then on", || database.number(&silence) == 1);
    let all = ["online - first_seen", "offline online silence"];
    assert_eq!(events(&url, "press-1"), all, "our own outage is no event");
    assert!(andon.stop().success());
}

#[test]
fn a_last_will_makes_a_machine_offline_at_once() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port())
        .set("liveness.offline_after=1h")
        .configure("[[liveness.last_will]]\nfilter = \"factory/machine/+/lwt\"\npayload = \"gone\"\nmachine_segment = -2");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    single.publish("factory/machine/press-1/lwt", b"gone", 1);
    wait_for_events(&url, "press-1", &["online - first_seen", "offline online last_will"]);
    speak(&mut single, "press-1");
    wait_for_events(
        &url,
        "press-1",
        &["online - first_seen", "offline online last_will", "online offline message"],
    );
    let mut database = Database::open(&url).unwrap();
    assert_eq!(database.number("SELECT control AS value FROM ingest_checkpoint"), 1);
    assert!(andon.stop().success());
}

#[test]
fn status_and_availability_are_published_retained() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=1s");
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    single.publish("factory/machine/x/telemetry", br#"{"machine_id":"a/b+c%","temperature":1}"#, 1);
    let retained = |topic: &str| crate::liveness::retained(broker.port(), topic);
    let status = "andon/test/machine/a%2Fb%2Bc%25/status";
    wait_until("offline on MQTT", || retained(status).contains(r#""status":"offline""#));
    wait_until("its reason", || retained(status).contains(r#""reason":"silence""#));
    wait_until("our own availability", || retained("andon/test/status") == "online");
    assert!(andon.stop().success());
    wait_until("our own end", || retained("andon/test/status") == "offline");
    wait_until("the machine's status, which our stop does not change", || {
        retained(status).contains(r#""reason":"silence""#)
    });
}

#[test]
fn the_machines_command_asks_the_running_service_while_the_database_is_away() {
    let broker = Mosquitto::start("");
    let mut server = Postgres::start();
    let url = server.create_database("andon");
    // The command needs the service's address and token.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let site = Site::new(broker.port())
        .set(&format!("store.url={url}"))
        .set(&format!("http.bind=127.0.0.1:{port}"))
        .set("http.token=s3cret")
        .configure("[liveness.machines.\"press-1\"]\noffline_after = \"1h\"\n[liveness.machines.\"press-2\"]\noffline_after = \"1s\"");
    let mut andon = site.run();
    andon.wait_until_seeing();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "press-1");
    speak(&mut single, "press-2");
    wait_for_events(&url, "press-2", &["online - first_seen", "offline online silence"]);
    server.stop();
    // Only the service knows this machine.
    speak(&mut single, "press-3");
    let run = |arguments: &[&str]| {
        let output = site.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let mut answer = (None, String::new(), String::new());
    wait_until("the service to list all three", || {
        answer = run(&["machines"]);
        answer.1.contains("press-3")
    });
    let (code, text, complaint) = answer;
    assert_eq!(code, Some(0), "{complaint}");
    let row = |id: &str| text.lines().find(|line| line.starts_with(id)).unwrap_or_default().to_owned();
    assert!(row("press-1").contains("online") && row("press-2").contains("offline"), "{text}");
    assert!(
        complaint.contains("failed to") && complaint.contains("the running service answers in its place"),
        "{complaint}"
    );
    let (code, json, _) = run(&["machines", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, report["source"].as_str()), (Some(0), Some("service")), "{report}");
    assert!(report["blind"].is_null(), "the broker is there: {report}");
    assert!(report["machines"][0]["readings_last_hour"].is_null(), "nothing could count them: {report}");
    let (code, text, _) = run(&["machines", "--availability", "24h"]);
    assert_eq!((code, text.as_str()), (Some(1), ""), "the service does not know the past");

    andon.kill();
    let (code, text, complaint) = run(&["machines"]);
    assert_eq!((code, text.as_str()), (Some(1), ""), "neither can answer");
    assert!(complaint.contains("failed to") && complaint.contains("is `andon run` running?"), "{complaint}");
}
