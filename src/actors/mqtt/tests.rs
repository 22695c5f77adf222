//! The mqtt actor between a broker, a liveness and a supervisor that do what a test says.

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

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
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
        connect_timeout: PATIENCE,
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

/// What the others were told, and what was logged.
#[derive(Default)]
struct World {
    /// News of the link: the generation, and whether it is up.
    news: Vec<(Generation, bool)>,
    /// Whether they said that a filter is refused.
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
        world.news.push((changed.generation, changed.up));
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

/// A broker, a journal, and what else the actor is made of.
struct Stage {
    shared: Shared,
    broker: ScriptedBroker,
    journal: Journal,
    metrics: Arc<Metrics>,
    wires: MqttWires,
    connect_timeout: Duration,
    availability_topic: Option<&'static str>,
    directory: TempDir,
}

impl Stage {
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
            connect_timeout: PATIENCE,
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

    /// From now on liveness hears of the link.
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

/// Takes everything, and publishes nothing.
fn agreeable(packet: &Packet) -> Answer {
    Answer::Send(match packet {
        _ if packet.is_connect() => connack_5_session_present(),
        _ if packet.is_subscribe() => suback_5(packet, 1, ""),
        _ if packet.is_publish() => puback(packet),
        _ => Vec::new(),
    })
}

#[test]
fn a_liveness_that_was_replaced_publishes_nothing() {
    System::new().block_on(async {
        let stage = Stage::new(agreeable);
        let mqtt = stage.start(1);
        stage.wait_until_up().await;
        stage.wires.fence.raise(2);
        let publish = |generation, topic: &str| {
            let messages = vec![StatusMessage { topic: topic.to_owned(), payload: b"{}".to_vec() }];
            mqtt.send(PublishStatuses { messages, stream: StreamId { generation, number: 1 }, part: 0 })
        };
        assert_eq!(publish(1, "old").await, Ok(0));
        assert_eq!(publish(2, "new").await, Ok(1));
        let published: Vec<_> = stage.broker.packets().into_iter().filter(Packet::is_publish).collect();
        assert_eq!(published.len(), 1);
        assert_eq!(published[0].head, 0x33, "QoS 1, retained");
        assert!(published[0].body[2..].starts_with(b"new"), "{published:?}");
    });
}

#[test]
fn m7_nothing_more_of_a_stream_is_published_after_a_part_without_an_answer() {
    System::new().block_on(async {
        let is_lost = |packet: &Packet| packet.is_publish() && packet.body[2..].starts_with(b"lost");
        let mut stage =
            Stage::new(
                move |packet| {
                    if is_lost(packet) { Answer::Send(Vec::new()) } else { agreeable(packet) }
                },
            );
        stage.connect_timeout = Duration::from_secs(1);
        let mqtt = stage.start(1);
        stage.wait_until_up().await;
        let publish = |topic: &str, number, part| {
            let messages = vec![StatusMessage { topic: topic.to_owned(), payload: b"{}".to_vec() }];
            mqtt.send(PublishStatuses { messages, stream: StreamId { generation: 1, number }, part })
        };
        assert_eq!(publish("lost", 1, 0).await, Ok(0));
        assert_eq!(publish("behind", 1, 1).await, Ok(0));
        assert_eq!(publish("again", 2, 0).await, Ok(1));
        let topics: Vec<_> = stage.broker.packets().into_iter().filter(Packet::is_publish).collect();
        assert_eq!(topics.len(), 2, "{topics:?}");
    });
}

#[test]
fn m4_a_connect_that_is_answered_after_the_journal_has_filled_is_left_at_once() {
    let (answer_now, may_answer) = channel::<()>();
    System::new().block_on(async {
        let stage = Stage::new(move |packet| {
            if packet.is_connect() {
                // Ends with the test, too.
                let _given_up = may_answer.recv();
            }
            agreeable(packet)
        });
        stage.start(1);
        wait_until("the CONNECT", || stage.broker.connects().len() == 1).await;
        stage.fill_journal();
        wait_until("that it is noticed", || stage.metrics.holding.get()).await;
        answer_now.send(()).unwrap();
        wait_until("the DISCONNECT", || stage.broker.packets().iter().any(Packet::is_disconnect)).await;
        assert!(!stage.metrics.broker_connected.get());
        assert_eq!(stage.broker.connects().len(), 1, "there is no room");
    });
}

/// Ends the connections with these numbers once they are complete, refuses those with these, and keeps any other.
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
fn a_refusal_among_the_losses_means_that_nobody_takes_the_session_over() {
    for (ends, refuses, is_contest) in [(&[0, 1, 2], &[] as &[usize], true), (&[0, 1, 3], &[2], false)] {
        System::new().block_on(async {
            let stage = Stage::new(ends_and_refuses(ends, refuses));
            stage.start(1);
            let last = ends.len() + refuses.len();
            let is_last = |packet: &Packet| packet.is_subscribe() && packet.connection == last;
            wait_until("the last connection", || stage.broker.packets().iter().any(is_last)).await;
            stage.wait_until_up().await;
            let logged = &stage.shared.lock().logged;
            let told = logged.iter().any(|line| line.starts_with("another client takes our session over"));
            assert_eq!(told, is_contest, "{logged:?}");
        });
    }
}

/// How long the acknowledgements took that the broker read last before we left. It has the next message ready whenever it has
/// read one.
async fn last_acknowledgements(count: usize) -> Vec<Duration> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&sent);
    let send = move || {
        let mut sent = noting.lock().unwrap();
        sent.push(Instant::now());
        publish(true, "factory/press-1", "{}", u16::try_from(sent.len()).unwrap())
    };
    let stage = Stage::new(move |packet| match agreeable(packet) {
        Answer::Send(bytes) if packet.is_subscribe() => Answer::Send([bytes, send()].concat()),
        _ if packet.is_puback() => Answer::Send(send()),
        answer => answer,
    });
    let mqtt = stage.start(1);
    stage.wait_until_up().await;
    wait_until("messages", || stage.broker.packets().iter().any(Packet::is_puback)).await;
    mqtt.do_send(StopChild);
    wait_until("the end", || stage.shared.lock().exit == Some(ExitReason::Normal)).await;
    wait_until("the DISCONNECT", || stage.broker.packets().iter().any(Packet::is_disconnect)).await;
    let acknowledged = stage.broker.packets().into_iter().filter(Packet::is_puback);
    let sent = sent.lock().unwrap();
    let took: Vec<Duration> = acknowledged.zip(sent.iter()).map(|(puback, sent)| puback.at - *sent).collect();
    took[took.len().saturating_sub(count)..].to_vec()
}

