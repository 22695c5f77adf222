//! What storing a journal costs: records → readings → batches → committed SQLite rows, without broker and sockets.
//!
//! Each round is a process of its own: it journals the messages, reads and commits them batch by batch, and prints the processor
//! seconds per 100,000 messages of each stage and the bytes of the database per million readings. With `ANDON_BENCH_BASELINE`, the
//! path of this binary as another commit builds it, the rounds of both take turns, and the ratios of the medians are printed: those
//! of one run mean something, the seconds of different runs do not.
//!
//! `ANDON_BENCH_MESSAGES` (300000), `ANDON_BENCH_MACHINES` (100), `ANDON_BENCH_BATCH` (8192), `ANDON_BENCH_ROUNDS` (5) change the size;
//! `ANDON_BENCH_REPEATED` (0) hands every nth message over twice.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use andon::actors::liveness::messages::Sighting;
use andon::actors::parser::{BatchBuilder, Interpreter};
use andon::domain::{JournalHistory, Message, Qos, Seq, SyncMode, Timestamp, TopicFilter, WhenFull};
use andon::journal::{Journal, JournalError, JournalListener, JournalOptions, RealFs, Space};
use andon::payload::{PayloadOptions, PayloadRules};
use andon::store::{self, DatabaseUrl, LivenessRows, StoreOptions};

/// 2026-01-01T00:00:00Z
const EPOCH: i64 = 1_767_225_600_000_000;
/// Records and bytes in one read of the parser.
const READ_RECORDS_MAX: usize = 1024;
const READ_BYTES_MAX: usize = 256 * 1024;
/// Bytes in one batch of the parser.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a round prints, in this order.
const FIGURES: [&str; 6] =
    ["rows/s", "CPU append", "CPU decode", "CPU commit", "CPU in all", "bytes/million"];
type Figures = [f64; FIGURES.len()];

struct Size {
    messages: u64,
    machines: u64,
    batch: usize,
    repeated: u64,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let size = Size {
        messages: setting("ANDON_BENCH_MESSAGES", 300_000),
        machines: setting("ANDON_BENCH_MACHINES", 100),
        batch: usize::try_from(setting("ANDON_BENCH_BATCH", 8192)).unwrap(),
        repeated: setting("ANDON_BENCH_REPEATED", 0),
    };
    if std::env::var_os("ANDON_BENCH_ROUND").is_some() {
        let figures = run_round(&size);
        println!("{}", figures.map(|figure| figure.to_string()).join(" "));
        return;
    }
    println!(
        "ingest: {} messages of about 120 bytes from {} machines into SQLite, at most {} in a batch",
        size.messages, size.machines, size.batch
    );
    let mut binaries = vec![("this", std::env::current_exe().unwrap())];
    if let Some(baseline) = std::env::var_os("ANDON_BENCH_BASELINE") {
        binaries.push(("baseline", baseline.into()));
    }
    let rounds = setting("ANDON_BENCH_ROUNDS", 5);
    let mut results: Vec<Vec<Figures>> = vec![Vec::new(); binaries.len()];
    for round in 0..rounds as usize {
        for step in 0..binaries.len() {
            let which = (step + round) % binaries.len();
            results[which].push(spawn_round(&binaries[which].1));
        }
    }
    println!("{:<9} {}", "median of", FIGURES.map(|name| format!("{name:>14}")).join(""));
    let medians: Vec<Figures> = results.iter().map(|rounds| medians(rounds)).collect();
    for ((name, _), figures) in binaries.iter().zip(&medians) {
        println!("{name:<9} {}", figures.map(|figure| format!("{figure:>14.3}")).join(""));
    }
    if let [this, baseline] = &medians[..] {
        let ratio = |(one, other): (&f64, &f64)| format!("{:>14.3}", one / other);
        println!("{:<9} {}", "ratio", this.iter().zip(baseline).map(ratio).collect::<String>());
    }
}

