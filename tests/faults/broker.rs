//! Strikes the broker and the link: killed, restarted with and without its memory, frozen, disconnecting, its session taken over.

use std::time::Duration;

use paho_mqtt as mqtt;

use super::kinds;
use super::load;
use super::plant::Plant;
use super::proxy::Proxy;
use super::{FaultRun, Report, faults};
use crate::support::andon::Site;
use crate::support::device::Device;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;
use crate::support::slow_line::SlowLine;

faults![
    a_broker_that_is_killed_makes_andon_lose_nothing_it_had_acknowledged,
    a_broker_that_is_restarted_with_its_memory_loses_nothing,
    a_broker_that_has_forgotten_the_session_is_subscribed_to_again,
    a_frozen_broker_is_noticed_by_our_own_probe_and_nothing_is_lost,
    a_connection_that_the_broker_ends_with_a_reason_is_made_again,
    a_cable_that_is_cut_again_and_again_loses_nothing,
    a_session_taken_over_again_and_again_is_logged_once_and_not_fought,
    the_end_of_a_take_over_is_logged_and_losses_are_logged_again,
    a_frozen_database_starves_no_keep_alive,
    a_slow_disk_starves_no_keep_alive,
    retained_messages_without_time_are_stored_once_at_every_connect_in_sqlite,
    retained_messages_without_time_are_stored_once_at_every_connect_in_postgres,
    a_backlog_that_drains_through_a_small_window_makes_no_machine_offline,
];

const CONNECTED: &str = "connected to the broker";

fn wait_for_connects(plant: &mut Plant, count: usize) {
    let andon = plant.andon();
    wait_until(&format!("connect number {count}"), || andon.log().matches(CONNECTED).count() >= count);
}

/// A killed broker loses what it had not delivered; devices publish that again.
fn a_broker_that_is_killed_makes_andon_lose_nothing_it_had_acknowledged(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    plant.open();
    for round in 1..=usize::try_from(2 * run.scale).unwrap() {
        plant.publish(200);
        plant.wait_until_stored(plant.sent.numbered);
        let never_published_again = plant.sent.numbered;
        let load = plant.load(600);
        run.rng.pause(Duration::from_millis(250));
        plant.broker.kill();
        run.rng.pause(Duration::from_millis(150));
        plant.broker.restart();
        plant.fault_is_over();
        wait_for_connects(&mut plant, 1 + round);
        load.join();
        load::publish(plant.broker.port(), never_published_again..plant.sent.numbered);
    }
    plant.finish()
}

fn a_broker_that_is_restarted_with_its_memory_loses_nothing(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    plant.open();
    for _ in 0..2 * run.scale {
        let load = plant.load(600);
        run.rng.pause(Duration::from_millis(250));
        plant.broker.stop();
        run.rng.pause(Duration::from_millis(150));
        plant.broker.restart();
        plant.fault_is_over();
        load.join();
    }
    plant.finish()
}

pub fn a_broker_that_has_forgotten_the_session_is_subscribed_to_again(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    plant.open();
    for round in 1..=usize::try_from(run.scale).unwrap() {
        plant.publish(300);
        plant.wait_until_stored(plant.sent.numbered);
        plant.broker.stop();
        plant.broker.forget();
        plant.broker.restart();
        plant.fault_is_over();
        // Published before the subscription, a message would reach no session.
        wait_for_connects(&mut plant, 1 + round);
        plant.publish(300);
    }
    assert!(plant.andon().log().contains("the broker has forgotten Andon's session"));
    plant.finish()
}

/// The library would notice after two and a half keep-alives, our probe after at most one and a half. The log has our sentence
/// only if the probe was first.
fn a_frozen_broker_is_noticed_by_our_own_probe_and_nothing_is_lost(run: &mut FaultRun) -> Report {
    let prefix = *run.rng.pick(&["andon", ""]);
    let mut plant = Plant::sqlite(run).set(&[
        "mqtt.keep_alive=4s",
        "mqtt.connect_timeout=2s",
        &format!("liveness.publish_prefix={prefix}"),
    ]);
    plant.open();
    plant.publish(200);
    plant.broker.freeze();
    plant.andon().wait_for_log("the broker does not answer");
    plant.broker.thaw();
    plant.fault_is_over();
    plant.publish(300 * run.scale);
    assert!(!plant.andon().log().contains("reason: \"connection lost\""), "{}", plant.andon().log());
    plant.finish()
}

/// Makes a plant whose Andon reaches the broker through a proxy that can be cut.
pub fn over_a_cable(run: &FaultRun) -> (Plant, Proxy) {
    let broker = Mosquitto::start("");
    let cable = Proxy::start(broker.port());
    let site = Site::new(cable.port());
    let url = site.sqlite_url();
    (Plant::new(run, broker, None, site, url), cable)
}

