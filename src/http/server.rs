//! The supervised child that binds the address and serves.
//!
//! The server runs on its own thread with its own actix system. This actor starts it, stops it, and notices when it
//! ends. It receives only heartbeats and the order to stop. An address that cannot be bound is an expected state: one
//! log line for each new reason, then retries. The pipeline does not notice.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use slog::{Logger, error, info, o, warn};

use super::connections::{Connections, RefusalChange, Refusals, count_requests};
use super::health_listener::{self, HealthAccess};
use super::listener::{self, Door};
use super::listening_socket::{ListeningSocket, SocketFile};
use super::stream::ChangeFeed;
use super::tls::Tls;
use super::{HttpState, auth, configure, headers, priority, requests};
use crate::actors::backoff::Backoff;
use crate::actors::failpoint::failpoint;
use crate::actors::supervisor::{ExitGuard, supervised};
use crate::clock::mono_now;
use crate::domain::ListenAddress;

/// Threads that serve. Their work is short; database queries run on other threads.
const WORKERS: usize = 2;
/// How often the actor checks for changes.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Settings of the server.
#[derive(Clone)]
pub struct HttpOptions {
    /// Where to listen.
    pub bind: ListenAddress,
    /// Where health checks and metrics have a listener of their own.
    pub health_bind: Option<ListenAddress>,
    /// Most connections at a time.
    pub connections_max: usize,
    /// First delay between attempts to bind.
    pub backoff_min: Duration,
    /// Longest delay between attempts to bind.
    pub backoff_max: Duration,
}

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Everything,
    HealthAlone,
}

/// A place to listen.
struct Endpoint {
    purpose: Purpose,
    bind: ListenAddress,
    server: Option<ServerHandle>,
    file: Option<SocketFile>,
    backoff: Backoff,
    last_reason: Option<String>,
}

impl Endpoint {
    fn new(purpose: Purpose, bind: ListenAddress, options: &HttpOptions) -> Self {
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        Self { purpose, bind, server: None, file: None, backoff, last_reason: None }
    }
}

/// Fact from the server's thread: it has ended on its own.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct ServerEnded {
    reason: String,
}

/// The actor.
pub struct Http {
    options: HttpOptions,
    state: Arc<HttpState>,
    exit_guard: ExitGuard,
    logger: Logger,
    /// In the order of [`Purpose`]; the second one is optional.
    endpoints: Vec<Endpoint>,
    refusals: Refusals,
    /// `None` while it works.
    changes: Option<ChangeFeed>,
}

impl Http {
    /// Creates a new generation.
    #[must_use]
    pub fn new(options: HttpOptions, state: Arc<HttpState>, exit_guard: ExitGuard, logger: &Logger) -> Self {
        let main = Endpoint::new(Purpose::Everything, options.bind.clone(), &options);
        let health = options.health_bind.clone();
        let health = health.map(|bind| Endpoint::new(Purpose::HealthAlone, bind, &options));
        let changes = Some(ChangeFeed::new(&state));
        let logger = logger.new(o!("component" => "http"));
        Self {
            options,
            state,
            exit_guard,
            logger,
            endpoints: std::iter::once(main).chain(health).collect(),
            refusals: Refusals::default(),
            changes,
        }
    }

    fn bind(&mut self, index: usize, context: &mut Context<Self>) {
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        match ListeningSocket::bind(&endpoint.bind) {
            Ok((socket, file)) => {
                endpoint.file = file;
                self.serve(index, socket, context);
            }
            Err(error) => {
                let reason = error.to_string();
                if endpoint.last_reason.as_ref() != Some(&reason) {
                    report_unusable(&self.logger, endpoint, &reason, self.options.backoff_max);
                    endpoint.last_reason = Some(reason);
                }
                let delay = endpoint.backoff.next_delay();
                context.run_later(delay, move |actor, context| actor.bind(index, context));
            }
        }
    }

    /// Checks for a stall, reports guessing that has ended, and sends changes to the live streams.
    fn check(&mut self, context: &mut Context<Self>) {
        let _state_only =
            self.state.stall.observe(mono_now(), &self.state.journal.stats(), &self.state.cells);
        auth::report(&self.state);
        self.report_refusals();
        self.look_at_certificate();
        let Some(mut changes) = self.changes.take() else { return };
        let state = Arc::clone(&self.state);
        let sending = async move {
            changes.send(&state).await;
            changes
        };
        context.spawn(sending.into_actor(self).map(|changes, actor, _| actor.changes = Some(changes)));
    }

    /// Has the files of the certificate looked at. A disk that stalls holds up that thread alone.
    fn look_at_certificate(&self) {
        if !self.state.tls.as_ref().is_some_and(Tls::is_due) {
            return;
        }
        let state = Arc::clone(&self.state);
        let look = move || state.tls.as_ref().map_or((), Tls::look);
        if let Err(error) = std::thread::Builder::new().name("tls-files".to_owned()).spawn(look) {
            warn!(self.logger, "cannot start the thread that looks at the certificate: reload Andon to have it read";
                "error" => %error);
        }
    }

    /// Says once that clients are refused, and once that it is over.
    fn report_refusals(&mut self) {
        let connections = &self.state.connections;
        match self.refusals.observe(connections.refused(), mono_now()) {
            Some(RefusalChange::Began) => {
                let address = connections.last_refused().map(|address| address.to_string());
                warn!(self.logger, "HTTP clients are refused: every connection that may be open is busy. Look at who holds them \
                    (ss -tn), and at http.connections_max and http.connections_per_address";
                    "address" => address, "open" => connections.open(), "connections_max" => self.options.connections_max);
            }
            Some(RefusalChange::Ended { refused }) => {
                info!(self.logger, "no HTTP client has been refused for a minute"; "refused" => refused);
            }
            None => {}
        }
    }

