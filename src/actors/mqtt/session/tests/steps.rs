//! Every state with every event.

use super::*;

const STATES: [&str; 6] = ["holding", "waiting", "connecting", "up", "restricted", "stopping"];

type MakeEvent = fn(&Session) -> Event;

/// Name, event, and whether the link looks connected.
const EVENTS: [(&str, MakeEvent, bool); 16] = [
    ("room", |_| Event::SpaceChanged(Space::Free), true),
    ("full", |_| full(), true),
    ("timer", |_| Event::TimerFired, true),
    ("granted", |session| answer(session, true, vec![]), true),
    ("partly granted", |session| answer(session, true, vec![refusal("b/#")]), true),
    ("lost while subscribing", |session| answer(session, true, vec![]), false),
    ("refused", |session| failure(session, LinkError::Refused("bad password".to_owned())), false),
    (
        "stale answer",
        |session| Event::ConnectAnswered { attempt: session.attempt - 1, outcome: Err(LinkError::HungUp) },
        true,
    ),
    ("stale link closed", |_| Event::StaleLinkClosed, true),
    ("asked again, granted", |session| asked_again(session, vec![]), true),
    ("asked again, refused", |session| asked_again(session, vec![refusal("b/#")]), true),
    ("link ended", |_| lost(), false),
    ("older link ended", |_| lost(), true),
    ("unresponsive", |_| Event::BrokerUnresponsive, true),
    ("second, link gone", |_| Event::SecondPassed, false),
    ("stop", |_| Event::StopRequested, true),
];

/// State, event, next state, effects. Where there is no line nothing happens.
#[rustfmt::skip]
const STEPS: &[(&str, &str, &str, &str)] = &[
    ("holding", "room", "connecting", "holding false, log room, show connecting, connect 3 to 1 v5"),
    ("holding", "stale answer", "holding", "close stale"),
    ("holding", "stop", "stopping", "stop down"),
    ("waiting", "full", "holding", "holding true, show holding, log leaving, forget, no timer, goodbye"),
    ("waiting", "timer", "connecting", "connect 2 to 1 v5"),
    ("waiting", "stale answer", "waiting", "close stale"),
    ("waiting", "stale link closed", "connecting", "no timer, connect 2 to 1 v5"),
    ("waiting", "stop", "stopping", "stop down"),
    ("connecting", "full", "holding", "holding true, show holding, log leaving, forget, goodbye"),
    ("connecting", "granted", "up", "log connected, prove, show up, tell up, announce, certificates"),
    ("connecting", "partly granted", "restricted", "prove, show up, show restricted, log trouble, timer, tell up, announce, certificates"),
    ("connecting", "lost while subscribing", "waiting", "forget, count, show away, log trouble, timer, close"),
    ("connecting", "refused", "waiting", "count, show away, log trouble, timer"),
    ("connecting", "stop", "stopping", "stop down"),
    ("up", "full", "holding", "holding true, show holding, log leaving, forget, tell down, goodbye"),
    ("up", "timer", "up", "ask for "),
    ("up", "link ended", "waiting", "forget, tell down, count, show away, log trouble, timer"),
    ("up", "unresponsive", "waiting", "forget, tell down, count, show away, log trouble, timer, close"),
    ("up", "second, link gone", "waiting", "forget, tell down, count, show away, log trouble, timer"),
    ("up", "stop", "stopping", "stop up"),
    ("restricted", "full", "holding", "holding true, show holding, log leaving, forget, no timer, tell down, goodbye"),
    ("restricted", "timer", "restricted", "ask for b/#"),
    ("restricted", "asked again, granted", "up", "tell up, log all granted, show connected, log connected"),
    ("restricted", "asked again, refused", "restricted", "show restricted, timer"),
    ("restricted", "link ended", "waiting", "forget, no timer, tell down, count, show away, log trouble, timer"),
    ("restricted", "unresponsive", "waiting", "forget, no timer, tell down, count, show away, log trouble, timer, close"),
    ("restricted", "second, link gone", "waiting", "forget, no timer, tell down, count, show away, log trouble, timer"),
    ("restricted", "stop", "stopping", "stop up"),
];

/// An answer to the newest attempt comes only while connecting, a stale one only after an attempt was given
/// up, and one about refused filters only while some are refused.
fn can_happen(state: &str, event: &str) -> bool {
    match event {
        "granted" | "partly granted" | "lost while subscribing" | "refused" => state == "connecting",
        "stale answer" => matches!(state, "holding" | "waiting" | "stopping"),
        "asked again, granted" | "asked again, refused" => state != "up",
        _ => true,
    }
}

/// Proves MQTT-3, MQTT-4.
#[test]
fn each_event_in_each_state_has_exactly_these_effects() {
    for state in STATES {
        for (event, make, connected) in EVENTS.iter().filter(|(event, ..)| can_happen(state, event)) {
            let mut session = session_in(state);
            let made = make(&session);
            let effects = step(&mut session, made, &Facts { connected: *connected, ..at(100) }).join(", ");
            let row = STEPS.iter().find(|(of, on, ..)| (*of, on) == (state, event));
            let expected = row.map_or((state, ""), |(.., next, effects)| (*next, *effects));
            assert_eq!((state_of(&session), effects.as_str()), expected, "{state} + {event}");
        }
    }
    let unused = STEPS.iter().find(|(of, on, ..)| {
        !STATES.contains(of) || !EVENTS.iter().any(|(event, ..)| event == on && can_happen(of, event))
    });
    assert_eq!(unused, None);
}
