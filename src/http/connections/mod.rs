//! The open connections of one listener, shared by its workers: bounds them, and counts requests in flight.
//!
//! The decisions are in [`admission`]. To close a connection, its task is told to end; the socket closes with it.

mod admission;
mod refusals;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use tokio::sync::Notify;

pub use self::admission::ConnectionLimits;
use self::admission::{Admission, ConnectionId, Verdict};
pub(super) use self::refusals::{RefusalChange, Refusals};
use super::network::Network;
use super::read_ahead::Gate;
use crate::clock::mono_now;

/// Bounds the open connections.
pub struct Connections {
    open: Mutex<Admission<Arc<Notify>>>,
    evicted: AtomicU64,
    refused: AtomicU64,
    last_refused: Mutex<Option<Network>>,
}

impl Connections {
    /// Starts without a connection.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            open: Mutex::new(Admission::new(limits)),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_refused: Mutex::new(None),
        }
    }

    /// Replaces `http.connections_per_address`, for new connections.
    pub fn set_each_address(&self, each_address: usize) {
        self.lock().set_each_address(each_address);
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.lock().open()
    }

    /// Returns how many idle connections were closed to make room for others.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Returns how many connections were closed at once, because no other was idle.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns who was refused last.
    #[must_use]
    pub fn last_refused(&self) -> Option<Network> {
        *self.last_refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a client, and tells whoever makes room to end; `None`: there is no room.
    pub(super) fn admit(self: &Arc<Self>, address: Option<Network>) -> Option<Place> {
        let told_to_end = Arc::new(Notify::new());
        let verdict = self.lock().connect(address, Arc::clone(&told_to_end), mono_now());
        match verdict {
            Verdict::Admitted { id, evicted } => {
                if let Some(evicted) = evicted {
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                    evicted.notify_one();
                }
                Some(Place {
                    told_to_end,
                    requests: RequestCounter { connections: Arc::clone(self), id, gate: Gate::default() },
                })
            }
            Verdict::Refused => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                *self.last_refused.lock().unwrap_or_else(PoisonError::into_inner) = address;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Admission<Arc<Notify>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of an open connection. Its task keeps it, and frees it by dropping it.
pub(super) struct Place {
    told_to_end: Arc<Notify>,
    requests: RequestCounter,
}

impl Place {
    /// Completes when the connection must make room for another.
    pub(super) fn told_to_end(&self) -> impl Future<Output = ()> + use<> {
        let told_to_end = Arc::clone(&self.told_to_end);
        async move { told_to_end.notified().await }
    }

    /// Returns what counts this connection's requests.
    pub(super) fn requests(&self) -> RequestCounter {
        self.requests.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let RequestCounter { connections, id, .. } = &self.requests;
        connections.lock().remove(*id);
    }
}

/// Counts the requests of one connection that are in flight. Data of the connection, for [`count_requests`].
#[derive(Clone)]
pub(super) struct RequestCounter {
    connections: Arc<Connections>,
    id: ConnectionId,
    gate: Gate,
}

impl RequestCounter {
    /// Returns what closes while a request is in flight.
    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    fn begin(&self, request: &ServiceRequest) -> RequestInFlight {
        self.connections.lock().begin_request(self.id);
        self.gate.begin(request.method() == Method::POST);
        RequestInFlight(self.clone())
    }
}

/// A request in flight, until dropped.
struct RequestInFlight(RequestCounter);

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.connections.lock().end_request(self.0.id, mono_now());
        self.0.gate.end();
    }
}

/// Middleware: keeps a connection from making room while a request of it is in flight, until its body has been sent.
pub(super) async fn count_requests<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let in_flight = request.request().conn_data::<RequestCounter>().map(|counter| counter.begin(&request));
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| {
        let body = body.boxed();
        // An empty body is sent with the head.
        match body.size() {
            BodySize::None | BodySize::Sized(0) => body,
            _ => BoxBody::new(CountedBody { body, _in_flight: in_flight }),
        }
    }))
}

/// A body whose request is in flight until it is dropped.
struct CountedBody {
    body: BoxBody,
    _in_flight: Option<RequestInFlight>,
}

impl MessageBody for CountedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_pin_mut().poll_next(context)
    }
}
