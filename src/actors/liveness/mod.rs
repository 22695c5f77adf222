//! The liveness actor: who is on the floor.
//!
//! Owns the [`tracker`] (a pure state machine), what it still has to tell ([`outbox`]), and what the machines board shows
//! ([`display`]). Receives [`Recover`], [`Observe`],
//! [`TakeTransitions`] and [`TransitionsRecorded`] from the parser and [`LinkChanged`] from the mqtt actor. Sends
//! `TransitionsPending` to the parser, `PublishStatuses` and `ProveLink` to the mqtt actor.
//!
//! Invariants
//! - L1 It knows nothing before [`Recover`]: a restarted incarnation says so, and the parser lets it begin again from the
//!   database's state and the records after it.
//! - L2 Transitions reach the database only through the parser's batches, in order, and stay here until they are recorded.
//! - L3 No transition by silence without proof that the link was alive (rule T2 of the tracker): if no message brings it,
//!   a round trip of our own is asked for.
//! - L4 Statuses are published in order per machine, whether or not the database is there; what could not be published
//!   stays queued.

pub mod announce;
mod display;
mod outbox;
pub mod tracker;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, debug, info, o, warn};

pub use self::tracker::{FlappingRule, MachineRule, Moment, Sighting, SightingKind, TrackerOptions};

use self::display::Display;
use self::outbox::{StatusOutbox, TransitionOutbox};
use self::tracker::{KnownMachine, Tracker};
use super::failpoint::failpoint;
use super::mqtt::{ProveLink, PublishStatuses, TellLink};
use super::parser::TransitionsPending;
use super::supervisor::{Generation, Heartbeat, Lifeline, StopChild};
use super::wire::Wire;
use crate::clock::{Mono, mono_now, wall_now};
use crate::domain::{Seq, Transition};
use crate::metrics::Metrics;
use crate::status::MachinesBoard;
use crate::store::MachineRow;

/// How often deadlines are looked at; a transition by silence is noticed within this and a round trip to the broker.
const TICK: Duration = Duration::from_millis(200);
/// Status messages handed to the mqtt actor at once.
const PUBLISH_MAX: usize = 500;
/// More transitions at once than this are one line in the log.
const LOGGED_SINGLY_MAX: usize = 20;
/// Longest wait for these to be acknowledged.
const PUBLISH_ANSWER_MAX: Duration = Duration::from_secs(60);

/// Begin from this state.
#[derive(Debug, Message)]
#[rtype(result = "Recovered")]
pub struct Recover {
    /// The machines as the database knows them, after all records up to `after`.
    pub machines: Vec<MachineRow>,
    /// The committed position.
    pub after: Seq,
    /// Records up to here were received before now: how long ago is not known, they may be from before a link outage.
    pub received_before: Seq,
    /// The database is away and the past unknown: watch and publish, record nothing.
    pub provisional: bool,
}

/// Where liveness stands.
#[derive(Debug, Clone, Copy, actix::MessageResponse)]
pub struct Recovered {
    /// Records up to here have been looked at.
    pub observed_upto: Seq,
    /// Transitions that wait to be recorded.
    pub transitions_pending: usize,
}

/// All sightings of the records up to `upto`, in order.
#[derive(Debug, Message)]
#[rtype(result = "Observed")]
pub struct Observe {
    /// Of records that have not been observed before.
    pub sightings: Vec<Sighting>,
    /// Every record up to here has been looked at.
    pub upto: Seq,
    /// The link was alive then or later, and every record received before then has been looked at.
    pub proven_until: Option<Mono>,
}

/// The answer to [`Observe`].
#[derive(Debug, Clone, Copy, actix::MessageResponse)]
pub enum Observed {
    /// They are taken into account.
    Seen {
        /// Transitions that wait to be recorded.
        transitions_pending: usize,
    },
    /// This incarnation knows nothing yet (L1).
    NotRecovered,
}

