//! The liveness actor: which machines are online, offline or unknown.
//!
//! Owns the [`replay`] (a pure core around the [`tracker`]), what is not yet recorded or published
//! ([`transition_outbox`], [`outage_log`], [`publish`]), and the snapshot of all machines
//! ([`snapshot_writer`]). Receives [`Recover`], [`Observe`], [`TakeTransitions`] and [`TransitionsRecorded`]
//! from the parser and [`LinkChanged`] from the mqtt actor. Sends `TransitionsPending` to the parser,
//! `PublishStatuses` and `ProveLink` to the mqtt actor.
//!
//! Invariants (LIV-1 and LIV-5: see [`replay`])
//! - **LIV-2** Transitions reach the database only through the parser's batches, in order, and stay here
//!   until they are recorded.
//! - **LIV-3** A transition by silence needs a proof that the link was alive (TRK-2), for which liveness asks
//!   the mqtt actor; what counts as a proof is the mqtt actor's decision (MQTT-8).
//! - **LIV-4** Every transition is published, in order, also while the database is away, and stays here until
//!   the broker has it and the database knows that. After a crash the transitions recorded as pending are
//!   published again, before anything else. The current status of every machine follows when the incarnation
//!   begins and when the broker has lost our session.
//! - **LIV-6** A machine to forget is no longer watched, its row is deleted and its retained status cleared, in the order
//!   of its transitions (OBX-4), also if Andon, the database or the broker is away in between. Each request counts
//!   once: a machine that sends again is new, and stays.

#[cfg(test)]
mod actor_tests;
mod forgetting;
mod line_budget;
mod link_changes;
pub mod messages;
mod outage_log;
mod proof_scheduler;
mod publish;
pub mod replay;
mod replay_log;
#[cfg(test)]
mod replay_tests;
mod report;
mod snapshot_writer;
pub mod status_message;
mod status_outbox;
pub mod tracker;
mod transition_outbox;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, debug, info, o};

use self::messages::{
    LinkChanged, Observe, Observed, Receipt, Recover, Recovered, TakeTransitions, TakenTransitions,
    TransitionsRecorded,
};
pub use self::tracker::{FlappingRule, Sighting, SightingKind, TimePoint, TrackerOptions};
pub use self::transition_outbox::TRANSITIONS_MAX;

use self::forgetting::Forgetting;
use self::link_changes::{LinkChanges, LinkUpdate};
use self::outage_log::{OutageHistory, OutageLog};
use self::proof_scheduler::ProofScheduler;
use self::publish::Publishing;
use self::replay::{Replay, StartState};
use self::report::ChangesReport;
use self::snapshot_writer::SnapshotWriter;
use self::tracker::KnownMachine;
use self::transition_outbox::{Destinations, TransitionOutbox};
use super::failpoint::failpoint;
use super::mqtt::messages::{ProveLink, PublishStatuses, TellLink};
use super::mqtt::publish_fence::PublishFence;
use super::parser::messages::TransitionsPending;
use super::stable_addr::StableAddr;
use super::supervisor::{ExitGuard, supervised};
use crate::clock::{mono_now, wall_now};
use crate::domain::{DisplayStatus, Transition};
use crate::metrics::Metrics;
use crate::status::{MachinesCell, StatusCell};
use crate::store::{ForgetRequest, LivenessRows, MachineRow};

/// How often deadlines are checked. A deadline before the next tick gets a call of its own (see
/// [`proof_scheduler`]).
const TICK: Duration = Duration::from_millis(200);

/// The actor's settings.
#[derive(Clone)]
pub struct LivenessOptions {
    /// The rules, which a reload replaces.
    pub rules: Arc<StatusCell<TrackerOptions>>,
    /// `<publish_prefix>/<site>`; `None`: publish nothing.
    pub topic_prefix: Option<String>,
}

/// The actor's addresses and shared state.
#[derive(Clone)]
pub struct LivenessWires {
    /// Records transitions.
    pub parser: StableAddr<TransitionsPending>,
    /// Publishes statuses.
    pub publish: StableAddr<PublishStatuses>,
    /// Proves the link.
    pub prove: StableAddr<ProveLink>,
    /// Reports whether the link is up.
    pub link: StableAddr<TellLink>,
    /// Keeps an abandoned incarnation from publishing.
    pub fence: Arc<PublishFence>,
    /// The snapshot of all machines, for HTTP.
    pub machines: Arc<MachinesCell>,
    /// The machines to forget, as the writer finds them in the database.
    pub forget: Arc<StatusCell<Vec<ForgetRequest>>>,
}

