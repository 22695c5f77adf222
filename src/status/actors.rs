//! The supervised actors as their supervisor sees them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::{Mono, mono_now};
use crate::domain::word_enum;

word_enum! {
    /// What a supervised actor is doing. The word is the API's.
    pub enum ActorPhase {
        /// It works.
        Running = "running",
        /// It waits for its start or restart.
        Waiting = "waiting",
        /// It was ordered to stop.
        Stopping = "stopping",
        /// It has ended.
        Stopped = "stopped",
    }
}

/// One actor as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorStatus {
    /// The actor's name.
    pub name: &'static str,
    /// Its phase.
    pub phase: ActorPhase,
    /// Its generation, counted across restarts.
    pub generation: u64,
    /// Restarts since the process started.
    pub restarts: u64,
    /// Why the previous generation ended.
    pub last_exit: Option<String>,
}

/// The state of every actor, in start order.
#[derive(Debug, Default)]
pub struct ActorsCell {
    actors: Mutex<Vec<ActorStatus>>,
    checked_at: AtomicU64,
    answered: AtomicU64,
    all_have_answered: AtomicBool,
}

impl ActorsCell {
    /// Sets the state of the actor with that name.
    pub fn set(&self, status: ActorStatus) {
        let mut actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        match actors.iter_mut().find(|actor| actor.name == status.name) {
            Some(actor) => *actor = status,
            None => actors.push(status),
        }
    }

    /// Records that the supervisor has just checked its actors.
    pub fn supervisor_checked(&self) {
        // 0 is "never".
        self.checked_at.store(mono_now().0.max(1), Ordering::Relaxed);
    }

    /// Returns when the supervisor last checked its actors; `None` before the first time.
    #[must_use]
    pub fn checked_at(&self) -> Option<Mono> {
        Some(Mono(self.checked_at.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// Records that an actor has answered a heartbeat.
    pub fn heartbeat_answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many heartbeats the actors have answered.
    #[must_use]
    pub fn heartbeats_answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Records that every actor of the pipeline has answered a heartbeat since the process started.
    pub fn all_have_answered(&self) {
        self.all_have_answered.store(true, Ordering::Relaxed);
    }

    /// True once every actor of the pipeline has answered a heartbeat.
    #[must_use]
    pub fn have_all_answered(&self) -> bool {
        self.all_have_answered.load(Ordering::Relaxed)
    }

    /// Returns the state of every actor.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ActorStatus> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_state_replaces_the_previous_one_of_the_same_actor() {
        let cell = ActorsCell::default();
        let status = |name, generation| ActorStatus {
            name,
            phase: ActorPhase::Running,
            generation,
            restarts: generation - 1,
            last_exit: None,
        };
        for newest in [status("writer", 1), status("mqtt", 1), status("writer", 2)] {
            cell.set(newest);
        }
        assert_eq!(cell.snapshot(), [status("writer", 2), status("mqtt", 1)]);
        assert_eq!(cell.checked_at(), None);
        cell.supervisor_checked();
        assert!(cell.checked_at().is_some());
        assert_eq!((cell.heartbeats_answered(), cell.have_all_answered()), (0, false));
        cell.heartbeat_answered();
        cell.all_have_answered();
        assert_eq!((cell.heartbeats_answered(), cell.have_all_answered()), (1, true));
    }
}
