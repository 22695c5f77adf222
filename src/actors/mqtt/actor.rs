//! The actor: what it is made of, and what it does with each message. Its invariants are those of [`super`].

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, o};

use super::callback::MessageCallback;
use super::certificate_checks;
use super::checks::certificates::CertificateWatch;
use super::client::link::Link;
use super::client::options::LinkOptions;
use super::messages::{CallbackPanicked, LinkEnded, SpaceChanged, TellLink};
use super::publish_fence::PublishFence;
use super::session::failover::{Failover, Hosts};
use super::session::{Event, Session, SessionOptions};
use super::session_filters::FilterFile;
use super::status_publisher::StatusStream;
use crate::actors::failpoint::failpoint;
use crate::actors::liveness::messages::LinkChanged;
use crate::actors::parser::messages::JournalGrew;
use crate::actors::stable_addr::StableAddr;
use crate::actors::supervisor::{ExitGuard, Heartbeat};
use crate::domain::{Qos, TopicFilter};
use crate::metrics::Metrics;
use crate::status::BrokerCell;

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

/// The actor.
pub struct Mqtt {
    pub(super) options: MqttOptions,
    pub(super) wires: MqttWires,
    pub(super) callback: Arc<MessageCallback>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) exit_guard: ExitGuard,
    pub(super) logger: Logger,
    /// Decides what comes next.
    pub(super) session: Session,
    /// Of the newest attempt to connect, which may have failed.
    pub(super) link: Option<Rc<Link>>,
    /// The session's.
    pub(super) timer: Option<SpawnHandle>,
    /// Why the broker ended the newest connection, in its words. The library's callback sets it: that may be before we know that there
    /// was a connection.
    pub(super) brokers_reason: Arc<Mutex<Option<String>>>,
    pub(super) status_stream: StatusStream,
    pub(super) logged_status_refusal: bool,
    /// Why there is no echo, once that is logged.
    pub(super) logged_echo_refusal: Option<String>,
}

impl Mqtt {
    /// A new incarnation; `has_room` says whether the journal has room now.
    #[must_use]
    pub fn new(
        options: MqttOptions,
        wires: MqttWires,
        callback: Arc<MessageCallback>,
        has_room: bool,
        exit_guard: ExitGuard,
        logger: &Logger,
    ) -> Self {
        let metrics = Arc::clone(&callback.metrics);
        let logger = logger.new(o!("component" => "mqtt"));
        let session = SessionOptions {
            subscriptions: options.subscriptions.clone(),
            telemetry: options.telemetry.clone(),
            backoff_min: options.backoff_min,
            backoff_max: options.backoff_max,
        };
        let session = Session::new(session, Failover::new(Arc::clone(&options.hosts)), has_room);
        Self {
            options,
            wires,
            callback,
            metrics,
            exit_guard,
            logger,
            session,
            link: None,
            timer: None,
            brokers_reason: Arc::default(),
            status_stream: StatusStream::default(),
            logged_status_refusal: false,
            logged_echo_refusal: None,
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
        self.step(Event::Started, context);
        self.watch_link(context);
        context.run_interval(Duration::from_secs(1), |actor, context| {
            // The journal may have told nobody: no incarnation was there.
            actor.step(Event::SpaceChanged(actor.callback.journal.stats().space), context);
            actor.step(Event::SecondPassed, context);
        });
        context.run_interval(certificate_checks::LOOK_EVERY, Self::look_at_certificates);
        self.look_at_certificates(context);
    }
}

impl Handler<LinkEnded> for Mqtt {
    type Result = ();

    fn handle(&mut self, ended: LinkEnded, context: &mut Context<Self>) {
        let LinkEnded { reason, taken_over } = ended;
        self.step(Event::LinkEnded { reason, taken_over }, context);
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
        self.step(Event::SpaceChanged(changed.0), context);
    }
}

impl Handler<TellLink> for Mqtt {
    type Result = ();

    fn handle(&mut self, _: TellLink, context: &mut Context<Self>) {
        self.tell_liveness(self.session.report(self.session.is_up()), context);
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
