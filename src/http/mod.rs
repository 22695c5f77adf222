//! The HTTP server: the board for people, the API for programs, metrics and health.
//!
//! Owns a thread with a system of its own, and a few read-only connections to the database. Reads snapshots
//! ([`crate::status`]), counters and positions; knows the address of no pipeline actor, so that it can neither
//! disturb the pipeline nor wait for it.
//!
//! ```text
//! server       the supervised child: binds, serves, retries, and looks for what changes
//! state        what every request may see
//! auth         who may ask; login_page asks a browser
//! headers      what a browser may do with an answer
//! budget       the bytes of all answers in flight; body writes and sends what is charged to it
//! query        the parameters of a request; window names stretches of time
//! problem      how an error looks (RFC 9457); etag answers 304
//! history      the threads that read the database; latest keeps the newest readings for a moment
//! machines     the machines, if the snapshot may be believed
//! health       /livez and /readyz; standstill notices a pipeline that does not move
//! metrics      /metrics
//! stream       /api/v1/stream
//! api/         /api/v1/…
//! board/       the pages
//! ```
//!
//! Invariants
//! - HTTP-1 No request touches the pipeline: what is shared is read through atomics, short locks, or the database.
//! - HTTP-2 Everything a client can make grow has a bound: connections, streams, header, body, rows, buckets; and the bytes of all
//!   answers in flight together, however many clients ask and however slowly they read.
//! - HTTP-3 While the database is away, history answers 503 and everything else goes on.
//! - HTTP-4 Without the right token there is no answer but 401, the page that asks for it, and what that page looks like.

pub mod api;
mod auth;
mod board;
mod body;
mod budget;
mod etag;
mod headers;
pub mod health;
mod history;
mod latest;
mod login_page;
mod machines;
pub mod metrics;
mod problem;
mod query;
mod server;
mod stall;
mod state;
pub mod stream;
#[cfg(test)]
mod tests;
mod window;

use actix_web::web::{self, ServiceConfig};

pub use self::auth::Access;
pub use self::budget::{Budget, IN_FLIGHT_BYTES_MAX};
pub use self::history::{HistoryError, HistoryPool};
pub use self::latest::{LatestCache, LatestReadings};
pub use self::machines::RememberedMachines;
pub use self::server::{Http, HttpOptions};
pub use self::stall::{Stage, Stall};
pub use self::state::{HttpState, StatusCells};
pub use self::stream::Streams;
pub use self::window::Window;

/// A route's handler, ready to be mounted.
type Mount = fn() -> actix_web::Route;

/// Every route for programs. `{machine_id}` is one percent-encoded segment, whatever the id holds.
const ROUTES: &[(&str, Mount)] = &[
    ("/livez", || web::route().to(health::livez)),
    ("/readyz", || web::route().to(health::readyz)),
    ("/metrics", || web::route().to(metrics::metrics)),
    ("/api/openapi.json", || web::route().to(api::openapi::openapi)),
    ("/api/v1/status", || web::route().to(api::status::status)),
    ("/api/v1/machines", || web::route().to(api::machines::list)),
    ("/api/v1/machines/{machine_id}", || web::route().to(api::machines::one)),
    ("/api/v1/machines/{machine_id}/readings", || web::route().to(api::readings::readings)),
    ("/api/v1/machines/{machine_id}/summary", || web::route().to(api::summary::summary)),
    ("/api/v1/events", || web::route().to(api::events::events)),
    ("/api/v1/stream", || web::route().to(stream::stream)),
];

/// Largest body of a request: the login form.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// Mounts everything.
fn configure(config: &mut ServiceConfig) {
    use actix_web::guard::{Any, Get, Head};
    config
        .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
        .app_data(web::FormConfig::default().limit(BODY_BYTES_MAX));
    for (path, mount) in ROUTES {
        let route = mount().guard(Any(Get()).or(Head()));
        config.service(web::resource(*path).route(route).default_service(web::to(problem::only_get)));
    }
    let form = web::to(auth::login_form).guard(Any(Get()).or(Head()));
    let login = web::resource("/login").route(form).route(web::post().to(auth::login));
    config.service(login.default_service(web::to(problem::only_get_and_post)));
    let logout = web::resource("/logout").route(web::post().to(auth::logout));
    config.service(logout.default_service(web::to(problem::only_post)));
    board::configure(config);
    config.service(web::scope("/api").default_service(web::to(problem::no_such_resource)));
    config.default_service(web::to(board::no_such_page));
}
