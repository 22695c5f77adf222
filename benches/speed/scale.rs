//! What a message costs as the plant and the table grow, and what the process costs at rest.

use std::time::{Duration, Instant};

use super::contenders::Target;
use super::measure::{Cost, cpu_of, median, peak_rss};
use super::support::andon::{Andon, Site};
use super::support::database::Database;
use super::support::http::Client;
use super::support::mosquitto::Mosquitto;
use super::support::poll::wait_until;
use super::support::postgres::Postgres;
use super::support::publisher::{self, Single};

const BROKER: &str = "max_queued_messages 0\nmax_queued_bytes 0";
const NAMES: [&str; 2] = ["SQLite", "PostgreSQL"];
const TOPIC: &str = "factory/machine/{machine}/telemetry";

/// CPU of live traffic from ever more machines that are all known and online.
pub fn machines(messages: u64, postgres: &Postgres) {
    println!("\n{messages} live messages, by number of machines");
    for machines in [10, 1_000, 100_000] {
        for (which, name) in NAMES.into_iter().enumerate() {
            let Prepared { broker, targets } = prepared(&format!("{name}{machines}"), postgres, |_| {});
            let target =
                targets.into_iter().nth(which).unwrap().configure("[liveness]\noffline_after = \"1h\"");
            let mut andon = target.start();
            andon.wait_until_connected();
            let port = broker.port();
            let mut costs = [u64::from(machines), messages].into_iter().map(|count| {
                let (own, database, known) = (cpu_of(andon.pid()), target.database_cpu(), target.counted());
                publisher::publish_numbered(port, TOPIC, machines, known..known + count, 1);
                wait_until("the rows", || target.counted() == known + count);
                wait_until_idle(&andon);
                let per_100k = |seconds: f64| seconds * 100_000.0 / count as f64;
                (per_100k(cpu_of(andon.pid()) - own), per_100k(target.database_cpu() - database))
            });
            let (first, later) = (costs.next().unwrap(), costs.next().unwrap());
            drop(costs);
            let rss = peak_rss(andon.pid());
            assert!(andon.stop().success());
            println!(
                "{machines:>7} machines {name:<12} CPU s/100k {:.2}, database {:.2} (first message of each: {:.2}, {:.2}), peak RSS {rss:.1} MiB",
                later.0, later.1, first.0, first.1
            );
        }
    }
}

/// Waits until events, statuses and rollups are written, too.
fn wait_until_idle(andon: &Andon) {
    let mut last = (cpu_of(andon.pid()), Instant::now());
    wait_until("the process to be idle", || {
        let cpu = cpu_of(andon.pid());
        if cpu - last.0 > 0.03 {
            last = (cpu, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(1)
    });
}

/// CPU of a drain into ever larger tables, and their bytes.
pub fn rows(messages: u64, postgres: &Postgres) {
    println!("\ndrain of {messages} messages from {} machines, by rows in the table before", super::MACHINES);
    for millions in [0, 1, 4] {
        let fill = |database: &mut Database| fill(database, millions * 1_000_000);
        let prepared = prepared(&format!("rows{millions}"), postgres, fill);
        drain_and_print(&prepared, messages, &format!("{millions} million rows"));
    }
}

struct Prepared<'a> {
    broker: Mosquitto,
    targets: [Target<'a>; 3],
}

/// Makes sessions and tables, and changes the tables with `fill`.
fn prepared<'a>(label: &str, postgres: &'a Postgres, fill: impl Fn(&mut Database)) -> Prepared<'a> {
    let broker = Mosquitto::start(BROKER);
    let targets = Target::all(broker.port(), label, 1, postgres);
    for target in &targets[..2] {
        target.subscribe();
        fill(&mut Database::open(target.url()).unwrap());
    }
    Prepared { broker, targets }
}

fn drain_and_print(prepared: &Prepared<'_>, messages: u64, what: &str) {
    publisher::publish_numbered(prepared.broker.port(), TOPIC, super::MACHINES, 0..messages, 1);
    for (target, name) in prepared.targets[..2].iter().zip(NAMES) {
        let (begun, before) = (Instant::now(), target.database_cpu());
        let Cost { seconds, own_cpu, database_cpu, peak_rss_mib } =
            target.stored(target.start(), messages, begun, before);
        let per_100k = |seconds: f64| seconds * 100_000.0 / messages as f64;
        println!(
            "{what:>16} {name:<12} {:>9.0} msg/s, CPU s/100k {:.2}, database {:.2}, peak RSS {peak_rss_mib:.1} MiB, {:.0} MB per million rows",
            messages as f64 / seconds,
            per_100k(own_cpu),
            per_100k(database_cpu),
            target.bytes_per_row(),
        );
    }
}

