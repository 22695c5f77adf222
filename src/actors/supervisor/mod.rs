//! The supervisor: starts the children, notices when one ends or hangs, restarts it, and gives up when that
//! does not help.
//!
//! `actix::Supervisor` does not survive a panic of its actor and has neither a restart limit nor a backoff.
//! This one follows OTP. It owns the children's factories and arbiters (one thread each), receives
//! [`ChildExited`] from their [`ExitGuard`]s and the answers to [`Heartbeat`]s, and sends [`StopChild`].
//!
//! Invariants
//! - **SUP-1** At most one incarnation of a child is *current*; messages from any other generation are ignored.
//! - **SUP-2** Children start in the order of their specs (downstream first) and stop in the reverse order.
//! - **SUP-3** A restart waits for an exponential backoff with jitter; after a run of `period` the backoff
//!   starts over.
//! - **SUP-4** More than `restarts_max` restarts within `period` escalate: all children stop in order, and the
//!   process exits with [`EXIT_GAVE_UP`].
//! - **SUP-5** A hung child is abandoned, never waited for. Its thread cannot be ended, but its successor does
//!   not depend on it: the store's compare-and-set settles what both could do to the database.
//! - **SUP-6** A child that does not escalate is restarted for ever, and its restarts do not count towards
//!   SUP-4: HTTP must not stop ingestion.
//! - **SUP-7** While the disk stalls no child counts as hung, and none is restarted because it is slow to stop.
//!
//! It never handles a broker or database that is away: those are expected states inside the actors.

mod child;
mod environment;
mod exit;
mod intensity;
mod restart_delay;
mod strategy;
mod supervised;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, error, info, o, warn};

pub use child::{ChildContext, ChildSpec, Generation, Heartbeat, RunningChild, StopChild};
pub use environment::Environment;
pub use exit::{ChildExited, ExitGuard, ExitReason};
pub use intensity::RestartIntensity;
pub use strategy::{Strategy, affected};
pub(crate) use supervised::supervised;

use self::restart_delay::RestartDelay;
use crate::status::{ActorPhase, ActorStatus, ActorsCell};

/// Exit code when restarting did not help.
pub const EXIT_GAVE_UP: i32 = 4;

/// Limits and delays of restarts.
#[derive(Debug, Clone)]
pub struct SupervisorOptions {
    /// Restarts allowed within `period`.
    pub restarts_max: u32,
    /// The window of the restart intensity. After a run of this length the backoff starts over.
    pub period: Duration,
    /// First delay before a restart.
    pub backoff_min: Duration,
    /// Longest delay before a restart.
    pub backoff_max: Duration,
    /// A child that does not answer its heartbeat for this long is hung.
    pub hang_after: Duration,
}

/// Stop everything in order; the process then exits with `exit_code`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Shutdown {
    /// The process's exit code.
    pub exit_code: i32,
}

enum Phase {
    /// Before the first start, or during a backoff.
    Waiting,
    /// `beats_unanswered` counts our own beats, not time: when the process was suspended, or the computer
    /// slept, no child counts as hung.
    Running {
        child: RunningChild,
        since: Instant,
        beats_unanswered: u32,
    },
    /// Asked to stop; abandoned at `deadline`.
    Stopping {
        child: RunningChild,
        deadline: Instant,
    },
    Stopped,
}

struct Child {
    spec: ChildSpec,
    phase: Phase,
    generation: Generation,
    restart_delay: RestartDelay,
    restarts: u64,
    last_exit: Option<String>,
    /// It has answered a heartbeat, in any generation.
    has_answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Supervising,
    ShuttingDown { exit_code: i32 },
}

/// The actor. Runs on the main thread and never blocks.
pub struct Supervisor {
    options: SupervisorOptions,
    children: Vec<Child>,
    outside: Environment,
    intensity: RestartIntensity,
    mode: Mode,
    /// How long the disk had stalled at the newest beat.
    stalled_for: Option<Duration>,
    statuses: Arc<ActorsCell>,
    logger: Logger,
}

impl Supervisor {
    /// Makes a supervisor of `specs`, in start order.
    #[must_use]
    pub fn new(
        specs: Vec<ChildSpec>,
        options: SupervisorOptions,
        outside: Environment,
        statuses: Arc<ActorsCell>,
        logger: &Logger,
    ) -> Self {
        let intensity = RestartIntensity::new(options.restarts_max, options.period);
        let children = specs
            .into_iter()
            .map(|spec| Child {
                spec,
                phase: Phase::Waiting,
                generation: 0,
                restart_delay: RestartDelay::new(&options),
                restarts: 0,
                last_exit: None,
                has_answered: false,
            })
            .collect();
        let logger = logger.new(o!("component" => "supervisor"));
        let (mode, stalled_for) = (Mode::Supervising, None);
        Self { options, children, outside, intensity, mode, stalled_for, statuses, logger }
    }

