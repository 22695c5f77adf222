//! The machines as requests see them: the newest snapshot, and whether it is recent enough to trust.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::HttpState;
use crate::clock::{Mono, mono_now};
use crate::domain::{DisplayStatus, MachineId};
use crate::status::{MachineView, MachinesSnapshot};

/// A snapshot up to this age is used without waiting for a newer one.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// How long a request waits for a new snapshot when liveness had paused writing them.
const WAIT_MAX: Duration = Duration::from_millis(1_500);
const WAIT_STEP: Duration = Duration::from_millis(20);
/// A snapshot older than this is not trusted: liveness has ended or is far behind.
const TRUSTED_FOR: Duration = Duration::from_secs(30);

/// The machines at one moment. Shares the snapshot; no request copies a hundred thousand machines.
pub struct Machines {
    snapshot: Arc<MachinesSnapshot>,
    is_trusted: bool,
}

impl Machines {
    /// Wraps a snapshot and trusts it if it is recent enough.
    pub fn of(snapshot: Arc<MachinesSnapshot>) -> Self {
        let is_trusted = age(&snapshot) <= TRUSTED_FOR;
        Self { snapshot, is_trusted }
    }

    /// Returns the machines in order of their ids. [`Machines::status`] has their current status.
    pub fn views(&self) -> &[MachineView] {
        &self.snapshot.machines
    }

    /// Returns the machines whose ids come after the bytes `id`.
    pub fn after(&self, id: &[u8]) -> &[MachineView] {
        let views = self.views();
        &views[views.partition_point(|view| view.machine_id.as_str().as_bytes() <= id)..]
    }

    /// Returns the status of `view`, one of these machines.
    pub fn status(&self, view: &MachineView) -> DisplayStatus {
        if self.is_trusted { view.status } else { DisplayStatus::Unknown }
    }

    /// Returns the machine, if it is watched.
    pub fn find(&self, machine_id: &MachineId) -> Option<MachineView> {
        let view = self.snapshot.find(machine_id)?;
        Some(MachineView { status: self.status(view), ..view.clone() })
    }

    /// True if liveness wrote the snapshot just now.
    pub fn is_fresh(&self) -> bool {
        age(&self.snapshot) <= FRESH_FOR
    }
}

/// Returns the machines now. Waits briefly for a new snapshot if the last one is old.
pub async fn current(state: &HttpState) -> Machines {
    let cell = &state.cells.machines;
    let mut snapshot = cell.snapshot();
    let mut waited = Duration::ZERO;
    while age(&snapshot) > FRESH_FOR && waited < WAIT_MAX {
        actix_rt::time::sleep(WAIT_STEP).await;
        waited += WAIT_STEP;
        snapshot = cell.snapshot();
    }
    if age(&snapshot) > TRUSTED_FOR && snapshot.machines.is_empty() {
        return Machines { snapshot: state.stored_machines.get(state).await, is_trusted: false };
    }
    Machines::of(snapshot)
}

/// Returns the machines of the last snapshot without waiting.
pub fn last_known(state: &HttpState) -> Machines {
    Machines::of(state.cells.machines.snapshot())
}

/// True if the machine is in the last snapshot, however old it is. Says nothing about its status.
pub fn was_watched(state: &HttpState, machine_id: &MachineId) -> bool {
    state.cells.machines.snapshot().find(machine_id).is_some()
}

fn age(snapshot: &MachinesSnapshot) -> Duration {
    // 0 marks a cell that was never written.
    if snapshot.at == Mono::default() && snapshot.machines.is_empty() {
        return Duration::MAX;
    }
    mono_now().since(snapshot.at)
}

/// The machines in the database, for the time before liveness has written its first snapshot. One query serves all
/// waiting requests.
#[derive(Default)]
pub struct StoredMachines {
    newest: Mutex<Option<(Instant, Arc<MachinesSnapshot>)>>,
}

impl StoredMachines {
    async fn get(&self, state: &HttpState) -> Arc<MachinesSnapshot> {
        let mut newest = self.newest.lock().await;
        match &*newest {
            Some((asked_at, snapshot)) if asked_at.elapsed() < FRESH_FOR => Arc::clone(snapshot),
            _ => {
                let snapshot = Arc::new(from_database(state).await);
                *newest = Some((Instant::now(), Arc::clone(&snapshot)));
                snapshot
            }
        }
    }
}

async fn from_database(state: &HttpState) -> MachinesSnapshot {
    let rows = state.own_client().ask(|history| history.machines()).await.unwrap_or_default();
    let offline_after = state.settings().offline_after;
    let views = rows.into_iter().map(|row| MachineView {
        machine_id: row.machine_id,
        status: DisplayStatus::Unknown,
        status_since: row.status_since,
        reason: row.reason,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
        offline_after,
        flapping: false,
        refused: false,
    });
    let mut machines: Vec<MachineView> = views.collect();
    // The database may sort by the collation of a language.
    machines.sort_unstable_by(|a, b| a.machine_id.cmp(&b.machine_id));
    MachinesSnapshot { at: Mono::default(), sighted: false, machines }
}
