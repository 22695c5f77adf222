//! `/api/v1/stream`: what changes, as server-sent events.
//!
//! One pump looks at the snapshots and writes each change once for all clients; it does so only while there are any. What one look
//! finds is a chunk, which all clients share, so that however many there are, and however slow, chunks take up
//! [`QUEUE_MAX`] times [`CHUNK_BYTES_MAX`] at most; what has no room in a chunk is told at the next look. Whoever does not keep
//! up is dropped, connects again and reads the lists anew. A client that takes nothing at all is cut off by the system (see
//! `server`).
//!
//! Events: `machine` (a machine object), `event` (a change of status), `status` (the answer of `/api/v1/status`, every two
//! seconds: a client that hears nothing for longer has lost the connection). A client connects first, reads the lists, and
//! then applies what it has heard meanwhile and hears from then on; the first one also gets every machine once.

use std::collections::{HashMap, HashSet};
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
use super::body::PIECE_BYTES;
use super::machines::Machines;
use super::problem::Problem;
use super::query::Parameters;
use super::{HttpState, LatestReadings, machines};
use crate::domain::{DisplayStatus, MachineId};
use crate::status::MachineView;

/// Chunks that wait for a client; a chunk is what one look has found.
const QUEUE_MAX: usize = 16;
/// Bytes of a chunk, about: when it has as many, nothing is added.
const CHUNK_BYTES_MAX: usize = 512 * 1024;
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

/// A client's end. Leaves when it is dropped, which is when its connection ends.
struct StreamBody {
    chunks: mpsc::Receiver<Bytes>,
    /// What is left of the present chunk: the connection copies what it is given, so that it is given little at a time.
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
#[derive(Default)]
pub struct Pump {
    looks: u64,
    /// Looks since there is a client again.
    looks_heard: u64,
    transitions_seen: u64,
    /// What was told last of each machine: its status, and a digest of all.
    told: HashMap<MachineId, (DisplayStatus, u64)>,
    /// Where the next look begins, so that every machine has its turn.
    turn: usize,
}

impl Pump {
    /// Tells of what happens from now on.
    pub fn new(state: &HttpState) -> Self {
        let (_, newest) = state.boards.machines.transitions_after(u64::MAX);
        Self { transitions_seen: newest, ..Self::default() }
    }

    /// One look; does nothing but count while nobody listens.
    pub async fn look(&mut self, state: &HttpState) {
        self.looks += 1;
        let (transitions, newest) = state.boards.machines.transitions_after(self.transitions_seen);
        if state.streams.open() == 0 {
            self.transitions_seen = newest;
            self.told.clear();
            self.looks_heard = 0;
            return;
        }
        self.looks_heard += 1;
        let mut text = String::new();
        let mut untold = transitions.len() as u64;
        for transition in &transitions {
            if text.len() >= CHUNK_BYTES_MAX / 2 {
                break;
            }
            text.push_str(&event("event", &Event::from(transition)));
            untold -= 1;
        }
        self.transitions_seen = newest - untold;
        let latest = state.latest.get(&state.history).await;
        let machines = machines::at_hand(state);
        // Not those from when somebody listened last; liveness has just been asked for new ones.
        if self.looks_heard > LOOKS_PATIENT || machines.is_fresh() {
            self.tell_machines(&machines, &latest, &mut text);
        }
        if self.looks.is_multiple_of(LOOKS_PER_STATUS) {
            text.push_str(&event("status", &Status::now(state)));
        }
        if self.looks.is_multiple_of(LOOKS_PER_COMMENT) {
            text.push_str(": still here\n\n");
        }
        if !text.is_empty() {
            // It may be held for a while: without what it has grown by in vain.
            state.streams.send(&Bytes::from(text.into_boxed_str().into_boxed_bytes()));
        }
    }

    /// Tells of those that have news, until the chunk is full.
    fn tell_machines(&mut self, machines: &Machines, latest: &LatestReadings, text: &mut String) {
        self.forget_others(machines);
        let views = machines.views();
        // Whose status has changed comes first, the others one after the other.
        for view in views {
            let status = machines.status(view);
            if self.told.get(&view.machine_id).is_some_and(|(told, _)| *told != status) {
                self.tell(view, status, latest, text);
            }
            if text.len() >= CHUNK_BYTES_MAX {
                return;
            }
        }
        let begin = self.turn.min(views.len());
        for index in (begin..views.len()).chain(0..begin) {
            if text.len() >= CHUNK_BYTES_MAX {
                self.turn = index;
                return;
            }
            self.tell(&views[index], machines.status(&views[index]), latest, text);
        }
    }

