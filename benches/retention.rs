//! `make bench`, in part: how long a commit waits for a step of deletion, with a million machine ids.
//!
//! Each machine has an expired reading, its rollup, and the rollups of two fields. A run deletes them all, in the steps of the service.
//! Between some steps the same connection commits a full batch, as the service does, so a commit waits for one step at most. Then a
//! second run finds nothing left, before any vacuum.
//!
//! `ANDON_BENCH_MACHINES` (1000000) changes the size; `ANDON_BENCH_DATABASE` (both) is `SQLite` or `PostgreSQL`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code)]

mod database;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use andon::domain::{
    JournalHistory, JournalId, MachineId, Open, OpenId, Qos, Reading, Seq, TimeSource, Timestamp,
};
use andon::store::{Batch, PruneBounds, PruneTable, ReadingRow, Store};
use database::SITE;
use diesel::Connection;
use diesel::connection::SimpleConnection;
use support::postgres::Postgres;

/// The limits of a step in the service.
const BOUNDS: PruneBounds =
    PruneBounds { machines_max: 1_000, rows_max: 5_000, time_max: Duration::from_millis(100) };
/// Half the default of `store.batch_max`; docs/durability.md has the figures of this size.
const BATCH: u64 = 4_096;
/// Commits with nothing to delete.
const COMMITS_ALONE: usize = 20;
/// Steps from one commit to the next.
const STEPS_A_COMMIT: usize = 100;
/// 2026-01-01T00:00:00Z; the readings to delete are three years older, those of the batches newer.
const BEFORE: i64 = 1_767_225_600_000_000;

fn main() {
    let machines = std::env::var("ANDON_BENCH_MACHINES").ok().and_then(|text| text.parse().ok());
    let machines: u64 = machines.unwrap_or(1_000_000);
    println!(
        "retention: {machines} machine ids, each with a reading and three rollups to delete; batches of {BATCH} readings"
    );
    println!("{:<12} {:<34} {:>6} {:>9} {:>9}", "database", "what", "times", "median ms", "longest");
    let only = std::env::var("ANDON_BENCH_DATABASE").unwrap_or_default();
    if only != "PostgreSQL" {
        let directory = tempfile::tempdir().unwrap();
        measure("SQLite", &format!("sqlite://{}/andon.db", directory.path().display()), machines);
    }
    if only != "SQLite" {
        let postgres = Postgres::start_durable();
        measure("PostgreSQL", &postgres.create_database("retention"), machines);
    }
}

fn measure(name: &str, url: &str, machines: u64) {
    let (_, mut store) = database::open(url);
    fill_rows(url, machines);
    let mut batches = Batches::new(&mut *store);
    let mut alone = Times::default();
    (0..COMMITS_ALONE).for_each(|_| alone.add(batches.commit(&mut *store)));
    alone.print(name, "commit, nothing to delete");
    let mut commits = Times::default();
    let mut steps = run(&mut *store, |store, step| {
        if step % STEPS_A_COMMIT == 0 {
            commits.add(batches.commit(store));
        }
    });
    commits.print(name, "commit between two steps");
    for (table, times) in PruneTable::ALL.into_iter().zip(&mut steps) {
        times.print(name, &format!("step, {}", table.as_str()));
    }
    let longest_step = steps.iter_mut().map(Times::longest).fold(0.0, f64::max);
    println!(
        "{name:<12} longest step / longest commit with nothing to delete: {:.2}",
        longest_step / alone.longest()
    );
    let mut again = run(&mut *store, |_, _| {});
    for (table, times) in PruneTable::ALL.into_iter().zip(&mut again) {
        times.print(name, &format!("step of the next run, {}", table.as_str()));
    }
}

/// Runs a deletion and calls `between` after each step, with its number. Returns the times of the steps, by table.
fn run(store: &mut dyn Store, mut between: impl FnMut(&mut dyn Store, usize)) -> [Times; 3] {
    let mut times: [Times; 3] = std::array::from_fn(|_| Times::default());
    let (mut from, mut number) = (None, 0);
    loop {
        let begun = Instant::now();
        let step = store.prune(Timestamp::from_micros(BEFORE), from.as_ref(), BOUNDS).unwrap();
        times[step.table as usize].add(begun.elapsed());
        number += 1;
        between(&mut *store, number);
        from = step.next;
        if from.is_none() {
            return times;
        }
    }
}

