//! `/livez` and `/readyz`: both judge by progress, not by existence, and give a reason for each check.
//!
//! The judgement is pure ([`live`], [`ready`]); the handlers gather the facts.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::HttpState;
use super::problem::{self, Problem};
use super::stall::Stage;
use crate::clock::{Mono, mono_now};
use crate::journal::{JournalStats, Space};
use crate::status::{ActorPhase, ActorStatus, BrokerState, BrokerStatus, StoreState, StoreStatus};

/// The supervisor looks at its children several times a second; when it has not for this long it does not work.
const SUPERVISOR_SILENT_MAX: Duration = Duration::from_secs(10);
/// How long nothing may move while records are pending.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(30);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found, in words for a person.
    pub reason: String,
}

/// The answer of a health check; 200 if every check is ok, else 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// `ok` or `failing`.
    pub status: &'static str,
    /// Every check.
    pub checks: Vec<Check>,
}

impl Health {
    fn new(checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|check| check.ok);
        Self { status: if ok { "ok" } else { "failing" }, checks }
    }

    /// Whether every check is ok.
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

/// The process can do work.
#[utoipa::path(get, path = "/livez", responses(
    (status = 200, description = "The process can do work", body = Health),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "It cannot: restart it", body = Health),
))]
pub async fn livez(state: web::Data<HttpState>) -> HttpResponse {
    live_now(&state).response()
}

/// Messages come in and are stored.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "Messages come in and are stored", body = Health),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "They do not; the reasons say why", body = Health),
))]
pub async fn readyz(state: web::Data<HttpState>) -> HttpResponse {
    ready_now(&state).response()
}

/// [`live`] of this moment.
pub fn live_now(state: &HttpState) -> Health {
    let supervised_at = state.boards.actors.looked_at();
    live(supervised_at, mono_now(), &state.boards.actors.snapshot(), &state.journal.stats())
}

/// [`ready`] of this moment.
pub fn ready_now(state: &HttpState) -> Health {
    let stats = state.journal.stats();
    let (still_for, stage) = state.stall.look(mono_now(), &stats, &state.boards);
    ready(&Facts {
        broker: &state.boards.broker.snapshot(),
        store: &state.boards.store.snapshot(),
        journal: &stats,
        still_for,
        stage,
    })
}

/// Whether the process can do work.
fn live(supervised_at: Option<Mono>, now: Mono, actors: &[ActorStatus], stats: &JournalStats) -> Health {
    let silent_for = supervised_at.map(|at| Duration::from_micros(now.0.saturating_sub(at.0)));
    let supervisor = match silent_for {
        None => check("supervisor", false, "it has not looked at its actors yet"),
        Some(silent_for) if silent_for > SUPERVISOR_SILENT_MAX => {
            let seconds = silent_for.as_secs();
            check("supervisor", false, format!("it has not looked at its actors for {seconds} s"))
        }
        Some(_) => check("supervisor", true, "it looks at its actors"),
    };
    let pipeline: Vec<_> = actors.iter().filter(|actor| actor.name != "http").collect();
    let running = pipeline.iter().filter(|actor| actor.phase == ActorPhase::Running).count();
    let actors_ok = running > 0 || pipeline.is_empty();
    let actors = check("actors", actors_ok, format!("{running} of {} run", pipeline.len()));
    let journal = match stalled(stats) {
        _ if stats.failed => {
            check("journal", false, "it has failed for good; see the log, mend the disk, start again")
        }
        // To restart the process would not help, and lose time.
        Some(words) => check("journal", true, words),
        None => check("journal", true, "it works"),
    };
    Health::new(vec![supervisor, actors, journal])
}

/// What readiness is judged by.
pub struct Facts<'a> {
    /// The link to the broker.
    pub broker: &'a BrokerStatus,
    /// The database.
    pub store: &'a StoreStatus,
    /// The journal.
    pub journal: &'a JournalStats,
    /// How long nothing has been committed although something was pending all the time.
    pub still_for: Duration,
    /// Who is to move next.
    pub stage: Stage,
}

/// Whether messages come in and are stored.
fn ready(facts: &Facts<'_>) -> Health {
    Health::new(vec![broker(facts.broker), journal(facts.journal), store(facts), progress(facts)])
}

