//! The actor: what it is made of, and what it does with each message. Its invariants are those of [`super`].

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, info, o, warn};

use super::callback::MessageCallback;
use super::certificate_checks;
use super::checks::certificates::CertificateWatch;
use super::client::link::Link;
use super::client::options::LinkOptions;
use super::messages::{CallbackPanicked, LinkEnded, SpaceChanged, TellLink};
use super::publish_fence::PublishFence;
use super::refused_filters::RefusedFilters;
use super::session::failover::{Failover, Hosts};
use super::session::takeover::Takeover;
use super::session_filters::FilterFile;
use super::status_publisher::StatusStream;
use crate::actors::backoff::Backoff;
use crate::actors::failpoint::failpoint;
use crate::actors::liveness::messages::LinkChanged;
use crate::actors::parser::messages::JournalGrew;
use crate::actors::stable_addr::StableAddr;
use crate::actors::supervisor::{ExitGuard, Heartbeat};
use crate::clock::Mono;
use crate::domain::{Endpoint, Qos, TopicFilter};
use crate::journal::Space;
use crate::metrics::Metrics;
use crate::status::{BrokerCell, BrokerState};

/// What the actor needs beside its lifeline.
#[derive(Clone)]
pub struct MqttOptions {
    /// How to speak to a broker.
    pub link: LinkOptions,
    /// The brokers, and what was learnt about them in this run.
    pub hosts: Arc<Hosts>,
    /// What was learnt about certificates in this run.
    pub certificates: Arc<CertificateWatch>,
    /// What the broker's session holds.
    pub filter_file: FilterFile,
    /// Where the state of the link is shown.
    pub board: Arc<BrokerCell>,
    /// The filters through which machines speak.
    pub telemetry: Vec<TopicFilter>,
    /// Filters with the QoS to ask for; those of last wills included.
    pub subscriptions: Vec<(TopicFilter, Qos)>,
    /// The topic of our echo, as a filter; `None`: there is none.
    pub echo_topic: Option<TopicFilter>,
    /// First delay between attempts.
    pub backoff_min: Duration,
    /// Longest delay between attempts.
    pub backoff_max: Duration,
}

/// The actor's way to the others.
#[derive(Clone)]
pub struct MqttWires {
    /// Told when the link comes and goes.
    pub liveness: StableAddr<LinkChanged>,
    /// Told when the link was proven by a round trip.
    pub parser: StableAddr<JournalGrew>,
    /// Who may publish statuses.
    pub fence: Arc<PublishFence>,
}

pub(super) enum State {
    /// Waits for a retry, or for room in the journal.
    Down,
    Connecting,
    Up {
        since: Instant,
    },
    Stopping,
}

/// The actor.
pub struct Mqtt {
    pub(super) options: MqttOptions,
    pub(super) wires: MqttWires,
    pub(super) callback: Arc<MessageCallback>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) exit_guard: ExitGuard,
    pub(super) logger: Logger,
    /// Of the newest attempt to connect, which may have failed.
    pub(super) link: Option<Rc<Link>>,
    pub(super) failover: Failover,
    pub(super) state: State,
    /// Numbers the attempts to connect; an answer to another than the newest is stale.
    pub(super) attempt: u64,
    /// When the newest attempt to connect began: what was received since then came over its link.
    pub(super) attempt_began: Mono,
    /// An attempt has not been answered yet. The library answers each, and must not be asked twice at a time.
    pub(super) attempt_pending: bool,
    /// The broker had a session of ours in this run.
    pub(super) had_session: bool,
    /// The broker of the newest link that was up, and whether it had lost our session, or was another than before.
    pub(super) published_to: Option<Endpoint>,
    pub(super) broker_forgot: bool,
    pub(super) room: bool,
    pub(super) backoff: Backoff,
    pub(super) retry: Option<SpawnHandle>,
    pub(super) last_reason: Option<String>,
    /// Why the broker ended the newest connection, in its words: set by the callback, as such news may come before we know
    /// that there was a connection.
    pub(super) disconnect: Arc<Mutex<Option<String>>>,
    pub(super) last_memory_failure: Option<String>,
    pub(super) status_stream: StatusStream,
    pub(super) refusal_told: bool,
    /// Why there is no echo, once that is said.
    pub(super) refused_echo: Option<String>,
    pub(super) refused: RefusedFilters,
    pub(super) takeover: Takeover,
    /// The end of the link that is being dealt with was a take-over.
    pub(super) taken_over: bool,
}

