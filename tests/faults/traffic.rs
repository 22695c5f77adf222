//! Strikes with traffic and time: a backlog of a million messages, giant ones, others_rejected bytes, a flood of machines, a clock that jumps.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use andon::domain::{Message, Qos, Seq, Timestamp};
use andon::journal::{
    Journal, JournalError, JournalListener, JournalOptions, RealFs, Space, SyncMode, WhenFull,
};

use super::broker::over_a_cable;
use super::load;
use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::database::Database;
use crate::support::poll::wait_until;
use crate::support::publisher::{self, Single};
use crate::support::scripted_broker::publish_bytes;

faults![
    a_start_with_a_long_backlog_and_the_database_away_stores_it_when_it_comes,
    oversized_payloads_are_rejected_and_stall_nothing,
    giant_packets_are_kept_back_by_the_broker_and_take_no_memory,
    a_topic_at_the_limit_of_mqtt_is_stored,
    nothing_but_malformed_traffic_moves_the_position_on,
    a_topic_that_is_not_utf8_is_rejected_and_ends_nothing,
    a_flood_of_machines_is_stored_and_bounded,
    a_wall_clock_that_jumps_by_hours_loses_nothing_and_makes_no_event,
    a_clock_three_years_ahead_deletes_nothing_in_sqlite,
    a_clock_three_years_ahead_deletes_nothing_in_postgres,
    messages_of_an_unset_clock_survive_its_setting_in_sqlite,
    messages_of_an_unset_clock_survive_its_setting_in_postgres,
];

/// Ignores the events of the journal.
pub struct IgnoringListener;

impl JournalListener for IgnoringListener {
    fn readable(&self, _: Seq) {}
    fn space(&self, _: Space) {}
    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

/// Appends numbered messages to the journal of a stopped Andon, as its callback would.
fn write_backlog(plant: &mut Plant, count: u64) {
    let options = JournalOptions {
        dir: plant.journal_dir.clone(),
        site: "test".to_owned(),
        max_bytes: 16 << 30,
        segment_bytes: 16 << 20,
        sync: SyncMode::Os,
        when_full: WhenFull::Hold,
    };
    let (journal, _) = Journal::open(options, Arc::new(RealFs), Arc::new(IgnoringListener)).unwrap();
    for number in plant.reserve(count) {
        let (topic, payload) = load::message(number);
        let received_at = Timestamp::from(chrono::Utc::now());
        let (qos, payload) = (Qos::AtLeastOnce, payload.as_slice());
        journal
            .append(&Message {
                received_at,
                qos,
                retained: false,
                clock_unset: false,
                topic: topic.as_str().into(),
                payload,
            })
            .unwrap();
    }
    journal.close().unwrap();
}

/// With 50,000 pending messages; a million in `make soak`.
fn a_start_with_a_long_backlog_and_the_database_away_stores_it_when_it_comes(run: &mut FaultRun) -> Report {
    run.no_progress_max *= 5;
    let mut plant = Plant::postgres(run);
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    plant.stop();
    let count = if run.scale == 1 { 50_000 } else { 1_000_000 };
    write_backlog(&mut plant, count);
    plant.server().stop();
    plant.start();
    plant.andon().wait_for_log("the database does not accept the data");
    plant.andon().wait_until_connected();
    plant.publish(500);
    plant.server().restart();
    plant.fault_is_over();
    plant.finish()
}

fn oversized_payloads_are_rejected_and_stall_nothing(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&["mqtt.max_payload=4KiB"]);
    plant.open();
    let load = plant.load(500 * run.scale);
    let mut single = Single::connect(plant.broker.port());
    for _ in 0..30 * run.scale {
        let bytes = 4_097 + run.rng.below(2_000_000);
        single.publish("factory/machine/giant/telemetry", &vec![b'7'; usize::try_from(bytes).unwrap()], 1);
        plant.sent.others_rejected += 1;
    }
    load.join();
    plant.fault_is_over();
    plant.finish()
}

/// One packet is larger than all the memory that Andon may use above idle; the others are more than fit into the broker's window.
fn giant_packets_are_kept_back_by_the_broker_and_take_no_memory(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&["mqtt.max_packet=100KiB"]);
    plant.open();
    let load = plant.load(500 * run.scale);
    let file = plant.site.path().join("giant");
    std::fs::write(&file, vec![b'7'; 48 << 20]).unwrap();
    let port = plant.broker.port().to_string();
    let topic = "factory/machine/giant/telemetry";
    let mut publishing = Command::new("mosquitto_pub");
    publishing.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-f"]).arg(&file);
    assert!(publishing.status().unwrap().success());
    let mut single = Single::connect(plant.broker.port());
    for qos in (0..60 * run.scale).map(|number| [1, 1, 0][usize::try_from(number % 3).unwrap()]) {
        single.publish(topic, &vec![b'7'; 100 << 10], qos);
    }
    load.join();
    plant.fault_is_over();
    plant.finish()
}

