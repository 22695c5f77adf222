//! Every fault of the suite again and again, with more messages, and a table of what became of them: `make soak`.
//!
//! `ANDON_SOAK_ROUNDS` (1), `ANDON_SOAK_SCALE` (3: messages and strikes of a round, as multiples of those in `make test`),
//! `ANDON_SOAK_MINUTES` (no bound: after these no further fault begins), `ANDON_SOAK_ONLY` (a part of a fault's name) and
//! `ANDON_FAULT_SEED` (drawn afresh, and printed).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code, unused_imports)]

#[path = "../tests/faults/mod.rs"]
mod faults;
#[path = "../tests/support/mod.rs"]
mod support;

fn main() -> std::process::ExitCode {
    faults::soak::run()
}