    fn serve(&mut self, index: usize, socket: ListeningSocket, context: &mut Context<Self>) {
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        let (purpose, address) = (endpoint.purpose, socket.address(&endpoint.bind));
        let (started, server) = std::sync::mpsc::sync_channel(1);
        let (state, options, actor) = (Arc::clone(&self.state), self.options.clone(), context.address());
        let access = HealthAccess::at(&endpoint.bind);
        let spawned = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            let started = |handle| {
                let _actor_gone = started.send(handle);
            };
            let outcome = match purpose {
                Purpose::Everything => {
                    priority::yield_to_the_pipeline();
                    serve_here(socket, state, &options, started)
                }
                Purpose::HealthAlone => serve_health(socket, state, access, started),
            };
            let reason = outcome.map_or_else(|error| error.to_string(), |()| "it was stopped".to_owned());
            #[expect(
                clippy::disallowed_methods,
                reason = "one message per server, from its thread, which ends here"
            )]
            actor.do_send(ServerEnded { reason });
        });
        let started = spawned.and_then(|_thread| server.recv().map_err(std::io::Error::other));
        match started {
            Ok(server) => {
                endpoint.server = Some(server);
                endpoint.last_reason = None;
                report_listening(&self.logger, purpose, &address, self.state.tls.is_some());
            }
            Err(error) => {
                self.exit_guard.fail(format!("the server did not start: {error}"));
                context.stop();
            }
        }
    }
}

fn report_listening(logger: &Logger, purpose: Purpose, address: &ListenAddress, with_tls: bool) {
    match purpose {
        Purpose::Everything => {
            let scheme = if with_tls { "https" } else { "http" };
            info!(logger, "listening"; "address" => %address, "url" => format!("{scheme}://{address}/"));
        }
        Purpose::HealthAlone => info!(logger, "listening for health checks"; "address" => %address),
    }
}

fn report_unusable(logger: &Logger, endpoint: &Endpoint, reason: &str, backoff_max: Duration) {
    let (address, backoff_max) = (endpoint.bind.to_string(), backoff_max.as_secs());
    match endpoint.purpose {
        Purpose::Everything => {
            warn!(logger, "the address cannot be used, so the board, the API and the metrics are unreachable; retrying, \
            and the pipeline keeps working. Stop the program that listens there, or change http.bind";
            "address" => address, "reason" => reason, "backoff_max_s" => backoff_max)
        }
        Purpose::HealthAlone => {
            warn!(logger, "the address for health checks cannot be used; retrying, and everything else works. \
            Stop the program that listens there, or change http.health_bind";
            "address" => address, "reason" => reason, "backoff_max_s" => backoff_max)
        }
    }
}

/// Serves everything until its handle stops it.
pub(super) fn serve_here(
    socket: ListeningSocket,
    state: Arc<HttpState>,
    options: &HttpOptions,
    started: impl FnOnce(ServerHandle),
) -> std::io::Result<()> {
    let data = web::Data::from(state);
    let door = Door {
        connections: Arc::clone(&data.connections),
        connections_max: options.connections_max,
        workers: WORKERS,
        state: data.clone(),
        with_tls: true,
    };
    let app = move || {
        // The last one is the outermost.
        App::new()
            .app_data(data.clone())
            .wrap(from_fn(auth::authorize))
            .wrap(from_fn(headers::add))
            .wrap(from_fn(requests::measure))
            .wrap(from_fn(count_requests))
            .configure(configure)
    };
    listener::serve(socket, door, app, started)
}

/// Serves health checks and metrics until its handle stops it.
fn serve_health(
    socket: ListeningSocket,
    state: Arc<HttpState>,
    access: HealthAccess,
    started: impl FnOnce(ServerHandle),
) -> std::io::Result<()> {
    let data = web::Data::from(state);
    let door = Door {
        connections: Arc::new(Connections::new(health_listener::LIMITS)),
        connections_max: health_listener::LIMITS.all,
        workers: health_listener::WORKERS,
        state: data.clone(),
        // On this computer nobody reads along.
        with_tls: access == HealthAccess::AsElsewhere,
    };
    let app = move || {
        App::new()
            .app_data(data.clone())
            .app_data(access)
            .wrap(from_fn(health_listener::authorize))
            .wrap(from_fn(headers::add))
            .wrap(from_fn(requests::measure))
            .wrap(from_fn(count_requests))
            .configure(health_listener::configure)
    };
    listener::serve(socket, door, app, started)
}

impl Drop for Http {
    /// Stops the server however the actor ends, and so frees the address for the next generation.
    fn drop(&mut self) {
        self.state.streams.close();
        for server in self.endpoints.iter_mut().filter_map(|endpoint| endpoint.server.take()) {
            drop(server.stop(false));
        }
    }
}

impl Actor for Http {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("http::start") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        (0..self.endpoints.len()).for_each(|index| self.bind(index, context));
        context.run_interval(CHECK_INTERVAL, Self::check);
    }
}

impl Handler<ServerEnded> for Http {
    type Result = ();

    fn handle(&mut self, ended: ServerEnded, context: &mut Context<Self>) {
        error!(self.logger, "the server has ended"; "reason" => &ended.reason);
        self.exit_guard.fail(format!("the server ended: {}", ended.reason));
        context.stop();
    }
}

supervised!(Http, "http");
