//! `/livez` and `/readyz`. Both judge by progress, and every check states its reason.
//!
//! The checks are pure ([`live`], [`ready`]); the handlers collect their inputs.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::HttpState;
use super::problem;
use super::stall::Stage;
use crate::clock::{Mono, mono_now};
use crate::journal::{JournalStats, Space};
use crate::status::{ActorPhase, ActorStatus, BrokerState, BrokerStatus, StoreState, StoreStatus};

/// The supervisor checks its children several times a second. After this long without a check it counts as dead.
const SUPERVISOR_SILENT_MAX: Duration = Duration::from_secs(10);
/// How long pending records may wait without a commit.
pub const STALL_MAX: Duration = Duration::from_secs(30);

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// True if it passed.
    pub ok: bool,
    /// What was found, for people.
    pub reason: String,
}

/// The result of a health check: 200 if every check passed, else 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// `ok` or `failing`.
    pub status: &'static str,
    /// All checks.
    pub checks: Vec<Check>,
}

impl Health {
    fn new(checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|check| check.ok);
        Self { status: if ok { "ok" } else { "failing" }, checks }
    }

    /// True if every check passed.
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    fn response(&self) -> HttpResponse {
        let status = if self.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        problem::json(status, self)
    }
}

fn check(name: &'static str, ok: bool, reason: impl Into<String>) -> Check {
    Check { name, ok, reason: reason.into() }
}

/// Reports whether the process works.
#[utoipa::path(get, path = "/livez", responses(
    (status = 200, description = "The process works", body = Health),
    (status = 503, description = "It does not: restart it", body = Health),
))]
pub async fn livez(state: web::Data<HttpState>) -> HttpResponse {
    live_now(&state).response()
}

/// Reports whether messages arrive and are stored.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "Messages arrive and are stored", body = Health),
    (status = 503, description = "They do not; each failed check states the reason", body = Health),
))]
pub async fn readyz(state: web::Data<HttpState>) -> HttpResponse {
    ready_now(&state).response()
}

/// Runs the checks of `/livez` now.
pub fn live_now(state: &HttpState) -> Health {
    let supervised_at = state.cells.actors.checked_at();
    live(supervised_at, mono_now(), &state.cells.actors.snapshot(), &state.journal.stats())
}

/// Runs the checks of `/readyz` now.
pub fn ready_now(state: &HttpState) -> Health {
    let stats = state.journal.stats();
    let (stalled_for, stage) = state.stall.observe(mono_now(), &stats, &state.cells);
    ready(&ReadyInputs {
        broker: &state.cells.broker.snapshot(),
        store: &state.cells.store.snapshot(),
        journal: &stats,
        stalled_for,
        stage,
    })
}

/// Judges whether the process works.
fn live(supervised_at: Option<Mono>, now: Mono, actors: &[ActorStatus], stats: &JournalStats) -> Health {
    let silent_for = supervised_at.map(|at| now.since(at));
    let supervisor = match silent_for {
        None => check("supervisor", false, "it has not checked its actors yet"),
        Some(silent_for) if silent_for > SUPERVISOR_SILENT_MAX => {
            let seconds = silent_for.as_secs();
            check("supervisor", false, format!("it has not checked its actors for {seconds} s"))
        }
        Some(_) => check("supervisor", true, "it checks its actors"),
    };
    let pipeline: Vec<_> = actors.iter().filter(|actor| actor.name != "http").collect();
    let running = pipeline.iter().filter(|actor| actor.phase == ActorPhase::Running).count();
    let actors_ok = running > 0 || pipeline.is_empty();
    let actors = check("actors", actors_ok, format!("{running} of {} running", pipeline.len()));
    let journal = match disk_stall(stats) {
        _ if stats.failed => {
            check("journal", false, "it has failed permanently; see the log, repair the disk, restart Andon")
        }
        // A restart does not repair a disk.
        Some(words) => check("journal", true, words),
        None => check("journal", true, "it works"),
    };
    Health::new(vec![supervisor, actors, journal])
}

/// Inputs of the readiness checks.
pub struct ReadyInputs<'a> {
    /// The link to the broker.
    pub broker: &'a BrokerStatus,
    /// The database.
    pub store: &'a StoreStatus,
    /// The journal.
    pub journal: &'a JournalStats,
    /// How long records have been pending without a commit.
    pub stalled_for: Duration,
    /// The stage that has to act next.
    pub stage: Stage,
}

