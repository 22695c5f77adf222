//! The supervised child that binds the address and serves.
//!
//! The server runs on a thread with a system of its own; this actor starts it, stops it, and notices its end. It
//! receives nothing but heartbeats and the order to stop. An address that cannot be bound is an expected state: one line for
//! each new reason, then patience; the pipeline does not notice.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use slog::{Logger, error, info, o, warn};

use super::stream::Pump;
use super::{HttpState, auth, configure, headers};
use crate::actors::backoff::Backoff;
use crate::actors::failpoint::failpoint;
use crate::actors::supervisor::{ExitGuard, Heartbeat, StopChild};
use crate::clock::mono_now;

/// Threads that serve; what they do is short, and the database is asked elsewhere.
const WORKERS: usize = 2;
/// How long a client may take to send its request's head.
const REQUEST_HEAD_MAX: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the last bytes of a connection may take.
const DISCONNECT_MAX: Duration = Duration::from_secs(2);

/// How long a client may take nothing of what is sent to it.
const TAKE_NOTHING_MAX: Duration = Duration::from_secs(20);
/// What the system keeps for a client that is slow.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// How often it is looked for what changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the actor needs beside its lifeline.
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

/// Fact from the server's thread: it has ended, and nobody had asked it to.
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
    /// `None` while a look is under way.
    pump: Option<Pump>,
}

impl Http {
    /// A new incarnation.
    #[must_use]
    pub fn new(options: HttpOptions, state: Arc<HttpState>, exit_guard: ExitGuard, logger: &Logger) -> Self {
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let pump = Some(Pump::new(&state));
        let logger = logger.new(o!("component" => "http"));
        Self { options, state, exit_guard, logger, server: None, backoff, last_reason: None, pump }
    }

    fn bind(&mut self, context: &mut Context<Self>) {
        match TcpListener::bind(self.options.bind) {
            Ok(listener) => self.serve(listener, context),
            Err(error) => {
                let reason = error.to_string();
                if self.last_reason.as_deref() != Some(&reason) {
                    warn!(self.logger, "the board, the API and the metrics cannot be reached: the address cannot be used; trying \
                        again until it can, the pipeline goes on. End what listens there, or set http.bind";
                        "address" => %self.options.bind, "reason" => &reason,
                        "backoff_max_s" => self.options.backoff_max.as_secs());
                    self.last_reason = Some(reason);
                }
                context.run_later(self.backoff.next_delay(), Self::bind);
            }
        }
    }

    /// Looks for a standstill, and for what the streams have to be told.
    fn look(&mut self, context: &mut Context<Self>) {
        let _asked_for_later =
            self.state.stall.look(mono_now(), &self.state.journal.stats(), &self.state.boards);
        let Some(mut pump) = self.pump.take() else { return };
        let state = Arc::clone(&self.state);
        let looking = async move {
            pump.look(&state).await;
            pump
        };
        context.spawn(looking.into_actor(self).map(|pump, actor, _| actor.pump = Some(pump)));
    }

    fn serve(&mut self, listener: TcpListener, context: &mut Context<Self>) {
        let address = listener.local_addr().unwrap_or(self.options.bind);
        let (started, server) = std::sync::mpsc::sync_channel(1);
        let (state, options, actor) = (Arc::clone(&self.state), self.options.clone(), context.address());
        let spawned = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            let outcome = serve_here(listener, state, &options, |handle| {
                let _actor_gone = started.send(handle);
            });
            let reason = outcome.map_or_else(|error| error.to_string(), |()| "it stopped".to_owned());
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

/// Serves until the handle stops it.
pub(super) fn serve_here(
    listener: TcpListener,
    state: Arc<HttpState>,
    options: &HttpOptions,
    started: impl FnOnce(ServerHandle),
) -> std::io::Result<()> {
    let data = web::Data::from(state);
    let system = actix_rt::System::new();
    system.block_on(async move {
        let server = HttpServer::new(move || {
            let app =
                App::new().app_data(data.clone()).wrap(from_fn(auth::let_in)).wrap(from_fn(headers::add));
            app.configure(configure)
        })
        .on_connect(|connection, _| bound_sending(connection))
        .workers(WORKERS)
        .max_connections(options.connections_max.div_ceil(WORKERS))
        .client_request_timeout(REQUEST_HEAD_MAX)
        .client_disconnect_timeout(DISCONNECT_MAX)
        .keep_alive(KEEP_ALIVE)
        .disable_signals()
        .listen(listener)?
        .run();
        started(server.handle());
        server.await
    })
}

/// A client that takes nothing is cut off by the system, and holds little of its memory until then.
fn bound_sending(connection: &dyn std::any::Any) {
    use rustix::net::sockopt;
    if let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() {
        // A system that does not know them serves all the same.
        let millis = u32::try_from(TAKE_NOTHING_MAX.as_millis()).unwrap_or(u32::MAX);
        let _unknown = sockopt::set_tcp_user_timeout(stream, millis);
        let _unknown = sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES);
    }
}

impl Drop for Http {
    /// However the actor ends, its server ends with it and frees the address for the next incarnation.
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
        context.run_interval(LOOK_EVERY, Self::look);
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

impl Handler<Heartbeat> for Http {
    type Result = ();

    fn handle(&mut self, _: Heartbeat, context: &mut Context<Self>) {
        if let Err(error) = failpoint("http::handle") {
            self.exit_guard.fail(error);
            context.stop();
        }
    }
}

impl Handler<StopChild> for Http {
    type Result = ();

    fn handle(&mut self, _: StopChild, context: &mut Context<Self>) {
        if let Err(error) = failpoint("http::stop") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        self.exit_guard.finish();
        context.stop();
    }
}
