//! `/api/v1/stream`: what changes, as server-sent events.
//!
//! One pump looks at the snapshots and writes each change once for all clients; it does so only while there are any. A
//! client has a bounded queue: whoever does not keep up is dropped, connects again and reads the lists anew. A client
//! that takes nothing at all is cut off by the system (see `server`).
//!
//! Events: `machine` (a machine object), `event` (a change of status), `status` (the answer of `/api/v1/status`, every two
//! seconds: a client that hears nothing for longer has lost the connection). A client connects first, reads the lists, and
//! then applies what it has heard meanwhile and hears from then on; the first one also gets every machine once.

use std::collections::HashMap;
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
use xxhash_rust::xxh3::xxh3_64;

use super::api::model::{Event, Machine};
use super::api::status::Status;
use super::problem::Problem;
use super::query::Parameters;
use super::{HttpState, machines};
use crate::domain::{BoardStatus, MachineId};

/// Chunks that wait for a client; a chunk is what one look has found.
const QUEUE_MAX: usize = 16;
/// Machines told of at one look, beside those whose status has changed.
const MACHINES_MAX: usize = 1_000;
/// Looks at which an old snapshot is not told of, when nobody had listened for a while.
const LOOKS_PATIENT: u64 = 3;
/// Looks between two `status` events; the server looks twice a second.
const LOOKS_PER_STATUS: u64 = 4;
/// Looks between two comments, which keep proxies from closing an idle connection.
const LOOKS_PER_COMMENT: u64 = 20;

/// The clients.
pub struct Streams {
    clients: Mutex<Vec<mpsc::Sender<Bytes>>>,
    open: Arc<AtomicUsize>,
    /// Most at a time.
    max: usize,
    dropped: AtomicUsize,
}

impl Streams {
    /// No client yet, and never more than `max`.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { clients: Mutex::default(), open: Arc::default(), max, dropped: AtomicUsize::new(0) }
    }

    /// Clients at present.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Clients that were too slow, since the process started.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Ends every stream.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn join(&self, first: Bytes) -> Option<StreamBody> {
        let mut clients = self.lock();
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (sender, chunks) = mpsc::channel(QUEUE_MAX);
        let _has_room = sender.try_send(first);
        clients.push(sender);
        Some(StreamBody { chunks, open: Arc::clone(&self.open) })
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

/// A client's end. Leaves when it is dropped, which is when its connection ends.
struct StreamBody {
    chunks: mpsc::Receiver<Bytes>,
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
        self.get_mut().chunks.poll_recv(context).map(|chunk| chunk.map(Ok))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What changes, live.
#[utoipa::path(get, path = "/api/v1/stream", responses(
    (status = 200, description = "Server-sent events: machine, event, status", body = String, content_type = "text/event-stream"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "There are http.streams_max streams already", body = Problem, content_type = "application/problem+json"),
))]
pub async fn stream(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    Parameters::of(&request)?.finish()?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"));
    // Who asks for the head alone would hold a stream that nobody reads.
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let first = format!("retry: 2000\n\n{}", event("status", &Status::now(&state)));
    let Some(body) = state.streams.join(first.into()) else {
        let detail = format!("there are {} streams already (http.streams_max)", state.streams.max);
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    Ok(response.body(BoxBody::new(body)))
}

/// One server-sent event. A line break may stand between two tokens of a machine's JSON; there it means no more than a space.
fn event(name: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default().replace(['\n', '\r'], " ");
    format!("event: {name}\ndata: {data}\n\n")
}

/// Looks for changes and tells all clients.
pub struct Pump {
    looks: u64,
    /// Looks since there is a client again.
    looks_heard: u64,
    transitions_seen: u64,
    told: HashMap<MachineId, (BoardStatus, u64)>,
    /// Where the next look begins, so that every machine has its turn.
    turn: usize,
}

impl Pump {
    /// Tells of what happens from now on.
    pub fn new(state: &HttpState) -> Self {
        let (_, newest) = state.boards.machines.transitions_after(u64::MAX);
        Self { looks: 0, looks_heard: 0, transitions_seen: newest, told: HashMap::new(), turn: 0 }
    }

    /// One look; does nothing but count while nobody listens.
    pub async fn look(&mut self, state: &HttpState) {
        self.looks += 1;
        let (transitions, newest) = state.boards.machines.transitions_after(self.transitions_seen);
        self.transitions_seen = newest;
        if state.streams.open() == 0 {
            self.told.clear();
            self.looks_heard = 0;
            return;
        }
        self.looks_heard += 1;
        let mut text = String::new();
        transitions.iter().for_each(|each| text.push_str(&event("event", &Event::from(each))));
        self.tell_machines(state, &mut text).await;
        if self.looks.is_multiple_of(LOOKS_PER_STATUS) {
            text.push_str(&event("status", &Status::now(state)));
        }
        if self.looks.is_multiple_of(LOOKS_PER_COMMENT) {
            text.push_str(": still here\n\n");
        }
        if !text.is_empty() {
            state.streams.send(&Bytes::from(text));
        }
    }

    async fn tell_machines(&mut self, state: &HttpState, text: &mut String) {
        let latest = state.latest.get(&state.history).await;
        let snapshot = machines::at_hand(state);
        if self.looks_heard <= LOOKS_PATIENT && !machines::is_fresh(&snapshot) {
            return; // From when somebody listened last; liveness has just been asked for a new one.
        }
        let count = snapshot.machines.len();
        if self.told.len() > count {
            let known: std::collections::HashSet<_> =
                snapshot.machines.iter().map(|view| &view.machine_id).collect();
            self.told.retain(|id, _| known.contains(id));
        }
        let begin = self.turn.min(count);
        let mut written = 0;
        let in_turn = snapshot.machines[begin..].iter().chain(&snapshot.machines[..begin]).enumerate();
        for (index, view) in in_turn {
            let before = self.told.get(&view.machine_id);
            let is_urgent = before.is_none_or(|(status, _)| *status != view.status);
            if written >= MACHINES_MAX && (!is_urgent || before.is_none()) {
                continue;
            }
            let told = event("machine", &Machine::new(view, latest.get(&view.machine_id)));
            let digest = xxh3_64(told.as_bytes());
            if before.is_some_and(|(_, known)| *known == digest) {
                continue;
            }
            self.told.insert(view.machine_id.clone(), (view.status, digest));
            text.push_str(&told);
            written += 1;
            if written == MACHINES_MAX {
                self.turn = (begin + index + 1) % count.max(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_clients_join_than_allowed_and_who_leaves_makes_room() {
        let streams = Streams::new(2);
        let first = streams.join(Bytes::new()).unwrap();
        let _second = streams.join(Bytes::new()).unwrap();
        assert!(streams.join(Bytes::new()).is_none());
        drop(first);
        assert_eq!(streams.open(), 1);
        assert!(streams.join(Bytes::new()).is_some());
    }

    #[test]
    fn a_client_that_takes_nothing_is_dropped_and_the_others_go_on() {
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
    fn a_line_break_in_the_data_does_not_end_the_event() {
        let data = serde_json::value::RawValue::from_string("{\"a\":\r\n1}".to_owned()).unwrap();
        assert_eq!(event("machine", &data), "event: machine\ndata: {\"a\":  1}\n\n");
    }
}