/// Times in milliseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e3);
    }

    fn longest(&mut self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    fn print(&mut self, name: &str, what: &str) {
        self.0.sort_by(f64::total_cmp);
        let median = self.0.get(self.0.len() / 2).copied().unwrap_or(0.0);
        println!("{name:<12} {what:<44} {:>6} {median:>9.1} {:>9.1}", self.0.len(), self.longest());
    }
}

/// Full batches of new readings, each of another machine.
struct Batches {
    journal_id: JournalId,
    after: u64,
}

impl Batches {
    fn new(store: &mut dyn Store) -> Self {
        let journal_id = JournalId(uuid::Uuid::new_v4());
        let own = OpenId(journal_id.0);
        let opens = vec![Open { first: Seq(1), id: Some(own) }];
        let history =
            JournalHistory { journal_id, own, before_opens: Seq(0), opens, appended: Seq(u64::MAX) };
        store.claim(&history).unwrap();
        Self { journal_id, after: 0 }
    }

    fn commit(&mut self, store: &mut dyn Store) -> Duration {
        let readings: Vec<ReadingRow> = (self.after + 1..=self.after + BATCH).map(reading).collect();
        let empty = Batch::new(self.journal_id, OpenId(self.journal_id.0), Seq(self.after));
        self.after += BATCH;
        let batch = Batch { upto: Seq(self.after), messages: BATCH, readings, ..empty };
        let begun = Instant::now();
        assert_eq!(store.commit(&batch).unwrap().stored, BATCH);
        begun.elapsed()
    }
}

fn reading(seq: u64) -> ReadingRow {
    let at = Timestamp::from_micros(BEFORE + i64::try_from(seq).unwrap() * 1_000);
    ReadingRow {
        seq: Seq(seq),
        element: 0,
        received_at: at,
        topic: Arc::from("t"),
        qos: Qos::AtLeastOnce,
        retained: false,
        clock_unset: false,
        reading: Reading {
            // Spread over the whole table.
            machine_id: MachineId::parse(&format!("m-{:07}", seq * 7_919 % 1_000_000)).unwrap(),
            temperature: Some(20.5),
            humidity: Some(40.5),
            vibration: Some(0.1),
            extra: Some(r#"{"pressure":3,"speed":900}"#.to_owned()),
            recorded_at: at,
            time_source: TimeSource::Device,
            digest: seq,
        },
        payload: Vec::new(),
    }
}

fn fill_rows(url: &str, machines: u64) {
    let is_sqlite = url.starts_with("sqlite");
    let id = if is_sqlite { "printf('m-%07d', i)" } else { "'m-' || lpad(i::text, 7, '0')" };
    let (old, start) = ("'2023-01-01 00:00:01.000000+00:00'", "'2023-01-01 00:00:00.000000+00:00'");
    let numbers = format!(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {} - 1)",
        machines
    );
    let sql = format!(
        "{numbers} INSERT INTO machine_telemetry (site, machine_id, temperature, source_topic, recorded_at, time_source, received_at, \
             digest) SELECT '{SITE}', {id}, i % 90, 't', {old}, 'device', {old}, i FROM n;
         {numbers} INSERT INTO machine_rollup SELECT '{SITE}', {id}, {start}, 1, 1, 1, 1, 1, 0, NULL, NULL, 0, 0, NULL, NULL, 0, 0 FROM n;
         {numbers} INSERT INTO machine_rollup_extra SELECT '{SITE}', {id}, {start}, 'pressure', 1, 1, 1, 1 FROM n;
         {numbers} INSERT INTO machine_rollup_extra SELECT '{SITE}', {id}, {start}, 'speed', 1, 1, 1, 1 FROM n;
         ANALYZE"
    );
    match url.strip_prefix("sqlite://") {
        Some(path) => diesel::SqliteConnection::establish(path).unwrap().batch_execute(&sql).unwrap(),
        None => {
            let sql = sql
                .replace(start, &format!("{start}::timestamptz"))
                .replace(old, &format!("{old}::timestamptz"));
            diesel::PgConnection::establish(url).unwrap().batch_execute(&sql).unwrap();
        }
    }
}
