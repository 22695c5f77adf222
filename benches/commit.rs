//! `make bench`, in part: what a commit into PostgreSQL costs, in CPU seconds of this process and of the server.
//!
//! One process and one private server with its durable defaults. Each round fills a new database with readings of 120-byte messages
//! from 100 machines, in batches of `store.batch_max`, each with a sighting of every machine. The server's CPU is that of all its
//! processes.
//!
//! `ANDON_BENCH_ROWS` (300000), `ANDON_BENCH_ROUNDS` (3), `ANDON_BENCH_BATCH` (4096) and `ANDON_BENCH_MACHINES` (100) change the
//! size. `ANDON_BENCH_DUPLICATES` (0) sends that many of a thousand batches with one reading that is stored already.
//! `ANDON_BENCH_BASELINE` is this bench as another commit built it: both take turns, and ratios within a round are printed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use andon::domain::{
    JournalHistory, JournalId, MachineId, MachineStatus, Open, OpenId, Qos, Reading, Seq, TimeSource,
    Timestamp, Transition, TransitionReason,
};
use andon::store::{self, Batch, DatabaseUrl, ReadingRow, Store, StoreOptions};
use rustix::time::{ClockId, clock_gettime};
use support::postgres::Postgres;

/// 2026-01-01T00:00:00Z
const BEGIN: i64 = 1_767_225_600_000_000;
/// In the environment of a baseline: it prints one round, as plain numbers.
const ONE_ROUND: &str = "ANDON_BENCH_ONE_ROUND";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    if std::env::var_os(ONE_ROUND).is_some() {
        let [rate, own, server, bytes] = round();
        return println!("{rate} {own} {server} {bytes}");
    }
    let baseline = std::env::var("ANDON_BENCH_BASELINE").ok();
    println!(
        "commit: {} readings a round; CPU seconds per 100,000 readings",
        setting("ANDON_BENCH_ROWS", 300_000)
    );
    println!(
        "{:>5} {:<9} {:>8} {:>8} {:>8} {:>12}",
        "round", "code", "rows/s", "own", "server", "bytes a row"
    );
    let mut ratios = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for number in 1..=setting("ANDON_BENCH_ROUNDS", 3) {
        let before = baseline.as_ref().map(|program| print_round(number, "baseline", program));
        let own = std::env::current_exe().unwrap();
        let now = print_round(number, "this", own.to_str().unwrap());
        for (ratios, (now, before)) in
            ratios.iter_mut().zip(now.into_iter().zip(before.into_iter().flatten()))
        {
            ratios.push(now / before);
        }
    }
    for (name, ratios) in ["rows/s", "own CPU", "server's CPU", "bytes a row"].iter().zip(&mut ratios) {
        ratios.sort_by(f64::total_cmp);
        if let Some(median) = ratios.get(ratios.len() / 2) {
            println!("median ratio to the baseline, {name}: {median:.2}");
        }
    }
}

