//! From publish until another connection sees the row, with a broker in its default configuration, while machines change their
//! status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::andon::Site;
use super::support::database::Database;
use super::support::mosquitto::Mosquitto;
use super::support::poll::wait_for;
use super::support::postgres::Postgres;
use super::support::publisher::Single;

const SAMPLES: u64 = 300;
/// Not counted.
const WARM_UP: u64 = 50;
/// Pause between two looks for the row. Without it the reader of SQLite, which reads in this process, keeps one of two
/// cores busy, and the time that Andon waits for it is measured.
const LOOK_AGAIN: Duration = Duration::from_micros(100);
/// Pause between two samples.
const PAUSE: Duration = Duration::from_millis(20);

/// Measures with `per_second` messages a second altogether.
pub fn run(name: &str, per_second: u64, postgres: Option<&Postgres>) {
    let broker = Mosquitto::start("");
    let mut site = Site::new(broker.port()).set("log.level=info").set("liveness.offline_after=1s");
    let mut url = site.sqlite_url();
    if let Some(postgres) = postgres {
        url = postgres.create_database(&format!("latency{per_second}"));
        site = site.set(&format!("store.url={url}"));
    }
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut database = wait_for("the table", || {
        let mut database = Database::open(&url)?;
        database.try_number("SELECT count(*) AS value FROM machine_telemetry")?;
        Some(database)
    });
    let over = Arc::new(AtomicBool::new(false));
    let others = others(broker.port(), per_second, &over);
    let mut micros = Vec::new();
    let mut publisher = Single::connect(broker.port());
    for number in 0..SAMPLES {
        let took = sample(&mut publisher, &mut database, number);
        if number >= WARM_UP {
            micros.push(took.as_micros());
        }
        std::thread::sleep(PAUSE.saturating_sub(took));
    }
    over.store(true, Ordering::Relaxed);
    others.join().unwrap();
    micros.sort_unstable();
    let at = |share: usize| micros[micros.len() * share / 100] as f64 / 1000.0;
    println!(
        "publish to visible row, {name}, {per_second}/s: p50 {:.2} ms (goal 3), p90 {:.2} ms, p99 {:.2} ms (goal 15), longest {:.2} ms",
        at(50),
        at(90),
        at(99),
        micros[micros.len() - 1] as f64 / 1000.0
    );
    assert!(andon.stop().success());
}

fn sample(publisher: &mut Single, database: &mut Database, number: u64) -> Duration {
    let is_there = format!(
        "SELECT count(*) AS value FROM machine_telemetry WHERE site = 'test' AND machine_id = 'latency' AND temperature = {number}"
    );
    let payload = format!(r#"{{"machine_id":"latency","temperature":{number}}}"#);
    let published = Instant::now();
    publisher.publish("factory/machine/latency/telemetry", payload.as_bytes(), 1);
    while database.number(&is_there) == 0 {
        assert!(published.elapsed() < Duration::from_secs(30), "row {number} does not appear");
        std::thread::sleep(LOOK_AGAIN);
    }
    published.elapsed()
}

/// Publishes the other messages; each of their 20 machines speaks for a second, then is silent for two.
fn others(port: u16, per_second: u64, over: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let over = Arc::clone(over);
    std::thread::spawn(move || {
        let mut publisher = Single::connect(port);
        let (begun, mut number) = (Instant::now(), 0_u64);
        while !over.load(Ordering::Relaxed) {
            let due = begun.elapsed().as_millis() as u64 * per_second.saturating_sub(50).max(10) / 1000;
            while number < due {
                let machine = begun.elapsed().as_secs() % 3 * 7 + number % 7;
                let topic = format!("factory/machine/other-{machine}/telemetry");
                publisher.publish(&topic, format!(r#"{{"temperature":{number}}}"#).as_bytes(), 0);
                number += 1;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}
