//! The mqtt actor with a scripted broker, and with stand-ins for liveness and the supervisor.

#[path = "../../../tests/support/scripted_broker.rs"]
#[allow(dead_code)]
pub(super) mod scripted_broker;

mod availability;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Drain, Logger, Never, OwnedKVList, Record, o};
use tempfile::TempDir;

use self::scripted_broker::{
    Answer, Packet, ScriptedBroker, connack_5, connack_5_session_present, puback, publish, suback_5,
};
use super::callback::{LEAVING_PAUSE, MessageCallback};
use super::client::link::Link;
use super::client::options::{LinkOptions, Session};
use super::link_health::{LinkHealth, SharedLinkHealth, Timing};
use super::messages::{PublishStatuses, StatusMessage, StreamId, TellLink};
use super::session::failover::Hosts;
use super::session_filters::FilterFile;
use super::*;
use crate::actors::liveness::messages::LinkChanged;
use crate::actors::stable_addr::StableAddr;
use crate::actors::supervisor::{ChildExited, ExitGuard, ExitReason, Generation, StopChild};
use crate::domain::{Endpoint, ProtocolChoice, Qos, Seq, TopicFilter, Transport};
use crate::journal::{
    Journal, JournalError, JournalListener, JournalOptions, RealFs, Space, SyncMode, WhenFull,
};
use crate::metrics::Metrics;

const WAIT_MAX: Duration = Duration::from_secs(30);

pub(super) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
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
pub(super) fn link_to(port: u16) -> Link {
    Link::create(link_options(), endpoint(port), true, |_| {}).unwrap()
}

/// What liveness and the supervisor received, and what was logged.
#[derive(Default)]
struct World {
    /// Reports of the link: the generation, and whether it is up.
    reports: Vec<(Generation, bool)>,
    /// Whether each report names a refused filter.
    refused: Vec<bool>,
    exit: Option<ExitReason>,
    logged: Vec<String>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drain for Shared {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        self.lock().logged.push(record.msg().to_string());
        Ok(())
    }
}