    /// Tells of a machine, unless the same was told last.
    fn tell(
        &mut self,
        view: &MachineView,
        status: DisplayStatus,
        latest: &LatestReadings,
        text: &mut String,
    ) {
        let news = event("machine", &Machine::new(view, status, latest.get(&view.machine_id)));
        let told = (status, xxh3_64(news.as_bytes()));
        if self.told.get(&view.machine_id) != Some(&told) {
            self.told.insert(view.machine_id.clone(), told);
            text.push_str(&news);
        }
    }

    fn forget_others(&mut self, machines: &Machines) {
        if self.told.len() > machines.views().len() {
            let known: HashSet<_> = machines.views().iter().map(|view| &view.machine_id).collect();
            self.told.retain(|id, _| known.contains(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::mono_now;
    use crate::status::MachinesSnapshot;
    use crate::store::LatestReading;

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
    fn a_large_chunk_is_given_to_the_connection_piece_by_piece() {
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

    const MANY: usize = 5_000;

    fn fleet(status: impl Fn(usize) -> DisplayStatus) -> Machines {
        let view = |number: usize| MachineView {
            machine_id: MachineId::parse(&format!("robot-{number:05}")).unwrap(),
            status: status(number),
            status_since: None,
            reason: None,
            first_seen_at: None,
            last_seen_at: None,
            offline_after: std::time::Duration::from_secs(15),
            flapping: false,
            refused: false,
        };
        let machines = (0..MANY).map(view).collect();
        Machines::of(Arc::new(MachinesSnapshot { at: mono_now(), sighted: true, machines }))
    }

    /// Of each machine a newest reading with an `extra` of a kilobyte.
    fn readings(machines: &Machines) -> LatestReadings {
        let reading = LatestReading {
            recorded_at: crate::domain::Timestamp::from_micros(7),
            temperature: None,
            humidity: None,
            vibration: None,
            extra: Some(format!("{{\"x\":\"{}\"}}", "y".repeat(1_000))),
        };
        Arc::new(machines.views().iter().map(|view| (view.machine_id.clone(), reading.clone())).collect())
    }

    /// The machines that a look tells of, in their order.
    fn told(pump: &mut Pump, machines: &Machines, latest: &LatestReadings) -> Vec<(String, String)> {
        let mut text = String::new();
        pump.tell_machines(machines, latest, &mut text);
        assert!(text.len() < CHUNK_BYTES_MAX + 2_000, "{} bytes", text.len());
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let told = data.map(|data| serde_json::from_str::<serde_json::Value>(data).unwrap());
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        told.map(|machine| (word(&machine["machine_id"]), word(&machine["status"]))).collect()
    }

    #[test]
    fn a_look_tells_of_as_many_machines_as_a_chunk_has_room_for_and_the_next_ones_of_the_others() {
        let online = fleet(|_| DisplayStatus::Online);
        let latest = readings(&online);
        let mut pump = Pump::default();
        let mut all = Vec::new();
        for look in 0.. {
            let some = told(&mut pump, &online, &latest);
            if some.is_empty() {
                break;
            }
            assert!(look < 20, "each machine is told of once");
            all.extend(some.into_iter().map(|(id, _)| id));
        }
        let ids: Vec<_> = online.views().iter().map(|view| view.machine_id.to_string()).collect();
        assert_eq!(all, ids);

        // Somebody else is offline, and everybody has a new reading: who has changed the status comes first.
        let changed =
            fleet(|number| if number == MANY - 1 { DisplayStatus::Offline } else { DisplayStatus::Online });
        let newer = latest
            .iter()
            .map(|(id, reading)| (id.clone(), LatestReading { temperature: Some(1.0), ..reading.clone() }));
        let newer = Arc::new(newer.collect());
        let some = told(&mut pump, &changed, &newer);
        assert_eq!(some[0], (format!("robot-{:05}", MANY - 1), "offline".to_owned()));
        assert!((2..MANY).contains(&some.len()));

        // All at once: told of all the same, a chunk at a time.
        let unknown = fleet(|_| DisplayStatus::Unknown);
        let mut known = HashSet::new();
        for _ in 0..20 {
            known.extend(told(&mut pump, &unknown, &newer));
        }
        assert_eq!(known.len(), MANY);
        assert!(known.iter().all(|(_, status)| status == "unknown"));
    }

    #[test]
    fn a_line_break_in_the_data_does_not_end_the_event() {
        let data = serde_json::value::RawValue::from_string("{\"a\":\r\n1}".to_owned()).unwrap();
        assert_eq!(event("machine", &data), "event: machine\ndata: {\"a\":  1}\n\n");
    }
}