    fn start_child(&mut self, index: usize, context: &mut Context<Self>) {
        let child = &mut self.children[index];
        if self.mode != Mode::Supervising || !matches!(child.phase, Phase::Waiting) {
            return;
        }
        child.generation += 1;
        let context = ChildContext::new(index, child.generation, context.address().recipient());
        let now = Instant::now();
        child.phase = Phase::Running { child: (child.spec.start)(context), since: now, beats_unanswered: 0 };
        if child.generation > 1 {
            info!(self.logger, "child restarted"; "child" => child.spec.name, "generation" => child.generation);
        }
        self.publish(index);
    }

    fn publish(&self, index: usize) {
        let child = &self.children[index];
        let phase = match child.phase {
            Phase::Running { .. } => ActorPhase::Running,
            Phase::Waiting => ActorPhase::Waiting,
            Phase::Stopping { .. } => ActorPhase::Stopping,
            Phase::Stopped => ActorPhase::Stopped,
        };
        self.statuses.set(ActorStatus {
            name: child.spec.name,
            phase,
            generation: child.generation,
            restarts: child.restarts,
            last_exit: child.last_exit.clone(),
        });
    }

    /// Handles the end of a child's current incarnation: it has ended, or it hangs and is abandoned.
    fn on_exit(&mut self, index: usize, reason: ExitReason, context: &mut Context<Self>) {
        let child = &mut self.children[index];
        let phase = std::mem::replace(&mut child.phase, Phase::Stopped);
        if matches!(phase, Phase::Running { .. } | Phase::Stopping { .. }) {
            child.last_exit = Some(reason.to_string());
        }
        match phase {
            Phase::Running { child: running, since, .. } => {
                running.arbiter.stop();
                if self.mode == Mode::Supervising {
                    self.restart(index, &reason, since.elapsed(), context);
                } else {
                    self.stop_next();
                }
            }
            Phase::Stopping { child: running, .. } => {
                running.arbiter.stop();
                match self.mode {
                    // It stopped because its group restarts; the backoff applies to the child that failed.
                    Mode::Supervising => self.start_after(index, self.options.backoff_min, context),
                    Mode::ShuttingDown { .. } => self.stop_next(),
                }
            }
            // SUP-1: an abandoned incarnation ended late.
            quiet @ (Phase::Waiting | Phase::Stopped) => child.phase = quiet,
        }
        self.publish(index);
    }

    fn restart(
        &mut self,
        failed: usize,
        reason: &ExitReason,
        ran_for: Duration,
        context: &mut Context<Self>,
    ) {
        let child = &mut self.children[failed];
        let pause = child.restart_delay.after_run(ran_for);
        error!(self.logger, "child ended and will be restarted";
            "child" => child.spec.name, "generation" => child.generation, "reason" => %reason,
            "backoff_max_ms" => u64::try_from(pause.ceiling.as_millis()).unwrap_or(u64::MAX));
        if child.spec.escalates && !self.intensity.allow(Instant::now()) {
            error!(self.logger, "restarting does not help: stopping everything; nothing acknowledged is lost. \
                Look at the reasons above, then start the service again";
                "restarts_max" => self.options.restarts_max, "period_s" => self.options.period.as_secs());
            self.shut_down(EXIT_GAVE_UP);
            return;
        }
        let strategies: Vec<Strategy> = self.children.iter().map(|child| child.spec.strategy).collect();
        self.children[failed].restarts += 1;
        for index in affected(&strategies, failed).into_iter().rev() {
            if index == failed {
                self.start_after(index, pause.delay, context);
            } else if matches!(self.children[index].phase, Phase::Running { .. }) {
                self.ask_to_stop(index);
            }
        }
    }

    /// Starts a child again, later.
    fn start_after(&mut self, index: usize, delay: Duration, context: &mut Context<Self>) {
        self.children[index].phase = Phase::Waiting;
        self.publish(index);
        context.run_later(delay, move |supervisor, context| supervisor.start_child(index, context));
    }

