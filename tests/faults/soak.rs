//! `make soak`: every fault in turn, in rounds, and the table.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use andon::domain::{Message, Qos, Timestamp};
use andon::journal::{Journal, JournalOptions, RealFs, SyncMode, WhenFull};

use super::traffic::IgnoringListener;
use super::{ALL, Fault, FaultRun, Report, load, setting};

/// The sums and maxima over all rounds of a fault.
#[derive(Default)]
struct Line {
    rounds: u64,
    failed: u64,
    messages: u64,
    lost: usize,
    doubled: usize,
    ledger: usize,
    above_idle_kib: u64,
    recovery: Duration,
}

impl Line {
    fn add(&mut self, report: &Report) {
        self.rounds += 1;
        self.messages += report.messages;
        self.lost += report.verdict.lost.len();
        self.doubled += report.verdict.doubled.len();
        self.ledger += report.verdict.ledger.len() + report.verdict.events.len();
        self.ledger += report.verdict.unexpected.len();
        self.above_idle_kib = self.above_idle_kib.max(report.above_idle_kib());
        self.recovery = self.recovery.max(report.recovery.unwrap_or_default());
    }

    fn is_clean(&self) -> bool {
        self.failed + (self.lost + self.doubled + self.ledger) as u64 == 0
            && self.above_idle_kib <= super::ABOVE_IDLE_MAX_KIB
    }

    fn print(&self, fault: &Fault) {
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.1} | {:.1} |{}",
            fault.name.replace('_', " "),
            self.rounds,
            self.messages,
            self.lost,
            self.doubled,
            self.ledger,
            self.above_idle_kib as f64 / 1024.0,
            self.recovery.as_secs_f64(),
            if self.is_clean() { "" } else { " **NOT CLEAN**" }
        );
    }
}

/// Runs all faults and prints the table; fails if anything was lost, doubled, or not accounted for.
pub fn run() -> ExitCode {
    let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (seed, scale) = (setting("ANDON_FAULT_SEED", fresh), setting("ANDON_SOAK_SCALE", 3).max(1));
    let (rounds, minutes) = (setting("ANDON_SOAK_ROUNDS", 1), setting("ANDON_SOAK_MINUTES", u64::MAX / 60));
    let only = std::env::var("ANDON_SOAK_ONLY").unwrap_or_default();
    println!("ANDON_FAULT_SEED={seed}, {rounds} rounds, scale {scale}\n");
    println!(
        "| fault | rounds | messages | lost | doubled | sums of the ledger that differ | peak RSS above idle, MiB | longest recovery, s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let began = Instant::now();
    let (mut sum, mut clean) = (Line::default(), true);
    let faults = ALL.iter().flat_map(|faults| faults.iter()).filter(|fault| fault.name.contains(&only));
    for fault in faults {
        if began.elapsed().as_secs() >= minutes.saturating_mul(60) {
            println!("\nANDON_SOAK_MINUTES is over: the remaining faults were not run.");
            break;
        }
        let line = try_rounds(fault, seed, rounds, scale);
        line.print(fault);
        clean &= line.is_clean();
        sum.messages += line.messages;
        sum.above_idle_kib = sum.above_idle_kib.max(line.above_idle_kib);
        sum.rounds += line.rounds;
    }
    println!("\n{} rounds, {} messages in {} s", sum.rounds, sum.messages, began.elapsed().as_secs());
    println!("Largest peak RSS above idle: {:.1} MiB", sum.above_idle_kib as f64 / 1024.0);
    if only.is_empty() {
        measure_unsynced();
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn try_rounds(fault: &Fault, seed: u64, rounds: u64, scale: u64) -> Line {
    let mut line = Line::default();
    for round in 0..rounds {
        let mut run = FaultRun::new(fault.name, seed.wrapping_add(round), scale);
        match catch_unwind(AssertUnwindSafe(|| (fault.strike)(&mut run))) {
            Ok(report) => {
                if !report.verdict.is_exact() {
                    eprintln!("{}: {:?}", fault.name, report.verdict);
                }
                line.add(&report);
            }
            Err(_printed_by_the_panic_hook) => {
                line.rounds += 1;
                line.failed += 1;
            }
        }
    }
    line
}

/// Measures how long acknowledged messages wait for the disk in mode `background`: what a power cut could take.
fn measure_unsynced() {
    let directory =
        tempfile::tempdir_in(std::env::var("ANDON_SOAK_DIR").unwrap_or_else(|_| ".".to_owned())).unwrap();
    let options = JournalOptions {
        dir: directory.path().join("journal"),
        site: "test".to_owned(),
        max_bytes: 4 << 30,
        segment_bytes: 16 << 20,
        sync: SyncMode::Background,
        when_full: WhenFull::Hold,
    };
    let (journal, _) = Journal::open(options, Arc::new(RealFs), Arc::new(IgnoringListener)).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let watch = {
        let (journal, over) = (journal.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            let mut ages = Vec::new();
            while !over.load(Ordering::Relaxed) {
                ages.push(journal.stats().unsynced_age);
                std::thread::sleep(Duration::from_micros(500));
            }
            ages
        })
    };
    let (began, messages) = (Instant::now(), 50_000);
    for number in 0..messages {
        let (topic, payload) = load::message(number);
        let (received_at, payload) = (Timestamp::from(chrono::Utc::now()), payload.as_slice());
        let message = Message {
            received_at,
            qos: Qos::AtLeastOnce,
            retained: false,
            clock_unset: false,
            topic: topic.as_str().into(),
            payload,
        };
        journal.append(&message).unwrap();
        // 5,000 a second.
        std::thread::sleep(Duration::from_micros(number * 200).saturating_sub(began.elapsed()));
    }
    over.store(true, Ordering::Relaxed);
    let mut ages = watch.join().unwrap();
    ages.sort();
    let at = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "Unsynced age in mode background, {:.0} messages/s, {} samples: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        messages as f64 / began.elapsed().as_secs_f64(),
        ages.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    journal.close().unwrap();
}
