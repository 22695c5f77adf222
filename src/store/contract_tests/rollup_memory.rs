//! What a step of filling takes of memory.
//!
//! Only the memory of a whole process can be seen from outside, and other tests may run in this one. So the step is taken in
//! another: this same program, told to run nothing but the clause, and by [`MEASURED`] which database to take.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::fixture::{Fixture, SITE};
use crate::store::RollupFill;

/// 100 MB in one bucket, so that no shorter stretch is left.
const ROWS: u64 = 10_000;
/// The whole process may take 24 MiB more than when it is idle.
const GROWTH_KIB_MAX: u64 = 24 * 1_024;
/// The clause as a test. It measures any database that it is given, whatever its own name says.
const CLAUSE: &str = "store::contract_tests::sqlite::a_step_takes_little_memory_however_large_its_rows_are";
/// The environment variable with the URL of a database that is filled with rows already.
const MEASURED: &str = "ANDON_TEST_MEMORY_OF_A_STEP";

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Runs `job` and gives the most memory that was seen meanwhile.
fn peak_kib(job: impl FnOnce()) -> u64 {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let sampler = thread::spawn(move || {
        let mut peak = 0;
        while !over.load(Ordering::Relaxed) {
            peak = peak.max(resident_kib());
            thread::sleep(Duration::from_millis(1));
        }
        peak
    });
    job();
    is_over.store(true, Ordering::Relaxed);
    sampler.join().unwrap()
}

/// 47 rows at each instant, so that pages end between rows of one.
fn large_rows(fixture: &Fixture) {
    let columns = "INSERT INTO machine_telemetry (site, machine_id, temperature, extra, source_topic, recorded_at, \
        time_source, received_at, digest)";
    let sql = fixture.either(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :rows - 1)
         SELECT ':site', 'm-1', i % 90, '{\"pressure\":' || (i % 7) || ',\"text\":\"' || hex(randomblob(5000)) || '\"}', 't',
             strftime('%Y-%m-%d %H:%M:%S.000000+00:00', 1767225600 + i / 47, 'unixepoch'), 'device',
             '2026-01-01 00:00:00.000000+00:00', i FROM n",
        "SELECT ':site', 'm-1', i % 90, jsonb_build_object('pressure', i % 7, 'text', repeat(md5(i::text), 313)), 't',
             to_timestamp(1767225600 + i / 47), 'device', now(), i FROM generate_series(0, :rows - 1) i",
    );
    let sql = sql.replace(":site", SITE).replace(":rows", &ROWS.to_string());
    fixture.raw().execute(&format!("{columns} {sql}"));
}

/// In a process in which nothing else happens.
fn take_a_measured_step(fixture: &Fixture) {
    let mut store = fixture.open();
    let before = resident_kib();
    let peak = peak_kib(|| assert_eq!(store.fill_rollups(Duration::ZERO).unwrap(), RollupFill::More));
    eprintln!("resident: {before} KiB before, {peak} KiB at most, {} KiB after", resident_kib());
    assert!(peak < before + GROWTH_KIB_MAX, "{peak} KiB, {before} KiB before");
}

pub fn a_step_takes_little_memory_however_large_its_rows_are(fixture: &Fixture) {
    if let Ok(url) = std::env::var(MEASURED) {
        return take_a_measured_step(&Fixture::of(url));
    }
    drop(fixture.migrated());
    large_rows(fixture);
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", CLAUSE, "--nocapture"]).env(MEASURED, &fixture.url);
    let output = process.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    eprintln!("{said}");
    let mut raw = fixture.raw();
    assert_eq!(raw.rows(&["readings", "temperature_count"], "machine_rollup"), ["10000|10000"]);
    assert_eq!(raw.rows(&["field", "value_count"], "machine_rollup_extra"), ["pressure|10000"]);
}

pub fn a_stretch_with_too_many_bytes_is_given_up_for_a_shorter_one(fixture: &Fixture) {
    let mut store = fixture.migrated();
    large_rows(fixture);
    assert_eq!(store.fill_rollups(Duration::from_secs(600)).unwrap(), RollupFill::TooMuch);
    assert_eq!(fixture.raw().count("machine_rollup"), 0, "nothing of it is left");
}
