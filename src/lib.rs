//! Andon: machine telemetry from an MQTT broker into SQL, with nothing lost, nothing twice, nothing silent.
//!
//! ```text
//! MQTT broker ──▶ mqtt actor ──▶ JOURNAL (disk) ──▶ parser actor ──▶ writer actor ──▶ SQL (diesel)
//!                   ▲   (append, then ack)             │                  │ commits rows + journal position
//!                   │                                  ▼                  │ in ONE transaction
//!                   └──── status messages ◀──── liveness actor            ▼
//!                                 supervisor actor watches all of them        HTTP: board, API, metrics, health
//!                                                                             (reads snapshots and the database)
//! ```
//!
//! Invariants that cross modules
//! - **SYS-1** The bytes that acknowledge a message leave only after [`journal::Journal::append_unsynced`] has returned;
//!   in mode `before_ack` only after its record is durable, too.
//! - **SYS-2** A reader of the journal returns durable records only, so committed ≤ synced ≤ appended: a power cut never
//!   leaves the database ahead of the journal, and no seq is used twice.
//! - **SYS-3** The position in the database moves by compare-and-set, in the transaction of the rows it counts: neither a
//!   hung thread that wakes up nor a commit with an unknown outcome can store a range twice or skip one.
//! - **SYS-4** Every element of every message ends as stored, duplicate, rejected or control, and every outcome moves the
//!   position.
//! - **SYS-5** Rows, rejections, gaps and transitions go from journal to database in one stream, in order of seq.
//!
//! The modules, in the order the data flows. Each imports only modules above it, and [`app`] alone names all parts;
//! `tests/architecture.rs` checks this.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::disallowed_methods))]

/// Names a place where a test can make Andon fail, or change what it does. In what is released it is nothing, and the
/// crate behind it is not built.
#[cfg(feature = "failpoints")]
macro_rules! fail_point {
    ($($point:tt)*) => { fail::fail_point!($($point)*) };
}
#[cfg(not(feature = "failpoints"))]
macro_rules! fail_point {
    ($($point:tt)*) => {{}};
}

pub mod domain;

pub mod new_file;

pub mod clock;
pub mod host_process;
pub mod journal;
pub mod operator;
pub mod payload;

pub mod file_access;

pub mod database_url;
pub mod store;

pub mod export;

pub mod metrics;
pub mod status;

pub mod config;
pub mod terminal;

pub mod logging;

pub mod audit;
pub mod shutdown;

pub mod service_manager;

pub mod actors;

pub mod http;

pub mod simulate;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub mod app;
pub mod cli;
