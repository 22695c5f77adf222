//! The machines as liveness sees them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Mono, mono_now};
use crate::domain::{DisplayStatus, MachineId, Timestamp, Transition, TransitionReason};

/// How long liveness goes on writing snapshots after the last time somebody read one.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// Newest transitions kept for readers.
const TRANSITIONS_KEPT: usize = 1_000;

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineView {
    /// Which.
    pub machine_id: MachineId,
    /// What the board shows.
    pub status: DisplayStatus,
    /// When the newest transition occurred; `None` if there was none yet.
    pub status_since: Option<Timestamp>,
    /// Why; `None` if the database did not say.
    pub reason: Option<TransitionReason>,
    /// Its first message ever.
    pub first_seen_at: Option<Timestamp>,
    /// Its newest message.
    pub last_seen_at: Option<Timestamp>,
    /// How long it may be silent.
    pub offline_after: Duration,
    /// It changes its status more often than `liveness.flapping_changes` in `liveness.flapping_window`.
    pub flapping: bool,
    /// It is unknown because the broker refuses the subscription that it comes through.
    pub refused: bool,
}

/// All machines at one moment.
#[derive(Debug, Clone, Default)]
pub struct MachinesSnapshot {
    /// When it was made.
    pub at: Mono,
    /// Sight is open: the link is up and the past is known. Otherwise no status is certain.
    pub sighted: bool,
    /// In order of their ids.
    pub machines: Vec<MachineView>,
}

impl MachinesSnapshot {
    /// That machine, if it is watched.
    #[must_use]
    pub fn find(&self, machine_id: &MachineId) -> Option<&MachineView> {
        let place = self.machines.binary_search_by(|machine| machine.machine_id.cmp(machine_id));
        place.ok().map(|index| &self.machines[index])
    }
}

/// Written by liveness, at its own pace and only while somebody reads; read by anybody.
#[derive(Debug, Default)]
pub struct MachinesCell {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    snapshot: Arc<MachinesSnapshot>,
    wanted_at: Option<Mono>,
    /// Newest last, each with its number from 1.
    transitions: std::collections::VecDeque<(u64, Transition)>,
    transitions_written: u64,
}

impl MachinesCell {
    /// The newest snapshot; empty before the first. Asks liveness to go on writing them.
    #[must_use]
    pub fn snapshot(&self) -> Arc<MachinesSnapshot> {
        let mut inner = self.lock();
        inner.wanted_at = Some(mono_now());
        Arc::clone(&inner.snapshot)
    }

    /// Somebody has asked for a snapshot a short while ago.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let wanted_at = self.lock().wanted_at;
        wanted_at.is_some_and(|at| mono_now().0.saturating_sub(at.0) <= Mono::from(WANTED_FOR).0)
    }

    /// Replaces the snapshot.
    pub fn write(&self, snapshot: MachinesSnapshot) {
        let snapshot = Arc::new(snapshot);
        // The old one is freed outside the lock.
        let _old = std::mem::replace(&mut self.lock().snapshot, snapshot);
    }

    /// Nothing that the snapshot shows is certain any more, as of `at`: every machine is `unknown`. Who wrote it has
    /// ended, and its successor does not know the machines yet.
    pub fn lose_sight(&self, at: Mono) {
        let mut machines = Arc::clone(&self.lock().snapshot).machines.clone();
        if machines.is_empty() {
            return; // A snapshot of nobody would say that there are no machines.
        }
        machines.iter_mut().for_each(|machine| machine.status = DisplayStatus::Unknown);
        self.write(MachinesSnapshot { at, sighted: false, machines });
    }

    /// Adds a transition as it happens, whether or not the database is there.
    pub fn write_transition(&self, transition: Transition) {
        let mut inner = self.lock();
        inner.transitions_written += 1;
        let number = inner.transitions_written;
        inner.transitions.push_back((number, transition));
        if inner.transitions.len() > TRANSITIONS_KEPT {
            inner.transitions.pop_front();
        }
    }

    /// The transitions of this process's life after the `after`th, oldest first, as far as they are kept, and the
    /// number of the newest.
    #[must_use]
    pub fn transitions_after(&self, after: u64) -> (Vec<Transition>, u64) {
        let inner = self.lock();
        let newer = inner.transitions.iter().filter(|(number, _)| *number > after);
        (newer.map(|(_, transition)| transition.clone()).collect(), inner.transitions_written)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MachineStatus, Seq};

    #[test]
    fn a_board_nobody_reads_is_not_wanted() {
        let board = MachinesCell::default();
        assert!(!board.is_wanted());
        assert!(board.snapshot().machines.is_empty());
        assert!(board.is_wanted());
    }

    #[test]
    fn without_sight_the_machines_stay_and_none_is_certain() {
        let board = MachinesCell::default();
        let press = MachineView {
            machine_id: MachineId::parse("press-1").unwrap(),
            status: DisplayStatus::Online,
            status_since: None,
            reason: None,
            first_seen_at: None,
            last_seen_at: Some(Timestamp::from_micros(7)),
            offline_after: Duration::from_secs(15),
            flapping: false,
            refused: false,
        };
        board.write(MachinesSnapshot { at: Mono(1), sighted: true, machines: vec![press.clone()] });
        board.lose_sight(Mono(2));
        let snapshot = board.snapshot();
        assert_eq!((snapshot.at, snapshot.sighted), (Mono(2), false));
        assert_eq!(snapshot.machines, [MachineView { status: DisplayStatus::Unknown, ..press }]);
    }

    #[test]
    fn a_reader_gets_the_transitions_that_it_has_not_seen() {
        let board = MachinesCell::default();
        let transition = |micros| Transition {
            machine_id: MachineId::parse("press-1").unwrap(),
            status: MachineStatus::Online,
            previous_status: None,
            reason: TransitionReason::Message,
            occurred_at: Timestamp::from_micros(micros),
            last_seen_at: None,
            seq: Seq(1),
        };
        (1..=TRANSITIONS_KEPT as i64 + 5).for_each(|micros| board.write_transition(transition(micros)));
        let (all, newest) = board.transitions_after(0);
        assert_eq!((all.len(), newest), (TRANSITIONS_KEPT, TRANSITIONS_KEPT as u64 + 5));
        let (newer, _) = board.transitions_after(newest - 2);
        let times: Vec<_> = newer.iter().map(|each| each.occurred_at.as_micros()).collect();
        assert_eq!(times, [newest as i64 - 1, newest as i64]);
    }
}