fn a_connection_that_the_broker_ends_with_a_reason_is_made_again(run: &mut FaultRun) -> Report {
    let (mut plant, cable) = over_a_cable(run);
    plant.open();
    plant.publish(200);
    plant.wait_until_stored(200);
    // DISCONNECT, reason 0x98: administrative action.
    cable.inject(&[0xe0, 0x02, 0x98, 0x00]);
    plant.andon().wait_for_log("the broker ended the connection");
    cable.cut_all();
    plant.fault_is_over();
    plant.publish(300 * run.scale);
    let log = plant.andon().log();
    let said = log.lines().find(|line| line.contains("the broker ended the connection")).unwrap();
    assert!(said.to_lowercase().contains("administrative"), "{said}");
    plant.finish()
}

fn a_cable_that_is_cut_again_and_again_loses_nothing(run: &mut FaultRun) -> Report {
    let (mut plant, cable) = over_a_cable(run);
    plant.open();
    let load = plant.load(1_500 * run.scale);
    for _ in 0..6 * run.scale {
        run.rng.pause(Duration::from_millis(150));
        cable.cut_all();
    }
    load.join();
    plant.fault_is_over();
    plant.finish()
}

/// Connects with Andon's client id, and again as soon as it is disconnected, until that has happened `rounds` times. Calls
/// `while_connected` repeatedly while it has the session.
fn impostor(port: u16, protocol: &str, rounds: u32, mut while_connected: impl FnMut()) {
    let v5 = protocol == "5";
    let create = mqtt::CreateOptionsBuilder::new()
        .server_uri(format!("tcp://127.0.0.1:{port}"))
        .client_id("andon-test")
        .persistence(mqtt::PersistenceType::None)
        .mqtt_version(if v5 { mqtt::MqttVersion::V5 } else { mqtt::MqttVersion::V3_1_1 })
        .finalize();
    let client = mqtt::AsyncClient::new(create).unwrap();
    let mut options =
        if v5 { mqtt::ConnectOptionsBuilder::new_v5() } else { mqtt::ConnectOptionsBuilder::new_v3() };
    if v5 {
        let mut properties = mqtt::Properties::new();
        properties.push_u32(mqtt::PropertyCode::SessionExpiryInterval, 600).unwrap();
        options.clean_start(false).properties(properties);
    } else {
        options.clean_session(false);
    }
    let options = options.finalize();
    for _ in 0..rounds {
        wait_until("the session, for the impostor", || client.connect(options.clone()).wait().is_ok());
        wait_until("the impostor to be disconnected", || {
            while_connected();
            !client.is_connected()
        });
    }
}

fn a_session_taken_over_again_and_again_is_logged_once_and_not_fought(run: &mut FaultRun) -> Report {
    let protocol = *run.rng.pick(&["5", "3.1.1"]);
    // A backoff that never reaches its cap: the number of attempts shows whether Andon keeps to it.
    let mut plant = Plant::sqlite(run).set(&[
        &format!("mqtt.protocol={protocol}"),
        "mqtt.backoff_min=20ms",
        "mqtt.backoff_max=1h",
    ]);
    plant.open();
    plant.publish(200);
    plant.wait_until_stored(200);
    let http = Client::new(&plant.andon().wait_for_http());
    let port = plant.broker.port();
    let andon = plant.andon();
    let mut states_meanwhile = std::collections::BTreeSet::new();
    impostor(port, protocol, 6, || {
        if andon.log().contains("another client keeps taking over Andon's session") {
            let state = http.json("/api/v1/status")["broker"]["state"].clone();
            states_meanwhile.insert(state.to_string());
        }
    });
    assert!(
        states_meanwhile.contains("\"away\""),
        "the link was down while the impostor had the session, and shown as {states_meanwhile:?}"
    );
    plant.andon().wait_for_log("another client keeps taking over Andon's session");
    plant.fault_is_over();
    wait_until("the session again", || {
        let log = plant.broker.log();
        log.lines()
            .rfind(|line| line.contains("New client connected") && line.contains("andon-test"))
            .is_some()
    });
    plant.publish(200 * run.scale);
    let log = plant.andon().log();
    assert_eq!(log.matches("another client keeps taking over Andon's session").count(), 1, "{log}");
    let logged = log.matches(CONNECTED).count() + log.matches("the link to the broker is down").count();
    assert!(logged <= 6, "each round of the take-over is logged:\n{log}");
    plant.finish()
}

fn the_end_of_a_take_over_is_logged_and_losses_are_logged_again(run: &mut FaultRun) -> Report {
    let protocol = *run.rng.pick(&["5", "3.1.1"]);
    let mut plant = Plant::sqlite(run).set(&[
        &format!("mqtt.protocol={protocol}"),
        "mqtt.backoff_min=20ms",
        "mqtt.backoff_max=1s",
    ]);
    plant.open();
    plant.publish(200);
    plant.wait_until_stored(200);
    impostor(plant.broker.port(), protocol, 6, || {});
    plant.andon().wait_for_log("another client keeps taking over Andon's session");
    plant.andon().wait_for_log("no other client takes over the session any more");
    let losses = |plant: &mut Plant| plant.andon().log().matches("the link to the broker is down").count();
    let before = losses(&mut plant);
    plant.broker.restart();
    wait_until("the loss in the log", || losses(&mut plant) > before);
    plant.fault_is_over();
    plant.publish(200 * run.scale);
    plant.finish()
}

