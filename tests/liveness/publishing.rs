//! What subscribers see: every transition, in order, across crashes; retained statuses; our own availability.

use std::collections::BTreeSet;

use super::retained;
use crate::faults::proxy::Proxy;
use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;
use crate::support::subscriber::{Subscriber, field_of};

const PENDING: &str = "SELECT count(*) AS value FROM machine_event WHERE publish_pending";

/// Proves LIV-4.
#[test]
fn transitions_recorded_as_pending_are_published_again_in_order_before_the_current_status() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=1s");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen", "offline online silence"]);
    let mut database = Database::open(&url).unwrap();
    wait_until("the confirmations", || database.number(PENDING) == 0);
    assert!(andon.stop().success());

    // As after a kill between the commit and the broker's acknowledgement.
    database.execute("UPDATE machine_event SET publish_pending = 1");
    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    andon.wait_until_connected();
    wait_until("both again, and the current status", || {
        subscriber.live("press-1/status", "status").len() >= 3
    });
    assert_eq!(subscriber.live("press-1/status", "status"), ["online", "offline", "offline"]);
    assert_eq!(subscriber.live("press-1/status", "reason"), ["first_seen", "silence", "silence"]);
    wait_until("the confirmations", || database.number(PENDING) == 0);
    assert!(andon.stop().success());
}

/// Proves LIV-4.
#[test]
fn a_transition_recorded_just_before_a_kill_reaches_the_subscriber() {
    let broker = Mosquitto::start("");
    // No silences: only messages and last wills make events.
    let site = Site::new(broker.port())
        .set("liveness.offline_after=1h")
        .configure("[[liveness.last_will]]\nfilter = \"factory/machine/+/lwt\"\npayload = \"gone\"");
    let url = site.sqlite_url();
    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut single = Single::connect(broker.port());
    for _ in 0..5 {
        let mut andon = site.run();
        andon.wait_until_connected();
        let before = events(&url, "press-1").len();
        speak(&mut single, "press-1");
        single.publish("factory/machine/press-1/lwt", b"gone", 1);
        wait_until("the events", || events(&url, "press-1").len() == before + 2);
        andon.kill();
    }
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut database = Database::open(&url).unwrap();
    wait_until("the confirmations", || database.number(PENDING) == 0);
    let since =
        "SELECT replace(substr(occurred_at, 1, 26), ' ', 'T') || 'Z' AS value FROM machine_event ORDER BY id";
    let recorded: Vec<String> = database.words(since).into_iter().flatten().collect();
    assert_eq!(recorded.len(), 10);
    wait_until("the last of them at the subscriber", || {
        subscriber.live("press-1/status", "since").last() == recorded.last()
    });
    let seen = subscriber.live("press-1/status", "since");
    let mut rest = seen.iter();
    for event in &recorded {
        assert!(rest.any(|each| each == event), "{event} is missing, or came too early, in {seen:?}");
    }
    assert_eq!(seen.last(), recorded.last(), "the retained status is the recorded one");
    assert!(andon.stop().success());
}

#[test]
fn with_an_empty_prefix_nothing_is_published_and_nothing_waits_for_it() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.publish_prefix=");
    let url = site.sqlite_url();
    let subscriber = Subscriber::start(broker.port(), "#");
    let mut andon = site.run();
    andon.wait_until_connected();
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    assert_eq!(Database::open(&url).unwrap().number(PENDING), 0);
    assert!(andon.stop().success());
    let topics: Vec<_> = subscriber.received().into_iter().map(|message| message.topic).collect();
    assert_eq!(topics, ["factory/machine/press-1/telemetry"]);
}

