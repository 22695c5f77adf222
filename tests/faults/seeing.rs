//! Strikes what liveness sees: a late database, an unstable link, a clock that jumps, another site's statuses.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::broker::over_a_cable;
use super::kinds;
use super::plant::Plant;
use super::traffic::TurnedClock;
use super::{FaultRun, Report, faults};
use crate::support::andon::Site;
use crate::support::database::{Database, instant};
use crate::support::http::Client;
use crate::support::poll::wait_until;
use crate::support::subscriber::{Subscriber, field_of};

faults![
    a_machine_that_speaks_before_postgres_answers_is_known,
    a_link_that_is_lost_again_and_again_makes_no_status_published_again,
    a_clock_that_is_an_hour_ahead_for_a_while_leaves_no_trace_in_sqlite,
    a_clock_that_is_an_hour_ahead_for_a_while_leaves_no_trace_in_postgres,
    another_site_that_subscribes_to_everything_changes_no_machine,
];

/// Among so many messages there is one of every machine.
const ALL_SPEAK: u64 = 200;
const HOUR_MICROS: i64 = 3_600_000_000;

/// Returns the machines that publish all the time, with their status.
fn presses(address: &str) -> Vec<(String, String)> {
    let machines = Client::new(address).json("/api/v1/machines?limit=1000")["machines"].clone();
    let each = machines.as_array().into_iter().flatten();
    let of =
        |machine: &serde_json::Value, field: &str| machine[field].as_str().unwrap_or_default().to_owned();
    let pairs = each.map(|machine| (of(machine, "machine_id"), of(machine, "status")));
    pairs.filter(|(machine, _)| machine.starts_with("press-")).collect()
}

/// PostgreSQL hangs at the start, for less and for longer than liveness waits for the recorded past.
fn a_machine_that_speaks_before_postgres_answers_is_known(run: &mut FaultRun) -> Report {
    let mut plant = Plant::postgres(run);
    plant.open();
    plant.publish(ALL_SPEAK);
    for _ in 0..run.scale {
        for hangs in [Duration::ZERO, Duration::from_secs(3)] {
            plant.wait_until_stored(plant.sent.numbered);
            plant.stop();
            plant.server().freeze();
            plant.start();
            plant.andon().wait_until_connected();
            plant.publish(ALL_SPEAK);
            std::thread::sleep(hangs);
            run.rng.pause(Duration::from_millis(300));
            assert!(!plant.andon().log().contains("attached to the database"), "{}", plant.andon().log());
            plant.server().thaw();
            plant.fault_is_over();
            let address = plant.andon().wait_for_http();
            wait_until("every machine to be online", || {
                let presses = presses(&address);
                presses.len() as u64 == kinds::MACHINES
                    && presses.iter().all(|(_, status)| status == "online")
            });
        }
    }
    plant.finish()
}

fn a_link_that_is_lost_again_and_again_makes_no_status_published_again(run: &mut FaultRun) -> Report {
    let (mut plant, cable) = over_a_cable(run);
    let subscriber = Subscriber::start(plant.broker.port(), "andon/test/machine/+/status");
    plant.open();
    plant.publish(ALL_SPEAK);
    plant.wait_until_stored(ALL_SPEAK);
    let pending = "SELECT count(*) AS value FROM machine_event WHERE publish_pending";
    let url = plant.url.clone();
    wait_until("all statuses to be published", || {
        Database::open(&url).is_some_and(|mut database| database.try_number(pending) == Some(0))
    });
    let before = subscriber.len();
    assert!(before as u64 >= kinds::MACHINES, "{before}");
    let load = plant.load(600 * run.scale);
    for _ in 0..4 * run.scale {
        run.rng.pause(Duration::from_millis(200));
        let connects = plant.broker.log().matches("as andon-test").count();
        cable.cut_all();
        wait_until("the next connection", || plant.broker.log().matches("as andon-test").count() > connects);
    }
    load.join();
    plant.fault_is_over();
    plant.wait_until_stored(plant.sent.numbered);
    // Machines that were online before have not changed. Mortal machines came and went meanwhile: one status for each change.
    let published = subscriber.received();
    let again: Vec<_> =
        published[before..].iter().filter(|message| message.topic.contains("/press-")).collect();
    assert!(again.is_empty(), "{again:?}");
    let mortal = published[before..].iter().filter(|message| message.topic.contains("/mortal-"));
    assert!(mortal.clone().any(|message| field_of(&message.payload, "status") == "offline"));
    plant.finish()
}

