//! The HTTP server: the board for people, the API for programs, metrics and health.
//!
//! Owns a thread with a system of its own, and a few read-only connections to the database. Reads snapshots
//! ([`crate::status`]), counters and positions; knows the address of no pipeline actor, so that it can neither
//! disturb the pipeline nor wait for it.
//!
//! ```text
//! server     the supervised child: binds, serves, retries
//! state      what every request may see
//! auth       who may ask
//! problem    how an error looks (RFC 9457)
//! history    the threads that read the database
//! health     /livez and /readyz
//! api/       /api/v1/…
//! board/     the pages
//! ```
//!
//! Invariants
//! - H1 No request touches the pipeline: what is shared is read through atomics, short locks, or the database.
//! - H2 Everything a client can make grow has a bound: connections, streams, header, body, rows, buckets.
//! - H3 While the database is away, history answers 503 and everything else goes on.
//! - H4 Without the right token there is no answer but 401 (and the page that asks for it).

mod api;
mod board;
mod health;
mod history;
mod server;
mod state;

use actix_web::web;

pub use self::history::{HistoryError, HistoryPool};
pub use self::server::{Http, HttpOptions};
pub use self::state::{Boards, HttpState};

/// Every route.
fn configure(config: &mut web::ServiceConfig) {
    config.service(web::resource("/livez").route(web::get().to(health::livez)));
    api::configure(config);
    board::configure(config);
}
