//! The liveness actor: who is on the floor.
//!
//! Owns the [`replay`] (a pure core around the [`tracker`]), what it still has to tell ([`outbox`], [`outage_log`]), and what the
//! machines board shows ([`snapshot_writer`]). Receives [`Recover`], [`Observe`], [`TakeTransitions`] and [`TransitionsRecorded`] from
//! the parser and [`LinkChanged`] from the mqtt actor. Sends `TransitionsPending` to the parser, `PublishStatuses` and
//! `ProveLink` to the mqtt actor.
//!
//! Invariants
//! - LIV-1 It knows nothing before [`Recover`] (see [`replay`]).
//! - LIV-2 Transitions reach the database only through the parser's batches, in order, and stay here until they are recorded.
//! - LIV-3 No transition by silence without proof that the link was alive (rule TRK-2 of the tracker), which the mqtt actor is asked for.
//!   What counts as a proof it decides (its invariant MQTT-8).
//! - LIV-4 Every transition is published, in order, whether or not the database is there, and stays here until the broker has it
//!   and the database knows that. After a crash those that the database has as pending are published again, before anything
//!   else. The present status of every machine follows when this incarnation begins and when the broker has forgotten, so that what
//!   it retains ends up equal to the database; after any other loss of the link what was not acknowledged goes out again.
//! - LIV-5 A start without the database loses no transition (see [`replay`]).

#[cfg(test)]
mod actor_tests;
mod line_budget;
mod link_news;
pub mod messages;
mod outage_log;
mod outbox;
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

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, debug, info, o};

use self::messages::{
    LinkChanged, Observe, Observed, Receipt, Recover, Recovered, TakeTransitions, TakenTransitions,
    TransitionsRecorded,
};
pub use self::outbox::TRANSITIONS_MAX;
pub use self::tracker::{FlappingRule, MachineRule, Sighting, SightingKind, TimePoint, TrackerOptions};

use self::link_news::{LinkNews, News};
use self::outage_log::{OutageLog, PastOutages};
use self::outbox::{Takers, TransitionOutbox};
use self::proof_scheduler::ProofScheduler;
use self::publish::Publishing;
use self::replay::{Beginning, Replay};
use self::report::ChangesReport;
use self::snapshot_writer::Display;
use self::tracker::KnownMachine;
use super::failpoint::failpoint;
use super::mqtt::messages::{ProveLink, PublishStatuses, TellLink};
use super::mqtt::publish_fence::PublishFence;
use super::parser::messages::TransitionsPending;
use super::stable_addr::StableAddr;
use super::supervisor::{ExitGuard, Heartbeat, StopChild};
use crate::clock::{mono_now, wall_now};
use crate::domain::Transition;
use crate::metrics::Metrics;
use crate::status::MachinesCell;
use crate::store::{LivenessRows, MachineRow};

/// How often deadlines are looked at. Those before the next tick get a call of their own (see [`proof_scheduler`]).
const TICK: Duration = Duration::from_millis(200);

/// What the actor needs beside its lifeline.
#[derive(Clone)]
pub struct LivenessOptions {
    /// The rules.
    pub tracker: TrackerOptions,
    /// `<publish_prefix>/<site>`; `None`: publish nothing.
    pub topic_prefix: Option<String>,
}

/// The actor's way to the others.
#[derive(Clone)]
pub struct LivenessWires {
    /// Told that there is something to record.
    pub parser: StableAddr<TransitionsPending>,
    /// Publishes statuses.
    pub publish: StableAddr<PublishStatuses>,
    /// Proves the link.
    pub prove: StableAddr<ProveLink>,
    /// Tells whether the link is up.
    pub link: StableAddr<TellLink>,
    /// Keeps an incarnation that was given up from publishing.
    pub fence: Arc<PublishFence>,
    /// Shows the machines to whoever reads it.
    pub board: Arc<MachinesCell>,
}

