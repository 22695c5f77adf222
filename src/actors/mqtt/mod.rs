//! The mqtt actor: owns the broker link and lets messages into the journal.
//!
//! Receives [`SpaceChanged`] from the journal, [`LinkEnded`] from paho's callbacks, [`PublishStatuses`] and [`ProveLink`] from
//! liveness. Sends [`LinkChanged`] to liveness and [`JournalGrew`] to the parser. A message never
//! passes through this actor: the callback ([`callback`]) appends it to the journal on paho's thread.
//!
//! Invariants
//! - MQTT-1 A message is acknowledged only after it is in the journal: the callback is set before `connect`, and does
//!   not return unless the append succeeded.
//! - MQTT-2 One session: stable client id, never a clean start. Every connect subscribes again and checks what was granted.
//! - MQTT-3 With the link goes what the broker refuses: a refused filter blinds the machines that come through it, and nobody else. It is
//!   asked for again, and another broker is tried after a while ([`refused_filters`]).
//! - MQTT-4 While the journal is full (policy `hold`) Andon is not connected: the broker keeps the messages.
//! - MQTT-5 Attempts are paced by a capped, jittered backoff that starts over only after the link was up for a while. Of several
//!   brokers each is asked once between two waits (rule HOST-1 of [`failover`]).
//! - MQTT-6 A broker that does not answer is noticed within one and a half keep-alives (rule LINK-5 of [`link_health`]).
//! - MQTT-7 Statuses go out in streams ([`status_publisher`]): in order, all on one connection, and nothing after what could not be sent or
//!   was not answered. So no status overtakes one that has to be published again.
//! - MQTT-8 The link is proven by our echo, behind everything that the broker had queued for us, and by nothing else
//!   ([`link_health`]): while a backlog drains, and until a broker that was frozen has caught up, no silence is believed.
//! - MQTT-9 No actor waits for the library's lock: a thread of its own calls it ([`client_thread`]), and whether we are connected is what its
//!   callbacks said last.
//!
//! A broker that is away, refuses, or takes the session over is an expected state: one line for each new
//! reason, then patience.

pub mod callback;
mod certificate_checks;
pub mod certificates;
mod client_thread;
pub mod connected_flag;
mod connecting;
mod disconnect;
pub mod echo_probe;
pub mod error;
pub mod failover;
mod inflight;
pub mod link;
mod link_checks;
pub mod link_health;
pub mod link_options;
pub mod probe;
mod publish_fence;
mod raw_callback;
mod refused_filters;
mod session;
pub mod session_filters;
mod status_publisher;
mod subscribing;
mod takeover;
#[cfg(test)]
mod tests;
pub mod tls_diagnosis;
mod unreserved;

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, info, o, warn};

use self::callback::MessageCallback;
use self::certificates::CertificateWatch;
use self::failover::{Endpoint, Failover, Hosts};
use self::link::Link;
pub use self::link_checks::ProveLink;
use self::link_options::LinkOptions;
pub use self::publish_fence::PublishFence;
use self::refused_filters::RefusedFilters;
use self::session_filters::FilterFile;
use self::status_publisher::StatusStream;
pub use self::status_publisher::{PublishStatuses, StatusMessage, StreamId};
use self::takeover::Takeover;
use super::backoff::Backoff;
use super::failpoint::failpoint;
use super::liveness::LinkChanged;
use super::parser::JournalGrew;
use super::stable_addr::StableAddr;
use super::supervisor::{ExitGuard, Heartbeat};
use crate::clock::Mono;
use crate::domain::{Qos, TopicFilter};
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

/// Fact from the journal: there is room again, or there is none and Andon may not be connected.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SpaceChanged(pub Space);

/// Fact from paho's callbacks: the link is gone.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkEnded {
    /// The broker's or the library's reason.
    pub reason: String,
    /// The broker said that another client has taken the session over.
    pub taken_over: bool,
}

/// Fact from the callback: it panicked, after the message was journaled all the same.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
struct CallbackPanicked {
    message: String,
}

/// Say again whether the link is up: a restarted liveness actor does not know.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TellLink;

enum State {
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
    options: MqttOptions,
    wires: MqttWires,
    callback: Arc<MessageCallback>,
    metrics: Arc<Metrics>,
    exit_guard: ExitGuard,
    logger: Logger,
    /// Of the newest attempt to connect, which may have failed.
    link: Option<Rc<Link>>,
    failover: Failover,
    state: State,
    /// Numbers the attempts to connect; an answer to another than the newest is stale.
    attempt: u64,
    /// When the newest attempt to connect began: what was received since then came over its link.
    attempt_began: Mono,
    /// An attempt has not been answered yet. The library answers each, and must not be asked twice at a time.
    attempt_pending: bool,
    /// The broker had a session of ours in this run.
    had_session: bool,
    /// The broker of the newest link that was up, and whether it had lost our session, or was another than before.
    published_to: Option<Endpoint>,
    broker_forgot: bool,
    room: bool,
    backoff: Backoff,
    retry: Option<SpawnHandle>,
    last_reason: Option<String>,
    /// Why the broker ended the newest connection, in its words: set by the callback, as such news may come before we know
    /// that there was a connection.
    disconnect: Arc<Mutex<Option<String>>>,
    last_memory_failure: Option<String>,
    status_stream: StatusStream,
    refusal_told: bool,
    /// Why there is no echo, once that is said.
    refused_echo: Option<String>,
    refused: RefusedFilters,
    takeover: Takeover,
    /// The end of the link that is being dealt with was a take-over.
    taken_over: bool,
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
    fn is_connected(&self) -> bool {
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
