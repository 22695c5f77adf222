//! `make bench`: the speed of Andon, compared with `mosquitto_sub`, which stores nothing.
//!
//! One backlog of QoS 1 messages waits at a private broker for three persistent sessions. Each drains its copy in turn, for several
//! rounds: `mosquitto_sub`, Andon into SQLite, Andon into PostgreSQL (both databases with their durable defaults). Only the ratios
//! within a round are compared, never rates of different rounds. Then the latency from publish to visible row is measured with
//! single messages, 50 a second.
//!
//! `ANDON_BENCH_MESSAGES` (200000) and `ANDON_BENCH_ROUNDS` (3) change the size.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code)]

#[path = "../tests/support/mod.rs"]
mod support;

// `build.rs` makes the linker replace some C functions by functions of this crate.
use andon as _;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::andon::Site;
use support::database::Database;
use support::mosquitto::Mosquitto;
use support::postgres::Postgres;
use support::publisher;

const MACHINES: u32 = 100;
const TOPIC: &str = "factory/machine/+/telemetry";

struct Drained {
    seconds: f64,
    own_cpu: f64,
    database_cpu: f64,
    broker_cpu: f64,
    peak_rss_mib: f64,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let messages = setting("ANDON_BENCH_MESSAGES", 200_000);
    let rounds = setting("ANDON_BENCH_ROUNDS", 3);
    println!("drain: {messages} QoS 1 messages of about 120 bytes from {MACHINES} machines, {rounds} rounds");
    println!(
        "{:>5} {:<14} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "round", "into", "msg/s", "ratio", "own CPU s", "db CPU s", "broker s", "RSS MiB"
    );
    let postgres = Postgres::start_durable();
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        let [plain, sqlite, pg] = run_round(round, messages, &postgres);
        let rate = |drained: &Drained| messages as f64 / drained.seconds;
        for (name, drained) in [("mosquitto_sub", &plain), ("SQLite", &sqlite), ("PostgreSQL", &pg)] {
            println!(
                "{round:>5} {name:<14} {:>9.0} {:>7.2} {:>9.2} {:>9.2} {:>9.2} {:>9.1}",
                rate(drained),
                rate(drained) / rate(&plain),
                drained.own_cpu,
                drained.database_cpu,
                drained.broker_cpu,
                drained.peak_rss_mib
            );
        }
        ratios[0].push(rate(&sqlite) / rate(&plain));
        ratios[1].push(rate(&pg) / rate(&plain));
    }
    for ((name, goal), ratios) in [("SQLite", 0.5), ("PostgreSQL", 0.35)].into_iter().zip(&mut ratios) {
        ratios.sort_by(f64::total_cmp);
        println!("median ratio into {name}: {:.2} (goal {goal})", ratios[ratios.len() / 2]);
    }
    latency("SQLite", None);
    latency("PostgreSQL", Some(&postgres));
}

fn run_round(round: u64, messages: u64, postgres: &Postgres) -> [Drained; 3] {
    let broker = Mosquitto::start("max_queued_messages 0\nmax_queued_bytes 0");
    let port = broker.port().to_string();
    let sqlite = Site::new(broker.port()).set("mqtt.client_id=bench-sqlite").set("log.level=info");
    let url = postgres.create_database(&format!("bench{round}"));
    let pg = Site::new(broker.port()).set("mqtt.client_id=bench-pg").set("log.level=info");
    let pg = pg.set(&format!("store.url={url}"));

    let subscribe = ["-p", &port, "-i", "bench-sub", "-c", "-q", "1", "-t", TOPIC];
    let status = Command::new("mosquitto_sub").args(subscribe).arg("-E").status().unwrap();
    assert!(status.success(), "mosquitto_sub could not subscribe");
    for site in [&sqlite, &pg] {
        let mut andon = site.run();
        andon.wait_until_connected();
        assert!(andon.stop().success());
    }
    publisher::publish_numbered(
        broker.port(),
        "factory/machine/{machine}/telemetry",
        MACHINES,
        0..messages,
        1,
    );

    // The order changes from round to round, so that none always comes first.
    let mut results: [Option<Drained>; 3] = [None, None, None];
    for step in 0..3 {
        let which = (step + round as usize) % 3;
        let broker_before = cpu_of(broker.pid());
        let mut drained = match which {
            0 => drain_plain(&subscribe, messages),
            1 => drain_andon(&sqlite, &sqlite.sqlite_url(), messages, None),
            _ => drain_andon(&pg, &url, messages, Some(postgres)),
        };
        drained.broker_cpu = cpu_of(broker.pid()) - broker_before;
        results[which] = Some(drained);
    }
    results.map(Option::unwrap)
}