/// The broker ends a silent connection after 4.5 s, and Andon gives it 1.5 s to answer: enough time for both on a busy machine.
const KEEP_ALIVE: &str = "mqtt.keep_alive=3s";

/// Asserts that Andon kept its link: the broker never logged a missed keep-alive.
fn no_keep_alive_is_missed(plant: &Plant) {
    let log = plant.broker.log();
    assert!(!log.contains("exceeded timeout"), "{log}");
}

fn a_frozen_database_starves_no_keep_alive(run: &mut FaultRun) -> Report {
    let mut plant = Plant::postgres(run).set(&[KEEP_ALIVE]);
    plant.open();
    plant.server().freeze();
    let load = plant.load(500 * run.scale);
    // Longer than the broker waits, and more than twice our keep-alive.
    std::thread::sleep(Duration::from_secs(8));
    load.join();
    plant.server().thaw();
    plant.fault_is_over();
    no_keep_alive_is_missed(&plant);
    assert_eq!(plant.andon().log().matches(CONNECTED).count(), 1);
    plant.finish()
}

/// Each sync takes a while, with a message in the callback most of the time.
fn a_slow_disk_starves_no_keep_alive(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&[KEEP_ALIVE, "journal.sync=before_ack"]);
    plant.open_with("journal::sync=80*sleep(100)");
    plant.publish(300 * run.scale);
    plant.wait_until_stored(300 * run.scale);
    plant.fault_is_over();
    no_keep_alive_is_missed(&plant);
    assert_eq!(plant.andon().log().matches(CONNECTED).count(), 1);
    plant.finish()
}

/// With 3.1.1 the broker sends its retained messages at every connect, and each time Andon receives them at another time.
fn retained_messages_without_time_are_stored_once_at_every_connect(
    mut plant: Plant,
    run: &mut FaultRun,
) -> Report {
    plant = plant.set(&["mqtt.protocol=3.1.1"]);
    let port = plant.broker.port();
    let retain = |machine: u64, state: &str| {
        let topic = format!("factory/machine/sensor-{machine:02}/telemetry");
        publisher::retain(port, &topic, &format!(r#"{{"state":"{state}"}}"#));
    };
    (0..kinds::MACHINES).for_each(|machine| retain(machine, "A"));
    plant.open();
    plant.publish(100);
    // Published live: the machine's newest reading then identifies the retained copy.
    retain(0, "live");
    plant.sent.others = kinds::MACHINES + 1;
    // That machine, and the one whose state changes below: a retained message is no sign of life.
    plant.sent.other_machines = 2;
    wait_until("the retained messages, and the live one", || {
        super::traffic::others_stored(&plant.url) == plant.sent.others
    });
    for round in 0..3 * run.scale {
        let load = plant.load(200);
        run.rng.pause(Duration::from_millis(150));
        if run.rng.below(2) == 0 {
            plant.kill()
        } else {
            plant.stop()
        }
        match round % 3 {
            0 => retain(1, "B"),
            1 => retain(1, "A"),
            _ => {}
        }
        // The session also gets it live, and a live message is a reading of its own.
        plant.sent.others += u64::from(round % 3 < 2);
        plant.start();
        plant.andon().wait_until_connected();
        load.join();
        plant.wait_until_stored(plant.sent.numbered);
        wait_until("the live one", || super::traffic::others_stored(&plant.url) >= plant.sent.others);
    }
    plant.fault_is_over();
    plant.finish()
}

fn retained_messages_without_time_are_stored_once_at_every_connect_in_sqlite(run: &mut FaultRun) -> Report {
    retained_messages_without_time_are_stored_once_at_every_connect(Plant::sqlite(run), run)
}

fn retained_messages_without_time_are_stored_once_at_every_connect_in_postgres(run: &mut FaultRun) -> Report {
    retained_messages_without_time_are_stored_once_at_every_connect(Plant::postgres(run), run)
}

/// A machine publishes all the time, behind a backlog that takes longer to drain (100 messages a second) than its `offline_after`.
fn a_backlog_that_drains_through_a_small_window_makes_no_machine_offline(run: &mut FaultRun) -> Report {
    let broker = Mosquitto::start("");
    let line = SlowLine::start(broker.port(), Duration::from_millis(100), 20);
    let site = Site::new(line.port());
    let url = site.sqlite_url();
    let plant = Plant::new(run, broker, None, site, url);
    let mut plant = plant.set(&["liveness.machines.talker.offline_after=4s"]);
    plant.open();
    let talker = Device::start(plant.broker.port(), "talker");
    plant.publish(600 * run.scale);
    plant.wait_until_stored(plant.sent.numbered);
    plant.fault_is_over();
    plant.stop();
    plant.sent.others += talker.stop();
    plant.sent.other_machines += 1;
    // From here on it is silent.
    let mut plant = plant.set(&["liveness.machines.talker.offline_after=1h"]);
    plant.open();
    plant.finish()
}
