//! `/api/v1/stream`: changes as server-sent events.
//!
//! Events: `machine` (a machine object), `event` (a change of status), `forgotten` (the id of a machine that is no longer
//! watched), and `status` (the answer of `/api/v1/status`, every
//! two seconds: a client that hears nothing for longer has lost the connection). A client connects first, reads the
//! lists, then applies the events that arrived meanwhile and all later ones. The first client also gets every machine
//! once.
//!
//! [`ChangeFeed`] finds the changes and writes them once, as a chunk that all clients share. Chunks therefore take at most
//! [`QUEUE_MAX`] times [`CHUNK_BYTES_MAX`](change_feed::CHUNK_BYTES_MAX), however many clients there are and however slow.
//! A client that does not keep up is dropped; it connects again and reads the lists anew. The kernel disconnects a client
//! that reads nothing at all (see `server`).

mod change_feed;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use tokio::sync::mpsc;

pub use self::change_feed::ChangeFeed;
use super::HttpState;
use super::api::status::Status;
use super::auth;
use super::body::PIECE_BYTES;
use super::problem::Problem;
use super::query::Parameters;

/// Most chunks that wait for a client.
const QUEUE_MAX: usize = 16;

/// The connected clients.
pub struct Streams {
    clients: Mutex<Vec<mpsc::Sender<Bytes>>>,
    open: Arc<AtomicUsize>,
    /// Most clients at a time.
    max: AtomicUsize,
    dropped: AtomicUsize,
}

impl Streams {
    /// Creates an empty set that admits at most `max` clients.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            clients: Mutex::default(),
            open: Arc::default(),
            max: AtomicUsize::new(max),
            dropped: AtomicUsize::new(0),
        }
    }

    /// Returns the number of clients now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns how many clients were dropped for being too slow, since the process started.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns how many clients may be connected.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Replaces how many clients may be connected. Those that are stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Ends every stream.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn join(&self, first: Bytes) -> Option<StreamBody> {
        let mut clients = self.lock();
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (sender, chunks) = mpsc::channel(QUEUE_MAX);
        clients.push(sender);
        Some(StreamBody { chunks, rest: first, open: Arc::clone(&self.open) })
    }

    fn send(&self, chunk: &Bytes) {
        self.lock().retain(|client| match client.try_send(chunk.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                false
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Bytes>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The response body of one client. Dropping it, when the connection ends, frees the client's place.
struct StreamBody {
    chunks: mpsc::Receiver<Bytes>,
    /// The rest of the current chunk. The connection copies what it gets, so it gets little at a time.
    rest: Bytes,
    open: Arc<AtomicUsize>,
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
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Streams changes live.
#[utoipa::path(get, path = "/api/v1/stream", responses(
    (status = 200, description = "Server-sent events: machine, event, forgotten, status", body = String, content_type = "text/event-stream"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "All http.streams_max streams are in use", body = Problem, content_type = "application/problem+json"),
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
    let Some(body) = state.streams.join(first.into()) else {
        let detail = format!("all {} streams are in use (http.streams_max)", state.streams.max());
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
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

    /// Proves HTTP-2.
    #[test]
    fn no_more_clients_join_than_allowed_and_a_leaving_client_makes_room() {
        let streams = Streams::new(2);
        let first = streams.join(Bytes::new()).unwrap();
        let _second = streams.join(Bytes::new()).unwrap();
        assert!(streams.join(Bytes::new()).is_none());
        drop(first);
        assert_eq!(streams.open(), 1);
        assert!(streams.join(Bytes::new()).is_some());
    }

    /// Proves HTTP-2.
    #[test]
    fn a_client_that_reads_nothing_is_dropped_and_the_others_go_on() {
        let streams = Streams::new(2);
        let _lazy = streams.join(Bytes::new()).unwrap();
        let mut eager = streams.join(Bytes::new()).unwrap();
        for _ in 0..QUEUE_MAX + 1 {
            streams.send(&Bytes::from_static(b"x"));
            while eager.chunks.try_recv().is_ok() {}
        }
        assert_eq!((streams.dropped(), streams.lock().len()), (1, 1));
    }

    #[test]
    fn a_large_chunk_is_sent_piece_by_piece() {
        let streams = Streams::new(1);
        let mut body = streams.join(Bytes::from_static(b"first")).unwrap();
        streams.send(&Bytes::from(vec![b'x'; 3 * PIECE_BYTES + 1]));
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
