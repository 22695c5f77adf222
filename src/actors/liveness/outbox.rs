//! What liveness still has to tell: transitions, to the database and to the broker.
//!
//! Transitions stand in one queue, in the order in which they happened. Three marks move along it, each only forward:
//! up to where they are recorded, up to where the broker has them, and up to where the database knows the latter.
//!
//! Invariants
//! - OBX-1 A transition leaves the queue when it is recorded, published, and, if it was recorded as pending, marked.
//! - OBX-2 Both the database and the broker get the transitions in order.
//! - OBX-3 At most [`TRANSITIONS_MAX`] are kept; beyond it the oldest are given up, and that is counted.

use std::collections::VecDeque;

use crate::domain::{Seq, Transition};
use crate::store::EventKey;

/// Transitions kept while the database or the broker is away.
pub const TRANSITIONS_MAX: usize = 200_000;

/// What takes the transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takers {
    /// The database; not while the past is unknown.
    pub database: bool,
    /// The broker; not with an empty `publish_prefix`.
    pub broker: bool,
}

/// A place in the queue: transitions are numbered from 1.
pub type Order = u64;

#[derive(Debug)]
struct Entry {
    transition: Transition,
    /// The database may have it as pending.
    pending_there: bool,
}

/// The queue of transitions.
#[derive(Debug)]
pub struct TransitionOutbox {
    takers: Takers,
    entries: VecDeque<Entry>,
    /// The newest transition's number.
    newest: Order,
    recorded: Order,
    published: Order,
    marked: Order,
    unrecorded: u64,
    unpublished: u64,
}

/// Transitions to record, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ToRecord {
    /// In order.
    pub transitions: Vec<Transition>,
    /// So many of them, from the first, have reached the broker.
    pub published: usize,
    /// The last one's number; 0 if there are none.
    pub upto: Order,
}

impl TransitionOutbox {
    /// An empty one.
    #[must_use]
    pub fn new(takers: Takers) -> Self {
        let entries = VecDeque::new();
        Self {
            takers,
            entries,
            newest: 0,
            recorded: 0,
            published: 0,
            marked: 0,
            unrecorded: 0,
            unpublished: 0,
        }
    }

    /// An empty one whose numbers go on: an answer that is still on its way to this one means nothing to it.
    #[must_use]
    pub fn successor(&self, takers: Takers) -> Self {
        let newest = self.newest;
        Self { newest, recorded: newest, published: newest, marked: newest, ..Self::new(takers) }
    }

    /// Transitions of the past that are recorded and may not have reached the broker; before any other.
    pub fn remember(&mut self, unpublished: Vec<Transition>) {
        debug_assert!(self.entries.is_empty(), "OBX-2: the past comes first");
        if !self.takers.broker {
            return;
        }
        for transition in unpublished {
            self.entries.push_back(Entry { transition, pending_there: true });
            self.newest += 1;
        }
        self.recorded = self.newest;
    }

    /// Adds the newest transition.
    pub fn push(&mut self, transition: Transition) {
        self.newest += 1;
        self.entries.push_back(Entry { transition, pending_there: false });
        self.trim();
        if self.entries.len() > TRANSITIONS_MAX {
            // OBX-3
            let oldest = self.first();
            self.unrecorded += u64::from(oldest > self.recorded);
            self.unpublished += u64::from(oldest > self.published);
            self.entries.pop_front();
            self.recorded = self.recorded.max(oldest);
            self.published = self.published.max(oldest);
            self.marked = self.marked.max(oldest);
        }
    }

    /// The oldest transitions of records up to `seq_max` that are not recorded, at most `count_max`. They stay until
    /// [`Self::on_recorded`].
    #[must_use]
    pub fn oldest_unrecorded(&mut self, seq_max: Seq, count_max: usize) -> ToRecord {
        if !self.takers.database {
            return ToRecord::default();
        }
        let (first, published) = (self.recorded + 1, self.published);
        let index = self.index(first);
        let eligible = (first..).zip(self.entries.iter_mut().skip(index));
        let mut out = ToRecord::default();
        for (order, entry) in eligible.take(count_max) {
            if entry.transition.seq > seq_max {
                break;
            }
            if order <= published {
                out.published += 1;
            } else {
                entry.pending_there = true;
            }
            out.transitions.push(entry.transition.clone());
            out.upto = order;
        }
        out
    }

    /// Whether there are unrecorded transitions of records up to `seq_max` past the one numbered `upto`.
    #[must_use]
    pub fn has_after(&self, upto: Order, seq_max: Seq) -> bool {
        let next = self.entries.get(self.index(upto.max(self.recorded) + 1));
        self.takers.database && next.is_some_and(|entry| entry.transition.seq <= seq_max)
    }

