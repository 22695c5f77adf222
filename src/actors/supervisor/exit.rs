//! How the supervisor learns that a child has ended: the guard that the child holds reports it when dropped.

use std::fmt;
use std::time::Duration;

use actix::Recipient;
use actix::prelude::Message;

use super::Generation;
use crate::logging::last_panic_message;

/// Why a child ended; decides what the supervisor does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It was asked to stop, and did.
    Normal,
    /// It ended itself because of an error it cannot handle.
    Failed(String),
    /// It panicked.
    Panicked(String),
    /// It did not answer the heartbeat for this long.
    Hung(Duration),
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("stopped"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Hung(silent_for) => write!(f, "hung: no heartbeat for {} ms", silent_for.as_millis()),
        }
    }
}

/// Fact for the supervisor: a child has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChildExited {
    /// Index of the child in start order.
    pub child: usize,
    /// Which incarnation.
    pub generation: Generation,
    /// Why.
    pub reason: ExitReason,
}

/// Held by an actor as a field. When the actor is dropped (it stopped, failed or panicked), this reports the
/// end and its reason to the supervisor.
pub struct ExitGuard {
    child: usize,
    generation: Generation,
    supervisor: Recipient<ChildExited>,
    reason: Option<ExitReason>,
}

impl ExitGuard {
    /// Makes the guard for incarnation `generation` of child number `child`.
    #[must_use]
    pub fn new(child: usize, generation: Generation, supervisor: Recipient<ChildExited>) -> Self {
        Self { child, generation, supervisor, reason: None }
    }

    /// Returns this incarnation's number.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Records that the actor ends because of `error`. Stop the context next.
    pub fn fail(&mut self, error: impl fmt::Display) {
        self.reason.get_or_insert_with(|| ExitReason::Failed(error.to_string()));
    }

    /// Records that the actor ends because it was asked to. Stop the context next.
    pub fn finish(&mut self) {
        self.reason.get_or_insert(ExitReason::Normal);
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() {
            ExitReason::Panicked(last_panic_message())
        } else {
            let unexplained = || ExitReason::Failed("stopped without a reason".to_owned());
            self.reason.take().unwrap_or_else(unexplained)
        };
        // A control edge that must never be refused; the supervisor outlives its children.
        #[expect(
            clippy::disallowed_methods,
            reason = "one message per child, from a destructor that cannot wait"
        )]
        self.supervisor.do_send(ChildExited { child: self.child, generation: self.generation, reason });
    }
}
