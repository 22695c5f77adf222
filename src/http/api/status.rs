//! `/api/v1/status`: Andon's own state.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::{mono_now, wall_now};
use crate::domain::{DisplayStatus, Timestamp};
use crate::http::HttpState;
use crate::http::health::{Check, live_now, ready_now};
use crate::http::problem::{self, Problem};
use crate::http::query::Parameters;
use crate::journal::Space;
use crate::status::{Room, TimeToFull};

/// Andon's own state.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// The site's name.
    pub site: String,
    /// The site's time zone.
    pub time_zone: &'static str,
    /// Andon's version.
    pub version: &'static str,
    /// Andon's clock.
    #[schema(format = DateTime)]
    pub now: String,
    /// The clock that decides the age of rows.
    pub clock: Clock,
    /// How long the process has been running.
    pub uptime_seconds: u64,
    /// Results of `/livez` and `/readyz`.
    pub health: HealthStatus,
    /// The connection to the broker.
    pub broker: Broker,
    /// The journal.
    pub journal: JournalStatus,
    /// The database.
    pub store: Store,
    /// The supervised actors.
    pub actors: Vec<Actor>,
    /// The place of every message.
    pub ledger: Ledger,
    /// Machines by status.
    pub machines: MachineCounts,
}

/// The clock that decides the age of rows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Clock {
    /// The trusted time.
    #[schema(format = DateTime)]
    pub trusted: String,
    /// How far the wall clock is ahead of it (negative: behind) while the wall clock is not trusted; else null.
    pub step_seconds: Option<i64>,
    /// True if the wall clock was never set: it shows a time before 2025.
    pub unset: bool,
    /// True if the kernel reports the wall clock as synchronised.
    pub synchronised: bool,
}

/// Results of the health checks.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthStatus {
    /// `/livez`.
    pub live: bool,
    /// `/readyz`.
    pub ready: bool,
    /// The checks of `/readyz`.
    pub checks: Vec<Check>,
}

/// The connection to the broker.
#[derive(Debug, Serialize, ToSchema)]
pub struct Broker {
    /// `connecting`, `connected`, `restricted` (a subscription is refused), `away` or `holding` (the journal is full).
    pub state: &'static str,
    /// Start of this state.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// Why it is not connected.
    pub reason: Option<String>,
    /// The broker's address.
    pub uri: String,
    /// Client id of Andon's session.
    pub client_id: String,
    /// `5` or `3.1.1`.
    pub protocol: Option<&'static str>,
    /// True if the broker had kept Andon's session.
    pub session_present: Option<bool>,
    /// Connections since the process started.
    pub connects: u64,
}

/// The journal.
#[derive(Debug, Serialize, ToSchema)]
pub struct JournalStatus {
    /// Identifies the journal in the database.
    pub journal_id: String,
    /// `accepting`, `stalled` (the disk does not respond), `full` or `failed`.
    pub state: &'static str,
    /// Why it is full: `bound` (`journal.max_bytes`) or `disk_full`.
    pub reason: Option<String>,
    /// Seq of the newest message.
    pub appended_seq: u64,
    /// Seq of the newest message synced to the disk.
    pub synced_seq: u64,
    /// Seq of the newest message in the database.
    pub committed_seq: u64,
    /// Messages that are not in the database yet.
    pub pending: u64,
    /// Size of the journal.
    pub bytes: u64,
    /// `journal.max_bytes`.
    pub bytes_max: u64,
    /// How long the disk has not responded to the journal; null if it does.
    pub stalled_seconds: Option<u64>,
    /// How long the oldest unsynced message has been waiting for the disk.
    pub unsynced_age_seconds: f64,
    /// When the oldest pending message was received, to the second.
    #[schema(format = DateTime)]
    pub oldest_pending_at: Option<String>,
    /// How long ago that was; 0 if nothing is pending.
    pub oldest_pending_age_seconds: f64,
    /// Time until it is full at the rates of the last minutes; null if never, or not known yet.
    pub time_to_full_seconds: Option<u64>,
    /// Messages dropped by `journal.when_full = "drop_oldest"` since the process started.
    pub dropped: u64,
}