    /// The oldest events that the database has as pending although the broker has them, at most `count_max`, and up to
    /// where all are known to it then.
    #[must_use]
    pub fn to_mark(&self, count_max: usize) -> (Vec<EventKey>, Order) {
        let last = self.recorded.min(self.published);
        let mut upto = self.marked;
        let mut keys = Vec::new();
        let first = self.marked + 1;
        for (order, entry) in (first..).zip(self.entries.iter().skip(self.index(first))) {
            if order > last || keys.len() >= count_max {
                break;
            }
            if entry.pending_there {
                keys.push(key_of(&entry.transition));
            }
            upto = order;
        }
        (keys, upto)
    }

    /// Everything up to `recorded` is in the database, and up to `marked` it knows what the broker has.
    pub fn on_recorded(&mut self, recorded: Order, marked: Order) {
        self.recorded = self.recorded.max(recorded);
        self.marked = self.marked.max(marked);
        self.trim();
    }

    /// The oldest transitions past the one numbered `after` that the broker does not have, at most `count_max`, each with its
    /// number.
    pub fn to_publish(&self, after: Order, count_max: usize) -> impl Iterator<Item = (Order, &Transition)> {
        let first = self.published.max(after) + 1;
        let entries = self.entries.iter().skip(self.index(first));
        let wanted = if self.takers.broker { count_max } else { 0 };
        (first..).zip(entries).take(wanted).map(|(order, entry)| (order, &entry.transition))
    }

    /// The broker has everything up to `upto`.
    pub fn on_published(&mut self, upto: Order) {
        self.published = self.published.max(upto);
        self.trim();
    }