/// The actor.
pub struct Liveness {
    options: LivenessOptions,
    /// The rules in use.
    rules: Arc<TrackerOptions>,
    wires: LivenessWires,
    metrics: Arc<Metrics>,
    exit_guard: ExitGuard,
    logger: Logger,
    snapshots: SnapshotWriter,
    replay: Replay,
    link_changes: LinkChanges,
    outage_log: OutageLog,
    transitions: TransitionOutbox,
    forgetting: Forgetting,
    publishing: Publishing,
    proof_scheduler: ProofScheduler,
    changes_report: ChangesReport,
    overflow_reported: bool,
    unrecorded_reported: u64,
    unpublished_reported: u64,
}

impl Liveness {
    /// Returns a new incarnation, which knows nothing yet (LIV-1).
    #[must_use]
    pub fn new(
        options: LivenessOptions,
        wires: LivenessWires,
        metrics: Arc<Metrics>,
        exit_guard: ExitGuard,
        logger: &Logger,
    ) -> Self {
        let destinations = Destinations { database: false, broker: options.topic_prefix.is_some() };
        let rules = options.rules.snapshot();
        Self {
            snapshots: SnapshotWriter::new(Arc::clone(&wires.machines)),
            replay: Replay::new((*rules).clone()),
            options,
            rules,
            wires,
            metrics,
            exit_guard,
            logger: logger.new(o!("component" => "liveness")),
            link_changes: LinkChanges::default(),
            outage_log: OutageLog::default(),
            transitions: TransitionOutbox::new(destinations),
            forgetting: Forgetting::default(),
            publishing: Publishing::default(),
            proof_scheduler: ProofScheduler::default(),
            changes_report: ChangesReport::default(),
            overflow_reported: false,
            unrecorded_reported: 0,
            unpublished_reported: 0,
        }
    }

    fn recover(&mut self, recover: Recover) -> Recovered {
        let knows_nothing = self.replay.tracker().is_none();
        debug!(self.logger, "recovering the machines' states";
            "without_history" => recover.without_history, "after" => recover.after.0);
        if recover.without_history && knows_nothing {
            self.replay.start_without_history(recover.after, recover.received_before, now());
        } else if !recover.without_history && (knows_nothing || self.replay.waits_for_history()) {
            self.start_from_history(recover);
        }
        Recovered { observed_upto: self.replay.observed_upto(), transitions_pending: self.pending() }
    }

    fn start_from_history(&mut self, recover: Recover) {
        // A recorded message came over the link, and a recorded silence was proven over it: the link was up
        // then.
        let newest_proof = recover
            .machines
            .iter()
            .filter_map(|machine| machine.last_seen_at.max(machine.status_since))
            .max();
        let past = recover.past;
        let seen_until = past.seen_until.max(newest_proof).map(|until| until.min(wall_now()));
        self.outage_log
            .start_from(OutageHistory { newest_outage: past.newest_outage, seen_until }, wall_now());
        let destinations = Destinations { database: true, broker: self.options.topic_prefix.is_some() };
        self.transitions = self.transitions.successor(destinations);
        if destinations.broker && !past.unpublished.is_empty() {
            info!(self.logger, "status changes from before the start may not have reached the broker: \
                publishing them again";
                "changes" => past.unpublished.len());
            self.transitions.push_recorded(past.unpublished);
        }
        (self.unrecorded_reported, self.unpublished_reported) = (0, 0);
        let mut machines = recover.machines;
        self.begin_forgetting(past.forgets, &mut machines, recover.after);
        let start = StartState {
            machines: machines.into_iter().filter_map(known_machine).collect(),
            recent_changes: past.recent_changes,
            after: recover.after,
            received_before: recover.received_before,
        };
        let transitions = self.replay.recover(start, now());
        self.publishing.request_all_statuses();
        self.on_transitions(transitions);
    }

    fn observe(&mut self, observe: &Observe) -> Observed {
        let now = now();
        let (upto, proven_until) = (observe.upto, observe.proven_until);
        let Some(transitions) = self.replay.observe(&observe.sightings, upto, proven_until, now) else {
            return Observed::NotRecovered;
        };
        self.outage_log.proven(self.replay.proven_until(), now);
        self.on_transitions(transitions);
        Observed::Seen { transitions_pending: self.pending() }
    }

    /// Returns how much the parser can take now.
    fn pending(&self) -> usize {
        if self.replay.waits_for_history() {
            return 0;
        }
        let others = self.transitions.waits_for_database() || self.outage_log.has_pending();
        self.transitions.unrecorded_len().max(usize::from(others))
    }

    fn on_transitions(&mut self, transitions: Vec<Transition>) {
        self.changes_report.log_transitions(&transitions, now(), &self.logger);
        for transition in transitions {
            self.snapshots.add(transition.clone());
            self.transitions.push(transition);
        }
        self.report_flapping();
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::tick") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        self.take_new_rules();
        self.take_forget_requests();
        self.schedule_proof(context);
        self.report_flapping();
        self.changes_report.log_summaries(mono_now(), &self.logger);
        self.update_metrics_and_snapshot();
        self.report_dropped();
        self.notify_parser();
        self.publish(context);
    }

