//! The session step by step; every state with every event in [`steps`].

mod steps;

use std::sync::Arc;

use super::failover::Hosts;
use super::*;
use crate::actors::mqtt::client::error::LinkError;
use crate::domain::{FilterSet, ProtocolChoice};
use crate::journal::FullReason;

const SECOND: u64 = 1_000_000;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn session_with(brokers: u16, protocol: ProtocolChoice) -> Session {
    let options = SessionOptions {
        subscriptions: vec![(filter("a/#"), Qos::AtLeastOnce), (filter("b/#"), Qos::AtLeastOnce)],
        telemetry: vec![filter("a/#"), filter("b/#")],
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(60),
    };
    let endpoints = (1..=brokers).map(|port| Endpoint { host: "broker".to_owned(), port }).collect();
    Session::new(options, Failover::new(Arc::new(Hosts::new(endpoints, protocol))), true)
}

fn session() -> Session {
    session_with(1, ProtocolChoice::V5)
}

fn at(seconds: u64) -> Facts {
    Facts { now: Mono(seconds * SECOND), connected: true, ..Facts::default() }
}

fn link_gone(seconds: u64) -> Facts {
    Facts { connected: false, ..at(seconds) }
}

fn refusal(text: &str) -> LinkError {
    LinkError::Subscribe { filter: filter(text), reason: "not authorised".to_owned() }
}

fn subscribed(refused: Vec<LinkError>) -> Subscribed {
    Subscribed { refused, granted_max: Qos::AtLeastOnce, ..Subscribed::default() }
}

/// The answer to the newest attempt.
fn answer(session: &Session, session_present: bool, refused: Vec<LinkError>) -> Event {
    let connected = Connected { session_present, subscribed: subscribed(refused) };
    Event::ConnectAnswered { attempt: session.attempt, outcome: Ok(connected) }
}

fn failure(session: &Session, error: LinkError) -> Event {
    Event::ConnectAnswered { attempt: session.attempt, outcome: Err(error) }
}

fn asked_again(session: &Session, refused: Vec<LinkError>) -> Event {
    Event::AskedAgain { attempt: session.attempt, asked_at: Mono(7), subscribed: subscribed(refused) }
}

fn lost() -> Event {
    Event::LinkEnded { reason: "connection lost".to_owned(), taken_over: false }
}

fn full() -> Event {
    Event::SpaceChanged(Space::Full(FullReason::MaxBytes))
}

fn name(effect: &Effect) -> String {
    match effect {
        Effect::Connect { attempt, endpoint, v5 } => {
            format!("connect {attempt} to {} v{}", endpoint.port, if *v5 { 5 } else { 3 })
        }
        Effect::AskAgain { filters, .. } => {
            format!("ask for {}", filters.iter().map(|(filter, _)| filter.as_str()).collect::<String>())
        }
        Effect::SetTimer(_) => "timer".to_owned(),
        Effect::CancelTimer => "no timer".to_owned(),
        Effect::CloseLink => "close".to_owned(),
        Effect::CloseStaleLink => "close stale".to_owned(),
        Effect::SayGoodbye => "goodbye".to_owned(),
        Effect::Stop { was_up } => format!("stop {}", if *was_up { "up" } else { "down" }),
        Effect::ProveLink(_) => "prove".to_owned(),
        Effect::ForgetLink => "forget".to_owned(),
        Effect::TellLiveness(report) => format!("tell {}", if report.up { "up" } else { "down" }),
        Effect::Announce => "announce".to_owned(),
        Effect::CheckCertificates => "certificates".to_owned(),
        Effect::CountFailure => "count".to_owned(),
        Effect::SetHolding(holds) => format!("holding {holds}"),
        Effect::ShowConnected { .. } => "show up".to_owned(),
        Effect::Show { state, .. } => format!("show {}", state.as_str()),
        Effect::Log { line, .. } => match line {
            Line::NotConnecting => "log not connecting",
            Line::LeavingForRoom(_) => "log leaving",
            Line::RoomAgain => "log room",
            Line::Trouble { .. } => "log trouble",
            Line::V5Refused => "log no v5",
            Line::V5Unanswered { .. } => "log v5 unanswered",
            Line::Connected { .. } => "log connected",
            Line::SessionForgotten => "log forgotten",
            Line::TakenOver { .. } => "log taken over",
            Line::NotTakenOver => "log not taken over",
            Line::Filters(FilterLine::AllGranted) => "log all granted",
            Line::Filters(_) => "log filter",
        }
        .to_owned(),
    }
}

fn names(effects: &[Effect]) -> Vec<String> {
    effects.iter().map(name).collect()
}

