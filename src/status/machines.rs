//! The machines as liveness sees them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Mono, mono_now};
use crate::domain::{DisplayStatus, MachineId, Timestamp, Transition, TransitionReason};

/// How long liveness keeps writing snapshots after the last read.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// Most transitions kept for readers.
const TRANSITIONS_KEPT: usize = 1_000;

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineView {
    /// The machine's id.
    pub machine_id: MachineId,
    /// Its status.
    pub status: DisplayStatus,
    /// Time of the newest transition; `None` before the first.
    pub status_since: Option<Timestamp>,
    /// Reason of that transition; `None` if the database has none.
    pub reason: Option<TransitionReason>,
    /// Time of its first message ever.
    pub first_seen_at: Option<Timestamp>,
    /// Time of its newest message.
    pub last_seen_at: Option<Timestamp>,
    /// Silence after which it is offline.
    pub offline_after: Duration,
    /// True if it changes its status more often than `liveness.flapping_changes` in `liveness.flapping_window`.
    pub flapping: bool,
    /// True if it is unknown because the broker refuses the subscription that covers it.
    pub refused: bool,
}

/// All machines at one moment.
#[derive(Debug, Clone, Default)]
pub struct MachinesSnapshot {
    /// When it was taken.
    pub at: Mono,
    /// True if the link is up and the past is known. Otherwise no status is certain.
    pub sighted: bool,
    /// In order of their ids.
    pub machines: Vec<MachineView>,
}

impl MachinesSnapshot {
    /// Returns the machine, if it is watched.
    #[must_use]
    pub fn find(&self, machine_id: &MachineId) -> Option<&MachineView> {
        let place = self.machines.binary_search_by(|machine| machine.machine_id.cmp(machine_id));
        place.ok().map(|index| &self.machines[index])
    }
}

/// Written by liveness at its own pace, only while something reads it. Read by any thread.
#[derive(Debug, Default)]
pub struct MachinesCell {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    snapshot: Arc<MachinesSnapshot>,
    wanted_at: Option<Mono>,
    /// Oldest first, each with its number from 1.
    transitions: std::collections::VecDeque<(u64, Transition)>,
    transitions_written: u64,
}

impl MachinesCell {
    /// Returns the newest snapshot; empty before the first. Makes liveness continue to write them.
    #[must_use]
    pub fn snapshot(&self) -> Arc<MachinesSnapshot> {
        let mut inner = self.lock();
        inner.wanted_at = Some(mono_now());
        Arc::clone(&inner.snapshot)
    }

    /// True if a snapshot was read recently.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let wanted_at = self.lock().wanted_at;
        wanted_at.is_some_and(|at| mono_now().since(at) <= WANTED_FOR)
    }

    /// Replaces the snapshot.
    pub fn write(&self, snapshot: MachinesSnapshot) {
        let snapshot = Arc::new(snapshot);
        // Free the old snapshot outside the lock.
        let _old = std::mem::replace(&mut self.lock().snapshot, snapshot);
    }

    /// Marks every machine as `unknown` as of `at`: liveness has ended, and its next generation does not know the machines
    /// yet.
    pub fn lose_sight(&self, at: Mono) {
        let mut machines = Arc::clone(&self.lock().snapshot).machines.clone();
        if machines.is_empty() {
            return; // An empty snapshot would claim that there are no machines.
        }
        machines.iter_mut().for_each(|machine| machine.status = DisplayStatus::Unknown);
        self.write(MachinesSnapshot { at, sighted: false, machines });
    }

    /// Adds a transition as it happens, with or without the database.
    pub fn write_transition(&self, transition: Transition) {
        let mut inner = self.lock();
        inner.transitions_written += 1;
        let number = inner.transitions_written;
        inner.transitions.push_back((number, transition));
        if inner.transitions.len() > TRANSITIONS_KEPT {
            inner.transitions.pop_front();
        }
    }

    /// Returns the kept transitions after number `after`, oldest first, and the number of the newest. Numbers count from
    /// the start of the process.
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
    fn a_cell_is_wanted_once_it_is_read() {
        let cell = MachinesCell::default();
        assert!(!cell.is_wanted());
        assert!(cell.snapshot().machines.is_empty());
        assert!(cell.is_wanted());
    }

    #[test]
    fn losing_sight_keeps_the_machines_and_makes_them_unknown() {
        let cell = MachinesCell::default();
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
        cell.write(MachinesSnapshot { at: Mono(1), sighted: true, machines: vec![press.clone()] });
        cell.lose_sight(Mono(2));
        let snapshot = cell.snapshot();
        assert_eq!((snapshot.at, snapshot.sighted), (Mono(2), false));
        assert_eq!(snapshot.machines, [MachineView { status: DisplayStatus::Unknown, ..press }]);
    }

    #[test]
    fn a_reader_gets_the_transitions_that_it_has_not_seen() {
        let cell = MachinesCell::default();
        let transition = |micros| Transition {
            machine_id: MachineId::parse("press-1").unwrap(),
            status: MachineStatus::Online,
            previous_status: None,
            reason: TransitionReason::Message,
            occurred_at: Timestamp::from_micros(micros),
            last_seen_at: None,
            seq: Seq(1),
        };
        (1..=TRANSITIONS_KEPT as i64 + 5).for_each(|micros| cell.write_transition(transition(micros)));
        let (all, newest) = cell.transitions_after(0);
        assert_eq!((all.len(), newest), (TRANSITIONS_KEPT, TRANSITIONS_KEPT as u64 + 5));
        let (newer, _) = cell.transitions_after(newest - 2);
        let times: Vec<_> = newer.iter().map(|each| each.occurred_at.as_micros()).collect();
        assert_eq!(times, [newest as i64 - 1, newest as i64]);
    }
}
