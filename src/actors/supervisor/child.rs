//! How the supervisor starts a child and holds it.

use std::time::Duration;

use actix::prelude::*;
use actix_rt::{Arbiter, ArbiterHandle};

use super::{ChildExited, ExitGuard, Strategy};

/// Counts the incarnations of a child, from 1.
pub type Generation = u64;

/// Checks that a child still handles messages. The answer itself is the proof.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Heartbeat;

/// Asks a child to finish its work and stop itself (`ExitGuard::finish`, then stop the context).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopChild;

/// A child's place in the supervision tree: how to make it and how to treat it.
pub struct ChildSpec {
    /// Name in logs and status.
    pub name: &'static str,
    /// Which other children restart with it.
    pub strategy: Strategy,
    /// Whether its restarts count towards the limit that stops the process.
    pub escalates: bool,
    /// How long an orderly stop may take before the child is abandoned.
    pub stop_within: Duration,
    /// Makes a fresh incarnation on a thread of its own and connects its wires.
    pub start: Box<dyn FnMut(ChildContext) -> RunningChild + Send>,
}

/// The identity of a new incarnation.
pub struct ChildContext {
    pub(super) child: usize,
    pub(super) generation: Generation,
    pub(super) supervisor: Recipient<ChildExited>,
}

impl ChildContext {
    /// Identifies incarnation `generation` of child number `child`.
    pub fn new(child: usize, generation: Generation, supervisor: Recipient<ChildExited>) -> Self {
        Self { child, generation, supervisor }
    }

    /// Starts `make(exit_guard)` as an actor on a new thread. A panic in `make` counts as a panic of the child.
    /// Returns the child and its address, for its wires.
    pub fn spawn<A, F>(self, mailbox_capacity: usize, make: F) -> (RunningChild, Addr<A>)
    where
        A: Actor<Context = Context<A>> + Handler<Heartbeat> + Handler<StopChild>,
        F: FnOnce(ExitGuard) -> A + Send + 'static,
    {
        let exit_guard = ExitGuard::new(self.child, self.generation, self.supervisor);
        let arbiter = Arbiter::new();
        let address = A::start_in_arbiter(&arbiter.handle(), move |context| {
            context.set_mailbox_capacity(mailbox_capacity);
            make(exit_guard)
        });
        let running = RunningChild {
            heartbeat: address.clone().recipient(),
            stop: address.clone().recipient(),
            arbiter: arbiter.handle(),
        };
        (running, address)
    }
}

/// One incarnation, as the supervisor holds it.
pub struct RunningChild {
    pub(super) heartbeat: Recipient<Heartbeat>,
    pub(super) stop: Recipient<StopChild>,
    pub(super) arbiter: ArbiterHandle,
}