fn step(session: &mut Session, event: Event, facts: &Facts) -> Vec<String> {
    names(&session.on(event, facts))
}

/// The newest attempt is answered.
fn answered(session: &mut Session, present: bool, refused: Vec<LinkError>, facts: &Facts) -> Vec<String> {
    let event = answer(session, present, refused);
    step(session, event, facts)
}

/// The newest attempt fails.
fn fails(session: &mut Session, facts: &Facts) -> Vec<String> {
    let event = failure(session, LinkError::HungUp);
    step(session, event, facts)
}

/// A session in that state at second 100. `restricted` is up with one filter refused.
fn session_in(state: &str) -> Session {
    let mut session = session();
    session.on(Event::Started, &at(0));
    match state {
        "connecting" => {}
        "holding" => {
            session.on(failure(&session, LinkError::HungUp), &at(1));
            session.on(full(), &at(1));
        }
        "waiting" => {
            session.on(failure(&session, LinkError::HungUp), &at(1));
        }
        "up" => {
            session.on(answer(&session, true, vec![]), &at(1));
        }
        "restricted" => {
            session.on(answer(&session, true, vec![refusal("b/#")]), &at(1));
        }
        "stopping" => {
            session.on(Event::StopRequested, &at(1));
        }
        other => panic!("no such state: {other}"),
    }
    assert_eq!(state_of(&session), state);
    session
}

fn state_of(session: &Session) -> &'static str {
    match session.state {
        State::Holding => "holding",
        State::Waiting => "waiting",
        State::Connecting => "connecting",
        State::Up { .. } if session.refused.is_empty() => "up",
        State::Up { .. } => "restricted",
        State::Stopping => "stopping",
    }
}

#[test]
fn a_start_first_reports_that_the_link_is_down() {
    let expected = "forget, holding false, show connecting, tell down, connect 1 to 1 v5";
    assert_eq!(step(&mut session(), Event::Started, &at(0)).join(", "), expected);
    let mut full = session();
    full.state = State::Holding;
    let expected = "forget, holding true, show holding, tell down, log not connecting";
    assert_eq!(step(&mut full, Event::Started, &at(0)).join(", "), expected);
}

#[test]
fn no_client_is_made_while_a_message_holds_the_librarys_lock() {
    let mut session = session_in("waiting");
    let receiving = Facts { receiving: true, ..at(2) };
    assert_eq!(step(&mut session, Event::TimerFired, &receiving), ["timer"]);
    assert_eq!(step(&mut session, Event::TimerFired, &at(3)), ["connect 2 to 1 v5"]);
}

/// The library must not be asked twice at a time.
#[test]
fn an_attempt_that_was_given_up_is_answered_before_the_next_begins() {
    let mut session = session_in("connecting");
    let given_up = failure(&session, LinkError::HungUp);
    session.on(full(), &at(1));
    let room = step(&mut session, Event::SpaceChanged(Space::Free), &at(2));
    assert_eq!(room, ["holding false", "log room", "show connecting"]);
    assert_eq!(step(&mut session, given_up, &at(3)), ["close stale"]);
    assert_eq!(step(&mut session, Event::StaleLinkClosed, &at(4)), ["connect 3 to 1 v5"]);
}

/// Proves MQTT-5, HOST-1.
#[test]
fn each_broker_is_asked_once_between_two_waits() {
    let mut session = session_with(3, ProtocolChoice::V5);
    session.on(Event::Started, &at(0));
    for round in 0..3 {
        for number in 2..=3 {
            let effects = fails(&mut session, &at(1));
            assert_eq!(effects.last(), Some(&format!("connect {} to {number} v5", 3 * round + number)));
        }
        let effects = fails(&mut session, &at(1));
        assert_eq!(effects.last().map(String::as_str), Some("timer"));
        let next = format!("connect {} to 1 v5", 3 * round + 4);
        assert_eq!(step(&mut session, Event::TimerFired, &at(2)), [next]);
    }
}

#[test]
fn a_refusal_of_version_5_is_followed_by_3_1_1_at_once() {
    let mut session = session_with(1, ProtocolChoice::Auto);
    session.on(Event::Started, &at(0));
    let refused = failure(&session, LinkError::ProtocolRefused);
    assert_eq!(step(&mut session, refused, &at(1)), ["count", "log no v5", "connect 2 to 1 v3"]);
}

/// Proves MQTT-5.
#[test]
fn the_backoff_starts_over_only_after_a_link_that_lasted() {
    for (lasted, attempts) in [(1, 2), (60, 2), (61, 1)] {
        let mut session = session_in("waiting");
        session.on(Event::TimerFired, &at(2));
        session.on(answer(&session, true, vec![]), &at(2));
        session.on(lost(), &link_gone(2 + lasted));
        assert_eq!(session.backoff.attempts(), attempts, "{lasted} s");
    }
}