/// The database.
#[derive(Debug, Serialize, ToSchema)]
pub struct Store {
    /// `opening`, `works` or `away`.
    pub state: &'static str,
    /// Start of this state.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// Why it does not work.
    pub reason: Option<String>,
    /// `sqlite` or `postgresql`.
    pub backend: Option<&'static str>,
    /// Its version.
    pub version: Option<String>,
    /// Its address, without credentials.
    pub target: String,
}

/// A supervised actor.
#[derive(Debug, Serialize, ToSchema)]
pub struct Actor {
    /// The actor's name.
    pub name: &'static str,
    /// `running`, `waiting` (for its restart), `stopping` or `stopped`.
    pub state: &'static str,
    /// Generation, from 1.
    pub generation: u64,
    /// Restarts since the process started.
    pub restarts: u64,
    /// Why the previous generation ended.
    pub last_exit: Option<String>,
}

/// The place of every message. In messages `journaled = committed + pending` (+ gaps); in elements
/// `elements = stored + duplicate + rejected + control`. Values from the database are null until it was reached once.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ledger {
    /// Seq of the newest message.
    pub journaled: u64,
    /// Messages in the database.
    pub committed: Option<u64>,
    /// Messages in the journal that are not in the database yet.
    pub pending: u64,
    /// Elements of the committed messages.
    pub elements: Option<u64>,
    /// Elements that became rows.
    pub stored: Option<u64>,
    /// Elements that were stored already.
    pub duplicate: Option<u64>,
    /// Elements kept in `rejected_message`.
    pub rejected: Option<u64>,
    /// Elements that carry no reading, such as last wills.
    pub control: Option<u64>,
}

/// Machines by status.
#[derive(Debug, Serialize, ToSchema)]
pub struct MachineCounts {
    /// They send messages.
    pub online: u64,
    /// They are silent.
    pub offline: u64,
    /// Andon cannot tell at present.
    pub unknown: u64,
    /// Expected, but never heard from.
    pub never_seen: u64,
}

/// Returns the state of broker, journal, store, actors and ledger. Never waits for any of them.
#[utoipa::path(get, path = "/api/v1/status", responses(
    (status = 200, description = "Andon's own state", body = Status),
))]
pub async fn status(request: HttpRequest, state: web::Data<HttpState>) -> Result<HttpResponse, Problem> {
    Parameters::of(&request)?.finish()?;
    Ok(problem::json(StatusCode::OK, &Status::now(&state)))
}

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

impl Status {
    /// Reads the current state.
    pub fn now(state: &HttpState) -> Self {
        let ready = ready_now(state);
        let health =
            HealthStatus { live: live_now(state).is_ok(), ready: ready.is_ok(), checks: ready.checks };
        let machines = |status| state.metrics.machines.of(status).get();
        Self {
            site: state.site.clone(),
            time_zone: state.time_zone().name(),
            version: env!("CARGO_PKG_VERSION"),
            now: wall_now().to_string(),
            clock: Clock::now(state),
            uptime_seconds: state.started.elapsed().as_secs(),
            health,
            broker: Broker::now(state),
            journal: JournalStatus::now(state),
            store: Store::now(state),
            actors: actors(state),
            ledger: Ledger::now(state),
            machines: MachineCounts {
                online: machines(DisplayStatus::Online),
                offline: machines(DisplayStatus::Offline),
                unknown: machines(DisplayStatus::Unknown),
                never_seen: machines(DisplayStatus::NeverSeen),
            },
        }
    }
}