fn spawn_round(binary: &Path) -> Figures {
    let output = Command::new(binary).env("ANDON_BENCH_ROUND", "1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    figures.try_into().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn medians(rounds: &[Figures]) -> Figures {
    std::array::from_fn(|figure| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[figure]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

struct NoListener;

impl JournalListener for NoListener {
    fn readable(&self, _: Seq) {}
    fn space(&self, _: Space) {}
    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

fn run_round(size: &Size) -> Figures {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        dir: directory.path().join("journal"),
        site: "bench".to_owned(),
        max_bytes: 8 << 30,
        segment_bytes: 64 << 20,
        sync: SyncMode::Background,
        when_full: WhenFull::Hold,
    };
    let (journal, _) = Journal::open(options, Arc::new(RealFs), Arc::new(NoListener)).unwrap();
    let begun = cpu_seconds();
    let appended = append_all(&journal, size);
    journal.sync().unwrap();
    let append = cpu_seconds() - begun;
    let path = directory.path().join("andon.db");
    let Stored { decode, commit, wall } = store_all(&journal, &path, size, appended);
    let bytes = std::fs::metadata(&path).unwrap().len() as f64;
    let hundred_thousands = appended as f64 / 1e5;
    let [append, decode, commit] = [append, decode, commit].map(|seconds| seconds / hundred_thousands);
    let rows_a_second = appended as f64 / wall.as_secs_f64();
    [rows_a_second, append, decode, commit, append + decode + commit, bytes / size.messages as f64 * 1e6]
}

/// Journals the messages, in runs that the disk syncs while the next one is written. Returns the newest seq.
fn append_all(journal: &Journal, size: &Size) -> u64 {
    let mut appended = 0;
    for number in 0..size.messages {
        let machine = format!("press-{:03}", number % size.machines);
        let topic = format!("factory/machine/{machine}/telemetry");
        let micros = EPOCH + i64::try_from(number).unwrap() * 1000;
        let timestamp = Timestamp::from_micros(micros);
        let temperature = 20.0 + (number % 100) as f64 / 10.0;
        let payload = format!(
            r#"{{"machine_id":"{machine}","n":{number},"temperature":{temperature:.1},"humidity":41.5,"vibration":0.42,"timestamp":"{timestamp}"}}"#
        );
        let message = Message {
            received_at: Timestamp::from_micros(micros + 300),
            clock_unset: false,
            qos: Qos::AtLeastOnce,
            retained: false,
            topic: topic.as_str().into(),
            payload: payload.as_bytes(),
        };
        let is_repeated = size.repeated > 0 && number % size.repeated == 0;
        for _ in 0..=u8::from(is_repeated) {
            appended = journal.append(&message).unwrap().0;
        }
    }
    appended
}

struct Stored {
    decode: f64,
    commit: f64,
    wall: Duration,
}

fn store_all(journal: &Journal, path: &Path, size: &Size, appended: u64) -> Stored {
    let options = StoreOptions {
        url: DatabaseUrl::parse(&format!("sqlite://{}", path.display())).unwrap(),
        schema: None,
        site: "bench".to_owned(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(120),
        lock_timeout: Duration::from_secs(10),
        timescale: false,
        unreadable: store::UnreadableRows::default(),
        progress: store::Progress::default(),
    };
    let mut store = store::open(&options).unwrap();
    store.migrate().unwrap();
    let history = journal.history().unwrap();
    let JournalHistory { own, journal_id, .. } = history;
    store.claim(&history).unwrap();
    let interpreter = interpreter();
    let mut reader = journal.reader(Seq::ZERO);
    let (mut outcomes, mut stored, mut at) = (Vec::new(), 0, Seq::ZERO);
    let (mut decode, mut commit) = (0.0, 0.0);
    let begun = Instant::now();
    while at < Seq(appended) {
        let cpu = cpu_seconds();
        let mut building = BatchBuilder::new(at, size.batch, BATCH_BYTES_MAX);
        while !building.is_full() {
            let mut sightings: Vec<Sighting> = Vec::new();
            let room = READ_RECORDS_MAX.min(building.rows_free());
            let read = reader.read(room, READ_BYTES_MAX, &mut |record| {
                let is_control = interpreter.interpret(&record, &mut outcomes, &mut sightings);
                building.add(&record, is_control, &mut outcomes);
            });
            if read.unwrap().records == 0 {
                break;
            }
        }
        let batch = building.finish(journal_id, own, Vec::new(), LivenessRows::default());
        decode += cpu_seconds() - cpu;
        let cpu = cpu_seconds();
        stored += store.commit(&batch).unwrap().stored;
        at = batch.upto;
        journal.commit(at).unwrap();
        drop(batch);
        commit += cpu_seconds() - cpu;
    }
    let wall = begun.elapsed();
    assert_eq!(stored, size.messages, "every message is a row");
    // The last connection that closes copies the log into the file.
    drop(store);
    Stored { decode, commit, wall }
}

fn interpreter() -> Interpreter {
    let filter = TopicFilter::parse("factory/machine/+/telemetry").unwrap();
    let rules = PayloadRules::new(PayloadOptions {
        max_ahead: Duration::from_secs(24 * 3_600),
        max_payload: 256 * 1024,
        segments: vec![(filter.clone(), -2)],
        machine_id_from: andon::domain::MachineIdFrom::Payload,
        fields: BTreeMap::new(),
    });
    Interpreter {
        rules: rules.unwrap(),
        telemetry: vec![filter],
        last_wills: Vec::new(),
        control_prefix: Some("andon/".to_owned()),
    }
}

/// Returns the processor seconds of all threads of this process.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to, and the clock exists on every Linux.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the clock can be read");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
