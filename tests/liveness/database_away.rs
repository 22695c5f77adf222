//! While PostgreSQL is away, statuses are published in time; the events are recorded when it is back.

use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::device::Device;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;
use crate::support::subscriber::Subscriber;

/// Returns what subscribers saw of a machine; a repeated status counts once.
fn statuses(subscriber: &Subscriber, machine: &str) -> Vec<String> {
    let mut statuses = subscriber.live(&format!("/{machine}/status"), "status");
    statuses.dedup();
    statuses
}

/// Waits for the first event of a machine, whatever else may have happened to it since.
fn wait_for_first_seen(url: &str, machine: &str) {
    let first_seen = || events(url, machine).first().is_some_and(|event| event == "online - first_seen");
    wait_until(&format!("{machine}: first_seen"), first_seen);
}

/// Proves LIV-4.
#[test]
fn while_postgres_is_stopped_sending_machines_stay_online_and_silent_ones_go_offline_in_time() {
    let broker = Mosquitto::start("");
    let mut postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}")).set("liveness.offline_after=5s");
    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    andon.wait_until_connected();
    let talker = Device::start(broker.port(), "talker");
    let mut single = Single::connect(broker.port());
    speak(&mut single, "silent");
    wait_for_first_seen(&url, "talker");
    wait_for_first_seen(&url, "silent");
    postgres.stop();
    // The talker sends for twice its offline_after; the other one falls silent, sends once, and falls silent
    // again.
    let of_silent = ["online", "offline", "online", "offline"];
    wait_until("its silence, while the database is away", || {
        statuses(&subscriber, "silent") == of_silent[..2]
    });
    speak(&mut single, "silent");
    wait_until("its return and silence on MQTT", || statuses(&subscriber, "silent") == of_silent);
    assert_eq!(statuses(&subscriber, "talker"), ["online"]);
    postgres.restart();
    wait_until("the events", || events(&url, "silent").len() >= 3);
    let recorded = events(&url, "silent");
    assert_eq!(recorded[..3], ["online - first_seen", "offline online silence", "online offline message"]);
    assert_eq!(events(&url, "talker")[0], "online - first_seen");
    drop(talker);
    assert!(andon.stop().success());
    let talker = events(&url, "talker");
    assert!(talker.len() == 1 || talker[1] == "offline online silence", "{talker:?}");
}

/// Proves LIV-5.
#[test]
fn after_a_kill_and_a_start_without_the_database_no_earlier_event_is_repeated() {
    let broker = Mosquitto::start("");
    let mut postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}")).set("liveness.offline_after=2s");
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "silent");
    wait_for_events(&url, "silent", &["online - first_seen", "offline online silence"]);
    speak(&mut single, "back");
    wait_for_events(&url, "back", &["online - first_seen", "offline online silence"]);
    andon.kill();
    postgres.stop();

    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    andon.wait_for_log("watching the machines without their recorded past");
    speak(&mut single, "back");
    wait_until("both changes of the machine that sent", || {
        statuses(&subscriber, "back") == ["online", "offline"]
    });
    assert_eq!(subscriber.live("/back/status", "reason"), ["message", "silence"], "it was seen before");
    assert_eq!(statuses(&subscriber, "silent"), [""; 0], "it has been offline all the time");
    postgres.restart();
    let of_back =
        ["online - first_seen", "offline online silence", "online offline message", "offline online silence"];
    wait_for_events(&url, "back", &of_back);
    assert!(andon.stop().success());
    assert_eq!(events(&url, "silent"), ["online - first_seen", "offline online silence"]);
}

/// Proves LIV-5, LIV-2.
#[test]
fn a_start_without_the_database_loses_no_event_and_records_none_twice() {
    let broker = Mosquitto::start("");
    let mut postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}")).set("liveness.offline_after=2s");
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "known");
    wait_for_first_seen(&url, "known");
    assert!(andon.stop().success());
    postgres.stop();

    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("watching the machines without their recorded past");
    let wait_for_statuses = |count: usize| {
        wait_until("the new one's status", || statuses(&subscriber, "new").len() >= count);
    };
    speak(&mut single, "new");
    wait_for_statuses(1);
    wait_for_statuses(2);
    speak(&mut single, "known");
    speak(&mut single, "new");
    wait_for_statuses(3);
    assert_eq!(statuses(&subscriber, "new")[..3], ["online", "offline", "online"]);
    postgres.restart();
    let of_new =
        ["online - first_seen", "offline online silence", "online offline message", "offline online silence"];
    wait_for_events(&url, "new", &of_new);
    // Silent since the start, which only the database knew; then it sent.
    let of_known =
        ["online - first_seen", "offline online silence", "online offline message", "offline online silence"];
    wait_for_events(&url, "known", &of_known);
    assert!(andon.stop().success());
    assert_eq!(
        (events(&url, "new"), events(&url, "known")),
        (of_new.map(str::to_owned).to_vec(), of_known.map(str::to_owned).to_vec())
    );
}