/// Asks for the oldest transitions that are not recorded.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "TakenTransitions")]
pub struct TakeTransitions {
    /// Only those that records up to here caused, or that came after them.
    pub upto: Seq,
    /// At most so many.
    pub count_max: usize,
}

/// Transitions to record.
#[derive(Debug, actix::MessageResponse)]
pub struct TakenTransitions {
    /// In order.
    pub transitions: Vec<Transition>,
    /// For [`TransitionsRecorded`]; 0 if there are none.
    pub upto: u64,
    /// There are more than could be taken at once.
    pub more: bool,
}

/// Fact: transitions are in the database.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TransitionsRecorded {
    /// As in [`TakenTransitions`].
    pub upto: u64,
}

/// Fact from the mqtt actor: the broker link came up, with every subscription granted, or went down.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LinkChanged {
    /// Which.
    pub up: bool,
    /// When.
    pub at: Moment,
    /// The newest record in the journal at that moment.
    pub appended: Seq,
    /// The incarnation of the mqtt actor: an abandoned one that wakes up has no say any more.
    pub generation: Generation,
}

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
    pub parser: Wire<TransitionsPending>,
    /// Publishes statuses.
    pub publish: Wire<PublishStatuses>,
    /// Proves the link.
    pub prove: Wire<ProveLink>,
    /// Tells whether the link is up.
    pub link: Wire<TellLink>,
    /// Shows the machines to whoever reads it.
    pub board: Arc<MachinesBoard>,
}

/// The actor.
pub struct Liveness {
    options: LivenessOptions,
    wires: LivenessWires,
    metrics: Arc<Metrics>,
    lifeline: Lifeline,
    logger: Logger,
    display: Display,
    tracker: Option<Tracker>,
    provisional: bool,
    /// See [`Recover`].
    received_before: Seq,
    /// Of the mqtt actor's news.
    link_generation: Generation,
    link_up_since: Option<Moment>,
    /// Links that ended, with the newest record of each, as long as records of before may still come.
    ended_links: VecDeque<(Seq, Mono)>,
    newest_received: Option<Mono>,
    proven_until: Mono,
    transitions: TransitionOutbox,
    statuses: StatusOutbox,
    publishing: bool,
    overflow_told: bool,
    given_up_told: u64,
}

impl Liveness {
    /// A new incarnation, which knows nothing yet.
    #[must_use]
    pub fn new(
        options: LivenessOptions,
        wires: LivenessWires,
        metrics: Arc<Metrics>,
        lifeline: Lifeline,
        logger: &Logger,
    ) -> Self {
        let display = Display::new(Arc::clone(&wires.board));
        Self {
            options,
            wires,
            metrics,
            display,
            lifeline,
            logger: logger.new(o!("component" => "liveness")),
            tracker: None,
            provisional: false,
            received_before: Seq::ZERO,
            link_generation: 0,
            link_up_since: None,
            ended_links: VecDeque::new(),
            newest_received: None,
            proven_until: Mono::default(),
            transitions: TransitionOutbox::default(),
            statuses: StatusOutbox::default(),
            publishing: false,
            overflow_told: false,
            given_up_told: 0,
        }
    }

    fn recover(&mut self, recover: Recover) -> Recovered {
        let begin_again = self.tracker.is_none() || (self.provisional && !recover.provisional);
        if begin_again {
            let known = recover.machines.into_iter().filter_map(known_machine).collect();
            let mut options = self.options.tracker.clone();
            if recover.provisional {
                // Whether a machine was ever seen, only the database knows.
                options.machines.values_mut().for_each(|rule| rule.expected = false);
            }
            let mut tracker = Tracker::new(options, known, recover.after);
            self.received_before = recover.received_before;
            if self.link_up_since.is_some() {
                // Sight begins when the past is known, not when the link came up.
                tracker.link_up(moment_now());
            }
            self.provisional = recover.provisional;
            if !recover.provisional {
                let ids = tracker.views().map(|view| view.machine_id.clone());
                ids.for_each(|machine_id| self.statuses.push(machine_id));
            }
            debug!(self.logger, "recovered"; "provisional" => recover.provisional, "after" => recover.after.0);
            self.tracker = Some(tracker);
            self.transitions = TransitionOutbox::default();
            self.given_up_told = 0;
        }
        let observed_upto = self.tracker.as_ref().map_or(Seq::ZERO, Tracker::observed_upto);
        Recovered { observed_upto, transitions_pending: self.transitions.len() }
    }

