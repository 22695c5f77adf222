//! The supervised child that binds the address and serves.
//!
//! The server runs on its own thread with its own actix system. This actor starts it, stops it, and notices when it
//! ends. It receives only heartbeats and the order to stop. An address that cannot be bound is an expected state: one
//! log line for each new reason, then retries. The pipeline does not notice.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use slog::{Logger, error, info, o, warn};

use super::connections::{RefusalChange, Refusals, count_requests};
use super::listener::{self, Door};
use super::stream::ChangeFeed;
use super::{HttpState, auth, configure, headers, priority, requests};
use crate::actors::backoff::Backoff;
use crate::actors::failpoint::failpoint;
use crate::actors::supervisor::{ExitGuard, supervised};
use crate::clock::mono_now;
use crate::host_process;

/// How often the actor checks for changes.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Settings of the server.
#[derive(Clone)]
pub struct HttpOptions {
    /// Where to listen.
    pub bind: SocketAddr,
    /// Most connections at a time.
    pub connections_max: usize,
    /// First delay between attempts to bind.
    pub backoff_min: Duration,
    /// Longest delay between attempts to bind.
    pub backoff_max: Duration,
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
    server: Option<ServerHandle>,
    backoff: Backoff,
    last_reason: Option<String>,
    refusals: Refusals,
    /// `None` while it works.
    changes: Option<ChangeFeed>,
}

impl Http {
    /// Creates a new generation.
    #[must_use]
    pub fn new(options: HttpOptions, state: Arc<HttpState>, exit_guard: ExitGuard, logger: &Logger) -> Self {
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let changes = Some(ChangeFeed::new(&state));
        let logger = logger.new(o!("component" => "http"));
        Self {
            options,
            state,
            exit_guard,
            logger,
            server: None,
            backoff,
            last_reason: None,
            refusals: Refusals::default(),
            changes,
        }
    }

    fn bind(&mut self, context: &mut Context<Self>) {
        match TcpListener::bind(self.options.bind) {
            Ok(listener) => self.serve(listener, context),
            Err(error) => {
                let holder = (error.kind() == std::io::ErrorKind::AddrInUse)
                    .then(|| host_process::listener(self.options.bind))
                    .flatten();
                let holder = holder.map(|holder| format!(": {holder} listens there"));
                let reason = format!("{error}{}", holder.unwrap_or_default());
                if self.last_reason.as_deref() != Some(&reason) {
                    warn!(self.logger, "the address cannot be used, so the board, the API and the metrics are unreachable; retrying, \
                        and the pipeline keeps working. Stop the program that listens there, or change http.bind";
                        "address" => %self.options.bind, "reason" => &reason,
                        "backoff_max_s" => self.options.backoff_max.as_secs());
                    self.last_reason = Some(reason);
                }
                context.run_later(self.backoff.next_delay(), Self::bind);
            }
        }
    }

    /// Checks for a stall, reports guessing that has ended, and sends changes to the live streams.
    fn check(&mut self, context: &mut Context<Self>) {
        let _state_only =
            self.state.stall.observe(mono_now(), &self.state.journal.stats(), &self.state.cells);
        self.state.guard.tick();
        self.report_refusals();
        let Some(mut changes) = self.changes.take() else { return };
        let state = Arc::clone(&self.state);
        let sending = async move {
            changes.send(&state).await;
            changes
        };
        context.spawn(sending.into_actor(self).map(|changes, actor, _| actor.changes = Some(changes)));
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

    fn serve(&mut self, listener: TcpListener, context: &mut Context<Self>) {
        let address = listener.local_addr().unwrap_or(self.options.bind);
        let (started, server) = std::sync::mpsc::sync_channel(1);
        let (state, options, actor) = (Arc::clone(&self.state), self.options.clone(), context.address());
        let spawned = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            priority::yield_to_the_pipeline();
            let outcome = serve_here(listener, state, &options, |handle| {
                let _actor_gone = started.send(handle);
            });
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
                self.server = Some(server);
                self.last_reason = None;
                info!(self.logger, "listening"; "address" => %address, "url" => format!("http://{address}/"));
            }
            Err(error) => {
                self.exit_guard.fail(format!("the server did not start: {error}"));
                context.stop();
            }
        }
    }
}

/// Serves until its handle stops it.
pub(super) fn serve_here(
    listener: TcpListener,
    state: Arc<HttpState>,
    options: &HttpOptions,
    started: impl FnOnce(ServerHandle),
) -> std::io::Result<()> {
    let door = Door { connections: Arc::clone(&state.connections), connections_max: options.connections_max };
    let data = web::Data::from(state);
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
    listener::serve(listener, door, app, started)
}

impl Drop for Http {
    /// Stops the server however the actor ends, and so frees the address for the next generation.
    fn drop(&mut self) {
        self.state.streams.close();
        if let Some(server) = self.server.take() {
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
        self.bind(context);
        context.run_interval(CHECK_INTERVAL, Self::check);
    }
}

impl Handler<ServerEnded> for Http {
    type Result = ();

    fn handle(&mut self, ended: ServerEnded, context: &mut Context<Self>) {
        error!(self.logger, "the server has ended"; "reason" => &ended.reason);
        self.server = None;
        self.exit_guard.fail(format!("the server ended: {}", ended.reason));
        context.stop();
    }
}

supervised!(Http, "http");