/// Inserts rows with times before those of the benchmark.
fn fill(database: &mut Database, rows: u64) {
    let columns = "site, machine_id, temperature, humidity, vibration, source_topic, recorded_at, time_source, received_at, digest";
    let values = "21.5, 41.5, 0.42, 'factory/machine/press/telemetry'";
    database.execute(&match database {
        Database::Sqlite(_) => format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}),
             t(i, at) AS (SELECT i, strftime('%Y-%m-%d %H:%M:%f', 1700000000 + i / 100.0, 'unixepoch') || '000+00:00' FROM n)
             INSERT INTO machine_telemetry ({columns})
             SELECT 'test', printf('press-%03d', i % 100), {values}, at, 'device', at, i * 2654435761 FROM t WHERE i <= {rows}"
        ),
        Database::Postgres(_) => format!(
            "INSERT INTO machine_telemetry ({columns})
             SELECT 'test', 'press-' || lpad((i % 100)::text, 3, '0'), {values},
             to_timestamp(1700000000 + i / 100.0), 'device', to_timestamp(1700000000 + i / 100.0), i * 2654435761
             FROM generate_series(1, {rows}) AS i"
        ),
    });
}

/// Time from the start of the process until it is subscribed.
pub fn start() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut millis: Vec<f64> = (0..7)
        .map(|_| {
            let begun = Instant::now();
            let mut andon = site.run();
            andon.wait_until_connected();
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            assert!(andon.stop().success());
            took
        })
        .collect();
    println!("\nstart to subscribed: median {:.0} ms (goal 150)", median(&mut millis));
}

/// Resident memory at 1,000 messages a second from 1,000 machines.
pub fn memory() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut publisher = Single::connect(broker.port());
    let begun = Instant::now();
    for number in 0..20_000_u64 {
        let (topic, payload) = publisher::numbered(TOPIC, 1_000, number);
        publisher.publish(&topic, payload.as_bytes(), 0);
        std::thread::sleep(Duration::from_millis(number).saturating_sub(begun.elapsed()));
    }
    println!(
        "peak RSS at {:.0} messages/s from 1,000 machines: {:.1} MiB (goal 24)",
        20_000.0 / begun.elapsed().as_secs_f64(),
        peak_rss(andon.pid())
    );
    assert!(andon.stop().success());
}

/// A backlog in the journal, stored when the database comes.
pub fn replay(messages: u64) {
    let mut postgres = Postgres::start_durable();
    let broker = Mosquitto::start(BROKER);
    let url = postgres.create_database("replay");
    let site = Site::new(broker.port()).set(&format!("store.url={url}")).set("log.level=info");
    let mut andon = site.run();
    andon.wait_until_connected();
    let client = Client::new(&andon.wait_for_http());
    postgres.stop();
    publisher::publish_numbered(broker.port(), TOPIC, super::MACHINES, 0..messages, 1);
    wait_until("all to be pending", || client.json("/api/v1/status")["journal"]["appended_seq"] == messages);
    postgres.restart();
    let mut database = super::support::poll::wait_for("the database", || Database::open(&url));
    let mut stored = || {
        let sum = "SELECT CAST(coalesce(sum(stored), 0) AS bigint) AS value FROM ingest_checkpoint";
        database.try_number(sum).unwrap_or(0)
    };
    let first = super::support::poll::wait_for("a commit", || Some(stored()).filter(|stored| *stored > 0));
    let begun = Instant::now();
    let all = i64::try_from(messages).unwrap();
    while stored() < all {
        assert!(begun.elapsed() < Duration::from_secs(300), "{}", andon.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    let rate = (all - first) as f64 / begun.elapsed().as_secs_f64();
    println!("replay of {messages} pending into PostgreSQL: {rate:.0} msg/s");
    assert!(andon.stop().success());
}
