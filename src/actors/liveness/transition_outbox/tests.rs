//! The outbox (OBX-1 to OBX-4).

use super::*;
use crate::domain::{MachineId, MachineStatus, Timestamp, TransitionReason};

const BOTH: Destinations = Destinations { database: true, broker: true };

fn machine(name: &str) -> MachineId {
    MachineId::parse(name).expect("a valid id")
}

fn transition(name: &str, seq: u64) -> Transition {
    Transition {
        machine_id: machine(name),
        status: MachineStatus::Online,
        previous_status: None,
        reason: TransitionReason::FirstSeen,
        occurred_at: Timestamp::from_micros(1),
        last_seen_at: None,
        seq: Seq(seq),
    }
}

fn outbox(destinations: Destinations, names: &[&str]) -> TransitionOutbox {
    let mut outbox = TransitionOutbox::new(destinations);
    names.iter().for_each(|name| outbox.push(transition(name, 1)));
    outbox
}

fn to_publish(outbox: &TransitionOutbox) -> Vec<(TransitionNumber, String)> {
    let waiting = outbox.to_publish(0, 99);
    let name = |item: &Item| match item {
        Item::Transition(transition) => transition.machine_id.to_string(),
        Item::Forget(forget) => format!("forget {}", forget.machine_id),
    };
    waiting.map(|(number, item)| (number, name(item))).collect()
}

fn names(transitions: &[Transition]) -> Vec<&str> {
    transitions.iter().map(|transition| transition.machine_id.as_str()).collect()
}

/// Proves OBX-1.
#[test]
fn a_transition_recorded_before_it_is_published_is_confirmed_afterwards() {
    let mut outbox = outbox(BOTH, &["a", "b", "c"]);
    let taken = outbox.oldest_unrecorded(Seq(1), 2);
    assert_eq!((names(&taken.transitions), taken.published, taken.upto), (vec!["a", "b"], 0, 2));
    assert!(outbox.has_after(2, Seq(1)) && !outbox.has_after(3, Seq(1)));
    outbox.on_recorded(2, 0);
    assert_eq!(outbox.to_confirm(9), (vec![], vec![], 0), "the broker does not have them");
    outbox.on_published(1);
    assert_eq!(outbox.to_confirm(9), (vec![key_of(&transition("a", 1))], vec![], 1));
    assert!(outbox.waits_for_database());
    outbox.on_published(3);
    let (keys, _, upto) = outbox.to_confirm(9);
    assert_eq!((keys.len(), upto), (2, 2), "c is not recorded");
    outbox.on_recorded(0, 2);
    let taken = outbox.oldest_unrecorded(Seq(1), 9);
    assert_eq!((names(&taken.transitions), taken.published, taken.upto), (vec!["c"], 1, 3));
    outbox.on_recorded(3, 2);
    assert!(
        outbox.entries.is_empty() && !outbox.waits_for_database(),
        "published before it was recorded: nothing to confirm"
    );
}

/// Proves OBX-1.
#[test]
fn a_batch_sent_again_may_have_been_recorded_as_pending() {
    let mut outbox = outbox(BOTH, &["a"]);
    assert_eq!(outbox.oldest_unrecorded(Seq(1), 9).published, 0);
    outbox.on_published(1);
    assert_eq!(outbox.oldest_unrecorded(Seq(1), 9).published, 1);
    outbox.on_recorded(1, 0);
    assert_eq!(outbox.to_confirm(9).0.len(), 1, "the database may have stored the first attempt");
}

/// Proves OBX-2.
#[test]
fn recorded_unpublished_transitions_come_first_and_are_not_recorded_again() {
    let mut outbox = TransitionOutbox::new(BOTH);
    outbox.push_recorded(vec![transition("x", 0), transition("y", 0)]);
    outbox.push(transition("a", 1));
    let waiting = to_publish(&outbox);
    assert_eq!(waiting, [(1, "x".to_owned()), (2, "y".to_owned()), (3, "a".to_owned())]);
    assert_eq!(names(&outbox.oldest_unrecorded(Seq(1), 9).transitions), ["a"]);
    assert_eq!(outbox.to_publish(2, 99).count(), 1, "the others are in flight");
    outbox.on_published(1);
    assert_eq!(outbox.to_publish(0, 99).count(), 2);
    assert_eq!(outbox.to_confirm(9), (vec![key_of(&transition("x", 0))], vec![], 1));
    outbox.on_recorded(0, 1);
    assert_eq!(to_publish(&outbox)[0].1, "y");
}

/// Proves OBX-2, LIV-2.
#[test]
fn a_transition_waits_for_the_position_of_its_record() {
    let mut outbox = TransitionOutbox::new(BOTH);
    outbox.push(transition("a", 5));
    outbox.push(transition("b", 9));
    let taken = outbox.oldest_unrecorded(Seq(5), 9);
    assert_eq!(names(&taken.transitions), ["a"]);
    assert!(!outbox.has_after(taken.upto, Seq(8)) && outbox.has_after(taken.upto, Seq(9)));
    assert_eq!(outbox.oldest_unrecorded(Seq(4), 9), ToRecord::default());
}