/// Proves LIV-4.
#[test]
fn a_broker_that_lost_its_session_gets_every_current_status_again() {
    let mut broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=1h");
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    let machines: Vec<String> = (0..30).map(|number| format!("press-{number}")).collect();
    machines.iter().for_each(|machine| speak(&mut single, machine));
    let is_retained = |machine: &String| {
        let status = retained(broker.port(), &format!("andon/test/machine/{machine}/status"));
        status.contains(r#""status":"online""#)
    };
    wait_until("the last one's status", || is_retained(&machines[29]));
    // The broker never saved its retained messages or our session.
    andon.signal("STOP");
    broker.kill();
    broker.restart();
    assert!(retained(broker.port(), "andon/test/machine/press-0/status").is_empty());
    andon.signal("CONT");
    let is_retained = |machine: &String| {
        let status = retained(broker.port(), &format!("andon/test/machine/{machine}/status"));
        status.contains(r#""status":"online""#)
    };
    wait_until("the first one's status", || is_retained(&machines[0]));
    wait_until("the last one's status", || is_retained(&machines[29]));
    assert!(andon.stop().success());
}

/// Proves LIV-4.
#[test]
fn a_reconnect_to_a_known_session_publishes_only_what_was_not_acknowledged() {
    let broker = Mosquitto::start("");
    let cable = Proxy::start(broker.port());
    let site = Site::new(cable.port())
        .set("liveness.offline_after=1h")
        .configure("[[liveness.last_will]]\nfilter = \"factory/machine/+/lwt\"\npayload = \"gone\"");
    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    andon.wait_until_seeing();
    let mut single = Single::connect(broker.port());
    let machines: Vec<String> = (0..30).map(|number| format!("press-{number}")).collect();
    // What is published before the database has told of the past is published once more after it.
    speak(&mut single, &machines[0]);
    wait_until("the database", || rows_stored(&site.sqlite_url()) == 1);
    machines[1..].iter().for_each(|machine| speak(&mut single, machine));
    let published = || subscriber.live("/status", "machine_id");
    wait_until("the first status of each", || published().len() >= machines.len());
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    wait_until("their acknowledgements", || database.number(PENDING) == 0);
    for connects in 2..=6 {
        cable.cut_all();
        // One line each, also when that many losses in a row look like a takeover of the session.
        wait_until("the link", || andon.log().matches("link_up: true").count() == connects);
        // The change is published, and nothing else before it.
        let status = if connects % 2 == 0 { "offline" } else { "online" };
        if status == "offline" {
            single.publish("factory/machine/press-0/lwt", b"gone", 1);
        } else {
            speak(&mut single, "press-0");
        }
        wait_until("the change", || {
            subscriber.live("/press-0/status", "status").last().is_some_and(|last| last == status)
        });
    }
    let mut others = published();
    others.retain(|machine| machine != "press-0");
    let distinct: BTreeSet<&String> = others.iter().collect();
    assert_eq!((others.len(), distinct.len()), (29, 29), "{others:?}");
    assert!(andon.stop().success());
}

#[test]
fn ids_of_every_kind_have_distinct_topics() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    andon.wait_until_connected();
    let ids = [
        ("a/b", "a%2Fb"),
        ("a%2fb", "a%252fb"),
        ("+", "%2B"),
        ("#", "%23"),
        ("100 % + 1", "100 %25 %2B 1"),
        ("halle 7 / presse ß", "halle 7 %2F presse ß"),
        ("プレス機-1", "プレス機-1"),
        ("пресс", "пресс"),
        ("مكبس", "مكبس"),
        ("🏭", "🏭"),
        ("..", ".."),
        ("$sys", "$sys"),
    ];
    let mut single = Single::connect(broker.port());
    for (id, _) in ids {
        let payload = serde_json::json!({ "machine_id": id, "temperature": 1 }).to_string();
        single.publish("factory/machine/x/telemetry", payload.as_bytes(), 1);
    }
    // A status may arrive twice.
    let found = || -> BTreeSet<(String, String)> {
        let received = subscriber.received().into_iter();
        received.map(|message| (field_of(&message.payload, "machine_id"), message.topic)).collect()
    };
    wait_until("all statuses", || found().len() >= ids.len());
    let expected: BTreeSet<(String, String)> = ids
        .iter()
        .map(|(id, level)| ((*id).to_owned(), format!("andon/test/machine/{level}/status")))
        .collect();
    assert_eq!(found(), expected);
    assert!(andon.stop().success());
}

#[test]
fn after_a_kill_our_last_will_says_offline() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    wait_until("online", || retained(broker.port(), "andon/test/status") == "online");
    andon.kill();
    wait_until("offline", || retained(broker.port(), "andon/test/status") == "offline");
}
