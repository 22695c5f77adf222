//! `make bench`, in part: how long the board's queries take.
//!
//! One machine has a million readings over 30 days, and a hundred others a thousand each, in SQLite and in PostgreSQL. One connection
//! runs each query once to warm up and then 20 times, as the board does.
//!
//! `ANDON_BENCH_READINGS` (1000000) changes the size.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code)]

mod database;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use andon::domain::{MachineId, Timestamp};
use andon::store::{
    self, BucketsQuery, EventCursor, Events, EventsQuery, History, Order, ReadingCursor, ReadingsQuery,
    TrendsQuery, collected,
};
use database::SITE;
use diesel::Connection;
use diesel::connection::SimpleConnection;
use support::postgres::Postgres;

const ROUNDS: usize = 20;
const DAY: u64 = 86_400;
/// The limit for a query of the board.
const GOAL_MS: f64 = 50.0;

fn main() {
    let readings = std::env::var("ANDON_BENCH_READINGS").ok().and_then(|text| text.parse().ok());
    let readings: u64 = readings.unwrap_or(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    measure("SQLite", &format!("sqlite://{}/andon.db", directory.path().display()), readings);
    let postgres = Postgres::start_durable();
    measure("PostgreSQL", &postgres.create_database("history"), readings);
}

fn measure(name: &str, url: &str, readings: u64) {
    let (options, _open) = database::open(url);
    let end = Timestamp::from(chrono::Utc::now());
    fill_rows(url, readings, end);
    fill_rollups(url);
    println!("history in {name}: {readings} readings of one machine in 30 days, 100,000 of others");
    println!("{:<52} {:>7} {:>9} {:>9} {:>9}", "query", "rows", "min ms", "median", "max");
    let mut history = store::open_history(&options).unwrap();
    let mut slowest: f64 = 0.0;
    for query in queries(end) {
        slowest = slowest.max(measure_query(&mut *history, &query));
    }
    println!("slowest median: {slowest:.1} ms (goal {GOAL_MS} ms)\n");
}

fn fill_rows(url: &str, readings: u64, end: Timestamp) {
    let end = end.as_micros() / 1_000_000;
    let start = end - i64::try_from(30 * DAY).unwrap();
    let columns = "INSERT INTO machine_telemetry (site, machine_id, temperature, humidity, vibration, extra, source_topic, \
        recorded_at, time_source, received_at, digest)";
    let machines = "INSERT INTO machine SELECT site, machine_id, 'online', NULL, NULL, NULL FROM \
        (SELECT DISTINCT site, machine_id FROM machine_telemetry) m";
    if let Some(path) = url.strip_prefix("sqlite://") {
        let row = "'t', strftime('%Y-%m-%d %H:%M:%S.000000+00:00', at, 'unixepoch'), 'device', \
            '2026-01-01 00:00:00.000000+00:00', i FROM (";
        let mut connection = diesel::SqliteConnection::establish(path).unwrap();
        let numbers = |count: u64| {
            format!("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count} - 1)")
        };
        connection
            .batch_execute(&format!(
                "{columns} {} SELECT '{SITE}', 'press', i % 90, 40.5, 0.1, '{{\"pressure\":' || (i % 7) || ',\"speed\":' || (i % 900) || '}}', {row} \
                 SELECT i, {start} + i * {} / {readings} AS at FROM n);
                 {columns} {} SELECT '{SITE}', printf('other-%03d', i % 100), i % 90, 40.5, 0.1, NULL, {row} \
                 SELECT i, {end} - i / 100 * 3 AS at FROM n);
                 {machines}; ANALYZE",
                numbers(readings),
                30 * DAY,
                numbers(100_000)
            ))
            .unwrap();
    } else {
        let row = "'t', to_timestamp(at), 'device', now(), i FROM (";
        let mut connection = diesel::PgConnection::establish(url).unwrap();
        connection
            .batch_execute(&format!(
                "{columns} SELECT '{SITE}', 'press', i % 90, 40.5, 0.1, jsonb_build_object('pressure', i % 7, 'speed', i % 900), {row} \
                 SELECT i, {start} + i * {} / {readings} AS at FROM generate_series(0::bigint, {readings} - 1) i) n;
                 {columns} SELECT '{SITE}', 'other-' || to_char(i % 100, 'FM000'), i % 90, 40.5, 0.1, NULL, {row} \
                 SELECT i, {end} - i / 100 * 3 AS at FROM generate_series(0::bigint, 99999) i) n;
                 {machines}; ANALYZE",
                30 * DAY
            ))
            .unwrap();
        connection.batch_execute("VACUUM ANALYZE").unwrap();
    }
}