impl Clock {
    fn now(state: &HttpState) -> Self {
        let clock = state.clock.status();
        Self {
            trusted: clock.trusted.to_string(),
            step_seconds: clock.step.map(|micros| micros / 1_000_000),
            unset: clock.is_unset,
            synchronised: clock.synchronised,
        }
    }
}

impl Broker {
    fn now(state: &HttpState) -> Self {
        let broker = state.cells.broker.snapshot();
        Self {
            state: broker.state.as_str(),
            since: text(broker.since),
            reason: broker.reason.clone(),
            uri: broker.uri.clone(),
            client_id: broker.client_id.clone(),
            protocol: broker.protocol,
            session_present: broker.session_present,
            connects: broker.connects,
        }
    }
}

impl JournalStatus {
    /// Reads the current state.
    pub fn now(state: &HttpState) -> Self {
        let stats = state.journal.stats();
        let positions = stats.positions;
        let age = stats.oldest_pending.map_or(0.0, |at| wall_now().since(at).as_secs_f64());
        Self {
            journal_id: state.journal.id().to_string(),
            state: match stats.space {
                _ if stats.failed => "failed",
                _ if stats.stalled_for().is_some() => "stalled",
                Space::Free => "accepting",
                Space::Full(_) => "full",
            },
            reason: match stats.space {
                Space::Full(why) => Some(why.to_string()),
                Space::Free => None,
            },
            appended_seq: positions.appended.0,
            synced_seq: positions.synced.0,
            committed_seq: positions.committed.0,
            pending: positions.appended.since(positions.committed),
            bytes: stats.bytes,
            bytes_max: stats.bytes_max,
            stalled_seconds: stats.stalled_for().map(|time| time.as_secs()),
            unsynced_age_seconds: stats.unsynced_age.as_secs_f64(),
            oldest_pending_at: text(stats.oldest_pending),
            oldest_pending_age_seconds: age,
            time_to_full_seconds: time_to_full(state).seconds(),
            dropped: stats.dropped_records,
        }
    }
}

/// Forecasts when the journal will be full.
pub fn time_to_full(state: &HttpState) -> TimeToFull {
    let stats = state.journal.stats();
    let positions = stats.positions;
    let window = &state.cells.backlog;
    window.note(mono_now(), positions.appended, positions.committed);
    let records = positions.appended.next().since(positions.first);
    let is_full = stats.space != Space::Free;
    TimeToFull::forecast(Room::new(is_full, stats.bytes, stats.bytes_max, records), window.pace())
}

impl Store {
    fn now(state: &HttpState) -> Self {
        let store = state.cells.store.snapshot();
        Self {
            state: store.state.as_str(),
            since: text(store.since),
            reason: store.reason.clone(),
            backend: store.backend,
            version: store.version.clone(),
            target: store.target.clone(),
        }
    }
}

fn actors(state: &HttpState) -> Vec<Actor> {
    let actors = state.cells.actors.snapshot().into_iter();
    let actors = actors.map(|actor| Actor {
        name: actor.name,
        state: actor.phase.as_str(),
        generation: actor.generation,
        restarts: actor.restarts,
        last_exit: actor.last_exit,
    });
    actors.collect()
}

impl Ledger {
    /// Reads the current ledger. Reads the database's part first, so that messages journaled meanwhile count as pending.
    pub fn now(state: &HttpState) -> Self {
        let ledger = state.cells.ledger.snapshot();
        let positions = state.journal.positions();
        let committed_seq = ledger.map_or(positions.committed, |ledger| ledger.committed_seq);
        Self {
            journaled: positions.appended.0,
            committed: ledger.map(|ledger| ledger.messages),
            pending: positions.appended.since(committed_seq),
            elements: ledger.map(|ledger| ledger.elements()),
            stored: ledger.map(|ledger| ledger.stored),
            duplicate: ledger.map(|ledger| ledger.duplicate),
            rejected: ledger.map(|ledger| ledger.rejected),
            control: ledger.map(|ledger| ledger.control),
        }
    }
}
