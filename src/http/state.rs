//! What every request may read.

use std::sync::Arc;
use std::time::Instant;

use actix_web::HttpRequest;

use super::caller;
use super::lane::Lane;
use super::{
    Budget, Connections, DataPlace, ForgetDesk, HistoryClient, HistoryPool, HttpSettings, LatestCache,
    Requests, Sessions, Stall, StoredMachines, Streams, Tls, TokenGuard,
};
use crate::audit::AuditTrail;
use crate::clock::ClockKeeper;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::status::{
    ActorsCell, BacklogWindow, BrokerCell, LedgerCell, MachinesCell, Progress, StatusCell, StoreCell,
};
use crate::store::ForgetRequest;

/// The status snapshots that the pipeline writes.
#[derive(Clone, Default)]
pub struct StatusCells {
    /// The supervised actors.
    pub actors: Arc<ActorsCell>,
    /// The machines.
    pub machines: Arc<MachinesCell>,
    /// The link to the broker.
    pub broker: Arc<BrokerCell>,
    /// The database.
    pub store: Arc<StoreCell>,
    /// The ledger in the database.
    pub ledger: Arc<LedgerCell>,
    /// The journal's recent rates.
    pub backlog: Arc<BacklogWindow>,
    /// When each stage last made progress.
    pub progress: Arc<Progress>,
    /// The machines to forget, as the writer finds them in the database. For liveness, not for HTTP.
    pub forget: Arc<StatusCell<Vec<ForgetRequest>>>,
}

/// Shared by all requests (`web::Data<HttpState>`) and by all generations of the server.
pub struct HttpState {
    /// `site.id`.
    pub site: String,
    /// The topic filters of the telemetry subscriptions.
    pub topics: Vec<String>,
    /// What a reload replaces.
    pub settings: StatusCell<HttpSettings>,
    /// Bounds the memory of all responses together.
    pub budget: Budget,
    /// Queries the database, read-only: `state.client(&request).ask(|history| history.machines()).await`.
    pub history: HistoryPool,
    /// The newest reading of every machine, for lists.
    pub latest: LatestCache,
    /// The machines in the database, for the time before liveness has written a snapshot.
    pub stored_machines: StoredMachines,
    /// The status snapshots.
    pub cells: StatusCells,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Only its positions and statistics are read.
    pub journal: Journal,
    /// The trusted time.
    pub clock: Arc<ClockKeeper>,
    /// Detects a stalled pipeline.
    pub stall: Stall,
    /// Stands before every check of a token.
    pub guard: TokenGuard,
    /// The sessions of browsers.
    pub sessions: Sessions,
    /// Counts and times the requests.
    pub requests: Requests,
    /// Records who changed what.
    pub audit: AuditTrail,
    /// Asks the service to forget machines.
    pub forget: ForgetDesk,
    /// The certificate of the listeners that other computers reach; `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// The open connections.
    pub connections: Arc<Connections>,
    /// The event streams.
    pub streams: Streams,
    /// Counts the system calls on connections to the broker, by kind.
    pub socket_calls: fn() -> [(&'static str, u64); 4],
    /// Where Andon writes.
    pub data_places: Vec<DataPlace>,
    /// When the process started.
    pub started: Instant,
}

impl HttpState {
    /// Returns what this request may use of the database and of the memory of responses.
    #[must_use]
    pub fn client(&self, request: &HttpRequest) -> HistoryClient {
        self.history.client(Lane::of(request), Some(caller::network(request)), &self.budget)
    }

    /// Returns the same for what Andon asks once for all clients.
    #[must_use]
    pub fn own_client(&self) -> HistoryClient {
        self.history.client(Lane::Board, None, &self.budget)
    }
}