/// Proves OBX-1.
#[test]
fn without_a_broker_nothing_is_pending_and_without_a_database_nothing_is_recorded() {
    let mut only_database = outbox(Destinations { database: true, broker: false }, &["a", "b"]);
    assert_eq!(to_publish(&only_database), []);
    assert_eq!(only_database.oldest_unrecorded(Seq(1), 9).published, 2);
    only_database.on_recorded(2, 0);
    assert!(only_database.entries.is_empty() && !only_database.waits_for_database());
    let mut only_broker = outbox(Destinations { database: false, broker: true }, &["a", "b"]);
    assert_eq!(only_broker.oldest_unrecorded(Seq(1), 9), ToRecord::default());
    assert_eq!(only_broker.unrecorded_len(), 0);
    only_broker.on_published(2);
    assert!(only_broker.entries.is_empty());
}

#[test]
fn a_late_answer_to_its_predecessor_has_no_effect_on_a_successor() {
    let mut old = outbox(Destinations { database: false, broker: true }, &["a", "b"]);
    let mut new = old.successor(BOTH);
    new.push_recorded(vec![transition("x", 0)]);
    new.push(transition("y", 1));
    old.on_published(2);
    new.on_published(2);
    assert_eq!(to_publish(&new), [(3, "x".to_owned()), (4, "y".to_owned())]);
    assert_eq!(new.oldest_unrecorded(Seq(1), 9).upto, 4);
    new.on_published(3);
    assert_eq!(new.to_confirm(9).2, 3);
}

/// Proves OBX-3.
#[test]
fn beyond_the_limit_the_oldest_are_dropped_and_counted_for_each_destination() {
    let mut outbox = TransitionOutbox::new(BOTH);
    (0..TRANSITIONS_MAX).for_each(|_| outbox.push(transition("a", 1)));
    outbox.on_published(1);
    assert_eq!(outbox.entries.len(), TRANSITIONS_MAX);
    (0..3).for_each(|_| outbox.push(transition("b", 1)));
    assert_eq!((outbox.dropped_unrecorded(), outbox.dropped_unpublished()), (3, 2));
    assert_eq!(outbox.entries.len(), TRANSITIONS_MAX);
    assert_eq!(outbox.to_publish(0, 1).next().map(|(number, _)| number), Some(4));
    assert_eq!(outbox.oldest_unrecorded(Seq(1), 1).upto, 4);
}

fn forget(name: &str, seq: u64) -> Forget {
    Forget { machine_id: machine(name), requested_at: Timestamp::from_micros(7), seq: Seq(seq) }
}

/// Proves OBX-4.
#[test]
fn a_machine_to_forget_keeps_its_place_among_the_transitions() {
    let mut outbox = outbox(BOTH, &["a"]);
    outbox.push_forget(forget("a", 1));
    outbox.push(transition("a", 1));
    let waiting: Vec<String> = to_publish(&outbox).into_iter().map(|(_, name)| name).collect();
    assert_eq!(waiting, ["a", "forget a", "a"]);

    let taken = outbox.oldest_unrecorded(Seq(1), 9);
    assert_eq!((names(&taken.transitions), taken.forgets.len(), taken.upto), (vec!["a"], 0, 1));
    assert!(outbox.has_after(1, Seq(1)), "the next batch deletes the row");
    outbox.on_recorded(1, 0);
    let taken = outbox.oldest_unrecorded(Seq(1), 9);
    let deletes = change(&forget("a", 1), true, false);
    assert_eq!((taken.forgets, names(&taken.transitions), taken.upto), (vec![deletes], vec!["a"], 3));
    outbox.on_recorded(3, 0);
    outbox.on_published(2);
    let (events, cleared, upto) = outbox.to_confirm(9);
    assert_eq!((events.len(), cleared, upto), (1, vec![change(&forget("a", 1), false, true)], 2));
    outbox.on_recorded(3, 2);
    outbox.on_published(3);
    let (_, _, upto) = outbox.to_confirm(9);
    outbox.on_recorded(3, upto);
    assert!(outbox.entries.is_empty() && !outbox.waits_for_database());
}

/// Proves OBX-4.
#[test]
fn without_a_broker_or_once_it_has_cleared_the_status_one_change_ends_the_request() {
    let mut only_database = outbox(Destinations { database: true, broker: false }, &[]);
    only_database.push_forget(forget("a", 1));
    let taken = only_database.oldest_unrecorded(Seq(1), 9);
    assert_eq!(taken.forgets, [change(&forget("a", 1), true, true)]);
    only_database.on_recorded(taken.upto, 0);
    assert!(only_database.entries.is_empty());

    let mut outbox = outbox(BOTH, &[]);
    outbox.push_recorded_forget(forget("gone", 0));
    outbox.push_forget(forget("a", 1));
    outbox.on_published(2);
    let (_, cleared, upto) = outbox.to_confirm(9);
    assert_eq!(cleared, [change(&forget("gone", 0), false, true)]);
    let taken = outbox.oldest_unrecorded(Seq(1), 9);
    assert_eq!(taken.forgets, [change(&forget("a", 1), true, true)], "published before it is recorded");
    outbox.on_recorded(taken.upto, upto);
    assert!(outbox.entries.is_empty());
}
