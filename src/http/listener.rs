//! One listening socket with its workers: from an accepted connection to the HTTP service.
//!
//! We accept ourselves, because actix-web's server would rather leave new clients waiting than close an idle one.
//! Each connection is one task: admission, then HTTP. The task ends early when its connection must make room.

use std::future::{poll_fn, ready};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::{HttpService, Request};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Response, Server, ServerHandle};
use actix_web::web::Data;

use super::HttpState;
use super::connection::{Connection, Socket, handshake};
use super::connections::{Connections, Place};
use super::listening_socket::ListeningSocket;
use super::network::Network;

/// How long a client may take to send a request's head.
const REQUEST_HEAD_MAX: Duration = Duration::from_secs(5);
/// How long a handshake may take. Until then the connection is idle, so that it gives way to others.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long an idle connection stays open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long closing a connection may take.
const DISCONNECT_MAX: Duration = Duration::from_secs(2);
/// Connections of a worker that are closing, or whose admission is due, beside the admitted ones. Beyond it new clients
/// wait in the kernel's queue.
const CLOSING_MAX: usize = 64;
/// What a client reads that there is no room for.
pub(super) const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 2\r\n\
    connection: close\r\ncontent-length: 109\r\n\r\n\
    {\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections are busy; try again in 2 seconds\"}";

/// What the connections of a listener have in common.
#[derive(Clone)]
pub(super) struct Door {
    /// Bounds them.
    pub(super) connections: Arc<Connections>,
    /// Most of them, over all.
    pub(super) connections_max: usize,
    /// Threads that serve. Their work is short; database queries run on other threads.
    pub(super) workers: usize,
    /// Holds the certificate.
    pub(super) state: Data<HttpState>,
    /// Whether clients speak TLS, if there is a certificate.
    pub(super) with_tls: bool,
}

/// Serves until its handle, which `started` takes, stops it.
pub(super) fn serve<F, I, S, B>(
    socket: ListeningSocket,
    door: Door,
    app: F,
    started: impl FnOnce(ServerHandle),
) -> std::io::Result<()>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let connections_max = door.connections_max + CLOSING_MAX;
    actix_rt::System::new().block_on(async move {
        let builder = Server::build()
            .workers(door.workers)
            .max_concurrent_connections(connections_max)
            .disable_signals();
        let server = match socket {
            ListeningSocket::Tcp(listener) => {
                builder.listen("tcp", listener, move || connection_service(door.clone(), app.clone()))?
            }
            ListeningSocket::Unix(listener) => {
                builder.listen_uds("unix", listener, move || connection_service(door.clone(), app.clone()))?
            }
        };
        let server = server.run();
        started(server.handle());
        server.await
    })
}

/// Makes the service of a worker, which takes accepted sockets.
fn connection_service<F, I, S, B, T>(
    door: Door,
    app: F,
) -> impl ServiceFactory<T, Config = (), Response = (), Error = (), InitError = ()>
where
    F: Fn() -> I + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
    T: Into<Socket> + 'static,
{
    fn_factory(move || {
        let app = app().into_factory().map_err(|error| error.into().error_response());
        // Nothing reads it: what a request must know of its connection is data of the connection.
        let config = AppConfig::default();
        let http = HttpService::build()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(REQUEST_HEAD_MAX)
            .client_disconnect_timeout(DISCONNECT_MAX)
            .on_connect_ext(Connection::describe)
            .h1(map_config(app, move |()| config.clone()));
        let (door, http) = (door.clone(), http.new_service(()));
        async move { Ok(Accept { door, http: Rc::new(http.await?) }) }
    })
}

/// The service of a worker.
struct Accept<H> {
    door: Door,
    http: Rc<H>,
}

impl<H, T> Service<T> for Accept<H>
where
    H: Service<(Connection, Option<SocketAddr>)> + 'static,
    T: Into<Socket> + 'static,
{
    type Response = ();
    type Error = ();
    type Future = Pin<Box<dyn Future<Output = Result<(), ()>>>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.http.poll_ready(context).map_err(|_| ())
    }

    fn call(&self, socket: T) -> Self::Future {
        let (http, door, socket) = (Rc::clone(&self.http), self.door.clone(), socket.into());
        let peer = socket.peer();
        let Some(place) = door.connections.admit(peer.map(|peer| Network::of(peer.ip()))) else {
            socket.close_with(NO_ROOM);
            return Box::pin(ready(Ok(())));
        };
        socket.bound_sending();
        Box::pin(async move {
            let serving = async {
                let Some(connection) = begin(&door, socket, &place).await else { return };
                // A client that breaks off or sends nonsense concerns nobody.
                let _its_own_affair = http.call((connection, peer)).await;
            };
            until_told_to_end(&place, serving).await;
            Ok(())
        })
    }
}

/// Makes a connection ready for HTTP; `None`: its handshake failed.
async fn begin(door: &Door, socket: Socket, place: &Place) -> Option<Connection> {
    match (&door.state.tls, socket) {
        (Some(tls), Socket::Tcp(stream)) if door.with_tls => {
            let handshake = handshake(stream, tls.session().ok()?);
            let shaken = tokio::time::timeout(HANDSHAKE_MAX, handshake).await;
            if let Ok(Some(stream)) = shaken {
                return Some(Connection::tls(stream, place.requests()));
            }
            tls.count_failure();
            None
        }
        (_, socket) => Some(Connection::plain(socket, place.requests())),
    }
}

/// Runs the task of a connection until it ends, or must make room. Dropping it closes the socket.
async fn until_told_to_end(place: &Place, task: impl Future<Output = ()>) {
    let (mut told_to_end, mut task) = (pin!(place.told_to_end()), pin!(task));
    poll_fn(|context| match told_to_end.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => task.as_mut().poll(context),
    })
    .await;
}
