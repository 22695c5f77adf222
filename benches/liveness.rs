//! What a million machines cost; part of `make bench`.
//!
//! Measures the tracker alone, on one core: nanoseconds per sighting, microseconds per tick with nothing due,
//! bytes per machine, and the cost of a snapshot. Times are processor time, so that other load distorts them
//! less. Prints each value with its goal; exits with code 1 if a goal is missed.
//!
//! `ANDON_BENCH_MACHINES` (1000000) changes the size.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use andon::actors::liveness::tracker::{
    FlappingRule, Sighting, SightingKind, TimePoint, Tracker, TrackerOptions,
};
use andon::clock::Mono;
use andon::domain::{MachineId, Seq, Timestamp};

const SECOND: u64 = 1_000_000;
/// Records of one batch, as the parser reads them.
const BATCH: usize = 1_024;
const ROUNDS: u64 = 5;
const TICKS: u32 = 10_000;

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes every call to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the processor time of this thread so far.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to, and the clock exists on every Linux.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the clock can be read");
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

/// Prints one value and its goal. Returns false if the goal is missed.
fn report(name: &str, value: f64, unit: &str, goal: Option<f64>) -> bool {
    let verdict = match goal {
        Some(goal) if value < goal => format!("goal: under {goal} {unit}"),
        Some(goal) => format!("MISSED, the goal is under {goal} {unit}"),
        None => String::new(),
    };
    println!("{name:<44} {value:>10.1} {unit:<6} {verdict}");
    goal.is_none_or(|goal| value < goal)
}

fn time_point(micros: u64) -> TimePoint {
    TimePoint { mono: Mono(micros), wall: Timestamp::from_micros(i64::try_from(micros).unwrap()) }
}

/// Returns the machines' ids, 12 characters each, in an order unrelated to their names.
fn ids(machines: usize) -> Vec<String> {
    (0..machines).map(|number| format!("press-{:06}", (number * 7_919) % machines)).collect()
}

/// Returns sightings of all machines, each id freshly parsed as the parser does.
fn sightings(ids: &[String], first_seq: u64, at: u64) -> Vec<Sighting> {
    let received_at = Timestamp::from_micros(i64::try_from(at).unwrap());
    (first_seq..)
        .zip(ids)
        .map(|(seq, id)| Sighting {
            machine_id: MachineId::parse(id).unwrap(),
            received_at,
            seq: Seq(seq),
            element: 0,
            kind: SightingKind::Message,
            filters: andon::domain::FilterSet::EMPTY,
        })
        .collect()
}

/// Observes them batch by batch and returns the nanoseconds per sighting.
fn observe(tracker: &mut Tracker, sightings: &[Sighting], at: u64) -> f64 {
    let mut out = Vec::with_capacity(sightings.len());
    let begun = cpu_time();
    for batch in sightings.chunks(BATCH) {
        tracker.observe_all(batch, Some(Mono(at)), &mut out);
    }
    let nanos = (cpu_time() - begun).as_nanos() as f64 / sightings.len() as f64;
    black_box(out);
    nanos
}

/// Measures sightings, and the bytes of a machine after them.
fn measure_sightings(tracker: &mut Tracker, ids: &[String]) -> bool {
    let machines = ids.len();
    let before = IN_USE.load(Ordering::Relaxed);
    let first = sightings(ids, 1, 2 * SECOND);
    report("first sighting of a machine", observe(tracker, &first, 2 * SECOND), "ns", None);
    drop(first);
    let in_storm = IN_USE.load(Ordering::Relaxed) - before;
    report("a machine, all of them changed lately", in_storm as f64 / machines as f64, "bytes", None);
    // Ten minutes later no machine has changed within the flapping window.
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let at = (700 + round) * SECOND;
        let seq = 1 + (round + 1) * machines as u64;
        let next = sightings(ids, seq, at);
        rates.push(observe(tracker, &next, at));
    }
    let _changes = tracker.take_flapping_changes(Mono(700 * 1_000_000));
    rates.sort_by(f64::total_cmp);
    let is_fast = report("a sighting, median of 5 rounds", rates[rates.len() / 2], "ns", Some(200.0));
    let at_rest = IN_USE.load(Ordering::Relaxed) - before;
    report("a machine, id included", at_rest as f64 / machines as f64, "bytes", Some(256.0)) && is_fast
}

/// Measures ticks from `now` on, with nothing due.
fn measure_ticks(tracker: &mut Tracker, now: u64) -> bool {
    let mut out = Vec::new();
    tracker.advance(Mono(now), &mut out);
    assert!(out.is_empty(), "every machine has just sent");
    let begun = cpu_time();
    for tick in 0..TICKS {
        let at = now + u64::from(tick);
        black_box(tracker.next_deadline());
        tracker.advance(Mono(at), &mut out);
        black_box(tracker.counts());
        black_box(tracker.take_flapping_changes(time_point(at).mono));
    }
    let tick = (cpu_time() - begun).as_nanos() as f64 / f64::from(TICKS) / 1_000.0;
    report("a tick with nothing due", tick, "µs", Some(10.0))
}

fn measure_snapshots(tracker: &mut Tracker, machines: usize) {
    let begun = cpu_time();
    let count = tracker.views_in_order().count();
    report("all machines in order, first time", (cpu_time() - begun).as_secs_f64() * 1_000.0, "ms", None);
    let begun = cpu_time();
    black_box(tracker.views_in_order().map(|view| view.machine_id.clone()).collect::<Vec<_>>());
    report("all machines in order, again", (cpu_time() - begun).as_secs_f64() * 1_000.0, "ms", None);
    assert_eq!(count, machines);
}

/// Measures how long it takes that every machine falls silent at `at`.
fn measure_silence(tracker: &mut Tracker, machines: usize, at: u64) {
    let mut out = Vec::new();
    let begun = cpu_time();
    tracker.advance(Mono(at), &mut out);
    assert_eq!(out.len(), machines, "no machine sent again");
    let silence = (cpu_time() - begun).as_nanos() as f64 / machines as f64;
    report("a machine falling silent, all at once", silence, "ns", None);
}

fn main() -> ExitCode {
    let machines: usize =
        std::env::var("ANDON_BENCH_MACHINES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let ids = ids(machines);
    println!("liveness: {machines} machines with ids of {} characters, one core", ids[0].len());
    let options = TrackerOptions {
        offline_after: Duration::from_secs(15),
        machines: HashMap::new(),
        machines_max: machines,
        flapping: FlappingRule { changes: 6, window: Duration::from_secs(600) },
    };
    let mut tracker = Tracker::new(options, Vec::new(), Seq::ZERO);
    tracker.link_up(time_point(SECOND), time_point(SECOND).mono);
    let now = 705 * SECOND;
    let sightings_are_good = measure_sightings(&mut tracker, &ids);
    let ticks_are_good = measure_ticks(&mut tracker, now);
    measure_snapshots(&mut tracker, machines);
    measure_silence(&mut tracker, machines, now + 60 * SECOND);
    if sightings_are_good && ticks_are_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
