//! What every request may see.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono_tz::Tz;

use super::{Access, Budget, HistoryPool, LatestCache, RememberedMachines, Stall, Streams};
use crate::clock::ClockKeeper;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::status::{ActorsCell, BacklogWindow, BrokerCell, LedgerCell, MachinesCell, Progress, StoreCell};

/// The snapshots that the pipeline writes.
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
    /// The ledger as the database has it.
    pub ledger: Arc<LedgerCell>,
    /// How the backlog develops.
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
    /// `liveness.offline_after`, for machines that only the database remembers.
    pub offline_after: Duration,
    /// `metrics.per_machine`.
    pub metrics_per_machine: bool,
    /// Who may ask.
    pub access: Access,
    /// What answers may hold in memory, all together.
    pub budget: Budget,
    /// Asks the database, read-only: `state.history.ask(|history| history.machines()).await`.
    pub history: HistoryPool,
    /// The newest reading of every machine, for lists.
    pub latest: LatestCache,
    /// The machines as the database has them, for when liveness has not spoken yet.
    pub remembered: RememberedMachines,
    /// The snapshots.
    pub boards: StatusCells,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// For its positions and figures only.
    pub journal: Journal,
    /// The trusted time.
    pub clock: Arc<ClockKeeper>,
    /// Since when nothing has moved.
    pub stall: Stall,
    /// The event streams.
    pub streams: Streams,
    /// When the process started.
    pub started: Instant,
}
