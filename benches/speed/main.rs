//! `make bench`: the speed of Andon with its defaults, compared with `mosquitto_sub`, which stores nothing.
//!
//! Contenders take turns within a round, and only ratios within a round are compared, never rates of different rounds.
//!
//! `ANDON_BENCH_MESSAGES` (200000) and `ANDON_BENCH_ROUNDS` (3) change the size; `ANDON_BENCH_ONLY` (drain, live, latency, scale) picks a part.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod contenders;
mod drain;
mod latency;
mod live;
mod measure;
mod scale;

// `build.rs` makes the linker replace some C functions by functions of this crate.
use andon as _;

use measure::Cost;

const MACHINES: u32 = 100;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let (messages, rounds) = (setting("ANDON_BENCH_MESSAGES", 200_000), setting("ANDON_BENCH_ROUNDS", 3));
    let only = std::env::var("ANDON_BENCH_ONLY").unwrap_or_default();
    let wants = |part: &str| only.is_empty() || only == part;
    let postgres = support::postgres::Postgres::start_durable();
    if wants("drain") {
        drain::run(messages, rounds, &postgres);
    }
    if wants("live") {
        live::run(1, messages, rounds, &postgres);
        live::run(0, messages, rounds, &postgres);
    }
    if wants("scale") {
        scale::machines(messages / 2, &postgres);
        scale::rows(messages / 2, &postgres);
        scale::replay(5 * messages);
        scale::start();
        scale::memory();
    }
    if wants("latency") {
        println!();
        for per_second in [50, 1_000] {
            latency::run("SQLite", per_second, None);
            latency::run("PostgreSQL", per_second, Some(&postgres));
        }
    }
}

/// Runs all contenders. The order changes from round to round, so that none always comes first.
fn in_turn(round: u64, count: usize, mut run: impl FnMut(usize) -> Cost) -> Vec<Cost> {
    let mut costs: Vec<Option<Cost>> = (0..count).map(|_| None).collect();
    for step in 0..count {
        let which = (step + round as usize) % count;
        costs[which] = Some(run(which));
    }
    costs.into_iter().flatten().collect()
}