fn drain_plain(subscribe: &[&str], messages: u64) -> Drained {
    let before = Instant::now();
    let mut child = Command::new("mosquitto_sub")
        .args(subscribe)
        .args(["-C", &messages.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut own_cpu = 0.0;
    let mut peak_rss_mib = 0.0;
    while child.try_wait().unwrap().is_none() {
        own_cpu = cpu_of(child.id()).max(own_cpu);
        peak_rss_mib = peak_rss(child.id()).max(peak_rss_mib);
        std::thread::sleep(Duration::from_millis(5));
    }
    Drained {
        seconds: before.elapsed().as_secs_f64(),
        own_cpu,
        database_cpu: 0.0,
        broker_cpu: 0.0,
        peak_rss_mib,
    }
}

fn drain_andon(site: &Site, url: &str, messages: u64, postgres: Option<&Postgres>) -> Drained {
    let database_before = postgres.map_or(0.0, |postgres| cpu_of_children(postgres.pid()));
    let before = Instant::now();
    let andon = site.run();
    let mut database = support::poll::wait_for("the database", || Database::open(url));
    let committed =
        "SELECT CAST(coalesce(sum(stored + duplicate), 0) AS bigint) AS value FROM ingest_checkpoint";
    while database.try_number(committed).unwrap_or(0) < i64::try_from(messages).unwrap() {
        assert!(before.elapsed() < Duration::from_secs(300), "the backlog is not drained:\n{}", andon.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let seconds = before.elapsed().as_secs_f64();
    let (own_cpu, peak_rss_mib) = (cpu_of(andon.pid()), peak_rss(andon.pid()));
    let rows = database.number("SELECT count(*) AS value FROM machine_telemetry");
    assert_eq!(rows, i64::try_from(messages).unwrap(), "every message is a row");
    drop(database);
    let database_cpu = postgres.map_or(0.0, |postgres| cpu_of_children(postgres.pid()) - database_before);
    assert!(andon.stop().success());
    Drained { seconds, own_cpu, database_cpu, broker_cpu: 0.0, peak_rss_mib }
}

/// Measures the time from publish until another connection sees the row, at 50 messages a second.
fn latency(name: &str, postgres: Option<&Postgres>) {
    let broker = Mosquitto::start("");
    let mut site = Site::new(broker.port()).set("log.level=info");
    let mut url = site.sqlite_url();
    if let Some(postgres) = postgres {
        url = postgres.create_database("latency");
        site = site.set(&format!("store.url={url}"));
    }
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut database = support::poll::wait_for("the table", || {
        let mut database = Database::open(&url)?;
        database.try_number("SELECT count(*) AS value FROM machine_telemetry")?;
        Some(database)
    });
    let newest = "SELECT coalesce(max(id), 0) AS value FROM machine_telemetry";
    let mut publisher = publisher::Single::connect(broker.port());
    let mut micros = Vec::new();
    for number in 0..300_u64 {
        let before_id = database.number(newest);
        let payload = format!(r#"{{"machine_id":"latency","n":{number},"temperature":21.5}}"#);
        let published = Instant::now();
        publisher.publish("factory/machine/latency/telemetry", payload.as_bytes(), 1);
        while database.number(newest) == before_id {
            assert!(
                published.elapsed() < Duration::from_secs(30),
                "row {number} does not appear:\n{}",
                andon.log()
            );
        }
        if number >= 50 {
            micros.push(published.elapsed().as_micros());
        }
        std::thread::sleep(Duration::from_millis(20).saturating_sub(published.elapsed()));
    }
    micros.sort_unstable();
    let at = |share: usize| micros[micros.len() * share / 100] as f64 / 1000.0;
    println!(
        "publish to visible row, {name}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms (goal p50 < 5 ms)",
        at(50),
        at(90),
        at(99)
    );
    assert!(andon.stop().success());
}

/// Returns the CPU seconds of a process.
fn cpu_of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0.0 };
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Returns the CPU seconds of a process and its children, ended ones included.
fn cpu_of_children(pid: u32) -> f64 {
    let mut seconds = cpu_of(pid);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    if let Some((_, fields)) = stat.rsplit_once(')') {
        let ended: u64 =
            fields.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        seconds += ended as f64 / 100.0;
    }
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    seconds + children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu_of).sum::<f64>()
}

/// Returns the peak resident memory of a process, in MiB.
fn peak_rss(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
