//! What a message costs on its way, in allocations: a measure that does not depend on how busy the machine is.
//!
//! Each stage handles the same messages, and must stay within a tenth of its baseline. If a change makes a stage cheaper,
//! lower its baseline here; if it must make one dearer, raise the baseline and say why. Receiving is measured in system calls
//! (`what_arrives_together_takes_a_hundredth_of_the_system_calls`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use andon::actors::liveness::tracker::{FlappingRule, Sighting, TimePoint, Tracker, TrackerOptions};
use andon::actors::parser::{BatchBuilder, Interpreter};
use andon::clock::Mono;
use andon::domain::{Message, Qos, Seq, SyncMode, Timestamp, TopicFilter, WhenFull};
use andon::journal::{Journal, JournalError, JournalListener, JournalOptions, RealFs, Record, Space};
use andon::payload::{PayloadOptions, PayloadRules};
use andon::store::{self, Batch, DatabaseUrl, LivenessRows, StoreOptions};

/// Messages of each stage.
const MESSAGES: u64 = 4_000;
const MACHINES: u64 = 100;

/// Allocations and bytes of a stage per 1,000 messages.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    allocations: f64,
    bytes: f64,
}

/// The costs to keep.
const BASELINES: [(&str, Cost); 5] = [
    ("append", Cost { allocations: 1.25, bytes: 191.0 }),
    ("decode", Cost { allocations: 3_000.0, bytes: 608_723.0 }),
    ("batch", Cost { allocations: 2_004.0, bytes: 546_594.0 }),
    ("commit", Cost { allocations: 1_537.5, bytes: 1_617_197.0 }),
    ("tracker", Cost { allocations: 34.0, bytes: 10_550.0 }),
];

/// A stage may be this much dearer or cheaper than its baseline.
const TOLERANCE: f64 = 0.1;
/// Allocations and bytes per 1,000 messages that count as none: a buffer that grows once.
const NEGLIGIBLE: Cost = Cost { allocations: 5.0, bytes: 2_000.0 };

/// Counts what a thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

fn note(bytes: usize) {
    // A thread that is ending has no counter any more.
    let _ending = ALLOCATED.try_with(|allocated| {
        let (count, total) = allocated.get();
        allocated.set((count + 1, total + bytes as u64));
    });
}

// SAFETY: passes every call to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `stage` and returns what it allocated on this thread, with its result.
fn cost_of<T>(stage: impl FnOnce() -> T) -> (Cost, T) {
    let before = ALLOCATED.get();
    let result = stage();
    let after = ALLOCATED.get();
    let per_thousand = |count: u64| count as f64 * 1_000.0 / MESSAGES as f64;
    (Cost { allocations: per_thousand(after.0 - before.0), bytes: per_thousand(after.1 - before.1) }, result)
}

/// The messages, as 100 machines send them.
struct Input(Vec<(String, String)>);

impl Input {
    fn new() -> Self {
        let message = |number: u64| {
            let machine = format!("press-{:03}", number % MACHINES);
            let timestamp = received_at(number);
            let payload = format!(
                r#"{{"machine_id":"{machine}","n":{number},"temperature":21.5,"humidity":41.5,"vibration":0.42,"timestamp":"{timestamp}"}}"#
            );
            (format!("factory/machine/{machine}/telemetry"), payload)
        };
        Self((1..=MESSAGES).map(message).collect())
    }

    fn records(&self) -> impl Iterator<Item = Record<'_>> {
        (1..).zip(&self.0).map(|(seq, (topic, payload))| Record {
            seq: Seq(seq),
            message: Message {
                received_at: received_at(seq),
                clock_unset: false,
                qos: Qos::AtLeastOnce,
                retained: false,
                topic: topic.as_str().into(),
                payload: payload.as_bytes(),
            },
        })
    }
}

fn received_at(number: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000 + i64::try_from(number).unwrap() * 1_000)
}

struct NoListener;