/// Runs one round in a process of its own.
fn print_round(number: u64, name: &str, program: &str) -> [f64; 4] {
    let output = Command::new(program).env(ONE_ROUND, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let numbers = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [rate, own, server, bytes] = numbers.try_into().unwrap();
    println!("{number:>5} {name:<9} {rate:>8.0} {own:>8.3} {server:>8.3} {bytes:>12.1}");
    [rate, own, server, bytes]
}

fn round() -> [f64; 4] {
    let postgres = Postgres::start_durable();
    let options = StoreOptions {
        url: DatabaseUrl::parse(&postgres.create_database("commit")).expect("a valid URL"),
        schema: None,
        site: "bench".to_owned(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_secs(10),
        timescale: false,
        unreadable: store::UnreadableRows::default(),
        progress: store::Progress::default(),
    };
    let mut store = store::open(&options).unwrap();
    store.migrate().unwrap();
    let journal_id = JournalId(uuid::Uuid::new_v4());
    let own = OpenId(journal_id.0);
    let opens = vec![Open { first: Seq(1), id: Some(own) }];
    let history = JournalHistory { journal_id, own, before_opens: Seq(0), opens, appended: Seq(u64::MAX) };
    store.claim(&history).unwrap();
    store.commit(&batch(journal_id, 0, 1)).unwrap();
    postgres.psql("commit", "CHECKPOINT");
    measure(&postgres, &mut *store, journal_id)
}

fn measure(postgres: &Postgres, store: &mut dyn Store, journal_id: JournalId) -> [f64; 4] {
    let (rows, batch_max) = (setting("ANDON_BENCH_ROWS", 300_000), setting("ANDON_BENCH_BATCH", 4_096));
    let server_before = cpu_of_server(postgres);
    let (mut after, mut own, mut waited) = (1, Duration::ZERO, Duration::ZERO);
    while after < rows {
        let batch = batch(journal_id, after, batch_max.min(rows - after));
        let (own_before, begun) = (own_cpu(), Instant::now());
        let outcome = store.commit(&batch).unwrap();
        waited += begun.elapsed();
        own += own_cpu() - own_before;
        assert_eq!(outcome.stored + outcome.duplicate, batch.messages);
        after = batch.upto.0;
    }
    let server = cpu_of_server(postgres) - server_before;
    let bytes = postgres.psql("commit", "SELECT pg_total_relation_size('machine_telemetry')");
    let share = |seconds: f64| seconds * 1e5 / rows as f64;
    [
        rows as f64 / waited.as_secs_f64(),
        share(own.as_secs_f64()),
        share(server),
        bytes.parse::<f64>().unwrap() / rows as f64,
    ]
}

/// Returns `count` readings behind `after`, in turn of each machine, as a drain brings them.
fn batch(journal_id: JournalId, after: u64, count: u64) -> Batch {
    let machines: Vec<MachineId> = (0..setting("ANDON_BENCH_MACHINES", 100))
        .map(|number| MachineId::parse(&format!("press-{number:03}")).unwrap())
        .collect();
    let upto = after + count;
    let mut readings: Vec<ReadingRow> = (after + 1..=upto).map(|seq| reading(&machines, seq)).collect();
    if after * 7_919 % 1_000 < setting("ANDON_BENCH_DUPLICATES", 0) {
        readings[0].reading = reading(&machines, after).reading;
    }
    let seen_at = at(upto);
    let mut batch = Batch {
        upto: Seq(upto),
        messages: count,
        readings,
        ..Batch::new(journal_id, OpenId(journal_id.0), Seq(after))
    };
    batch.sightings = machines.iter().map(|machine_id| (machine_id.clone(), seen_at)).collect();
    if after == 0 {
        let first_seen = |machine_id: &MachineId| Transition {
            machine_id: machine_id.clone(),
            status: MachineStatus::Online,
            previous_status: None,
            reason: TransitionReason::FirstSeen,
            occurred_at: seen_at,
            last_seen_at: Some(seen_at),
            seq: Seq(1),
        };
        batch.transitions = machines.iter().map(first_seen).collect();
    }
    batch
}

fn at(seq: u64) -> Timestamp {
    Timestamp::from_micros(BEGIN + i64::try_from(seq).unwrap() * 1_000)
}

fn reading(machines: &[MachineId], seq: u64) -> ReadingRow {
    let machine_id = machines[usize::try_from(seq).unwrap() % machines.len()].clone();
    ReadingRow {
        seq: Seq(seq),
        element: 0,
        received_at: at(seq),
        topic: Arc::from(format!("factory/machine/{}/telemetry", machine_id.as_str())),
        qos: Qos::AtLeastOnce,
        retained: false,
        clock_unset: false,
        reading: Reading {
            machine_id,
            temperature: Some(20.0 + (seq % 100) as f64 / 10.0),
            humidity: Some(41.5),
            vibration: Some(0.42),
            extra: Some(format!(r#"{{"n":{seq}}}"#)),
            recorded_at: at(seq),
            time_source: TimeSource::Device,
            digest: seq.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        },
        payload: Vec::new(),
    }
}

fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Returns the CPU seconds of the server's processes, ended ones included.
fn cpu_of_server(postgres: &Postgres) -> f64 {
    let ticks = postgres.process_ids().into_iter().flat_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<u64> =
            stat.split_whitespace().skip(13).take(4).map(|ticks| ticks.parse().unwrap()).collect();
        fields
    });
    ticks.sum::<u64>() as f64 / 100.0
}
