//! What the actor needs around it: a scripted broker, a journal, and stand-ins for liveness and the supervisor.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Drain, Logger, Never, OwnedKVList, Record, o};
use tempfile::TempDir;

use super::scripted_broker::{Answer, Packet, ScriptedBroker, connack_5_session_present, puback, suback_5};
use crate::actors::liveness::messages::LinkChanged;
use crate::actors::mqtt::callback::MessageCallback;
use crate::actors::mqtt::client::link::Link;
use crate::actors::mqtt::client::options::{LinkOptions, Session};
use crate::actors::mqtt::link_health::{LinkHealth, SharedLinkHealth, Timing};
use crate::actors::mqtt::session::failover::Hosts;
use crate::actors::mqtt::session_filters::FilterFile;
use crate::actors::mqtt::{Mqtt, MqttOptions, MqttWires};
use crate::actors::stable_addr::StableAddr;
use crate::actors::supervisor::{ChildExited, ExitGuard, ExitReason, Generation};
use crate::domain::{Endpoint, ProtocolChoice, Qos, Seq, TopicFilter, Transport};
use crate::journal::{
    Journal, JournalError, JournalListener, JournalOptions, RealFs, Space, SyncMode, WhenFull,
};
use crate::metrics::Metrics;
use crate::status::StatusCell;

pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

pub(in crate::actors::mqtt) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {WAIT_MAX:?}: {what}");
        actix_rt::time::sleep(Duration::from_millis(2)).await;
    }
}

