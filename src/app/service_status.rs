//! What the service manager hears of the running service: phase, progress, and a status line.

use std::sync::Arc;

use crate::domain::DisplayStatus;
use crate::http::HttpState;
use crate::http::health::{Check, ready_now};
use crate::journal::DISK_STALL_MIN;
use crate::service_manager::{Beat, Phase, Snapshot};
use crate::shutdown::StopDeadline;
use crate::status::ActorPhase;

/// Returns what looks at the service: reads atomics and briefly locked snapshots, and waits for nothing.
pub(super) fn watch(state: Arc<HttpState>, deadline: StopDeadline) -> impl Fn() -> Snapshot + Send + 'static {
    move || {
        let phase = match (deadline.is_armed(), state.cells.actors.have_all_answered()) {
            (true, _) => Phase::Stopping,
            (false, true) => Phase::Running,
            (false, false) => Phase::Starting,
        };
        let failing: Vec<Check> = ready_now(&state).checks.into_iter().filter(|check| !check.ok).collect();
        let names: Vec<&str> = failing.iter().map(|check| check.name).collect();
        Snapshot {
            phase,
            beat: beat(&state),
            state: format!("{phase:?} {}", names.join(" ")),
            line: format!("{}; {}", words(phase, &failing), figures(&state)),
        }
    }
}

fn beat(state: &HttpState) -> Beat {
    let actors = &state.cells.actors;
    let runs = |phase| matches!(phase, ActorPhase::Running);
    let is_waited_for = actors.snapshot().iter().all(|actor| !runs(actor.phase));
    Beat {
        checked: actors.checked_at().map_or(0, |at| at.0),
        answered: actors.heartbeats_answered(),
        is_excused: is_waited_for || state.journal.disk_busy_for() >= DISK_STALL_MIN,
    }
}

/// Says what does not work and why, or that everything does.
fn words(phase: Phase, failing: &[Check]) -> String {
    match phase {
        Phase::Starting => return "starting".to_owned(),
        Phase::Stopping => return "stopping: storing what is pending".to_owned(),
        Phase::Running => {}
    }
    if failing.is_empty() {
        return "receiving and storing".to_owned();
    }
    let reasons: Vec<String> =
        failing.iter().map(|check| format!("{}: {}", check.name, check.reason)).collect();
    reasons.join("; ")
}

fn figures(state: &HttpState) -> String {
    let positions = state.journal.positions();
    let pending = positions.appended.since(positions.committed);
    let machines = |status| state.metrics.machines.of(status).get();
    let (online, offline) = (machines(DisplayStatus::Online), machines(DisplayStatus::Offline));
    let stored = state.cells.ledger.snapshot().map(|ledger| format!("{} readings stored, ", ledger.stored));
    format!(
        "{online} machines online, {offline} offline; {}{pending} messages pending",
        stored.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_first_what_does_not_work() {
        let away =
            Check { name: "mqtt", ok: false, reason: "not connected to tcp://b:1883: refused".to_owned() };
        let full = Check { name: "journal", ok: false, reason: "it is full".to_owned() };
        assert_eq!(words(Phase::Running, &[]), "receiving and storing");
        assert_eq!(
            words(Phase::Running, &[away.clone(), full]),
            "mqtt: not connected to tcp://b:1883: refused; journal: it is full"
        );
        assert_eq!(words(Phase::Starting, std::slice::from_ref(&away)), "starting");
        assert_eq!(words(Phase::Stopping, &[away]), "stopping: storing what is pending");
    }
}