impl Mqtt {
    /// A new incarnation; `room` says whether the journal has room now.
    #[must_use]
    pub fn new(
        options: MqttOptions,
        wires: MqttWires,
        callback: Arc<MessageCallback>,
        room: bool,
        exit_guard: ExitGuard,
        logger: &Logger,
    ) -> Self {
        let failover = Failover::new(Arc::clone(&options.hosts));
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let metrics = Arc::clone(&callback.metrics);
        let logger = logger.new(o!("component" => "mqtt"));
        Self {
            options,
            wires,
            callback,
            metrics,
            exit_guard,
            logger,
            link: None,
            failover,
            state: State::Down,
            attempt: 0,
            attempt_began: Mono::default(),
            attempt_pending: false,
            had_session: false,
            published_to: None,
            broker_forgot: false,
            room,
            backoff,
            retry: None,
            last_reason: None,
            disconnect: Arc::default(),
            last_memory_failure: None,
            status_stream: StatusStream::default(),
            refusal_told: false,
            refused_echo: None,
            refused: RefusedFilters::default(),
            takeover: Takeover::default(),
            taken_over: false,
        }
    }
}

impl Actor for Mqtt {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Err(error) = failpoint("mqtt::start") {
            self.exit_guard.fail(error);
            return context.stop();
        }
        // An incarnation before this one may have ended without a word.
        self.metrics.broker_connected.set(false);
        self.forget_link();
        self.metrics.holding.set(!self.room);
        let (state, reason) = if self.room {
            (BrokerState::Connecting, None)
        } else {
            (BrokerState::Holding, Some("the journal is full"))
        };
        self.show(state, reason);
        self.tell_liveness(false, context);
        self.watch_link(context);
        // The journal's news may come while no incarnation listens.
        context.run_interval(Duration::from_secs(1), |actor, context| {
            let space = actor.callback.journal.stats().space;
            actor.on_space(space, context);
            actor.look_for_peace();
            if matches!(actor.state, State::Up { .. }) && !actor.is_connected() {
                actor.on_link_ended("connection lost", context);
            }
        });
        context.run_interval(certificate_checks::LOOK_EVERY, Self::look_at_certificates);
        self.look_at_certificates(context);
        if self.room {
            self.connect(context);
        } else {
            warn!(self.logger, "the journal is full: not connecting, the broker keeps the messages");
        }
    }
}

impl Handler<LinkEnded> for Mqtt {
    type Result = ();

    fn handle(&mut self, ended: LinkEnded, context: &mut Context<Self>) {
        // News of an older connection may come late; the library knows the truth.
        if matches!(self.state, State::Up { .. }) && !self.is_connected() {
            self.taken_over = ended.taken_over;
            self.on_link_ended(&ended.reason, context);
        }
    }
}

impl Handler<CallbackPanicked> for Mqtt {
    type Result = ();

    fn handle(&mut self, panicked: CallbackPanicked, context: &mut Context<Self>) {
        self.exit_guard.fail(format!("the message callback panicked: {}", panicked.message));
        context.stop();
    }
}

impl Handler<SpaceChanged> for Mqtt {
    type Result = ();

    fn handle(&mut self, changed: SpaceChanged, context: &mut Context<Self>) {
        self.on_space(changed.0, context);
    }
}

impl Mqtt {
    pub(super) fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_connected())
    }

    fn on_space(&mut self, space: Space, context: &mut Context<Self>) {
        let room = matches!(space, Space::Free);
        if self.room == room || matches!(self.state, State::Stopping) {
            return;
        }
        self.room = room;
        self.metrics.holding.set(!room);
        if room {
            info!(self.logger, "the journal has room again, connecting");
            self.show(BrokerState::Connecting, None);
            self.backoff.reset();
            self.connect(context);
        } else {
            let why = if let Space::Full(why) = space { why.to_string() } else { String::new() };
            self.show(BrokerState::Holding, Some(&format!("the journal is full ({why})")));
            warn!(self.logger, "the journal is full: leaving the broker, which keeps the messages until there is room";
                "reason" => why);
            self.leave(context);
        }
    }
}

impl Handler<TellLink> for Mqtt {
    type Result = ();

    fn handle(&mut self, _: TellLink, context: &mut Context<Self>) {
        self.tell_liveness(matches!(self.state, State::Up { .. }), context);
    }
}

impl Handler<Heartbeat> for Mqtt {
    type Result = ();

    fn handle(&mut self, _: Heartbeat, context: &mut Context<Self>) {
        if let Err(error) = failpoint("mqtt::handle") {
            self.exit_guard.fail(error);
            context.stop();
        }
    }
}
