//! The actor itself: its options, its state, and what each message leads to.

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
use crate::actors::supervisor::{ExitGuard, supervised};
use crate::domain::{Qos, TopicFilter};
use crate::metrics::Metrics;
use crate::status::{BrokerCell, StatusCell};

/// What the actor is configured with.
#[derive(Clone)]
pub struct MqttOptions {
    /// How to connect to a broker.
    pub link: LinkOptions,
    /// The same with the credentials and certificates of the newest reload; used from the next connection on.
    pub newest_link: Arc<StatusCell<LinkOptions>>,
    /// The brokers, and what this run has learnt about them.
    pub hosts: Arc<Hosts>,
    /// What this run has learnt about certificates.
    pub certificates: Arc<CertificateWatch>,
    /// Remembers which filters the broker's session holds.
    pub filter_file: FilterFile,
    /// Shows the state of the link to HTTP.
    pub status: Arc<BrokerCell>,
    /// The filters through which machines speak.
    pub telemetry: Vec<TopicFilter>,
    /// Filters with the QoS to ask for; those of last wills included.
    pub subscriptions: Vec<(TopicFilter, Qos)>,
    /// The topic of our echo, as a filter; `None` without an echo.
    pub echo_topic: Option<TopicFilter>,
    /// First delay between attempts.
    pub backoff_min: Duration,
    /// Longest delay between attempts.
    pub backoff_max: Duration,
}

/// The other actors.
#[derive(Clone)]
pub struct MqttWires {
    /// Hears when the link comes up and goes down.
    pub liveness: StableAddr<LinkChanged>,
    /// Wakes up when the link is proven.
    pub parser: StableAddr<JournalGrew>,
    /// Decides which incarnation of liveness may publish.
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
    /// The client of the newest attempt to connect, which may have failed.
    pub(super) link: Option<Rc<Link>>,
    /// The session's one timer.
    pub(super) timer: Option<SpawnHandle>,
    /// Why the broker ended the newest connection, in its words. The library's callback sets it, perhaps
    /// before the actor knows of the connection.
    pub(super) brokers_reason: Arc<Mutex<Option<String>>>,
    pub(super) status_stream: StatusStream,
    pub(super) logged_status_refusal: bool,
    /// The reason for a missing echo that was logged last.
    pub(super) logged_echo_refusal: Option<String>,
}

impl Mqtt {
    /// Creates an incarnation. `has_room`: the journal takes messages.
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
        self.start_link_checks(context);
        context.run_interval(Duration::from_secs(1), |actor, context| {
            // The journal's message is lost if no incarnation was there to receive it.
            actor.step(Event::SpaceChanged(actor.callback.journal.stats().space), context);
            actor.step(Event::SecondPassed, context);
        });
        context.run_interval(certificate_checks::CHECK_EVERY, Self::check_certificates);
        self.check_certificates(context);
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

supervised!(Mqtt, "mqtt", |actor, context| actor.step(Event::StopRequested, context));