/// Fills the rollups as the commits of those readings would.
fn fill_rollups(url: &str) {
    let rollup_columns = ["temperature", "humidity", "vibration"]
        .map(|name| format!("count({name}), min({name}), max({name}), coalesce(sum({name}), 0)"))
        .join(", ");
    let (start, number) = if url.starts_with("sqlite") {
        (
            "strftime('%Y-%m-%d %H:%M:%S.000000+00:00', unixepoch(substr(recorded_at, 1, 19)) / 300 * 300, 'unixepoch')",
            "CAST(extra ->> 'FIELD' AS REAL)",
        )
    } else {
        (
            "to_timestamp(floor(date_part('epoch', recorded_at) / 300) * 300)",
            "CAST(extra ->> 'FIELD' AS double precision)",
        )
    };
    let extras = ["pressure", "speed"].map(|field| {
        let number = number.replace("FIELD", field);
        format!(
            "INSERT INTO machine_rollup_extra SELECT site, machine_id, {start}, '{field}', count(*), min({number}), max({number}), \
             sum({number}) FROM machine_telemetry WHERE extra IS NOT NULL GROUP BY 1, 2, 3;"
        )
    });
    let sql = format!(
        "INSERT INTO machine_rollup SELECT site, machine_id, {start}, count(*), {rollup_columns}, 0 FROM machine_telemetry GROUP BY 1, 2, 3;
         {} INSERT INTO machine_rollup_exact VALUES ('{SITE}', '0001-01-01 00:00:00.000000+00:00'); ANALYZE",
        extras.concat()
    );
    match url.strip_prefix("sqlite://") {
        Some(path) => diesel::SqliteConnection::establish(path).unwrap().batch_execute(&sql).unwrap(),
        None => diesel::PgConnection::establish(url).unwrap().batch_execute(&sql).unwrap(),
    }
}

type Query = (String, Box<dyn Fn(&mut dyn History) -> usize>);

fn queries(end: Timestamp) -> Vec<Query> {
    let press = MachineId::parse("press").unwrap();
    let back = move |seconds: u64| {
        Timestamp::from_micros(end.as_micros() - i64::try_from(seconds * 1_000_000).unwrap())
    };
    let mut all: Vec<Query> = Vec::new();
    all.push((
        "newest reading of each of 101 machines".to_owned(),
        Box::new(|history| collected(|each| history.latest(each)).unwrap().len()),
    ));
    let machine_ids = (0..50).map(|n| MachineId::parse(&format!("other-{n:03}")).unwrap()).collect();
    let trends = TrendsQuery { machine_ids, from: back(15 * 60), to: end, step_seconds: 30 };
    all.push((
        "curves of 15 minutes of 50 machines".to_owned(),
        Box::new(move |history| history.trends(&trends).unwrap().len()),
    ));
    let page = ReadingsQuery {
        machine_id: press.clone(),
        from: ReadingCursor::before(back(30 * DAY)),
        to: ReadingCursor::before(end),
        order: Order::Descending,
        limit: 100,
    };
    all.push((
        "page of 100 readings".to_owned(),
        Box::new(move |history| collected(|each| history.readings(&page, each)).unwrap().len()),
    ));
    let events = EventsQuery {
        machine_id: None,
        which: Events::Within { from: back(30 * DAY), before: EventCursor::before(end) },
        limit: 100,
    };
    all.push((
        "page of 100 changes".to_owned(),
        Box::new(move |history| history.events(&events).unwrap().len()),
    ));
    let charts = [
        ("1 hour", 3_600, 15),
        ("24 hours", DAY, 300),
        ("7 days", 7 * DAY, 1_800),
        ("30 days", 30 * DAY, 7_200),
    ];
    for (name, seconds, bucket) in charts {
        for extra in [None, Some("pressure")] {
            let with = extra.map_or("", |_| ", with a field of extra");
            all.push(buckets(
                format!("chart of {name} by {bucket} s{with}"),
                &press,
                back(seconds),
                end,
                Some(bucket),
                extra,
            ));
        }
    }
    for (name, seconds) in [("1 hour", 3_600), ("24 hours", DAY + 77), ("30 days", 30 * DAY)] {
        all.push(buckets(format!("sums of {name}"), &press, back(seconds), end, None, Some("pressure")));
    }
    all
}

fn buckets(
    name: String,
    machine_id: &MachineId,
    from: Timestamp,
    to: Timestamp,
    bucket_seconds: Option<u32>,
    extra: Option<&str>,
) -> Query {
    let query = BucketsQuery {
        machine_id: machine_id.clone(),
        from,
        to,
        bucket_seconds,
        extra: extra.map(str::to_owned),
    };
    (name, Box::new(move |history| collected(|each| history.buckets(&query, each)).unwrap().len()))
}

/// Prints the times of the query and returns the median in milliseconds.
fn measure_query(history: &mut dyn History, (name, query): &Query) -> f64 {
    let rows = query(history);
    let mut millis: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            query(history);
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    let median = millis[ROUNDS / 2];
    println!("{name:<52} {rows:>7} {:>9.1} {median:>9.1} {:>9.1}", millis[0], millis[ROUNDS - 1]);
    median
}
