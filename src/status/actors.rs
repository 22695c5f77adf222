//! The supervised actors as their supervisor sees them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::{Mono, mono_now};

/// What a supervised actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorPhase {
    /// Alive.
    Running,
    /// Waits for its (re)start.
    Waiting,
    /// Was asked to stop.
    Stopping,
    /// Gone.
    Stopped,
}

/// One actor as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorStatus {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub phase: ActorPhase,
    /// Which incarnation; survives restarts.
    pub generation: u64,
    /// Restarts since the process started.
    pub restarts: u64,
    /// Why the incarnation before ended.
    pub last_exit: Option<String>,
}

/// The actors' states, in start order.
#[derive(Debug, Default)]
pub struct ActorsCell {
    actors: Mutex<Vec<ActorStatus>>,
    looked_at: AtomicU64,
}

impl ActorsCell {
    /// Replaces (or adds) the state of the actor of that name.
    pub fn set(&self, status: ActorStatus) {
        let mut actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        match actors.iter_mut().find(|actor| actor.name == status.name) {
            Some(actor) => *actor = status,
            None => actors.push(status),
        }
    }

    /// The supervisor has looked at its actors just now.
    pub fn looked(&self) {
        // 0 is "never".
        self.looked_at.store(mono_now().0.max(1), Ordering::Relaxed);
    }

    /// When the supervisor last looked at its actors; `None` before the first time.
    #[must_use]
    pub fn looked_at(&self) -> Option<Mono> {
        Some(Mono(self.looked_at.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// All of them.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ActorStatus> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_state_of_an_actor_replaces_the_one_before() {
        let board = ActorsCell::default();
        let status = |name, generation| ActorStatus {
            name,
            phase: ActorPhase::Running,
            generation,
            restarts: generation - 1,
            last_exit: None,
        };
        for newest in [status("writer", 1), status("mqtt", 1), status("writer", 2)] {
            board.set(newest);
        }
        assert_eq!(board.snapshot(), [status("writer", 2), status("mqtt", 1)]);
        assert_eq!(board.looked_at(), None);
        board.looked();
        assert!(board.looked_at().is_some());
    }
}
