//! Strikes the real process, under load, with every fault that a plant knows, and proves that no message is lost or doubled.
//!
//! A fault is a function. It builds a [`Plant`](plant::Plant), publishes numbered QoS 1 messages of all [`kinds`], breaks something
//! while they flow, mends it, and returns the verdict of the [`oracle`]. Each file lists its faults once (`faults!`); that makes
//! a test and a row of `make soak` of each.
//!
//! What is struck: the process ([`process`], [`actors`]), the databases ([`postgres`], [`sqlite`], [`corrupt_rows`],
//! [`retention`]), the journal's disk ([`disk`], [`stall`]), the data directory ([`directory`]), the data on its way elsewhere ([`moving`]), the broker and the link to it
//! ([`broker`], [`refused_filter`]), what liveness sees ([`seeing`]), traffic and clock ([`traffic`]), HTTP ([`readers`]), and two
//! of these at a time ([`combined`]). [`mutants`] proves that the suite detects builds that lose or double messages.
//!
//! `ANDON_FAULT_SEED` decides what is random; every failure prints it. `ANDON_FAULT_SCALE` (1) multiplies messages and strikes.

#![allow(dead_code)]

use std::time::Duration;

mod kinds;
mod load;
mod memory;
mod moving;
mod oracle;
mod plant;
pub mod proxy;
mod seed;
pub mod soak;
mod tmpfs;

mod actors;
mod broker;
mod broker_log;
mod combined;
mod corrupt_rows;
pub mod directory;
mod disk;
mod mutants;
mod postgres;
mod process;
mod readers;
mod refused_filter;
mod retention;
mod seeing;
mod sqlite;
mod stall;
mod traffic;

/// Limit of the peak RSS above idle, for any backlog.
const ABOVE_IDLE_MAX_KIB: u64 = 64 * 1024;

/// The conditions of one run of a fault.
pub struct FaultRun {
    pub rng: seed::Rng,
    /// Multiplies messages and strikes.
    pub scale: u64,
    /// Failpoints that every start arms, to break Andon on purpose; empty for the real build.
    pub mutation: String,
    /// At the end, gives up when nothing is committed for this long and messages are still missing.
    pub no_progress_max: Duration,
}

impl FaultRun {
    fn new(name: &str, seed: u64, scale: u64) -> Self {
        let no_progress_max = Duration::from_secs(60 + 60 * scale.ilog2() as u64);
        Self { rng: seed::Rng::of(seed, name), scale, mutation: String::new(), no_progress_max }
    }
}

/// The result of one run of a fault.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub messages: u64,
    pub verdict: oracle::Verdict,
    /// RSS once connected, with the database open, before the first message.
    pub idle_kib: u64,
    pub peak_kib: u64,
    /// Time from the end of the fault until everything was stored.
    pub recovery: Option<Duration>,
}

impl Report {
    fn above_idle_kib(&self) -> u64 {
        self.peak_kib.saturating_sub(self.idle_kib)
    }

    fn assert_exact(&self) {
        assert!(self.verdict.is_exact(), "{:#?}", self.verdict);
        assert!(self.messages > 0 && self.idle_kib > 0 && self.peak_kib > 0, "{self:?}");
        assert!(
            self.above_idle_kib() <= ABOVE_IDLE_MAX_KIB,
            "peak RSS {} KiB above {} KiB idle; {ABOVE_IDLE_MAX_KIB} are allowed",
            self.above_idle_kib(),
            self.idle_kib
        );
    }
}

/// A fault and its name.
pub struct Fault {
    pub name: &'static str,
    pub strike: fn(&mut FaultRun) -> Report,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn try_once(fault: &Fault) {
    if sqlite::ON_A_DISK_OF_ITS_OWN.contains(&fault.name) && tmpfs::must_enter_a_namespace() {
        return tmpfs::run_in_a_namespace(&format!("faults::sqlite::claims::{}", fault.name));
    }
    let seed = seed::chosen();
    eprintln!("ANDON_FAULT_SEED={seed}");
    let report = (fault.strike)(&mut FaultRun::new(fault.name, seed, setting("ANDON_FAULT_SCALE", 1)));
    report.assert_exact();
}

/// Makes a test of each fault of a file, and `FAULTS` for `make soak`.
macro_rules! faults {
    ($($name:ident),* $(,)?) => {
        pub const FAULTS: &[$crate::faults::Fault] =
            &[$($crate::faults::Fault { name: stringify!($name), strike: $name }),*];

        mod claims {
            $(
                #[test]
                fn $name() {
                    $crate::faults::try_once(&$crate::faults::Fault { name: stringify!($name), strike: super::$name });
                }
            )*
        }
    };
}
use faults;

/// Every fault, in the order of `make soak`.
pub const ALL: &[&[Fault]] = &[
    process::FAULTS,
    postgres::FAULTS,
    sqlite::FAULTS,
    corrupt_rows::FAULTS,
    disk::FAULTS,
    stall::FAULTS,
    directory::FAULTS,
    moving::FAULTS,
    broker::FAULTS,
    seeing::FAULTS,
    refused_filter::FAULTS,
    actors::FAULTS,
    traffic::FAULTS,
    retention::FAULTS,
    readers::FAULTS,
    combined::FAULTS,
];