#[test]
fn while_we_leave_the_broker_messages_are_let_in_slowly() {
    System::new().block_on(async {
        let mut seen = Vec::new();
        // On a machine that stands still for as long as the goodbye takes fewer of them may come meanwhile.
        for _ in 0..5 {
            let took = last_acknowledgements(3).await;
            if took.iter().all(|took| *took >= LEAVING_PAUSE) {
                return;
            }
            seen.push(took);
        }
        panic!("let in at full speed: {seen:?}");
    });
}

/// What a SUBSCRIBE of version 5 asks for, and with which QoS.
fn asked(subscribe: &Packet) -> (String, u8) {
    let filter = &subscribe.body[5 + usize::from(subscribe.body[2])..];
    let (options, filter) = filter.split_last().unwrap();
    (String::from_utf8_lossy(filter).into_owned(), options & 3)
}

#[test]
fn m3_only_what_was_refused_is_asked_for_again_and_the_echo_follows_the_highest_qos() {
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
        let stage = Stage::new(script);
        stage.connect_liveness();
        let filter = |text: &str| TopicFilter::parse(text).unwrap();
        let subscriptions = vec![(filter("factory/#"), Qos::AtMostOnce), (filter("old/#"), Qos::AtLeastOnce)];
        let telemetry = subscriptions.iter().map(|(filter, _)| filter.clone()).collect();
        let echo_topic = Some(filter("andon/plant/echo"));
        stage.start_with(1, MqttOptions { telemetry, subscriptions, echo_topic, ..stage.options() });
        wait_until("news of the grant", || stage.shared.lock().refused == [false, true, false]).await;
        let packets = stage.broker.packets();
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
        assert_eq!(stage.shared.lock().news, [(1, false), (1, true), (1, true)]);
    });
}