impl JournalListener for NoListener {
    fn readable(&self, _: Seq) {}
    fn space(&self, _: Space) {}
    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

fn journal(directory: &std::path::Path) -> Journal {
    let options = JournalOptions {
        dir: directory.join("journal"),
        site: "plant".to_owned(),
        max_bytes: 64 << 20,
        segment_bytes: 16 << 20,
        sync: SyncMode::Os,
        when_full: WhenFull::Hold,
    };
    Journal::open(options, Arc::new(RealFs), Arc::new(NoListener)).unwrap().0
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

fn tracker() -> Tracker {
    let options = TrackerOptions {
        offline_after: Duration::from_secs(15),
        machines: HashMap::new(),
        machines_max: 1_000,
        flapping: FlappingRule { changes: 6, window: Duration::from_secs(600) },
    };
    let mut tracker = Tracker::new(options, Vec::new(), Seq::ZERO);
    let now = TimePoint { mono: Mono(1_000_000), wall: received_at(0) };
    tracker.link_up(now, now.mono);
    tracker
}

/// Decodes all records, and then batches them; returns both costs.
fn decode_and_batch(input: &Input) -> ([Cost; 2], BatchBuilder, Vec<Sighting>) {
    let interpreter = interpreter();
    let mut sightings = Vec::with_capacity(MESSAGES as usize);
    let mut outcomes: Vec<_> = (0..MESSAGES).map(|_| Vec::with_capacity(1)).collect();
    let (decode, ()) = cost_of(|| {
        for (record, outcomes) in input.records().zip(&mut outcomes) {
            interpreter.interpret(&record, outcomes, &mut sightings);
        }
    });
    let mut builder = BatchBuilder::new(Seq::ZERO, MESSAGES as usize, usize::MAX);
    let (batch, ()) = cost_of(|| {
        for (record, outcomes) in input.records().zip(&mut outcomes) {
            builder.add(&record, false, outcomes);
        }
    });
    ([decode, batch], builder, sightings)
}

fn commit(directory: &std::path::Path, journal: &Journal, builder: BatchBuilder) -> Cost {
    let url = format!("sqlite://{}/andon.db", directory.display());
    let mut store = store::open(&StoreOptions {
        url: DatabaseUrl::parse(&url).unwrap(),
        schema: None,
        site: "plant".to_owned(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(60),
        lock_timeout: Duration::from_secs(10),
        timescale: false,
        unreadable: store::UnreadableRows::default(),
        progress: store::Progress::default(),
    });
    let store = store.as_mut().unwrap();
    store.migrate().unwrap();
    let history = journal.history().unwrap();
    store.claim(&history).unwrap();
    let rows = LivenessRows::default();
    let batch: Batch = builder.finish(history.journal_id, history.own, Vec::new(), rows);
    let (cost, outcome) = cost_of(|| store.commit(&batch).unwrap());
    assert_eq!(outcome.stored, MESSAGES, "every message is a row");
    cost
}

fn costs() -> [Cost; BASELINES.len()] {
    let directory = tempfile::tempdir().unwrap();
    let input = Input::new();
    let journal = journal(directory.path());
    let (append, ()) = cost_of(|| {
        for record in input.records() {
            journal.append(&record.message).unwrap();
        }
    });
    let ([decode, batch], builder, sightings) = decode_and_batch(&input);
    let mut tracker = tracker();
    let mut transitions = Vec::with_capacity(MACHINES as usize);
    let (tracked, ()) = cost_of(|| tracker.observe_all(&sightings, Some(Mono(2_000_000)), &mut transitions));
    assert_eq!(transitions.len() as u64, MACHINES, "each machine is new once");
    let commit = commit(directory.path(), &journal, builder);
    [append, decode, batch, commit, tracked]
}

#[test]
fn a_message_costs_what_it_did() {
    let mut changed = Vec::new();
    for ((stage, baseline), found) in BASELINES.into_iter().zip(costs()) {
        println!("{stage}: {found:?}, baseline {baseline:?}");
        let is_near = |found: f64, baseline: f64, negligible: f64| {
            (found - baseline).abs() <= (baseline * TOLERANCE).max(negligible)
        };
        if !is_near(found.allocations, baseline.allocations, NEGLIGIBLE.allocations)
            || !is_near(found.bytes, baseline.bytes, NEGLIGIBLE.bytes)
        {
            changed.push(format!("{stage}: {found:?} per 1,000 messages, the baseline is {baseline:?}"));
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}