    /// How many wait to be recorded.
    #[must_use]
    pub fn unrecorded_len(&self) -> usize {
        let waiting = if self.takers.database { self.newest - self.recorded } else { 0 };
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    /// Whether something waits for the database: transitions, or marks of events that the broker has.
    #[must_use]
    pub fn waits_for_database(&self) -> bool {
        self.unrecorded_len() > 0 || !self.to_mark(1).0.is_empty()
    }

    /// How many were given up unrecorded since the start; each is an event missing from the database.
    #[must_use]
    pub fn given_up_unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// How many were given up unpublished since the start; each is one that subscribers did not see.
    #[must_use]
    pub fn given_up_unpublished(&self) -> u64 {
        self.unpublished
    }

    fn first(&self) -> Order {
        self.newest + 1 - self.entries.len() as u64
    }

    fn index(&self, order: Order) -> usize {
        usize::try_from(order.saturating_sub(self.first())).unwrap_or(usize::MAX)
    }

    /// OBX-1
    fn trim(&mut self) {
        let recorded = if self.takers.database { self.recorded } else { self.newest };
        let published = if self.takers.broker { self.published } else { self.newest };
        (self.recorded, self.published) = (recorded, published);
        while let Some(entry) = self.entries.front() {
            let first = self.first();
            let is_marked = !entry.pending_there || !self.takers.broker || first <= self.marked;
            if first > recorded.min(published) || !is_marked {
                break;
            }
            self.entries.pop_front();
            self.marked = self.marked.max(first);
        }
    }
}

fn key_of(transition: &Transition) -> EventKey {
    EventKey {
        machine_id: transition.machine_id.clone(),
        occurred_at: transition.occurred_at,
        status: transition.status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MachineId, MachineStatus, Timestamp, TransitionReason};

    const BOTH: Takers = Takers { database: true, broker: true };

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

    fn outbox(takers: Takers, names: &[&str]) -> TransitionOutbox {
        let mut outbox = TransitionOutbox::new(takers);
        names.iter().for_each(|name| outbox.push(transition(name, 1)));
        outbox
    }

    fn to_publish(outbox: &TransitionOutbox) -> Vec<(Order, String)> {
        let waiting = outbox.to_publish(0, 99);
        waiting.map(|(order, transition)| (order, transition.machine_id.to_string())).collect()
    }

    fn names(transitions: &[Transition]) -> Vec<&str> {
        transitions.iter().map(|transition| transition.machine_id.as_str()).collect()
    }

    #[test]
    fn o1_recorded_before_it_is_published_it_is_marked_afterwards() {
        let mut outbox = outbox(BOTH, &["a", "b", "c"]);
        let taken = outbox.oldest_unrecorded(Seq(1), 2);
        assert_eq!((names(&taken.transitions), taken.published, taken.upto), (vec!["a", "b"], 0, 2));
        assert!(outbox.has_after(2, Seq(1)) && !outbox.has_after(3, Seq(1)));
        outbox.on_recorded(2, 0);
        assert_eq!(outbox.to_mark(9), (vec![], 0), "the broker does not have them");
        outbox.on_published(1);
        assert_eq!(outbox.to_mark(9), (vec![key_of(&transition("a", 1))], 1));
        assert!(outbox.waits_for_database());
        outbox.on_published(3);
        let (keys, upto) = outbox.to_mark(9);
        assert_eq!((keys.len(), upto), (2, 2), "c is not recorded");
        outbox.on_recorded(0, 2);
        let taken = outbox.oldest_unrecorded(Seq(1), 9);
        assert_eq!((names(&taken.transitions), taken.published, taken.upto), (vec!["c"], 1, 3));
        outbox.on_recorded(3, 2);
        assert!(
            outbox.entries.is_empty() && !outbox.waits_for_database(),
            "published before: nothing to mark"
        );
    }

    #[test]
    fn o1_a_batch_that_is_sent_again_may_have_been_recorded_as_pending() {
        let mut outbox = outbox(BOTH, &["a"]);
        assert_eq!(outbox.oldest_unrecorded(Seq(1), 9).published, 0);
        outbox.on_published(1);
        assert_eq!(outbox.oldest_unrecorded(Seq(1), 9).published, 1);
        outbox.on_recorded(1, 0);
        assert_eq!(outbox.to_mark(9).0.len(), 1, "the first attempt may have been the one that was stored");
    }

    #[test]
    fn o2_what_the_past_left_unpublished_comes_first_and_is_recorded_already() {
        let mut outbox = TransitionOutbox::new(BOTH);
        outbox.remember(vec![transition("x", 0), transition("y", 0)]);
        outbox.push(transition("a", 1));
        let waiting = to_publish(&outbox);
        assert_eq!(waiting, [(1, "x".to_owned()), (2, "y".to_owned()), (3, "a".to_owned())]);
        assert_eq!(names(&outbox.oldest_unrecorded(Seq(1), 9).transitions), ["a"]);
        assert_eq!(outbox.to_publish(2, 99).count(), 1, "the others are under way");
        outbox.on_published(1);
        assert_eq!(outbox.to_publish(0, 99).count(), 2);
        assert_eq!(outbox.to_mark(9), (vec![key_of(&transition("x", 0))], 1));
        outbox.on_recorded(0, 1);
        assert_eq!(to_publish(&outbox)[0].1, "y");
    }

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

    #[test]
    fn without_a_broker_nothing_is_pending_and_without_a_database_nothing_is_recorded() {
        let mut only_database = outbox(Takers { database: true, broker: false }, &["a", "b"]);
        assert_eq!(to_publish(&only_database), []);
        assert_eq!(only_database.oldest_unrecorded(Seq(1), 9).published, 2);
        only_database.on_recorded(2, 0);
        assert!(only_database.entries.is_empty() && !only_database.waits_for_database());
        let mut only_broker = outbox(Takers { database: false, broker: true }, &["a", "b"]);
        assert_eq!(only_broker.oldest_unrecorded(Seq(1), 9), ToRecord::default());
        assert_eq!(only_broker.unrecorded_len(), 0);
        only_broker.on_published(2);
        assert!(only_broker.entries.is_empty());
    }

    #[test]
    fn what_was_answered_to_its_predecessor_means_nothing_to_a_successor() {
        let mut old = outbox(Takers { database: false, broker: true }, &["a", "b"]);
        let mut new = old.successor(BOTH);
        new.remember(vec![transition("x", 0)]);
        new.push(transition("y", 1));
        old.on_published(2);
        new.on_published(2);
        assert_eq!(to_publish(&new), [(3, "x".to_owned()), (4, "y".to_owned())]);
        assert_eq!(new.oldest_unrecorded(Seq(1), 9).upto, 4);
        new.on_published(3);
        assert_eq!(new.to_mark(9).1, 3);
    }

    #[test]
    fn o3_the_oldest_are_given_up_and_counted_for_each_taker() {
        let mut outbox = TransitionOutbox::new(BOTH);
        (0..TRANSITIONS_MAX).for_each(|_| outbox.push(transition("a", 1)));
        outbox.on_published(1);
        assert_eq!(outbox.entries.len(), TRANSITIONS_MAX);
        (0..3).for_each(|_| outbox.push(transition("b", 1)));
        assert_eq!((outbox.given_up_unrecorded(), outbox.given_up_unpublished()), (3, 2));
        assert_eq!(outbox.entries.len(), TRANSITIONS_MAX);
        assert_eq!(outbox.to_publish(0, 1).next().map(|(order, _)| order), Some(4));
        assert_eq!(outbox.oldest_unrecorded(Seq(1), 1).upto, 4);
    }
}
