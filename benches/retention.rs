//! `make bench`, in part: how fast old readings go while new ones come in, and how long a commit waits for a step.
//!
//! First, old readings of a thousand machines are deleted while 20,000 readings a second come in: as in the service, what came in during
//! one transaction is the next batch, and after each step the database is left alone for as long as the step took.
//!
//! Then, a million machine ids: each machine has an expired reading, its rollup, and the rollups of two fields. A run deletes them all, in the steps of the service.
//! Between some steps the same connection commits a full batch, as the service does, so a commit waits for one step at most. Then a
//! second run finds nothing left, before any vacuum.
//!
//! `ANDON_BENCH_OLD_ROWS` (2000000), `ANDON_BENCH_RATE` (20000) and `ANDON_BENCH_MACHINES` (1000000) change the size; `ANDON_BENCH_DATABASE`
//! (both) is `SQLite` or `PostgreSQL`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code)]

mod database;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use andon::domain::{
    JournalHistory, JournalId, MachineId, Open, OpenId, Qos, Reading, Seq, TimeSource, Timestamp,
};
use andon::store::{Batch, PruneBounds, PruneLimits, PrunePace, PruneTable, ReadingRow, Store};
use database::SITE;
use diesel::Connection;
use diesel::connection::SimpleConnection;
use support::postgres::Postgres;

/// The limits of a step in the service.
const BOUNDS: PruneBounds = PruneBounds {
    machines_max: 1_000,
    rows_max: 5_000,
    bytes_max: 8 << 20,
    time_max: Duration::from_millis(100),
};
/// Half the default of `store.batch_max`; docs/durability.md has the figures of this size.
const BATCH: u64 = 4_096;
/// Commits with nothing to delete.
const COMMITS_ALONE: usize = 20;
/// Steps from one commit to the next.
const STEPS_A_COMMIT: usize = 100;
/// 2026-01-01T00:00:00Z; the readings to delete are three years older, those of the batches newer.
const BEFORE: i64 = 1_767_225_600_000_000;

/// Machines whose old readings go while new ones come in.
const BUSY_MACHINES: u64 = 1_000;
/// `store.batch_max`.
const BATCH_MAX: u64 = 8_192;

