//! The mqtt actor with a scripted broker, and with stand-ins for liveness and the supervisor.

#[path = "../../../tests/support/scripted_broker.rs"]
#[allow(dead_code)]
pub(super) mod scripted_broker;

mod availability;
mod harness;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;

use self::harness::{Harness, agreeable};
pub(super) use self::harness::{link_to, wait_until};
use self::scripted_broker::{Answer, Packet, connack_5, publish, suback_5};
use super::callback::LEAVING_PAUSE;
use super::messages::{PublishStatuses, StatusMessage, StreamId, TellLink};
use super::*;
use crate::actors::supervisor::{ExitReason, StopChild};
use crate::domain::{Qos, TopicFilter};

#[test]
fn a_replaced_liveness_publishes_nothing() {
    System::new().block_on(async {
        let harness = Harness::new(agreeable);
        let mqtt = harness.start(1);
        harness.wait_until_up().await;
        harness.wires.fence.raise(2);
        let publish = |generation, topic: &str| {
            let messages = vec![StatusMessage { topic: topic.to_owned(), payload: b"{}".to_vec() }];
            mqtt.send(PublishStatuses { messages, stream: StreamId { generation, number: 1 }, part: 0 })
        };
        assert_eq!(publish(1, "old").await, Ok(0));
        assert_eq!(publish(2, "new").await, Ok(1));
        let published: Vec<_> = harness.broker.packets().into_iter().filter(Packet::is_publish).collect();
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
        let mut harness =
            Harness::new(
                move |packet| {
                    if is_lost(packet) { Answer::Send(Vec::new()) } else { agreeable(packet) }
                },
            );
        harness.connect_timeout = Duration::from_secs(1);
        let mqtt = harness.start(1);
        harness.wait_until_up().await;
        let publish = |topic: &str, number, part| {
            let messages = vec![StatusMessage { topic: topic.to_owned(), payload: b"{}".to_vec() }];
            mqtt.send(PublishStatuses { messages, stream: StreamId { generation: 1, number }, part })
        };
        assert_eq!(publish("lost", 1, 0).await, Ok(0));
        assert_eq!(publish("behind", 1, 1).await, Ok(0));
        assert_eq!(publish("again", 2, 0).await, Ok(1));
        let topics: Vec<_> = harness.broker.packets().into_iter().filter(Packet::is_publish).collect();
        assert_eq!(topics.len(), 2, "{topics:?}");
    });
}

/// Proves MQTT-4.
#[test]
fn a_connect_that_is_answered_after_the_journal_has_filled_is_left_at_once() {
    let (answer_now, may_answer) = channel::<()>();
    System::new().block_on(async {
        let harness = Harness::new(move |packet| {
            if packet.is_connect() {
                // Ends with the test, too.
                let _given_up = may_answer.recv();
            }
            agreeable(packet)
        });
        harness.start(1);
        wait_until("the CONNECT", || harness.broker.connects().len() == 1).await;
        harness.fill_journal();
        wait_until("the hold", || harness.metrics.holding.get()).await;
        answer_now.send(()).unwrap();
        wait_until("the DISCONNECT", || harness.broker.packets().iter().any(Packet::is_disconnect)).await;
        assert!(!harness.metrics.broker_connected.get());
        assert_eq!(harness.broker.connects().len(), 1, "there is no room");
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
            let harness = Harness::new(ends_and_refuses(ends, refuses));
            harness.start(1);
            let last = ends.len() + refuses.len();
            let is_last = |packet: &Packet| packet.is_subscribe() && packet.connection == last;
            wait_until("the last connection", || harness.broker.packets().iter().any(is_last)).await;
            harness.wait_until_up().await;
            let logged = &harness.shared.lock().logged;
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
    let harness = Harness::new(move |packet| match agreeable(packet) {
        Answer::Send(bytes) if packet.is_subscribe() => Answer::Send([bytes, send()].concat()),
        _ if packet.is_puback() => Answer::Send(send()),
        answer => answer,
    });
    let mqtt = harness.start(1);
    harness.wait_until_up().await;
    wait_until("messages", || harness.broker.packets().iter().any(Packet::is_puback)).await;
    mqtt.do_send(StopChild);
    wait_until("the end", || harness.shared.lock().exit == Some(ExitReason::Normal)).await;
    wait_until("the DISCONNECT", || harness.broker.packets().iter().any(Packet::is_disconnect)).await;
    let acknowledged = harness.broker.packets().into_iter().filter(Packet::is_puback);
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
        let harness = Harness::new(script);
        harness.connect_liveness();
        let filter = |text: &str| TopicFilter::parse(text).unwrap();
        let subscriptions = vec![(filter("factory/#"), Qos::AtMostOnce), (filter("old/#"), Qos::AtLeastOnce)];
        let telemetry = subscriptions.iter().map(|(filter, _)| filter.clone()).collect();
        let echo_topic = Some(filter("andon/plant/echo"));
        harness.start_with(1, MqttOptions { telemetry, subscriptions, echo_topic, ..harness.options() });
        wait_until("the report of the grant", || harness.shared.lock().refused == [false, true, false]).await;
        let packets = harness.broker.packets();
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
        assert_eq!(harness.shared.lock().reports, [(1, false), (1, true), (1, true)]);
    });
}