/// Judges whether messages arrive and are stored.
fn ready(inputs: &ReadyInputs<'_>) -> Health {
    Health::new(vec![broker(inputs.broker), journal(inputs.journal), store(inputs), progress(inputs)])
}

fn broker(broker: &BrokerStatus) -> Check {
    let why = broker.reason.as_deref().unwrap_or("reason not known yet");
    let reason = match broker.state {
        BrokerState::Connected => format!("connected to {}", broker.uri),
        BrokerState::Connecting => format!("connecting to {}", broker.uri),
        BrokerState::Restricted => format!("connected, but the broker refuses a subscription: {why}"),
        BrokerState::Away => format!("not connected to {}: {why}", broker.uri),
        BrokerState::Holding => format!("disconnected on purpose, the broker keeps the messages: {why}"),
    };
    check("mqtt", broker.state == BrokerState::Connected, reason)
}

/// Describes a disk that does not respond.
fn disk_stall(stats: &JournalStats) -> Option<String> {
    let seconds = stats.stalled_for()?.as_secs();
    Some(format!(
        "disk stalled for {seconds} s: it does not respond to the journal; messages wait at the broker"
    ))
}

fn journal(stats: &JournalStats) -> Check {
    if stats.failed {
        return check("journal", false, "it has failed permanently; see the log");
    }
    if let Some(words) = disk_stall(stats) {
        return check("journal", false, words);
    }
    match stats.space {
        Space::Free => check("journal", true, "it accepts messages"),
        Space::Full(why) => check(
            "journal",
            false,
            format!("it is full ({why}); it accepts messages again when the database has stored more"),
        ),
    }
}

fn pending(stats: &JournalStats) -> u64 {
    stats.positions.appended.since(stats.positions.committed)
}

/// Returns `1 message` with the verb `one`, or `2 messages` with the verb `many`.
fn messages(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 message {one}") } else { format!("{count} messages {many}") }
}

fn store(inputs: &ReadyInputs<'_>) -> Check {
    let pending = pending(inputs.journal);
    let waiting = match pending {
        0 => "nothing is pending".to_owned(),
        _ => messages(pending, "waits", "wait"),
    };
    match inputs.store.state {
        StoreState::Works => check("store", true, "it commits"),
        // Until it has answered once nobody knows whether it can take what comes.
        _ if pending == 0 && inputs.store.backend.is_some() => check("store", true, "nothing is pending"),
        StoreState::Opening => check("store", false, format!("it is opening, {waiting}")),
        StoreState::Away => {
            let why = inputs.store.reason.as_deref().unwrap_or("reason not known");
            let answered = if inputs.store.backend.is_some() { "" } else { "no answer since the start, " };
            check("store", false, format!("{answered}{waiting}: {why}"))
        }
    }
}