fn broker(broker: &BrokerStatus) -> Check {
    let why = broker.reason.as_deref().unwrap_or("no reason is known yet");
    let reason = match broker.state {
        BrokerState::Connected => format!("connected to {}", broker.uri),
        BrokerState::Connecting => format!("connecting to {}", broker.uri),
        BrokerState::Restricted => format!("connected, but a subscription is refused: {why}"),
        BrokerState::Away => format!("not connected to {}: {why}", broker.uri),
        BrokerState::Holding => format!("not connected on purpose, the broker keeps the messages: {why}"),
    };
    check("mqtt", broker.state == BrokerState::Connected, reason)
}

/// The disk does not answer, in words.
fn stalled(stats: &JournalStats) -> Option<String> {
    let seconds = stats.stalled_for()?.as_secs();
    Some(format!("disk stalled for {seconds} s: it does not answer the journal; messages wait at the broker"))
}

fn journal(stats: &JournalStats) -> Check {
    if stats.failed {
        return check("journal", false, "it has failed for good; see the log");
    }
    if let Some(words) = stalled(stats) {
        return check("journal", false, words);
    }
    match stats.space {
        Space::Free => check("journal", true, "it takes messages"),
        Space::Full(why) => {
            check("journal", false, format!("it is full ({why}) until the database has taken more"))
        }
    }
}

fn pending(stats: &JournalStats) -> u64 {
    stats.positions.appended.since(stats.positions.committed)
}

/// `1 message` with the verb for one, or `2 messages` with that for many.
fn messages(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 message {one}") } else { format!("{count} messages {many}") }
}

fn store(facts: &Facts<'_>) -> Check {
    let pending = pending(facts.journal);
    let waiting = messages(pending, "waits", "wait");
    match facts.store.state {
        StoreState::Works => check("store", true, "it commits"),
        _ if pending == 0 => check("store", true, "nothing is pending"),
        StoreState::Opening => check("store", false, format!("it is being opened, {waiting}")),
        StoreState::Away => {
            let why = facts.store.reason.as_deref().unwrap_or("no reason is known");
            check("store", false, format!("{waiting}: {why}"))
        }
    }
}

fn progress(facts: &Facts<'_>) -> Check {
    let pending = pending(facts.journal);
    if facts.still_for < STANDSTILL_MAX {
        let reason = if pending == 0 {
            "nothing is pending".to_owned()
        } else {
            messages(pending, "is under way", "are under way")
        };
        return check("progress", true, reason);
    }
    let (seconds, stage) = (facts.still_for.as_secs(), facts.stage.as_str());
    check(
        "progress",
        false,
        format!(
            "{} and nothing was stored for {seconds} s: the {stage} stands still",
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
    fn readiness_names_what_is_wrong_and_why() {
        let connected = BrokerStatus {
            state: BrokerState::Connected,
            uri: "tcp://b:1883".to_owned(),
            ..BrokerStatus::default()
        };
        let works = StoreStatus { state: StoreState::Works, ..StoreStatus::default() };
        let away = StoreStatus {
            state: StoreState::Away,
            reason: Some("no route to host".to_owned()),
            ..StoreStatus::default()
        };
        let judge = |broker: &BrokerStatus, store: &StoreStatus, journal: &JournalStats, still: u64| {
            let still_for = Duration::from_secs(still);
            ready(&Facts { broker, store, journal, still_for, stage: Stage::Writer })
        };
        let idle = stats(7, 7);
        assert!(judge(&connected, &works, &idle, 0).is_ok());
        assert!(judge(&connected, &away, &idle, 0).is_ok(), "nothing is pending");
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
            health.checks[3].reason.ends_with("for 30 s: the writer stands still"),
            "{:?}",
            health.checks[3]
        );
    }

    #[test]
    fn a_supervisor_that_looks_no_more_or_a_pipeline_without_actors_is_dead() {
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
        assert!(health.is_ok(), "a restart mends no disk");
        assert!(health.checks[2].reason.starts_with("disk stalled for 90 s"), "{health:?}");
    }
}
