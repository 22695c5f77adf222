//! The machines as requests see them: the newest snapshot, and whether it may be believed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::HttpState;
use crate::clock::{Mono, mono_now};
use crate::domain::{DisplayStatus, MachineId};
use crate::status::{MachineView, MachinesSnapshot};

/// A snapshot of this age is shown without waiting for a newer one.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// How long a newer one is waited for, when nobody had asked for a while.
const WAIT_MAX: Duration = Duration::from_millis(1_500);
const WAIT_STEP: Duration = Duration::from_millis(20);
/// Of a snapshot older than this nothing is certain: who writes them has ended, or is far behind.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// The machines at one moment. Shares the snapshot: a hundred thousand machines are not copied for a request.
pub struct Machines {
    snapshot: Arc<MachinesSnapshot>,
    is_believed: bool,
}

impl Machines {
    /// Those of a snapshot, which are believed if it is young enough.
    pub fn of(snapshot: Arc<MachinesSnapshot>) -> Self {
        let is_believed = age(&snapshot) <= BELIEVED_FOR;
        Self { snapshot, is_believed }
    }

    /// In order of their ids. What they are now is [`Machines::status`].
    pub fn views(&self) -> &[MachineView] {
        &self.snapshot.machines
    }

    /// Those whose ids come after `id`.
    pub fn after(&self, id: &str) -> &[MachineView] {
        let views = self.views();
        &views[views.partition_point(|view| view.machine_id.as_str() <= id)..]
    }

    /// What `view`, one of these machines, is.
    pub fn status(&self, view: &MachineView) -> DisplayStatus {
        if self.is_believed { view.status } else { DisplayStatus::Unknown }
    }

    /// That machine, if it is watched.
    pub fn find(&self, machine_id: &MachineId) -> Option<MachineView> {
        let view = self.snapshot.find(machine_id)?;
        Some(MachineView { status: self.status(view), ..view.clone() })
    }

    /// Whether liveness wrote them just now.
    pub fn is_fresh(&self) -> bool {
        age(&self.snapshot) <= FRESH_FOR
    }
}

/// The machines now.
pub async fn current(state: &HttpState) -> Machines {
    let board = &state.boards.machines;
    let mut snapshot = board.snapshot();
    let mut waited = Duration::ZERO;
    while age(&snapshot) > FRESH_FOR && waited < WAIT_MAX {
        actix_rt::time::sleep(WAIT_STEP).await;
        waited += WAIT_STEP;
        snapshot = board.snapshot();
    }
    if age(&snapshot) > BELIEVED_FOR && snapshot.machines.is_empty() {
        return Machines { snapshot: state.remembered.get(state).await, is_believed: false };
    }
    Machines::of(snapshot)
}

/// The machines as far as they are known without waiting for anybody.
pub fn at_hand(state: &HttpState) -> Machines {
    Machines::of(state.boards.machines.snapshot())
}

/// Whether that machine was watched when the newest snapshot was made, however old that is: of a status there is no question.
pub fn was_watched(state: &HttpState, machine_id: &MachineId) -> bool {
    state.boards.machines.snapshot().find(machine_id).is_some()
}

fn age(snapshot: &MachinesSnapshot) -> Duration {
    // 0 is the moment of a board that was never written.
    if snapshot.at == Mono::default() && snapshot.machines.is_empty() {
        return Duration::MAX;
    }
    Duration::from_micros(mono_now().0.saturating_sub(snapshot.at.0))
}

/// What the database remembers, for when liveness has never spoken in this process's life: asked once, for however many want it.
#[derive(Default)]
pub struct RememberedMachines {
    newest: Mutex<Option<(Instant, Arc<MachinesSnapshot>)>>,
}

impl RememberedMachines {
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
    let rows = state.history.ask(|history| history.machines()).await.unwrap_or_default();
    let offline_after = state.offline_after;
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
    // The database may sort by the rules of some language.
    machines.sort_unstable_by(|a, b| a.machine_id.cmp(&b.machine_id));
    MachinesSnapshot { at: Mono::default(), sighted: false, machines }
}