fn progress(inputs: &ReadyInputs<'_>) -> Check {
    let pending = pending(inputs.journal);
    if inputs.stalled_for < STALL_MAX {
        let reason = if pending == 0 {
            "nothing is pending".to_owned()
        } else {
            messages(pending, "is on its way", "are on their way")
        };
        return check("progress", true, reason);
    }
    let (seconds, stage) = (inputs.stalled_for.as_secs(), inputs.stage.as_str());
    check(
        "progress",
        false,
        format!(
            "{} and nothing was stored for {seconds} s: the {stage} is stalled",
            messages(pending, "is pending", "are pending")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seq;
    use crate::journal::{DISK_STALL_MIN, FullReason, Positions};

    fn stats(appended: u64, committed: u64) -> JournalStats {
        let [first, appended, synced, committed] = [1, appended, appended, committed].map(Seq);
        JournalStats {
            positions: Positions { first, appended, synced, committed },
            bytes: 0,
            bytes_max: 1,
            segments: 1,
            unsynced_age: Duration::ZERO,
            oldest_pending: None,
            space: Space::Free,
            dropped_records: 0,
            syncs: 0,
            sync_longest: Duration::ZERO,
            disk_busy_for: Duration::ZERO,
            failed: false,
        }
    }

    fn failing(health: &Health) -> Vec<&'static str> {
        health.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn readiness_names_the_failed_check_and_its_reason() {
        let connected = BrokerStatus {
            state: BrokerState::Connected,
            uri: "tcp://b:1883".to_owned(),
            ..BrokerStatus::default()
        };
        let works = StoreStatus { state: StoreState::Works, ..StoreStatus::default() };
        let away = StoreStatus {
            state: StoreState::Away,
            reason: Some("no route to host".to_owned()),
            backend: Some("postgresql"),
            ..StoreStatus::default()
        };
        let judge = |broker: &BrokerStatus, store: &StoreStatus, journal: &JournalStats, still: u64| {
            let stalled_for = Duration::from_secs(still);
            ready(&ReadyInputs { broker, store, journal, stalled_for, stage: Stage::Writer })
        };
        let idle = stats(7, 7);
        assert!(judge(&connected, &works, &idle, 0).is_ok());
        assert!(judge(&connected, &away, &idle, 0).is_ok(), "nothing is pending");
        let never_answered = StoreStatus { backend: None, ..away.clone() };
        let health = judge(&connected, &never_answered, &idle, 0);
        assert_eq!(failing(&health), ["store"]);
        assert_eq!(
            health.checks[2].reason,
            "no answer since the start, nothing is pending: no route to host"
        );
        assert_eq!(failing(&judge(&connected, &StoreStatus::default(), &idle, 0)), ["store"]);
        let health = judge(&connected, &away, &stats(9, 7), 0);
        assert_eq!(failing(&health), ["store"]);
        assert_eq!(health.checks[2].reason, "2 messages wait: no route to host");
        assert_eq!(messages(1, "waits", "wait"), "1 message waits");
        let lost = BrokerStatus {
            state: BrokerState::Away,
            reason: Some("refused".to_owned()),
            ..connected.clone()
        };
        let health = judge(&lost, &works, &idle, 0);
        assert_eq!((failing(&health), health.status), (vec!["mqtt"], "failing"));
        assert_eq!(health.checks[0].reason, "not connected to tcp://b:1883: refused");
        let full = JournalStats { space: Space::Full(FullReason::MaxBytes), ..stats(9, 7) };
        assert_eq!(failing(&judge(&connected, &works, &full, 0)), ["journal"]);
        let stalled = JournalStats { disk_busy_for: Duration::from_millis(7_900), ..stats(9, 7) };
        let health = judge(&connected, &works, &stalled, 0);
        assert_eq!(failing(&health), ["journal"]);
        assert!(health.checks[1].reason.starts_with("disk stalled for 7 s"), "{health:?}");
        assert!(
            judge(&connected, &works, &JournalStats { disk_busy_for: DISK_STALL_MIN / 2, ..idle }, 0).is_ok()
        );
        assert_eq!(failing(&judge(&connected, &works, &stats(9, 7), 29)), [""; 0]);
        let health = judge(&connected, &works, &stats(9, 7), 30);
        assert_eq!(failing(&health), ["progress"]);
        assert!(
            health.checks[3].reason.ends_with("for 30 s: the writer is stalled"),
            "{:?}",
            health.checks[3]
        );
    }

    #[test]
    fn without_a_supervisor_or_any_pipeline_actor_the_process_is_dead() {
        let actor = |name, phase| ActorStatus { name, phase, generation: 1, restarts: 0, last_exit: None };
        let second = |second: u64| Mono(second * 1_000_000);
        let some = [
            actor("http", ActorPhase::Running),
            actor("mqtt", ActorPhase::Waiting),
            actor("parser", ActorPhase::Running),
        ];
        assert!(live(Some(second(5)), second(15), &some, &stats(7, 7)).is_ok());
        assert_eq!(failing(&live(Some(second(5)), second(16), &some, &stats(7, 7))), ["supervisor"]);
        assert_eq!(failing(&live(None, second(16), &some, &stats(7, 7))), ["supervisor"]);
        assert_eq!(failing(&live(Some(second(5)), second(6), &some[..2], &stats(7, 7))), ["actors"]);
        let failed = JournalStats { failed: true, ..stats(7, 7) };
        assert_eq!(failing(&live(Some(second(5)), second(6), &some, &failed)), ["journal"]);
        let stalled = JournalStats { disk_busy_for: Duration::from_secs(90), ..stats(7, 7) };
        let health = live(Some(second(5)), second(6), &some, &stalled);
        assert!(health.is_ok(), "a restart repairs no disk");
        assert!(health.checks[2].reason.starts_with("disk stalled for 90 s"), "{health:?}");
    }
}
