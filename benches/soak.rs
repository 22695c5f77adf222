//! `make soak`: every fault of the suite, with more messages, and a table for `docs/faults.md`.
//!
//! | variable | default | meaning |
//! | --- | --- | --- |
//! | `ANDON_SOAK_ROUNDS` | 1 | rounds of each fault, each with the next seed |
//! | `ANDON_SOAK_SCALE` | 3 | messages and strikes of a round, as multiples of those in `make test` |
//! | `ANDON_SOAK_MINUTES` | no limit | no further fault begins after this time |
//! | `ANDON_SOAK_ONLY` | all | a part of the names of the faults to run |
//! | `ANDON_SOAK_DIR` | the working directory | disk for the measurement of the unsynced age |
//! | `ANDON_FAULT_SEED` | the time of day | seed of the first round; it is printed |
//!
//! After a run, replace the tables in `docs/faults.md`, with seed, scale, and what else ran on the machine.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code, unused_imports)]

#[path = "../tests/faults/mod.rs"]
mod faults;
#[path = "../tests/support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    faults::soak::run()
}
