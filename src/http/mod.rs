//! The HTTP server: the board for people, the API for programs, metrics and health.
//!
//! Owns one thread that serves and a few read-only database connections. Reads status snapshots ([`crate::status`]),
//! counters and journal positions. Holds the address of no pipeline actor, so it can neither disturb the pipeline
//! nor wait for it.
//!
//! ```text
//! server       the supervised child: binds, serves, retries, and drives the live streams
//! listener     a listener's workers; listening_socket binds; connections bounds what is open; connection is one client
//! tls          the certificate in use, and its replacement
//! health_listener  what the listener for health checks alone serves
//! read_ahead   how far a connection is read ahead of its answers
//! state        what every request may read; settings: what of it a reload replaces
//! auth         authentication; login_page shows the form to browsers
//! caller       who sent a request, from where; network: whom the limits count as one client
//! requests     counts and times the requests by route
//! headers      security headers of every response
//! budget       one bound on the bytes of all responses in flight; body builds responses within it
//! priority     HTTP yields to the pipeline
//! query        the parameters of a request; window names periods such as "today"
//! problem      errors as problem+json (RFC 9457); etag answers 304
//! lane         which way to the database a request takes; fair_queue who is next on it, fair_threads runs it
//! history      the threads that read the database; latest caches the newest readings
//! machines     the machines, and whether the snapshot is recent enough to trust
//! health       /livez and /readyz; stall detects a pipeline that makes no progress
//! metrics      /metrics
//! stream       /api/v1/stream
//! api/         /api/v1/…; only forget changes something
//! board/       the pages
//! ```
//!
//! Invariants
//! - **HTTP-1** No request touches the pipeline: handlers read atomics, briefly locked snapshots, or the database.
//! - **HTTP-2** Everything a client can make grow is bounded: connections, streams, headers, requests that wait for their
//!   turn, bodies, rows, buckets, and the bytes of all responses in flight together.
//! - **HTTP-3** While the database is away, history answers 503 and everything else keeps working.
//! - **HTTP-4** A request without the right token gets 401 and nothing else; only the login page and the files that
//!   style it are public.
//! - **HTTP-5** An address that has sent five wrong tokens gets one further token looked at a wait, whichever way it comes;
//!   what it sends meanwhile gets 429, the right token included.
//! - **HTTP-6** No client can fill what all need: it leaves threads of the database, places in their queues, memory of
//!   responses and streams to the others, and the API leaves them to the board.

pub mod api;
mod auth;
mod board;
mod body;
mod budget;
mod caller;
mod connection;
mod connections;
mod etag;
mod fair_queue;
mod fair_threads;
mod headers;
pub mod health;
mod health_listener;
mod history;
mod lane;
mod latest;
mod listener;
mod listening_socket;
mod login_page;
mod machines;
pub mod metrics;
mod network;
mod priority;
mod problem;
mod query;
mod read_ahead;
mod requests;
mod server;
mod settings;
mod stall;
mod state;
pub mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod window;

use actix_web::web::{self, ServiceConfig};

pub use self::api::forget::ForgetDesk;
pub use self::auth::{Access, Proxies, Sessions, SiteKey, Token, TokenGuard};
pub use self::budget::{Budget, IN_FLIGHT_BYTES_MAX};
pub use self::connections::{ConnectionLimits, Connections};
pub use self::history::{HistoryClient, HistoryError, HistoryPool};
pub use self::latest::{LatestCache, LatestReadings};
pub use self::machines::StoredMachines;
pub use self::metrics::DataPlace;
pub use self::requests::Requests;
pub use self::server::{Http, HttpOptions};
pub use self::settings::HttpSettings;
pub use self::stall::{Stage, Stall};
pub use self::state::{HttpState, StatusCells};
pub use self::stream::Streams;
pub use self::tls::{Tls, TlsError, TlsFiles};
pub use self::window::Window;

/// Builds a route with its handler.
type Mount = fn() -> actix_web::Route;

/// The one route for programs that can change something.
const MACHINE: &str = "/api/v1/machines/{machine_id}";

/// Every route for programs. `{machine_id}` is one percent-encoded path segment.
const ROUTES: &[(&str, Mount)] = &[
    ("/livez", || web::route().to(health::livez)),
    ("/readyz", || web::route().to(health::readyz)),
    ("/metrics", || web::route().to(metrics::metrics)),
    ("/api/openapi.json", || web::route().to(api::openapi::openapi)),
    ("/api/v1/status", || web::route().to(api::status::status)),
    ("/api/v1/machines", || web::route().to(api::machines::list)),
    (MACHINE, || web::route().to(api::machines::one)),
    ("/api/v1/machines/{machine_id}/readings", || web::route().to(api::readings::readings)),
    ("/api/v1/machines/{machine_id}/summary", || web::route().to(api::summary::summary)),
    ("/api/v1/events", || web::route().to(api::events::events)),
    ("/api/v1/stream", || web::route().to(stream::stream)),
];

/// Largest request body. Only the login form has one.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// Mounts every route.
fn configure(config: &mut ServiceConfig) {
    use actix_web::guard::{Any, Get, Head};
    config
        .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
        .app_data(web::FormConfig::default().limit(BODY_BYTES_MAX));
    for (path, mount) in ROUTES {
        let route = mount().guard(Any(Get()).or(Head()));
        let resource = web::resource(*path).route(route);
        config.service(if *path == MACHINE {
            let forget = web::delete().to(api::forget::forget);
            resource.route(forget).default_service(web::to(problem::only_get_and_delete))
        } else {
            resource.default_service(web::to(problem::only_get))
        });
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