    fn ask_to_stop(&mut self, index: usize) {
        let child = &mut self.children[index];
        if let Phase::Running { child: running, .. } = std::mem::replace(&mut child.phase, Phase::Stopped) {
            // `do_send` works with a full mailbox, too: a stop must not depend on room there.
            #[expect(
                clippy::disallowed_methods,
                reason = "one message per child, which a full mailbox must not refuse"
            )]
            running.stop.do_send(StopChild);
            let deadline = Instant::now() + child.spec.stop_within;
            child.phase = Phase::Stopping { child: running, deadline };
        }
        self.publish(index);
    }

    fn shut_down(&mut self, exit_code: i32) {
        if self.mode == Mode::Supervising {
            self.mode = Mode::ShuttingDown { exit_code };
            (self.outside.on_stop)(exit_code);
            self.stop_next();
        }
    }

    /// Stops the last running child (SUP-2); when none is left, ends the system.
    fn stop_next(&mut self) {
        let Mode::ShuttingDown { exit_code } = self.mode else { return };
        if self.children.iter().any(|child| matches!(child.phase, Phase::Stopping { .. })) {
            return;
        }
        let running = self.children.iter().rposition(|child| matches!(child.phase, Phase::Running { .. }));
        match running {
            Some(index) => self.ask_to_stop(index),
            None => System::current().stop_with_code(exit_code),
        }
    }

    /// Returns the time between two heartbeats; several fit into `hang_after`.
    fn beat_interval(&self) -> Duration {
        (self.options.hang_after / 8).clamp(Duration::from_millis(10), Duration::from_millis(250))
    }

    fn beat(&mut self, context: &mut Context<Self>) {
        fail_point!("supervisor::beat");
        self.statuses.supervisor_checked();
        let disk_stalls = self.look_at_disk();
        for index in 0..self.children.len() {
            if let Some(silent_for) = self.beat_child(index, disk_stalls, context) {
                let child = &self.children[index];
                warn!(self.logger, "abandoning a child that does not answer";
                    "child" => child.spec.name, "generation" => child.generation);
                self.on_exit(index, ExitReason::Hung(silent_for), context);
            }
        }
    }

    /// Sends a heartbeat. Returns how long the child has not answered, if that is too long.
    fn beat_child(
        &mut self,
        index: usize,
        disk_stalls: bool,
        context: &mut Context<Self>,
    ) -> Option<Duration> {
        let (interval, supervising) = (self.beat_interval(), self.mode == Mode::Supervising);
        let child = &mut self.children[index];
        let generation = child.generation;
        match &mut child.phase {
            Phase::Running { beats_unanswered: 1.., .. } if disk_stalls => None,
            Phase::Running { child, beats_unanswered, .. } => {
                *beats_unanswered += 1;
                let silent_for = interval * (*beats_unanswered - 1);
                if *beats_unanswered == 1 {
                    let answer = child.heartbeat.send(Heartbeat).into_actor(self);
                    context.spawn(answer.map(move |answer, supervisor, _| {
                        if answer.is_ok() {
                            supervisor.mark_alive(index, generation);
                        }
                    }));
                }
                (silent_for > self.options.hang_after).then_some(silent_for)
            }
            Phase::Stopping { .. } if disk_stalls && supervising => None,
            Phase::Stopping { deadline, .. } if Instant::now() > *deadline => Some(child.spec.stop_within),
            _ => None,
        }
    }

    fn mark_alive(&mut self, index: usize, generation: Generation) {
        let child = &mut self.children[index];
        if child.generation == generation
            && let Phase::Running { beats_unanswered, .. } = &mut child.phase
        {
            *beats_unanswered = 0;
            self.statuses.heartbeat_answered();
            child.has_answered = true;
            // As a child that does not escalate must not stop the others, they do not wait for its start either.
            if self.children.iter().all(|child| child.has_answered || !child.spec.escalates) {
                self.statuses.all_have_answered();
            }
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.statuses.supervisor_checked();
        for index in 0..self.children.len() {
            self.start_child(index, context);
        }
        context.run_interval(self.beat_interval(), |supervisor, context| supervisor.beat(context));
    }
}

impl Handler<ChildExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: ChildExited, context: &mut Context<Self>) {
        if self.children[exited.child].generation == exited.generation {
            self.on_exit(exited.child, exited.reason, context);
        }
    }
}

impl Handler<Shutdown> for Supervisor {
    type Result = ();

    fn handle(&mut self, shutdown: Shutdown, _: &mut Context<Self>) {
        self.shut_down(shutdown.exit_code);
    }
}
