//! What every request may see.

use std::sync::Arc;

use chrono_tz::Tz;

use super::HistoryPool;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::status::{
    ActorsBoard, BacklogWindow, BrokerBoard, LedgerBoard, MachinesBoard, Progress, StoreBoard,
};

/// The snapshots that the pipeline writes.
#[derive(Clone, Default)]
pub struct Boards {
    /// The supervised actors.
    pub actors: Arc<ActorsBoard>,
    /// The machines.
    pub machines: Arc<MachinesBoard>,
    /// The link to the broker.
    pub broker: Arc<BrokerBoard>,
    /// The database.
    pub store: Arc<StoreBoard>,
    /// The ledger as the database has it.
    pub ledger: Arc<LedgerBoard>,
    /// How fast the journal grows and is emptied.
    pub backlog: Arc<BacklogWindow>,
    /// When each stage last moved.
    pub progress: Arc<Progress>,
}

/// Shared by all requests (`web::Data<HttpState>`), and by all incarnations of the server.
pub struct HttpState {
    /// `site.id`.
    pub site: String,
    /// `site.time_zone`.
    pub time_zone: Tz,
    /// The topic filters that telemetry is expected on.
    pub topics: Vec<String>,
    /// What must be presented; `None`: nothing.
    pub token: Option<String>,
    /// Asks the database, read-only: `state.history.ask(|history| history.latest()).await`.
    pub history: HistoryPool,
    /// The snapshots.
    pub boards: Boards,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// For its positions and figures only.
    pub journal: Journal,
}