struct Others(Shared);

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<LinkChanged> for Others {
    type Result = ();

    fn handle(&mut self, changed: LinkChanged, _: &mut Context<Self>) {
        let mut world = self.0.lock();
        world.reports.push((changed.generation, changed.up));
        world.refused.push(!changed.refused.is_empty());
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
struct Bench {
    shared: Shared,
    broker: ScriptedBroker,
    journal: Journal,
    metrics: Arc<Metrics>,
    wires: MqttWires,
    connect_timeout: Duration,
    availability_topic: Option<&'static str>,
    directory: TempDir,
}

impl Bench {
    fn new(script: impl FnMut(&Packet) -> Answer + Send + 'static) -> Self {
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
        let (shared, metrics) = (Shared::default(), Arc::default());
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
    fn start(&self, generation: Generation) -> Addr<Mqtt> {
        self.start_with(generation, self.options())
    }

    fn start_with(&self, generation: Generation, options: MqttOptions) -> Addr<Mqtt> {
        let exit_guard = ExitGuard::new(0, generation, Others(self.shared.clone()).start().recipient());
        let logger = Logger::root(self.shared.clone(), o!());
        Mqtt::new(options, self.wires.clone(), Arc::new(self.callback()), true, exit_guard, &logger).start()
    }

    fn options(&self) -> MqttOptions {
        MqttOptions {
            link: LinkOptions {
                connect_timeout: self.connect_timeout,
                availability_topic: self.availability_topic.map(str::to_owned),
                ..link_options()
            },
            hosts: Arc::new(Hosts::new(vec![endpoint(self.broker.port())], ProtocolChoice::V5)),
            certificates: Arc::default(),
            filter_file: FilterFile::in_directory(self.directory.path()),
            board: Arc::default(),
            telemetry: vec![TopicFilter::parse("factory/#").unwrap()],
            subscriptions: vec![(TopicFilter::parse("factory/#").unwrap(), Qos::AtLeastOnce)],
            echo_topic: None,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(20),
        }
    }

    fn callback(&self) -> MessageCallback {
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
            skipped_turn: AtomicU64::new(0),
        }
    }

    /// Delivers reports to liveness from now on.
    fn connect_liveness(&self) {
        self.wires.liveness.connect(Others(self.shared.clone()).start().recipient());
    }

    fn fill_journal(&self) {
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

    async fn wait_until_up(&self) {
        wait_until("the link", || self.metrics.broker_connected.get()).await;
    }
}

/// Accepts everything and publishes nothing.
fn agreeable(packet: &Packet) -> Answer {
    Answer::Send(match packet {
        _ if packet.is_connect() => connack_5_session_present(),
        _ if packet.is_subscribe() => suback_5(packet, 1, ""),
        _ if packet.is_publish() => puback(packet),
        _ => Vec::new(),
    })
}

#[test]
fn a_replaced_liveness_publishes_nothing() {
    System::new().block_on(async {
        let bench = Bench::new(agreeable);
        let mqtt = bench.start(1);
        bench.wait_until_up().await;
        bench.wires.fence.raise(2);
        let publish = |generation, topic: &str| {
            let messages = vec![StatusMessage { topic: topic.to_owned(), payload: b"{}".to_vec() }];
            mqtt.send(PublishStatuses { messages, stream: StreamId { generation, number: 1 }, part: 0 })
        };
        assert_eq!(publish(1, "old").await, Ok(0));
        assert_eq!(publish(2, "new").await, Ok(1));
        let published: Vec<_> = bench.broker.packets().into_iter().filter(Packet::is_publish).collect();
        assert_eq!(published.len(), 1);
        assert_eq!(published[0].head, 0x33, "QoS 1, retained");
        assert!(published[0].body[2..].starts_with(b"new"), "{published:?}");
    });
}

/// Proves MQTT-7.
#[test]
fn a_part_without_an_answer_ends_its_stream() {
    System::new().block_on(async {
        let is_lost = |packet: &Packet| packet.is_publish() && packet.body[2..].starts_with(b"lost");
        let mut bench =
            Bench::new(
                move |packet| {
                    if is_lost(packet) { Answer::Send(Vec::new()) } else { agreeable(packet) }
                },
            );
        bench.connect_timeout = Duration::from_secs(1);
        let mqtt = bench.start(1);
        bench.wait_until_up().await;
        let publish = |topic: &str, number, part| {
            let messages = vec![StatusMessage { topic: topic.to_owned(), payload: b"{}".to_vec() }];
            mqtt.send(PublishStatuses { messages, stream: StreamId { generation: 1, number }, part })
        };
        assert_eq!(publish("lost", 1, 0).await, Ok(0));
        assert_eq!(publish("behind", 1, 1).await, Ok(0));
        assert_eq!(publish("again", 2, 0).await, Ok(1));
        let topics: Vec<_> = bench.broker.packets().into_iter().filter(Packet::is_publish).collect();
        assert_eq!(topics.len(), 2, "{topics:?}");
    });
}

/// Proves MQTT-4.
#[test]
fn a_connect_that_is_answered_after_the_journal_has_filled_is_left_at_once() {
    let (answer_now, may_answer) = channel::<()>();
    System::new().block_on(async {
        let bench = Bench::new(move |packet| {
            if packet.is_connect() {
                // Ends with the test, too.
                let _given_up = may_answer.recv();
            }
            agreeable(packet)
        });
        bench.start(1);
        wait_until("the CONNECT", || bench.broker.connects().len() == 1).await;
        bench.fill_journal();
        wait_until("the hold", || bench.metrics.holding.get()).await;
        answer_now.send(()).unwrap();
        wait_until("the DISCONNECT", || bench.broker.packets().iter().any(Packet::is_disconnect)).await;
        assert!(!bench.metrics.broker_connected.get());
        assert_eq!(bench.broker.connects().len(), 1, "there is no room");
    });
}

/// Ends the connections numbered `ends` once they are complete, refuses those numbered `refuses`, keeps all
/// others.
fn ends_and_refuses(
    ends: &'static [usize],
    refuses: &'static [usize],
) -> impl FnMut(&Packet) -> Answer + Send + 'static {
    move |packet| match agreeable(packet) {
        _ if packet.is_connect() && refuses.contains(&packet.connection) => {
            Answer::SendAndClose(connack_5(0x88, ""))
        }
        Answer::Send(bytes) if packet.is_subscribe() && ends.contains(&packet.connection) => {
            Answer::SendAndClose(bytes)
        }
        answer => answer,
    }
}

#[test]
fn losses_with_a_refusal_in_between_are_no_takeover() {
    for (ends, refuses, is_takeover) in [(&[0, 1, 2], &[] as &[usize], true), (&[0, 1, 3], &[2], false)] {
        System::new().block_on(async {
            let bench = Bench::new(ends_and_refuses(ends, refuses));
            bench.start(1);
            let last = ends.len() + refuses.len();
            let is_last = |packet: &Packet| packet.is_subscribe() && packet.connection == last;
            wait_until("the last connection", || bench.broker.packets().iter().any(is_last)).await;
            bench.wait_until_up().await;
            let logged = &bench.shared.lock().logged;
            let found = logged
                .iter()
                .any(|line| line.starts_with("another client keeps taking over Andon's session"));
            assert_eq!(found, is_takeover, "{logged:?}");
        });
    }
}

/// Returns how long the last acknowledgements before we left took. The broker sends the next message as soon
/// as it has read one.
async fn last_acknowledgements(count: usize) -> Vec<Duration> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&sent);
    let send = move || {
        let mut sent = noting.lock().unwrap();
        sent.push(Instant::now());
        publish(true, "factory/press-1", "{}", u16::try_from(sent.len()).unwrap())
    };
    let bench = Bench::new(move |packet| match agreeable(packet) {
        Answer::Send(bytes) if packet.is_subscribe() => Answer::Send([bytes, send()].concat()),
        _ if packet.is_puback() => Answer::Send(send()),
        answer => answer,
    });
    let mqtt = bench.start(1);
    bench.wait_until_up().await;
    wait_until("messages", || bench.broker.packets().iter().any(Packet::is_puback)).await;
    mqtt.do_send(StopChild);
    wait_until("the end", || bench.shared.lock().exit == Some(ExitReason::Normal)).await;
    wait_until("the DISCONNECT", || bench.broker.packets().iter().any(Packet::is_disconnect)).await;
    let acknowledged = bench.broker.packets().into_iter().filter(Packet::is_puback);
    let sent = sent.lock().unwrap();
    let took: Vec<Duration> = acknowledged.zip(sent.iter()).map(|(puback, sent)| puback.at - *sent).collect();
    took[took.len().saturating_sub(count)..].to_vec()
}