/// The actor.
pub struct Liveness {
    options: LivenessOptions,
    wires: LivenessWires,
    metrics: Arc<Metrics>,
    exit_guard: ExitGuard,
    logger: Logger,
    display: Display,
    watch: Replay,
    link_news: LinkNews,
    outage_log: OutageLog,
    transitions: TransitionOutbox,
    publishing: Publishing,
    questions: ProofScheduler,
    changes_report: ChangesReport,
    overflow_told: bool,
    unrecorded_told: u64,
    unpublished_told: u64,
}

impl Liveness {
    /// A new incarnation, which knows nothing yet.
    #[must_use]
    pub fn new(
        options: LivenessOptions,
        wires: LivenessWires,
        metrics: Arc<Metrics>,
        exit_guard: ExitGuard,
        logger: &Logger,
    ) -> Self {
        let takers = Takers { database: false, broker: options.topic_prefix.is_some() };
        Self {
            display: Display::new(Arc::clone(&wires.board)),
            watch: Replay::new(options.tracker.clone()),
            options,
            wires,
            metrics,
            exit_guard,
            logger: logger.new(o!("component" => "liveness")),
            link_news: LinkNews::default(),
            outage_log: OutageLog::default(),
            transitions: TransitionOutbox::new(takers),
            publishing: Publishing::default(),
            questions: ProofScheduler::default(),
            changes_report: ChangesReport::default(),
            overflow_told: false,
            unrecorded_told: 0,
            unpublished_told: 0,
        }
    }

    fn recover(&mut self, recover: Recover) -> Recovered {
        let knows_nothing = self.watch.tracker().is_none();
        debug!(self.logger, "told where to begin"; "provisional" => recover.provisional, "after" => recover.after.0);
        if recover.provisional && knows_nothing {
            self.watch.begin_without_past(recover.after, recover.received_before, moment_now());
        } else if !recover.provisional && (knows_nothing || self.watch.is_provisional()) {
            self.begin(recover);
        }
        Recovered { observed_upto: self.watch.observed_upto(), transitions_pending: self.pending() }
    }

    fn begin(&mut self, recover: Recover) {
        // A message came through the link, and no silence is recorded without a proof of it: then it was up.
        let newest_proof = recover
            .machines
            .iter()
            .filter_map(|machine| machine.last_seen_at.max(machine.status_since))
            .max();
        let past = recover.past;
        let seen_until = past.seen_until.max(newest_proof).map(|until| until.min(wall_now()));
        self.outage_log.learn(PastOutages { newest_outage: past.newest_outage, seen_until }, wall_now());
        let takers = Takers { database: true, broker: self.options.topic_prefix.is_some() };
        self.transitions = self.transitions.successor(takers);
        if takers.broker && !past.unpublished.is_empty() {
            info!(self.logger, "status changes of the past may not have reached the broker: publishing them again";
                "changes" => past.unpublished.len());
            self.transitions.remember(past.unpublished);
        }
        (self.unrecorded_told, self.unpublished_told) = (0, 0);
        let beginning = Beginning {
            machines: recover.machines.into_iter().filter_map(known_machine).collect(),
            recent_changes: past.recent_changes,
            after: recover.after,
            received_before: recover.received_before,
        };
        let transitions = self.watch.recover(beginning, moment_now());
        self.publishing.everything();
        self.on_transitions(transitions);
    }

    fn observe(&mut self, observe: &Observe) -> Observed {
        let now = moment_now();
        let (upto, proven_until) = (observe.upto, observe.proven_until);
        let Some(transitions) = self.watch.observe(&observe.sightings, upto, proven_until, now) else {
            return Observed::NotRecovered;
        };
        self.outage_log.proven(self.watch.proven_until(), now);
        self.on_transitions(transitions);
        Observed::Seen { transitions_pending: self.pending() }
    }

    /// What waits for the parser to take it.
    fn pending(&self) -> usize {
        let others = self.transitions.waits_for_database() || self.outage_log.has_news();
        let is_known = !self.watch.is_provisional();
        if is_known { self.transitions.unrecorded_len().max(usize::from(others)) } else { 0 }
    }