    fn observe(&mut self, observe: &Observe) -> Observed {
        let now = mono_now();
        let mut transitions = Vec::new();
        let mut sightings = &observe.sightings[..];
        while let Some(first) = sightings.first() {
            let received = self.received_at(first.seq, now);
            let same = sightings.partition_point(|sighting| self.received_at(sighting.seq, now) == received);
            let Some(tracker) = &mut self.tracker else { return Observed::NotRecovered };
            // News of a link's end may come after records were taken for later than it; evidence never goes back.
            self.newest_received = self.newest_received.max(received);
            let received = received.and(self.newest_received);
            tracker.observe_all(&sightings[..same], received, &mut transitions);
            sightings = &sightings[same..];
        }
        let Some(tracker) = &mut self.tracker else { return Observed::NotRecovered };
        tracker.looked_at(observe.upto);
        if let Some(proven_until) = observe.proven_until {
            self.proven_until = self.proven_until.max(proven_until);
            tracker.advance(proven_until, &mut transitions);
        }
        while self.ended_links.front().is_some_and(|(newest, _)| *newest <= observe.upto) {
            self.ended_links.pop_front();
        }
        self.on_transitions(transitions);
        Observed::Seen { transitions_pending: self.transitions.len() }
    }

    /// An instant at which, or after which, a record was received, but not after its link ended.
    fn received_at(&self, seq: Seq, now: Mono) -> Option<Mono> {
        if seq <= self.received_before {
            return None;
        }
        let link_of_it = self.ended_links.iter().find(|(newest, _)| seq <= *newest);
        Some(link_of_it.map_or(now, |(_, ended_at)| *ended_at))
    }

    fn on_transitions(&mut self, transitions: Vec<Transition>) {
        if transitions.len() > LOGGED_SINGLY_MAX {
            info!(self.logger, "many machines changed their status"; "machines" => transitions.len());
        }
        let singly = transitions.len() <= LOGGED_SINGLY_MAX;
        for transition in transitions {
            if singly {
                info!(self.logger, "machine changed its status"; "machine_id" => transition.machine_id.as_str(),
                    "status" => transition.status.as_str(), "reason" => transition.reason.as_str(),
                    "since" => %transition.occurred_at);
            }
            self.statuses.push(transition.machine_id.clone());
            self.display.tell(transition.clone());
            if !self.provisional {
                self.transitions.push(transition);
            }
        }
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::tick") {
            self.lifeline.fail(error);
            return context.stop();
        }
        if let Some(tracker) = &mut self.tracker {
            let due = tracker.next_deadline().filter(|deadline| *deadline <= mono_now());
            if due.is_some_and(|deadline| deadline > self.proven_until) {
                // Asked again at the next tick if it cannot be taken now.
                let _next_tick = self.wires.prove.try_send(ProveLink);
            }
            let counts = tracker.counts();
            self.metrics.machines_online.set(counts.online);
            self.metrics.machines_offline.set(counts.offline);
            self.metrics.machines_unknown.set(counts.unknown);
            self.metrics.machines_never_seen.set(counts.never_seen);
            self.metrics.sightings_untracked.set(tracker.untracked_sightings());
            self.display.refresh(tracker, !self.provisional);
            if tracker.overflowed() && !self.overflow_told {
                self.overflow_told = true;
                warn!(self.logger, "more machines than liveness.machines_max: the readings of the others are stored, their status is \
                    not watched"; "machines_max" => self.options.tracker.machines_max);
            }
        }
        if self.transitions.given_up() > self.given_up_told {
            self.given_up_told = self.transitions.given_up();
            warn!(self.logger, "too many status changes wait for the database: the oldest are not recorded";
                "given_up" => self.given_up_told);
        }
        if self.transitions.len() > 0 {
            // The parser asks again by itself once it has heard of it.
            let _next_tick = self.wires.parser.try_send(TransitionsPending);
        }
        self.publish(context);
    }

    /// Publishes what is out of date, a bounded part at a time.
    fn publish(&mut self, context: &mut Context<Self>) {
        let (Some(prefix), Some(tracker)) = (&self.options.topic_prefix, &self.tracker) else { return };
        if self.publishing || self.link_up_since.is_none() || self.statuses.is_empty() {
            return;
        }
        let machines = self.statuses.take(PUBLISH_MAX);
        let messages: Vec<_> = machines
            .iter()
            .filter_map(|machine_id| tracker.status_of(machine_id.as_str()))
            .filter_map(|view| announce::status_message(prefix, &view))
            .collect();
        let count = messages.len();
        self.publishing = true;
        let wire = self.wires.publish.clone();
        let call = async move { wire.call(PublishStatuses(messages), PUBLISH_ANSWER_MAX).await };
        context.spawn(call.into_actor(self).map(move |answer, liveness, context| {
            liveness.publishing = false;
            if answer == Ok(count) {
                liveness.publish(context);
            } else {
                // Some may have arrived; saying the present status again is harmless.
                liveness.statuses.put_back(machines);
            }
        }));
    }
}