/// Returns machine and time of the events, in the order in which they were recorded.
fn events(database: &mut Database) -> Vec<(String, DateTime<Utc>)> {
    let sql = "SELECT machine_id || ' ' || occurred_at AS value FROM machine_event ORDER BY id";
    let words = database.words(sql).into_iter().flatten();
    words.map(|text| text.split_once(' ').map(|(id, at)| (id.to_owned(), instant(at))).unwrap()).collect()
}

fn a_clock_that_is_an_hour_ahead_for_a_while_leaves_no_trace(mut plant: Plant, run: &mut FaultRun) -> Report {
    let clock = TurnedClock::new(&plant);
    plant.open_with(&clock.failpoint());
    for _ in 0..run.scale {
        let load = plant.load(600);
        run.rng.pause(Duration::from_millis(100));
        clock.turn(HOUR_MICROS);
        load.join();
        plant.publish(ALL_SPEAK);
        plant.wait_until_stored(plant.sent.numbered);
        let mut database = Database::open(&plant.url).unwrap();
        let ahead = Utc::now() + chrono::Duration::minutes(30);
        let recorded = events(&mut database);
        assert!(recorded.iter().any(|(_, at)| *at > ahead), "the clock was ahead: {recorded:?}");

        clock.turn(0);
        let set_back = Utc::now();
        plant.fault_is_over();
        plant.publish(ALL_SPEAK);
        plant.wait_until_stored(plant.sent.numbered);
        let sql = "SELECT last_seen_at || '' AS value FROM machine WHERE machine_id LIKE 'press-%'";
        let seen: Vec<_> = database.words(sql).into_iter().flatten().map(|text| instant(&text)).collect();
        let now = Utc::now();
        assert!(seen.iter().all(|at| set_back < *at && *at < now), "{seen:?}");
        let since = events(&mut database).split_off(recorded.len());
        assert!(!since.is_empty() && since.iter().all(|(_, at)| set_back < *at && *at < now), "{since:?}");
        if run.rng.below(2) == 0 {
            plant.kill();
            plant.open_with(&clock.failpoint());
        }
    }
    plant.finish()
}

fn a_clock_that_is_an_hour_ahead_for_a_while_leaves_no_trace_in_sqlite(run: &mut FaultRun) -> Report {
    a_clock_that_is_an_hour_ahead_for_a_while_leaves_no_trace(Plant::sqlite(run), run)
}

fn a_clock_that_is_an_hour_ahead_for_a_while_leaves_no_trace_in_postgres(run: &mut FaultRun) -> Report {
    a_clock_that_is_an_hour_ahead_for_a_while_leaves_no_trace(Plant::postgres(run), run)
}

/// Includes the statuses that every site publishes. (`#` would also make telemetry of messages on last-will topics.)
const EVERYTHING: &str = "mqtt.subscriptions=factory/machine/+/telemetry,nameless/+,+/+/machine/+/status";

/// Each site receives the statuses that the other publishes. If they counted as messages of a machine, one that is offline by its last
/// will would come back.
fn another_site_that_subscribes_to_everything_changes_no_machine(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&[EVERYTHING]);
    let other = [
        "site.id=other",
        "mqtt.client_id=andon-other",
        EVERYTHING,
        kinds::LAST_WILL,
        kinds::MAX_PAYLOAD,
        "liveness.offline_after=1h",
    ];
    let other = other.into_iter().fold(Site::new(plant.broker.port()), Site::set);
    plant.open();
    let mut beside = other.run();
    beside.wait_until_seeing();
    for _ in 0..run.scale {
        let load = plant.load(600);
        run.rng.pause(Duration::from_millis(200));
        assert!(beside.stop().success());
        beside = other.run();
        beside.wait_until_seeing();
        load.join();
    }
    plant.fault_is_over();
    let visible = kinds::sums(plant.sent.numbered).visible;
    wait_until("the other site to store it, too", || {
        super::oracle::numbers_shown(&other.sqlite_url()) >= visible
    });
    assert!(beside.stop().success());
    for url in [&plant.url, &other.sqlite_url()] {
        let mut database = Database::open(url).unwrap();
        let of_andon = "SELECT (SELECT count(*) FROM machine_telemetry WHERE source_topic LIKE 'andon/%') \
            + (SELECT count(*) FROM rejected_message WHERE topic LIKE 'andon/%') AS value";
        assert_eq!(database.number(of_andon), 0, "{url}: a status is no telemetry");
        let back = "SELECT count(*) AS value FROM machine_event WHERE machine_id LIKE 'mortal-%' AND reason = 'message'";
        assert_eq!(database.number(back), 0, "{url}: a status brought a machine back");
    }
    plant.finish()
}
