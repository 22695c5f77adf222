//! `make bench`, in part: `andon db backup`, `andon db copy` and `andon export` with a million readings, by the real program.
//!
//! The readings are of a hundred machines, each with a small `extra`, stored as the service stores them. Prints how long each command took.
//! The copy runs three times: all readings, nothing new, and a tenth more.
//!
//! `ANDON_BENCH_READINGS` (1000000) changes the size.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code)]

mod database;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use andon::domain::{
    JournalHistory, JournalId, MachineId, Open, OpenId, Qos, Reading, Seq, TimeSource, Timestamp,
};
use andon::store::{Batch, ReadingRow, Store};
use database::SITE;
use support::postgres::Postgres;

const BATCH: u64 = 8_192;
const MACHINES: u64 = 100;
/// 2026-01-01T00:00:00Z
const T0: u64 = 1_767_225_600_000_000;

fn main() {
    let readings = std::env::var("ANDON_BENCH_READINGS").ok().and_then(|text| text.parse().ok());
    let readings: u64 = readings.unwrap_or(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("andon.db");
    let url = format!("sqlite://{}", file.display());
    let (_, mut store) = database::open(&url);
    let journal = JournalId(uuid::Uuid::new_v4());
    let opens = vec![Open { first: Seq(1), id: Some(OpenId(journal.0)) }];
    let (own, before_opens, appended) = (OpenId(journal.0), Seq(0), Seq(u64::MAX));
    let history = JournalHistory { journal_id: journal, own, before_opens, opens, appended };
    store.claim(&history).unwrap();
    fill(&mut *store, journal, 0, readings);
    let mib = std::fs::metadata(&file).unwrap().len() / (1024 * 1024);
    println!("{readings} readings of {MACHINES} machines, {mib} MiB");

    let postgres = Postgres::start_durable();
    let target = postgres.create_database("andon");
    let backup = directory.path().join("backup.db");
    run("backup", &url, &["db", "backup", backup.to_str().unwrap()], readings);
    run("copy", &url, &["db", "copy", "--to", &target], readings);
    run("copy, nothing new", &url, &["db", "copy", "--to", &target], readings);
    fill(&mut *store, journal, readings, readings + readings / 10);
    let text = run("copy, a tenth more", &url, &["db", "copy", "--to", &target], readings / 10);
    assert!(text.contains("all tables were compared"), "{text}");
    let all = readings + readings / 10;
    let csv = directory.path().join("all.csv");
    run("export, csv", &url, &["export", "--output", csv.to_str().unwrap()], all);
    run_on(&target, &directory.path().join("all-2.csv"), all);
}

fn run_on(target: &str, csv: &Path, readings: u64) {
    run("export, csv, PostgreSQL", target, &["export", "--output", csv.to_str().unwrap()], readings);
}

/// Runs the program; returns what it printed.
fn run(what: &str, url: &str, arguments: &[&str], readings: u64) -> String {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_andon"))
        .args(["--set", &format!("site.id={SITE}"), "--set", &format!("store.url={url}")])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seconds = begun.elapsed().as_secs_f64();
    println!("{what:<26} {seconds:>7.1} s {:>9.0} readings per second", readings as f64 / seconds);
    String::from_utf8(output.stdout).unwrap()
}

/// Stores the readings of records `after + 1` to `upto`.
fn fill(store: &mut dyn Store, journal: JournalId, after: u64, upto: u64) {
    let mut from = after;
    while from < upto {
        let to = (from + BATCH).min(upto);
        let readings = (from + 1..=to).map(reading).collect();
        let batch = Batch {
            upto: Seq(to),
            messages: to - from,
            readings,
            ..Batch::new(journal, OpenId(journal.0), Seq(from))
        };
        store.commit(&batch).unwrap();
        from = to;
    }
}

fn reading(number: u64) -> ReadingRow {
    let at = Timestamp::from_micros(i64::try_from(T0 + number * 1_000_000).unwrap());
    let machine = number % MACHINES;
    let reading = Reading {
        machine_id: MachineId::parse(&format!("press-{machine:03}")).unwrap(),
        temperature: Some(20.0 + (number % 100) as f64 / 10.0),
        humidity: Some(41.5),
        vibration: Some(0.42),
        extra: Some(format!(r#"{{"n":{number},"fw":"1.2"}}"#)),
        recorded_at: at,
        time_source: TimeSource::Device,
        digest: number,
    };
    ReadingRow {
        seq: Seq(number),
        element: 0,
        received_at: at,
        topic: Arc::from(format!("factory/machine/press-{machine:03}/telemetry")),
        qos: Qos::AtLeastOnce,
        retained: false,
        clock_unset: false,
        reading,
        payload: Vec::new(),
    }
}