    fn on_transitions(&mut self, transitions: Vec<Transition>) {
        self.changes_report.tell_transitions(&transitions, moment_now(), &self.logger);
        for transition in transitions {
            self.display.tell(transition.clone());
            self.transitions.push(transition);
        }
        self.tell_flapping();
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::tick") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        self.look_ahead(context);
        self.tell_flapping();
        self.changes_report.sum_up(mono_now(), &self.logger);
        self.show();
        self.tell_what_was_given_up();
        self.tell_parser();
        self.publish(context);
    }

    fn refuse(&mut self, changed: &LinkChanged) {
        self.watch.refuse(changed.refused, changed.at, changed.asked_at);
        self.outage_log.refuse(!changed.refused.is_empty(), changed.at);
    }

    fn tell_parser(&self) {
        if self.pending() > 0 {
            // The parser asks again by itself once it has heard of it; else it is told at the next tick.
            let _next_tick = self.wires.parser.try_send(TransitionsPending);
        }
    }
}

/// A row without `status_since` was not written by Andon; it says nothing that could be relied on.
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

fn moment_now() -> TimePoint {
    TimePoint { mono: mono_now(), wall: wall_now() }
}

impl Actor for Liveness {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::start") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        // If the mqtt actor is away it tells by itself when it is back.
        let _told_later = self.wires.link.try_send(TellLink);
        for gauge in
            [&self.metrics.machines_online, &self.metrics.machines_offline, &self.metrics.machines_unknown]
        {
            gauge.set(0);
        }
        self.display.lose_sight();
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
        if observe.proven_until.is_some_and(|until| self.questions.on_proven(until)) {
            self.look_ahead(context);
        }
        self.publish(context);
        observed
    }
}

impl Handler<TakeTransitions> for Liveness {
    type Result = TakenTransitions;

    fn handle(&mut self, take: TakeTransitions, _: &mut Context<Self>) -> TakenTransitions {
        let taken = self.transitions.oldest_unrecorded(take.upto, take.count_max);
        let (published, marks) = self.transitions.to_mark(take.count_max);
        let sight = self.outage_log.news();
        let seen_until = sight.seen_until;
        let receipt = Receipt { transitions: taken.upto, marks, outages: sight.upto, seen_until };
        let transitions_published = taken.published;
        let rows = LivenessRows { transitions_published, published, outages: sight.outages, seen_until };
        let more = self.transitions.has_after(taken.upto, take.upto);
        TakenTransitions { transitions: taken.transitions, rows, receipt, more }
    }
}

impl Handler<TransitionsRecorded> for Liveness {
    type Result = ();

    fn handle(&mut self, recorded: TransitionsRecorded, _: &mut Context<Self>) {
        let TransitionsRecorded(receipt) = recorded;
        self.transitions.on_recorded(receipt.transitions, receipt.marks);
        self.outage_log.on_recorded(receipt.outages, receipt.seen_until);
    }
}

impl Handler<LinkChanged> for Liveness {
    type Result = ();

    fn handle(&mut self, changed: LinkChanged, context: &mut Context<Self>) {
        let news = self.link_news.judge(&changed);
        if news == News::SameLink {
            // The broker may have thought better of a filter.
            self.refuse(&changed);
        }
        if news != News::Another {
            return;
        }
        if self.watch.link_is_up() != changed.up {
            debug!(self.logger, "sight of the machines changed"; "link_up" => changed.up);
        }
        if changed.up {
            self.outage_log.link_up(changed.at);
            self.watch.link_up(changed.at, changed.heard_from);
            self.refuse(&changed);
            if changed.forgotten {
                self.publishing.everything();
            }
        } else {
            self.outage_log.link_down(changed.at, changed.alive_until, changed.reason);
            self.watch.link_down(changed.at, changed.appended);
        }
        self.tell_parser();
        self.publish(context);
    }
}

impl Handler<Heartbeat> for Liveness {
    type Result = ();

    fn handle(&mut self, _: Heartbeat, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::handle") {
            self.exit_guard.fail(error);
            context.stop();
        }
    }
}

impl Handler<StopChild> for Liveness {
    type Result = ();

    fn handle(&mut self, _: StopChild, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::stop") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        self.exit_guard.finish();
        context.stop();
    }
}