/// A row without `status_since` was not written by Andon; it says nothing that could be relied on.
fn known_machine(row: MachineRow) -> Option<KnownMachine> {
    Some(KnownMachine {
        machine_id: row.machine_id,
        status: row.status,
        status_since: row.status_since?,
        reason: None,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
    })
}

fn moment_now() -> Moment {
    Moment { mono: mono_now(), wall: wall_now() }
}

impl Actor for Liveness {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::start") {
            self.lifeline.fail(error);
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
            self.lifeline.fail(error);
            context.stop();
            return Observed::NotRecovered;
        }
        let observed = self.observe(&observe);
        self.publish(context);
        observed
    }
}

impl Handler<TakeTransitions> for Liveness {
    type Result = TakenTransitions;

    fn handle(&mut self, take: TakeTransitions, _: &mut Context<Self>) -> TakenTransitions {
        let (transitions, upto) = self.transitions.oldest(take.upto, take.count_max);
        let more = self.transitions.has_after(upto, take.upto);
        TakenTransitions { transitions, upto, more }
    }
}

impl Handler<TransitionsRecorded> for Liveness {
    type Result = ();

    fn handle(&mut self, recorded: TransitionsRecorded, _: &mut Context<Self>) {
        self.transitions.recorded(recorded.upto);
    }
}

impl Handler<LinkChanged> for Liveness {
    type Result = ();

    fn handle(&mut self, changed: LinkChanged, _: &mut Context<Self>) {
        if changed.generation < self.link_generation {
            return;
        }
        self.link_generation = changed.generation;
        if let Some(tracker) = &mut self.tracker {
            if changed.up {
                tracker.link_up(changed.at);
            } else {
                tracker.link_down(changed.at);
            }
        }
        if self.link_up_since.is_some() && !changed.up {
            self.ended_links.push_back((changed.appended, changed.at.mono));
        }
        if self.link_up_since.is_some() != changed.up {
            debug!(self.logger, "sight of the machines changed"; "link_up" => changed.up);
        }
        self.link_up_since = changed.up.then_some(changed.at);
    }
}

impl Handler<Heartbeat> for Liveness {
    type Result = ();

    fn handle(&mut self, _: Heartbeat, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::handle") {
            self.lifeline.fail(error);
            context.stop();
        }
    }
}

impl Handler<StopChild> for Liveness {
    type Result = ();

    fn handle(&mut self, _: StopChild, context: &mut Context<Self>) {
        if let Err(error) = failpoint("liveness::stop") {
            self.lifeline.fail(error);
            return context.stop();
        }
        self.lifeline.finish();
        context.stop();
    }
}
