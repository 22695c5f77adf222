//! `/api/v1/stream`: changes as server-sent events.
//!
//! Events: `machine` (a machine object), `event` (a change of status), `forgotten` (the id of a machine that is no longer
//! watched), and `status` (the answer of `/api/v1/status`, every
//! two seconds: a client that hears nothing for longer has lost the connection). A client connects first, reads the
//! lists, then applies the events that arrived meanwhile and all later ones. The first client also gets every machine
//! once. A stream ends with the event `end` after [`STREAM_MAX`]; then a client connects again.
//!
//! [`ChangeFeed`] finds the changes and writes them once, as a chunk that all clients share. Chunks therefore take at most
//! [`QUEUE_MAX`] times [`CHUNK_BYTES_MAX`](change_feed::CHUNK_BYTES_MAX), however many clients there are and however slow.
//! A client that does not keep up is dropped; it connects again and reads the lists anew. The kernel disconnects a client
//! that reads nothing at all (see `server`).

mod change_feed;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::mpsc;
use uuid::Uuid;

pub use self::change_feed::ChangeFeed;
use super::HttpState;
use super::api::status::Status;
use super::auth;
use super::body::PIECE_BYTES;
use super::caller;
use super::network::Network;
use super::problem::Problem;
use super::query::Parameters;
use crate::clock::{Mono, mono_now, wall_now};

/// Most chunks that wait for a client.
const QUEUE_MAX: usize = 16;

/// How long a stream lasts, if its session does: a client that lost its right to it, or is no more than an open socket, goes
/// some day.
const STREAM_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// Tells a client that its stream ends in order, so that it connects again without an alarm.
const END: &[u8] = b"event: end\ndata: {}\n\n";

/// Why a client gets no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Full {
    /// All streams are in use.
    #[error("all {0} streams are in use (http.streams_max)")]
    All(usize),
    /// The client's address has as many as it may.
    #[error("this address has all {0} streams that one may have (http.streams_per_address)")]
    OfAddress(usize),
}

/// The connected clients.
pub struct Streams {
    clients: Mutex<Vec<Client>>,
    open: Arc<Mutex<Open>>,
    /// Most clients at a time.
    max: AtomicUsize,
    /// Most clients of an address.
    per_address: AtomicUsize,
    dropped: AtomicUsize,
    refused: AtomicUsize,
}

struct Client {
    chunks: mpsc::Sender<Bytes>,
    ends_at: Mono,
    /// The session that it came with.
    session: Option<Uuid>,
}

/// The streams that are open, however much of them the client has read.
#[derive(Default)]
struct Open {
    all: usize,
    /// Only those with a stream.
    by_address: HashMap<Network, usize>,
}