fn a_topic_at_the_limit_of_mqtt_is_stored(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    plant.open();
    let mut single = Single::connect(plant.broker.port());
    for number in 0..5 * run.scale {
        let around = "factory/machine//telemetry".len();
        let topic = format!("factory/machine/{}/telemetry", "x".repeat(65_535 - around));
        let payload = format!(
            r#"{{"machine_id":"press-00","temperature":{number},"timestamp":"2026-02-01T00:00:00Z"}}"#
        );
        single.publish(&topic, payload.as_bytes(), 1);
        plant.sent.others += 1;
    }
    plant.publish(300 * run.scale);
    plant.fault_is_over();
    plant.finish()
}

fn nothing_but_malformed_traffic_moves_the_position_on(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    plant.open();
    let count = 1_500 * run.scale;
    let garbage: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let bytes = usize::try_from(run.rng.below(300)).unwrap();
            run.rng.bytes(bytes)
        })
        .collect();
    publisher::publish_each(plant.broker.port(), 0..count, 1, |number| {
        ("factory/machine/press-00/telemetry".to_owned(), garbage[usize::try_from(number).unwrap()].clone())
    });
    plant.sent.others_rejected = count;
    plant.fault_is_over();
    plant.finish()
}

/// Mosquitto refuses such topics, so the test injects them into its stream. Unacknowledged, each would come again.
fn a_topic_that_is_not_utf8_is_rejected_and_ends_nothing(run: &mut FaultRun) -> Report {
    let (mut plant, cable) = over_a_cable(run);
    plant.open();
    for round in 0..5 * run.scale {
        plant.publish(20);
        // Inject between packets: the broker must not be sending.
        plant.wait_until_stored(plant.sent.numbered);
        let bad = *run.rng.pick(&[b"\xff".as_slice(), b"\0", b"\xed\xa0\x80", b"\xc3"]);
        let topic = [b"factory/machine/m".as_slice(), bad, b"/telemetry"].concat();
        let (qos, id) = (u8::try_from(round % 2).unwrap(), 65_000 + u16::try_from(round).unwrap());
        cable.inject(&publish_bytes(true, qos, &topic, br#"{"machine_id":"press-00"}"#, id));
        plant.sent.others_rejected += 1;
        wait_until("the rejection", || rejections(&plant.url) == plant.sent.others_rejected);
    }
    plant.fault_is_over();
    plant.finish()
}

fn rejections(url: &str) -> u64 {
    let sql = "SELECT count(*) AS value FROM rejected_message WHERE reason = 'invalid_topic'";
    let count = Database::open(url).and_then(|mut database| database.try_number(sql));
    count.map_or(0, |count| u64::try_from(count).unwrap())
}

fn a_flood_of_machines_is_stored_and_bounded(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&["liveness.machines_max=500"]);
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    let count = 4_000 * run.scale;
    publisher::publish_each(plant.broker.port(), 0..count, 1, |number| {
        let topic = format!("factory/machine/runaway-{number}/telemetry");
        (topic, format!(r#"{{"temperature":{number},"timestamp":"2026-02-01T00:00:00Z"}}"#))
    });
    plant.sent.others = count;
    // Only so many are tracked; the others are stored without a status.
    plant.sent.other_machines = 500 - plant.sent.machines();
    plant.fault_is_over();
    plant.finish()
}

/// Counts the rows of unnumbered messages without a device time.
pub fn others_stored(url: &str) -> u64 {
    let sql = "SELECT count(*) AS value FROM machine_telemetry \
        WHERE time_source = 'server' AND source_topic NOT LIKE 'factory/machine/t-%' AND machine_id NOT LIKE 'kept-%'";
    let count = Database::open(url).and_then(|mut database| database.try_number(sql));
    count.map_or(0, |count| u64::try_from(count).unwrap())
}

fn a_wall_clock_that_jumps_by_hours_loses_nothing_and_makes_no_event(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    let file = plant.site.path().join("clock-offset");
    std::fs::write(&file, "0").unwrap();
    let clock = format!("clock::offset=return({})", file.display());
    plant.open_with(&clock);
    let load = plant.load(1_500 * run.scale);
    let mut single = Single::connect(plant.broker.port());
    for number in 0..12 * run.scale {
        let hours = i64::try_from(run.rng.below(24)).unwrap() - 12;
        std::fs::write(&file, (hours * 3_600_000_000).to_string()).unwrap();
        run.rng.pause(Duration::from_millis(60));
        // Without a device time it gets Andon's, whatever that is.
        let payload = format!(r#"{{"machine_id":"press-00","temperature":{number}}}"#);
        single.publish("factory/machine/press-00/telemetry", payload.as_bytes(), 1);
        plant.sent.others += 1;
        if number % 6 == 5 {
            // If the broker delivered it again, it would get another time and be another reading.
            wait_until("the rows without a device time", || others_stored(&plant.url) == plant.sent.others);
            plant.stop();
            plant.start_with(&clock);
        }
    }
    load.join();
    plant.fault_is_over();
    plant.finish()
}

const YEAR_MICROS: i64 = 365 * 86_400 * 1_000_000;

/// A wall clock that a fault turns.
pub struct TurnedClock {
    file: std::path::PathBuf,
}

impl TurnedClock {
    pub fn new(plant: &Plant) -> Self {
        let clock = Self { file: plant.site.path().join("clock-offset") };
        clock.turn(0);
        clock
    }

    pub fn turn(&self, micros: i64) {
        std::fs::write(&self.file, micros.to_string()).unwrap();
    }

    pub fn failpoint(&self) -> String {
        format!("clock::offset=return({})", self.file.display())
    }
}

/// Stores a row that is past retention by the true time and waits until it is deleted: that proves that a deletion ran.
fn wait_for_pruning(plant: &Plant) {
    let mut database = Database::open(&plant.url).unwrap();
    database.execute(
        "INSERT INTO machine_telemetry (site, machine_id, source_topic, recorded_at, time_source, received_at, created_at, \
         digest) VALUES ('test', 'press-00', 'x', '2024-01-01 00:00:00.000000+00:00', 'device', \
         '2024-01-01 00:00:00.000000+00:00', '2024-01-01 00:00:00.000000+00:00', 1)",
    );
    // Every start deletes.
    let canaries = "SELECT count(*) AS value FROM machine_telemetry WHERE source_topic = 'x'";
    wait_until("old rows to be deleted", || database.number(canaries) == 0);
}

fn a_clock_three_years_ahead_deletes_nothing(mut plant: Plant, run: &mut FaultRun) -> Report {
    plant = plant.set(&["store.retention=730d"]);
    let clock = TurnedClock::new(&plant);
    plant.open_with(&clock.failpoint());
    plant.publish(200);
    plant.wait_until_stored(plant.sent.numbered);
    for round in 0..2 * run.scale {
        // The clock jumps while Andon runs, or while it is stopped.
        if round % 2 == 0 {
            clock.turn(3 * YEAR_MICROS);
            plant.andon().wait_for_log("has jumped, and nothing confirms it");
        }
        if run.rng.below(2) == 0 {
            plant.kill()
        } else {
            plant.stop()
        }
        clock.turn(3 * YEAR_MICROS);
        let load = plant.load(200);
        plant.start_with(&clock.failpoint());
        wait_for_pruning(&plant);
        load.join();
        plant.wait_until_stored(plant.sent.numbered);
        plant.andon().wait_for_log("has jumped, and nothing confirms it");
        clock.turn(0);
        plant.andon().wait_for_log("Andon trusts the clock of this computer");
    }
    plant.fault_is_over();
    plant.finish()
}

fn a_clock_three_years_ahead_deletes_nothing_in_sqlite(run: &mut FaultRun) -> Report {
    a_clock_three_years_ahead_deletes_nothing(Plant::sqlite(run), run)
}

fn a_clock_three_years_ahead_deletes_nothing_in_postgres(run: &mut FaultRun) -> Report {
    a_clock_three_years_ahead_deletes_nothing(Plant::postgres(run), run)
}

/// The clock says 2016 or earlier, as after a dead battery.
fn messages_of_an_unset_clock_survive_its_setting(mut plant: Plant, run: &mut FaultRun) -> Report {
    plant = plant.set(&["store.retention=730d"]);
    let clock = TurnedClock::new(&plant);
    plant.open_with(&clock.failpoint());
    plant.publish(100);
    plant.wait_until_stored(plant.sent.numbered);
    for _ in 0..run.scale {
        plant.stop();
        clock.turn(-(10 + i64::try_from(run.rng.below(40)).unwrap()) * YEAR_MICROS);
        let load = plant.load(300);
        plant.open_with(&clock.failpoint());
        let mut single = Single::connect(plant.broker.port());
        for number in 0..10 {
            let payload = format!(r#"{{"machine_id":"press-00","temperature":{number}}}"#);
            single.publish("factory/machine/press-00/telemetry", payload.as_bytes(), 1);
            plant.sent.others += 1;
        }
        load.join();
        plant.wait_until_stored(plant.sent.numbered);
        wait_until("the rows without a device time", || others_stored(&plant.url) == plant.sent.others);
        plant.stop();
        clock.turn(0);
        plant.start_with(&clock.failpoint());
        wait_for_pruning(&plant);
    }
    plant.fault_is_over();
    plant.finish()
}

fn messages_of_an_unset_clock_survive_its_setting_in_sqlite(run: &mut FaultRun) -> Report {
    messages_of_an_unset_clock_survive_its_setting(Plant::sqlite(run), run)
}

fn messages_of_an_unset_clock_survive_its_setting_in_postgres(run: &mut FaultRun) -> Report {
    messages_of_an_unset_clock_survive_its_setting(Plant::postgres(run), run)
}