fn link_options() -> LinkOptions {
    LinkOptions {
        transport: Transport::Tcp,
        client_id: "andon-test".to_owned(),
        session: Session::Persistent,
        username: None,
        password: None,
        keep_alive: Duration::from_secs(30),
        session_expiry: Duration::from_secs(3600),
        receive_maximum: 100,
        max_packet: 4 << 20,
        connect_timeout: WAIT_MAX,
        protocol: ProtocolChoice::V5,
        tls: None,
        proxy: None,
        availability_topic: None,
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint { host: "127.0.0.1".to_owned(), port }
}

/// A client that is not connected yet.
pub(in crate::actors::mqtt) fn link_to(port: u16) -> Link {
    Link::create(link_options(), endpoint(port), true, |_| {}).unwrap()
}

/// What liveness and the supervisor received, and what was logged.
#[derive(Default)]
pub(super) struct Recorded {
    /// Reports of the link: the generation, and whether it is up.
    pub(super) reports: Vec<(Generation, bool)>,
    /// Whether each report names a refused filter.
    pub(super) refused: Vec<bool>,
    pub(super) exit: Option<ExitReason>,
    pub(super) logged: Vec<String>,
}

#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Recorded>>);

impl Recorder {
    pub(super) fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drain for Recorder {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        self.lock().logged.push(record.msg().to_string());
        Ok(())
    }
}

struct Others(Recorder);

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<LinkChanged> for Others {
    type Result = ();

    fn handle(&mut self, changed: LinkChanged, _: &mut Context<Self>) {
        let mut recorded = self.0.lock();
        recorded.reports.push((changed.generation, changed.up));
        recorded.refused.push(!changed.refused.is_empty());
    }
}

impl Handler<ChildExited> for Others {
    type Result = ();

    fn handle(&mut self, exited: ChildExited, _: &mut Context<Self>) {
        self.0.lock().exit = Some(exited.reason);
    }
}

struct Unheard;

impl JournalListener for Unheard {
    fn readable(&self, _: Seq) {}
    fn space(&self, _: Space) {}
    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

/// A broker, a journal, and everything else that the actor needs.
pub(super) struct Harness {
    pub(super) shared: Recorder,
    pub(super) broker: ScriptedBroker,
    pub(super) journal: Journal,
    pub(super) metrics: Arc<Metrics>,
    pub(super) wires: MqttWires,
    pub(super) connect_timeout: Duration,
    pub(super) availability_topic: Option<&'static str>,
    pub(super) directory: TempDir,
}

impl Harness {
    pub(super) fn new(script: impl FnMut(&Packet) -> Answer + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = JournalOptions {
            dir: directory.path().join("journal"),
            site: "plant".to_owned(),
            max_bytes: 256 << 10,
            segment_bytes: 64 << 10,
            sync: SyncMode::Os,
            when_full: WhenFull::Hold,
        };
        let (journal, _) = Journal::open(options, Arc::new(RealFs), Arc::new(Unheard)).unwrap();
        let wires =
            MqttWires { liveness: StableAddr::new(), parser: StableAddr::new(), fence: Arc::default() };
        let broker = ScriptedBroker::start(script);
        let (shared, metrics) = (Recorder::default(), Arc::default());
        Self {
            shared,
            broker,
            journal,
            metrics,
            wires,
            connect_timeout: WAIT_MAX,
            availability_topic: None,
            directory,
        }
    }

    /// Starts incarnation `generation`.
    pub(super) fn start(&self, generation: Generation) -> Addr<Mqtt> {
        self.start_with(generation, self.options())
    }

    pub(super) fn start_with(&self, generation: Generation, options: MqttOptions) -> Addr<Mqtt> {
        let exit_guard = ExitGuard::new(0, generation, Others(self.shared.clone()).start().recipient());
        let logger = Logger::root(self.shared.clone(), o!());
        Mqtt::new(options, self.wires.clone(), Arc::new(self.callback()), true, exit_guard, &logger).start()
    }

    pub(super) fn options(&self) -> MqttOptions {
        let link = LinkOptions {
            connect_timeout: self.connect_timeout,
            availability_topic: self.availability_topic.map(str::to_owned),
            ..link_options()
        };
        MqttOptions {
            newest_link: Arc::new(StatusCell::new(link.clone())),
            link,
            hosts: Arc::new(Hosts::new(vec![endpoint(self.broker.port())], ProtocolChoice::V5)),
            certificates: Arc::default(),
            filter_file: FilterFile::in_directory(self.directory.path()),
            status: Arc::default(),
            telemetry: vec![TopicFilter::parse("factory/#").unwrap()],
            subscriptions: vec![(TopicFilter::parse("factory/#").unwrap(), Qos::AtLeastOnce)],
            echo_topic: None,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(20),
        }
    }

    pub(super) fn callback(&self) -> MessageCallback {
        let timing = Timing::of(Duration::from_secs(30), Duration::from_secs(15));
        MessageCallback {
            journal: self.journal.clone(),
            health: Arc::new(SharedLinkHealth::new(LinkHealth::new(timing, Seq::ZERO))),
            echo_topic: None,
            parser: StableAddr::new(),
            metrics: Arc::clone(&self.metrics),
            payload_bytes_max: 1_000,
            logger: Logger::root(slog::Discard, o!()),
            receiving: AtomicBool::new(false),
            unbuffered_logged: AtomicBool::new(false),
            skipped_turn: AtomicU64::new(0),
        }
    }

    /// Delivers reports to liveness from now on.
    pub(super) fn connect_liveness(&self) {
        self.wires.liveness.connect(Others(self.shared.clone()).start().recipient());
    }

    pub(super) fn fill_journal(&self) {
        while matches!(self.journal.stats().space, Space::Free) {
            let message = crate::domain::Message {
                received_at: crate::domain::Timestamp::from_micros(1),
                clock_unset: false,
                qos: Qos::AtLeastOnce,
                retained: false,
                topic: "factory/press-1".into(),
                payload: &[b'x'; 1_000],
            };
            self.journal.append(&message).unwrap();
        }
    }

    pub(super) async fn wait_until_up(&self) {
        wait_until("the link", || self.metrics.broker_connected.get()).await;
    }
}

/// Accepts everything and publishes nothing.
pub(super) fn agreeable(packet: &Packet) -> Answer {
    Answer::Send(match packet {
        _ if packet.is_connect() => connack_5_session_present(),
        _ if packet.is_subscribe() => suback_5(packet, 1, ""),
        _ if packet.is_publish() => puback(packet),
        _ => Vec::new(),
    })
}
