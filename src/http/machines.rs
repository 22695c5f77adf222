//! The machines as requests see them: the newest snapshot, if it is fresh enough to be believed.

use std::sync::Arc;
use std::time::Duration;

use super::HttpState;
use crate::clock::{Mono, mono_now};
use crate::domain::{BoardStatus, MachineId};
use crate::status::{MachineView, MachinesSnapshot};

/// A snapshot of this age is shown without waiting for a newer one.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// How long a newer one is waited for, when nobody had asked for a while.
const WAIT_MAX: Duration = Duration::from_millis(1_500);
const WAIT_STEP: Duration = Duration::from_millis(20);
/// Of a snapshot older than this nothing is certain: who writes them has ended, or is far behind.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// The machines now.
pub async fn current(state: &HttpState) -> Arc<MachinesSnapshot> {
    let board = &state.boards.machines;
    let mut snapshot = board.snapshot();
    let mut waited = Duration::ZERO;
    while age(&snapshot) > FRESH_FOR && waited < WAIT_MAX {
        actix_rt::time::sleep(WAIT_STEP).await;
        waited += WAIT_STEP;
        snapshot = board.snapshot();
    }
    if age(&snapshot) > BELIEVED_FOR && snapshot.machines.is_empty() {
        let machines = from_database(state).await;
        return Arc::new(MachinesSnapshot { at: snapshot.at, sighted: false, machines });
    }
    believed(snapshot)
}

/// The machines as far as they are known without waiting for anybody.
pub fn at_hand(state: &HttpState) -> Arc<MachinesSnapshot> {
    believed(state.boards.machines.snapshot())
}

/// Whether that machine was watched when the newest snapshot was made, however old that is: of a status there is no question.
pub fn was_watched(state: &HttpState, machine_id: &MachineId) -> bool {
    state.boards.machines.snapshot().find(machine_id).is_some()
}

fn believed(snapshot: Arc<MachinesSnapshot>) -> Arc<MachinesSnapshot> {
    if age(&snapshot) <= BELIEVED_FOR {
        return snapshot;
    }
    let machines = snapshot.machines.iter().cloned();
    let machines = machines.map(|machine| MachineView { status: BoardStatus::Unknown, ..machine });
    Arc::new(MachinesSnapshot { at: snapshot.at, sighted: false, machines: machines.collect() })
}

/// Whether liveness wrote it just now, or nobody had asked it to for a while.
pub fn is_fresh(snapshot: &MachinesSnapshot) -> bool {
    age(snapshot) <= FRESH_FOR
}

fn age(snapshot: &MachinesSnapshot) -> Duration {
    // 0 is the moment of a board that was never written.
    if snapshot.at == Mono::default() && snapshot.machines.is_empty() {
        return Duration::MAX;
    }
    Duration::from_micros(mono_now().0.saturating_sub(snapshot.at.0))
}

/// What the database remembers, for when liveness has never spoken in this process's life.
async fn from_database(state: &HttpState) -> Vec<MachineView> {
    let rows = state.history.ask(|history| history.machines()).await.unwrap_or_default();
    let offline_after = state.offline_after;
    let views = rows.into_iter().map(|row| MachineView {
        machine_id: row.machine_id,
        status: BoardStatus::Unknown,
        status_since: row.status_since,
        reason: None,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
        offline_after,
        flapping: false,
    });
    let mut views: Vec<MachineView> = views.collect();
    // The database may sort by the rules of some language.
    views.sort_unstable_by(|a, b| a.machine_id.cmp(&b.machine_id));
    views
}