#[test]
fn messages_come_in_slowly_while_the_broker_is_being_left() {
    System::new().block_on(async {
        let mut seen = Vec::new();
        // On an overloaded machine fewer of them may come in the time of leaving.
        for _ in 0..5 {
            let took = last_acknowledgements(3).await;
            if took.iter().all(|took| *took >= LEAVING_PAUSE) {
                return;
            }
            seen.push(took);
        }
        panic!("messages came in at full speed: {seen:?}");
    });
}

/// Returns the filter and the QoS of a SUBSCRIBE of version 5.
fn asked(subscribe: &Packet) -> (String, u8) {
    let filter = &subscribe.body[5 + usize::from(subscribe.body[2])..];
    let (options, filter) = filter.split_last().unwrap();
    (String::from_utf8_lossy(filter).into_owned(), options & 3)
}

/// Proves MQTT-3.
#[test]
fn only_what_was_refused_is_asked_for_again_and_the_echo_follows_the_highest_qos() {
    let mut refusals = 2;
    let script = move |packet: &Packet| match packet.is_subscribe().then(|| asked(packet).0).as_deref() {
        Some("old/#") if refusals > 0 => {
            refusals -= 1;
            Answer::Send(suback_5(packet, 0x87, "not yet"))
        }
        Some("old/#") => Answer::Send(suback_5(packet, 1, "")),
        Some(_) => Answer::Send(suback_5(packet, asked(packet).1, "")),
        None => agreeable(packet),
    };
    System::new().block_on(async {
        let bench = Bench::new(script);
        bench.connect_liveness();
        let filter = |text: &str| TopicFilter::parse(text).unwrap();
        let subscriptions = vec![(filter("factory/#"), Qos::AtMostOnce), (filter("old/#"), Qos::AtLeastOnce)];
        let telemetry = subscriptions.iter().map(|(filter, _)| filter.clone()).collect();
        let echo_topic = Some(filter("andon/plant/echo"));
        bench.start_with(1, MqttOptions { telemetry, subscriptions, echo_topic, ..bench.options() });
        wait_until("the report of the grant", || bench.shared.lock().refused == [false, true, false]).await;
        let packets = bench.broker.packets();
        let all: Vec<_> = packets.iter().filter(|packet| packet.is_subscribe()).map(asked).collect();
        let expected = [
            ("factory/#", 0),
            ("old/#", 1),
            ("andon/plant/echo", 0),
            ("old/#", 1),
            ("old/#", 1),
            ("andon/plant/echo", 1),
        ];
        assert_eq!(all, expected.map(|(filter, qos)| (filter.to_owned(), qos)));
        assert_eq!(bench.shared.lock().reports, [(1, false), (1, true), (1, true)]);
    });
}