/// Liveness must not take the end of one link for the end of the next.
#[test]
fn a_report_names_the_link_that_it_is_about() {
    let mut session = session_with(2, ProtocolChoice::V5);
    session.on(Event::Started, &at(0));
    session.on(answer(&session, true, vec![refusal("b/#")]), &at(1));
    for _ in 0..2 {
        session.on(Event::TimerFired, &at(2));
        session.on(asked_again(&session, vec![refusal("b/#")]), &at(2));
    }
    session.on(Event::TimerFired, &at(3));
    let effects = session.on(asked_again(&session, vec![refusal("b/#")]), &at(3));
    let expected = [
        "forget",
        "tell down",
        "count",
        "show away",
        "log trouble",
        "timer",
        "close",
        "no timer",
        "connect 2 to 2 v5",
    ];
    assert_eq!(names(&effects), expected);
    let reported = effects.iter().find_map(|effect| match effect {
        Effect::TellLiveness(report) => Some((report.link, report.heard_from)),
        _ => None,
    });
    assert_eq!(reported, Some((1, Mono(0))));
}

/// Proves MQTT-3.
#[test]
fn only_machines_of_refused_filters_are_reported_blind_until_the_grant() {
    let mut session = session_in("restricted");
    let second = FilterSet::of(&session.options.telemetry, |telemetry| *telemetry == filter("b/#"));
    assert_eq!((session.report(true).refused, session.report(true).asked_at), (second, Mono(0)));
    session.on(asked_again(&session, vec![]), &at(2));
    assert_eq!((session.report(true).refused, session.report(true).asked_at), (FilterSet::EMPTY, Mono(7)));
}

#[test]
fn the_same_trouble_is_logged_once_and_again_after_a_success() {
    let mut session = session_in("connecting");
    let mut logs = |outcome: fn(&Session) -> Event| {
        let made = outcome(&session);
        let effects = step(&mut session, made, &at(1));
        session.on(Event::TimerFired, &at(2));
        session.on(lost(), &link_gone(100));
        session.on(Event::TimerFired, &at(101));
        effects.contains(&"log trouble".to_owned())
    };
    let trouble: fn(&Session) -> Event = |session| failure(session, LinkError::HungUp);
    let logged = [logs(trouble), logs(trouble), logs(|session| answer(session, true, vec![])), logs(trouble)];
    assert_eq!(logged, [true, false, false, true]);
}

#[test]
fn a_session_that_is_taken_over_again_and_again_is_one_line_until_that_is_over() {
    let mut session = session_in("up");
    let mut lines = Vec::new();
    for round in 0..4 {
        let taken_over = Event::LinkEnded { reason: "taken over".to_owned(), taken_over: true };
        lines.extend(step(&mut session, taken_over, &link_gone(10 + round)));
        session.on(Event::TimerFired, &at(10 + round));
        lines.extend(answered(&mut session, true, vec![], &at(10 + round)));
    }
    lines.extend(step(&mut session, Event::SecondPassed, &at(73)));
    lines.extend(step(&mut session, Event::SecondPassed, &at(74)));
    lines.retain(|line| line.starts_with("log"));
    let expected = [
        "log trouble",
        "log connected",
        "log trouble",
        "log connected",
        "log taken over",
        "log not taken over",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_broker_that_lost_the_session_is_reported_and_another_one_knows_no_statuses() {
    let mut session = session_with(2, ProtocolChoice::V5);
    session.on(Event::Started, &at(0));
    assert!(!answered(&mut session, false, vec![], &at(1)).contains(&"log forgotten".to_owned()));
    assert!(session.report(true).forgotten);
    let reconnect = |session: &mut Session, session_present| {
        session.on(lost(), &link_gone(2));
        session.on(Event::TimerFired, &at(3));
        let effects = answered(session, session_present, vec![], &at(3));
        (effects.contains(&"log forgotten".to_owned()), session.report(true).forgotten)
    };
    assert_eq!(reconnect(&mut session, true), (false, false));
    assert_eq!(reconnect(&mut session, false), (true, true));
    assert_eq!(reconnect(&mut session, true), (false, false));
    session.on(lost(), &link_gone(4));
    session.on(Event::TimerFired, &at(5));
    session.on(failure(&session, LinkError::HungUp), &at(5));
    session.on(answer(&session, true, vec![]), &at(6));
    assert_eq!(session.endpoint().port, 2);
    assert!(session.report(true).forgotten);
}