    /// Takes over the rules of a reload.
    fn take_new_rules(&mut self) {
        let newest = self.options.rules.snapshot();
        if !Arc::ptr_eq(&self.rules, &newest) {
            debug!(self.logger, "taking over new rules");
            self.replay.set_rules((*newest).clone(), now());
            self.rules = newest;
        }
    }

    fn set_refused(&mut self, changed: &LinkChanged) {
        self.replay.set_refused(changed.refused, changed.at, changed.asked_at);
        self.outage_log.set_refused(!changed.refused.is_empty(), changed.at);
    }

    fn notify_parser(&self) {
        if self.pending() > 0 {
            // If it cannot be delivered now, the next tick tries again.
            let _next_tick = self.wires.parser.try_send(TransitionsPending);
        }
    }
}

/// Returns `None` for a row without `status_since`: Andon did not write it, so nothing in it is reliable.
fn known_machine(row: MachineRow) -> Option<KnownMachine> {
    Some(KnownMachine {
        machine_id: row.machine_id,
        status: row.status,
        status_since: row.status_since?,
        reason: row.reason,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
    })
}

fn now() -> TimePoint {
    TimePoint { mono: mono_now(), wall: wall_now() }
}

impl Actor for Liveness {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::start") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        // If the mqtt actor is away, it reports by itself when it is back.
        let _reported_later = self.wires.link.try_send(TellLink);
        for status in [DisplayStatus::Online, DisplayStatus::Offline, DisplayStatus::Unknown] {
            self.metrics.machines.of(status).set(0);
        }
        self.snapshots.invalidate();
        self.wires.fence.raise(self.exit_guard.generation());
        context.run_interval(TICK, Self::tick);
    }
}

impl Handler<Recover> for Liveness {
    type Result = Recovered;

    fn handle(&mut self, recover: Recover, _: &mut Context<Self>) -> Recovered {
        self.recover(recover)
    }
}

impl Handler<Observe> for Liveness {
    type Result = Observed;

    fn handle(&mut self, observe: Observe, context: &mut Context<Self>) -> Observed {
        if let Err(error) = failpoint("liveness::observe") {
            self.exit_guard.fail(error);
            context.stop();
            return Observed::NotRecovered;
        }
        let observed = self.observe(&observe);
        if observe.proven_until.is_some_and(|until| self.proof_scheduler.on_proven(until)) {
            self.schedule_proof(context);
        }
        self.publish(context);
        observed
    }
}

impl Handler<TakeTransitions> for Liveness {
    type Result = TakenTransitions;

    fn handle(&mut self, take: TakeTransitions, _: &mut Context<Self>) -> TakenTransitions {
        let taken = self.transitions.oldest_unrecorded(take.upto, take.count_max);
        let (published, cleared, confirmed) = self.transitions.to_confirm(take.count_max);
        let forgets = taken.forgets.into_iter().chain(cleared).collect();
        let outages = self.outage_log.pending();
        let seen_until = outages.seen_until;
        let receipt = Receipt { transitions: taken.upto, confirmed, outages: outages.upto, seen_until };
        let transitions_published = taken.published;
        let rows =
            LivenessRows { transitions_published, published, forgets, outages: outages.outages, seen_until };
        let more = self.transitions.has_after(taken.upto, take.upto);
        TakenTransitions { transitions: taken.transitions, rows, receipt, more }
    }
}

impl Handler<TransitionsRecorded> for Liveness {
    type Result = ();

    fn handle(&mut self, recorded: TransitionsRecorded, _: &mut Context<Self>) {
        let TransitionsRecorded(receipt) = recorded;
        self.transitions.on_recorded(receipt.transitions, receipt.confirmed);
        self.outage_log.on_recorded(receipt.outages, receipt.seen_until);
    }
}

impl Handler<LinkChanged> for Liveness {
    type Result = ();

    fn handle(&mut self, changed: LinkChanged, context: &mut Context<Self>) {
        match self.link_changes.classify(&changed) {
            LinkUpdate::Stale => return,
            // Only the refused filters may have changed.
            LinkUpdate::SameLink => return self.set_refused(&changed),
            LinkUpdate::NewState => {}
        }
        if self.replay.link_is_up() != changed.up {
            debug!(self.logger, "link state changed"; "link_up" => changed.up);
        }
        if changed.up {
            self.outage_log.link_up(changed.at);
            self.replay.link_up(changed.at, changed.heard_from);
            self.set_refused(&changed);
            if changed.forgotten {
                self.publishing.request_all_statuses();
            }
        } else {
            self.outage_log.link_down(changed.at, changed.alive_until, changed.reason);
            self.replay.link_down(changed.at, changed.appended);
        }
        self.notify_parser();
        self.publish(context);
    }
}

supervised!(Liveness, "liveness");