impl Open {
    fn of(&self, address: Network) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }

    fn add(&mut self, address: Network) {
        self.all += 1;
        *self.by_address.entry(address).or_default() += 1;
    }

    fn remove(&mut self, address: Network) {
        self.all -= 1;
        if let Some(of_address) = self.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Streams {
    /// Creates an empty set that admits at most `max` clients, and at most `per_address` of one address.
    #[must_use]
    pub fn new(max: usize, per_address: usize) -> Self {
        Self {
            clients: Mutex::default(),
            open: Arc::default(),
            max: AtomicUsize::new(max),
            per_address: AtomicUsize::new(per_address),
            dropped: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    /// Returns the number of clients now.
    #[must_use]
    pub fn open(&self) -> usize {
        lock(&self.open).all
    }

    /// Returns how many clients were dropped for being too slow, since the process started.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns how many clients were refused, since the process started.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Replaces how many clients may be connected, and how many of one address. Those that are stay.
    pub fn set_bounds(&self, max: usize, per_address: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.per_address.store(per_address, Ordering::Relaxed);
    }

    /// Ends every stream.
    pub fn close(&self) {
        self.lock().clear();
    }

    /// Ends the streams of a session.
    pub fn close_session(&self, id: Uuid) {
        self.lock().retain(|client| client.session != Some(id));
    }

    /// Adds a client that gets `first` at once, and every chunk until `ends_at`.
    fn join(
        &self,
        first: Bytes,
        address: Network,
        ends_at: Mono,
        session: Option<Uuid>,
    ) -> Result<StreamBody, Full> {
        let mut clients = self.lock();
        self.take_place(address).inspect_err(|_full| {
            self.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let (sender, chunks) = mpsc::channel(QUEUE_MAX);
        clients.push(Client { chunks: sender, ends_at, session });
        Ok(StreamBody { chunks, rest: first, address, open: Arc::clone(&self.open) })
    }

    fn take_place(&self, address: Network) -> Result<(), Full> {
        let (max, per_address) = (self.max.load(Ordering::Relaxed), self.per_address.load(Ordering::Relaxed));
        let mut open = lock(&self.open);
        if open.all >= max {
            return Err(Full::All(max));
        }
        if open.of(address) >= per_address {
            return Err(Full::OfAddress(per_address));
        }
        open.add(address);
        Ok(())
    }

    /// Sends a chunk to all clients, and ends the streams whose time has come.
    fn send(&self, chunk: &Bytes, now: Mono) {
        self.lock().retain(|client| match client.chunks.try_send(chunk.clone()) {
            Ok(()) if client.ends_at <= now => {
                let _ends_anyway = client.chunks.try_send(Bytes::from_static(END));
                false
            }
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                false
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Client>> {
        lock(&self.clients)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The response body of one client. Dropping it, when the connection ends, frees the client's place.
struct StreamBody {
    chunks: mpsc::Receiver<Bytes>,
    /// The rest of the current chunk. The connection copies what it gets, so it gets little at a time.
    rest: Bytes,
    address: Network,
    open: Arc<Mutex<Open>>,
}

impl MessageBody for StreamBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let body = self.get_mut();
        while body.rest.is_empty() {
            match body.chunks.poll_recv(context) {
                Poll::Ready(Some(chunk)) => body.rest = chunk,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        let piece = body.rest.split_to(body.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(piece)))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        lock(&self.open).remove(self.address);
    }
}

/// Streams changes live.
#[utoipa::path(get, path = "/api/v1/stream", responses(
    (status = 200, description = "Server-sent events: machine, event, forgotten, status; and end, before a stream ends after 12 h: connect again", body = String, content_type = "text/event-stream"),
    (status = 503, description = "All http.streams_max streams are in use, or all http.streams_per_address of this address", body = Problem, content_type = "application/problem+json"),
))]
pub async fn stream(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    Parameters::of(&request)?.finish()?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"));
    // A HEAD request must not hold a stream that nothing reads.
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let first = format!("retry: 2000\n\n{}", event("status", &Status::now(&state)));
    let session = caller::session(&request);
    let lasts =
        session.as_ref().map_or(STREAM_MAX, |session| session.until.since(wall_now()).min(STREAM_MAX));
    let ends_at = Mono(mono_now().0 + lasts.as_micros() as u64);
    let id = session.map(|session| session.session.id);
    let joined = state.streams.join(first.into(), caller::network(&request), ends_at, id);
    let body = joined.map_err(|full| Problem::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string()))?;
    // A reload between the check of this request and now would have missed this stream.
    if let Some(refusal) = auth::refusal_now(&state, &request) {
        return Ok(refusal);
    }
    Ok(response.body(BoxBody::new(body)))
}

/// Formats one server-sent event. Line breaks between the tokens of a machine's JSON become spaces, because a line break
/// would end the event.
fn event(name: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default().replace(['\n', '\r'], " ");
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Mono = Mono(u64::MAX);

    fn network(number: u8) -> Network {
        Network::of(std::net::Ipv4Addr::new(10, 0, 0, number).into())
    }

    fn join(streams: &Streams, number: u8) -> Result<StreamBody, Full> {
        streams.join(Bytes::new(), network(number), NEVER, None)
    }

    /// Proves HTTP-2.
    #[test]
    fn no_more_clients_join_than_allowed_and_a_leaving_client_makes_room() {
        let streams = Streams::new(2, 2);
        let first = join(&streams, 1).unwrap();
        let _second = join(&streams, 1).unwrap();
        assert_eq!(join(&streams, 2).err(), Some(Full::All(2)));
        drop(first);
        assert_eq!((streams.open(), streams.refused()), (1, 1));
        assert!(join(&streams, 2).is_ok());
    }

    /// Proves HTTP-6.
    #[test]
    fn an_address_with_many_streams_leaves_some_to_the_others() {
        let streams = Streams::new(4, 2);
        let mut greedy: Vec<_> = (0..2).map(|_| join(&streams, 1).unwrap()).collect();
        assert_eq!(join(&streams, 1).err(), Some(Full::OfAddress(2)));
        let others: Vec<_> = (2..4).map(|number| join(&streams, number).unwrap()).collect();
        drop(others);
        greedy.pop();
        assert!(join(&streams, 1).is_ok(), "it has made room for itself");
        drop(greedy);
        assert!(lock(&streams.open).by_address.is_empty(), "nothing is left behind");
    }

    /// Proves HTTP-2.
    #[test]
    fn a_client_that_reads_nothing_is_dropped_and_the_others_go_on() {
        let streams = Streams::new(2, 2);
        let _lazy = join(&streams, 1).unwrap();
        let mut eager = join(&streams, 1).unwrap();
        for _ in 0..QUEUE_MAX + 1 {
            streams.send(&Bytes::from_static(b"x"), Mono(0));
            while eager.chunks.try_recv().is_ok() {}
        }
        assert_eq!((streams.dropped(), streams.lock().len()), (1, 1));
    }

    #[test]
    fn a_session_that_ends_takes_its_own_streams_with_it() {
        let streams = Streams::new(4, 4);
        let (mine, other) = (Uuid::new_v4(), Uuid::new_v4());
        let bodies = [Some(mine), Some(other), None, Some(mine)]
            .map(|session| streams.join(Bytes::new(), network(1), NEVER, session).unwrap());
        streams.close_session(mine);
        let ended =
            bodies.map(|mut body| body.chunks.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(ended, [true, false, false, true]);
    }

    #[test]
    fn a_stream_whose_time_has_come_says_so_and_ends() {
        let streams = Streams::new(2, 2);
        let mut old = streams.join(Bytes::new(), network(1), Mono(100), None).unwrap();
        let mut young = streams.join(Bytes::new(), network(1), Mono(200), None).unwrap();
        streams.send(&Bytes::from_static(b"x"), Mono(99));
        streams.send(&Bytes::from_static(b"y"), Mono(100));
        assert_eq!(chunks(&mut old), [b"x".as_slice(), b"y", END]);
        assert!(old.chunks.try_recv() == Err(mpsc::error::TryRecvError::Disconnected), "it has ended");
        assert_eq!(chunks(&mut young), ["x", "y"]);
        assert_eq!((streams.dropped(), streams.lock().len()), (0, 1));
    }

    fn chunks(body: &mut StreamBody) -> Vec<Bytes> {
        std::iter::from_fn(|| body.chunks.try_recv().ok()).collect()
    }

    #[test]
    fn a_large_chunk_is_sent_piece_by_piece() {
        let streams = Streams::new(1, 1);
        let mut body = streams.join(Bytes::from_static(b"first"), network(1), NEVER, None).unwrap();
        streams.send(&Bytes::from(vec![b'x'; 3 * PIECE_BYTES + 1]), Mono(0));
        streams.close();
        let mut lengths = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut body).poll_next(&mut context) {
            lengths.push(piece.len());
        }
        assert_eq!(lengths, [5, PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 1]);
    }

    #[test]
    fn a_line_break_in_the_data_does_not_end_the_event() {
        let data = serde_json::value::RawValue::from_string("{\"a\":\r\n1}".to_owned()).unwrap();
        assert_eq!(event("machine", &data), "event: machine\ndata: {\"a\":  1}\n\n");
    }
}