fn size(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() {
    let old_rows = size("ANDON_BENCH_OLD_ROWS", 2_000_000);
    let rate = size("ANDON_BENCH_RATE", 20_000);
    println!("retention: {old_rows} old readings of {BUSY_MACHINES} machines, {rate} new ones a second");
    println!(
        "{:<12} {:>12} {:>12} {:>10} {:>10} {:>14} {:>12} {:>12}",
        "database", "deleted/s", "stored/s", "commit ms", "longest", "longest alone", "step ms", "longest"
    );
    for_each_database(|name, url| keep_up(name, url, old_rows, rate));
    let machines = size("ANDON_BENCH_MACHINES", 1_000_000);
    println!(
        "retention: {machines} machine ids, each with a reading and three rollups to delete; batches of {BATCH} readings"
    );
    println!("{:<12} {:<34} {:>6} {:>9} {:>9}", "database", "what", "times", "median ms", "longest");
    for_each_database(|name, url| measure(name, url, machines));
}

fn for_each_database(mut measure: impl FnMut(&str, &str)) {
    let only = std::env::var("ANDON_BENCH_DATABASE").unwrap_or_default();
    if only != "PostgreSQL" {
        let directory = tempfile::tempdir().unwrap();
        measure("SQLite", &format!("sqlite://{}/andon.db", directory.path().display()));
    }
    if only != "SQLite" {
        let postgres = Postgres::start_durable();
        measure("PostgreSQL", &postgres.create_database("retention"));
    }
}

/// Deletes `old_rows` while `rate` readings a second come in.
fn keep_up(name: &str, url: &str, old_rows: u64, rate: u64) {
    let (_, mut store) = database::open(url);
    fill_readings(url, old_rows);
    let mut batches = Batches::new(&mut *store, BUSY_MACHINES);
    let alone = Load::start(rate).run(&mut *store, &mut batches, None);
    let limits = PruneLimits::readings_before(Timestamp::from_micros(BEFORE));
    let mut load = Load::start(rate).run(&mut *store, &mut batches, Some(&limits));
    let seconds = load.begun.elapsed().as_secs_f64();
    let (deleted, stored) = (load.deleted as f64 / seconds, load.stored as f64 / seconds);
    println!(
        "{name:<12} {deleted:>12.0} {stored:>12.0} {:>10.1} {:>10.1} {:>14.1} {:>12.1} {:>12.1}",
        load.commits.median(),
        load.commits.longest(),
        alone.commits.longest(),
        load.steps.median(),
        load.steps.longest()
    );
}

/// Readings that come in at a rate, and what became of the transactions meanwhile.
struct Load {
    rate: u64,
    begun: Instant,
    stored: u64,
    deleted: u64,
    commits: Times,
    steps: Times,
}

impl Load {
    /// How long without deletion.
    const ALONE: Duration = Duration::from_secs(5);

    fn start(rate: u64) -> Self {
        let (commits, steps) = Default::default();
        Self { rate, begun: Instant::now(), stored: 0, deleted: 0, commits, steps }
    }

    /// Stores what comes in, and deletes in between until nothing old is left.
    fn run(mut self, store: &mut dyn Store, batches: &mut Batches, limits: Option<&PruneLimits>) -> Self {
        let (mut from, mut pace, mut step_at) = (None, PrunePace::default(), Instant::now());
        loop {
            let arrived = (self.begun.elapsed().as_secs_f64() * self.rate as f64) as u64 - self.stored;
            if arrived > 0 {
                let count = arrived.min(BATCH_MAX);
                self.commits.add(batches.commit_of(store, count));
                self.stored += count;
            }
            let Some(limits) = limits else {
                if self.begun.elapsed() > Self::ALONE {
                    return self;
                }
                continue;
            };
            if step_at <= Instant::now() {
                let begun = Instant::now();
                let step = store.prune(limits, from.as_ref(), pace.bounds()).unwrap();
                let took = begun.elapsed();
                pace.step_took(took);
                (self.deleted, step_at) = (self.deleted + step.rows, Instant::now() + took);
                self.steps.add(took);
                from = step.next;
                if from.is_none() {
                    return self;
                }
            }
        }
    }
}

fn measure(name: &str, url: &str, machines: u64) {
    let (_, mut store) = database::open(url);
    fill_rows(url, machines);
    let mut batches = Batches::new(&mut *store, 1_000_000);
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
    let longest_step = steps.iter().map(Times::longest).fold(0.0, f64::max);
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
fn run(
    store: &mut dyn Store,
    mut between: impl FnMut(&mut dyn Store, usize),
) -> [Times; PruneTable::ALL.len()] {
    let mut times: [Times; PruneTable::ALL.len()] = std::array::from_fn(|_| Times::default());
    let limits = PruneLimits::readings_before(Timestamp::from_micros(BEFORE));
    let (mut from, mut number) = (None, 0);
    loop {
        let begun = Instant::now();
        let step = store.prune(&limits, from.as_ref(), BOUNDS).unwrap();
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

    fn longest(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    fn median(&mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0.get(self.0.len() / 2).copied().unwrap_or(0.0)
    }

    fn print(&mut self, name: &str, what: &str) {
        let median = self.median();
        println!("{name:<12} {what:<44} {:>6} {median:>9.1} {:>9.1}", self.0.len(), self.longest());
    }
}

/// Batches of new readings of many machines by turns.
struct Batches {
    journal_id: JournalId,
    after: u64,
    machines: u64,
}

impl Batches {
    fn new(store: &mut dyn Store, machines: u64) -> Self {
        let journal_id = JournalId(uuid::Uuid::new_v4());
        let own = OpenId(journal_id.0);
        let opens = vec![Open { first: Seq(1), id: Some(own) }];
        let history =
            JournalHistory { journal_id, own, before_opens: Seq(0), opens, appended: Seq(u64::MAX) };
        store.claim(&history).unwrap();
        Self { journal_id, after: 0, machines }
    }

    fn commit(&mut self, store: &mut dyn Store) -> Duration {
        self.commit_of(store, BATCH)
    }

    fn commit_of(&mut self, store: &mut dyn Store, count: u64) -> Duration {
        let readings: Vec<ReadingRow> =
            (self.after + 1..=self.after + count).map(|seq| reading(seq, self.machines)).collect();
        let empty = Batch::new(self.journal_id, OpenId(self.journal_id.0), Seq(self.after));
        self.after += count;
        let batch = Batch { upto: Seq(self.after), messages: count, readings, ..empty };
        let begun = Instant::now();
        assert_eq!(store.commit(&batch).unwrap().stored, count);
        begun.elapsed()
    }
}

fn reading(seq: u64, machines: u64) -> ReadingRow {
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
            machine_id: MachineId::parse(&format!("m-{:07}", seq * 7_919 % machines)).unwrap(),
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

/// Stores old readings of the busy machines, one a second each.
fn fill_readings(url: &str, rows: u64) {
    let is_sqlite = url.starts_with("sqlite");
    let id = format!("{} || i % {BUSY_MACHINES}", if is_sqlite { "'m-'" } else { "'m-'::text" });
    let at = if is_sqlite {
        format!(
            "strftime('%Y-%m-%d %H:%M:%S.000000+00:00', '2023-01-01', (i / {BUSY_MACHINES}) || ' seconds')"
        )
    } else {
        format!("timestamptz '2023-01-01 00:00:00+00' + (i / {BUSY_MACHINES}) * interval '1 second'")
    };
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} - 1)");
    let sql = format!(
        "{numbers} INSERT INTO machine_telemetry (site, machine_id, temperature, humidity, vibration, source_topic, recorded_at, \
             time_source, received_at, digest) SELECT '{SITE}', {id}, i % 90, 40.5, 0.1, 't', {at}, 'device', {at}, i FROM n;
         ANALYZE"
    );
    execute(url, &sql);
}

/// Runs statements on a connection of their own.
fn execute(url: &str, sql: &str) {
    match url.strip_prefix("sqlite://") {
        Some(path) => diesel::SqliteConnection::establish(path).unwrap().batch_execute(sql).unwrap(),
        None => diesel::PgConnection::establish(url).unwrap().batch_execute(sql).unwrap(),
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
    if is_sqlite {
        return execute(url, &sql);
    }
    let typed = |sql: &str, text: &str| sql.replace(text, &format!("{text}::timestamptz"));
    execute(url, &typed(&typed(&sql, start), old));
}
