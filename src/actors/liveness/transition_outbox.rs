//! The queue of transitions, and of machines to forget, that still have to reach the database or the broker.
//!
//! Transitions are numbered in the order in which they happened. Three numbers move along the queue, each
//! only forward: `recorded` (the database has them), `published` (the broker has them) and `confirmed` (the
//! database knows that the broker has them).
//!
//! Invariants
//! - **OBX-1** A transition leaves the queue when it is recorded, published and, if it was recorded as
//!   pending, confirmed.
//! - **OBX-2** The database and the broker each get the transitions in order.
//! - **OBX-3** At most [`TRANSITIONS_MAX`] are kept; beyond that the oldest are dropped and counted.
//! - **OBX-4** A machine to forget has its place among the transitions. The database deletes its row after every
//!   transition before that place and before any behind it; the broker clears its status in the same order.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::domain::{MachineId, Seq, Timestamp, Transition};
use crate::store::{EventKey, ForgetChange};

/// Transitions kept while the database or the broker is away.
pub const TRANSITIONS_MAX: usize = 200_000;

/// Where transitions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destinations {
    /// To the database; not before the recorded history is known.
    pub database: bool,
    /// To the broker; not with an empty `publish_prefix`.
    pub broker: bool,
}

/// The number of a transition, from 1.
pub type TransitionNumber = u64;

/// A machine to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forget {
    /// The machine.
    pub machine_id: MachineId,
    /// Names the request.
    pub requested_at: Timestamp,
    /// It was watched until this record.
    pub seq: Seq,
}

/// What waits in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A change of status.
    Transition(Transition),
    /// A machine to forget.
    Forget(Forget),
}

impl Item {
    fn seq(&self) -> Seq {
        match self {
            Self::Transition(transition) => transition.seq,
            Self::Forget(forget) => forget.seq,
        }
    }
}

#[derive(Debug)]
struct Entry {
    item: Item,
    /// The database may have recorded it as not yet published.
    recorded_pending: bool,
}

/// The queue of transitions.
#[derive(Debug)]
pub struct TransitionOutbox {
    destinations: Destinations,
    entries: VecDeque<Entry>,
    newest: TransitionNumber,
    recorded: TransitionNumber,
    published: TransitionNumber,
    confirmed: TransitionNumber,
    dropped_unrecorded: u64,
    dropped_unpublished: u64,
}

/// Transitions to record, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ToRecord {
    /// Machines to forget, before the transitions.
    pub forgets: Vec<ForgetChange>,
    /// In order.
    pub transitions: Vec<Transition>,
    /// How many of them, from the first, have reached the broker.
    pub published: usize,
    /// The number of the last; 0 if there are none.
    pub upto: TransitionNumber,
}

impl TransitionOutbox {
    /// Returns an empty outbox.
    #[must_use]
    pub fn new(destinations: Destinations) -> Self {
        let entries = VecDeque::new();
        Self {
            destinations,
            entries,
            newest: 0,
            recorded: 0,
            published: 0,
            confirmed: 0,
            dropped_unrecorded: 0,
            dropped_unpublished: 0,
        }
    }

    /// Returns an empty outbox whose numbers go on, so that a late answer to this one has no effect on it.
    #[must_use]
    pub fn successor(&self, destinations: Destinations) -> Self {
        let newest = self.newest;
        Self { newest, recorded: newest, published: newest, confirmed: newest, ..Self::new(destinations) }
    }

    /// Adds transitions that are recorded and may not have reached the broker. Call it before [`Self::push`].
    pub fn push_recorded(&mut self, unpublished: Vec<Transition>) {
        debug_assert!(self.entries.is_empty(), "OBX-2: recorded transitions come first");
        if !self.destinations.broker {
            return;
        }
        for transition in unpublished {
            self.entries.push_back(Entry { item: Item::Transition(transition), recorded_pending: true });
            self.newest += 1;
        }
        self.recorded = self.newest;
    }

    /// Adds a machine whose row is deleted already. Call it behind [`Self::push_recorded`], before [`Self::push`].
    pub fn push_recorded_forget(&mut self, forget: Forget) {
        debug_assert_eq!(self.recorded, self.newest, "OBX-2: what is recorded comes first");
        if self.destinations.broker {
            self.entries.push_back(Entry { item: Item::Forget(forget), recorded_pending: true });
            self.newest += 1;
            self.recorded = self.newest;
        }
    }

    /// Adds the newest transition.
    pub fn push(&mut self, transition: Transition) {
        self.push_item(Item::Transition(transition));
    }

    /// Adds a machine to forget, behind all its transitions.
    pub fn push_forget(&mut self, forget: Forget) {
        self.push_item(Item::Forget(forget));
    }

    fn push_item(&mut self, item: Item) {
        self.newest += 1;
        self.entries.push_back(Entry { item, recorded_pending: false });
        self.trim();
        if self.entries.len() > TRANSITIONS_MAX {
            // OBX-3: drop the oldest.
            let oldest = self.first();
            self.dropped_unrecorded += u64::from(oldest > self.recorded);
            self.dropped_unpublished += u64::from(oldest > self.published);
            self.entries.pop_front();
            self.recorded = self.recorded.max(oldest);
            self.published = self.published.max(oldest);
            self.confirmed = self.confirmed.max(oldest);
        }
    }

    /// Returns the oldest unrecorded transitions of records up to `seq_max`, at most `count_max`. They stay
    /// until [`Self::on_recorded`].
    #[must_use]
    pub fn oldest_unrecorded(&mut self, seq_max: Seq, count_max: usize) -> ToRecord {
        if !self.destinations.database {
            return ToRecord::default();
        }
        let (first, published) = (self.recorded + 1, self.published);
        let index = self.index(first);
        let eligible = (first..).zip(self.entries.iter_mut().skip(index));
        let mut out = ToRecord::default();
        for (number, entry) in eligible.take(count_max) {
            if entry.item.seq() > seq_max {
                break;
            }
            let is_published = number <= published;
            match &entry.item {
                // OBX-4: a batch deletes before it records.
                Item::Forget(_) if !out.transitions.is_empty() => break,
                Item::Forget(forget) => out.forgets.push(change(forget, true, is_published)),
                Item::Transition(transition) => {
                    out.published += usize::from(is_published);
                    out.transitions.push(transition.clone());
                }
            }
            entry.recorded_pending |= !is_published;
            out.upto = number;
        }
        out
    }

    /// Returns whether transitions of records up to `seq_max`, behind the one numbered `upto`, are
    /// unrecorded.
    #[must_use]
    pub fn has_after(&self, upto: TransitionNumber, seq_max: Seq) -> bool {
        let next = self.entries.get(self.index(upto.max(self.recorded) + 1));
        self.destinations.database && next.is_some_and(|entry| entry.item.seq() <= seq_max)
    }

    /// Returns the oldest events that the database has as pending although the broker has them, and the machines whose
    /// status the broker has cleared, at most `count_max`, and the number up to which all are confirmed once
    /// these are.
    #[must_use]
    pub fn to_confirm(&self, count_max: usize) -> (Vec<EventKey>, Vec<ForgetChange>, TransitionNumber) {
        let last = self.recorded.min(self.published);
        let mut upto = self.confirmed;
        let (mut keys, mut cleared) = (Vec::new(), Vec::new());
        let first = self.confirmed + 1;
        for (number, entry) in (first..).zip(self.entries.iter().skip(self.index(first))) {
            if number > last || keys.len() + cleared.len() >= count_max {
                break;
            }
            match &entry.item {
                Item::Transition(transition) if entry.recorded_pending => keys.push(key_of(transition)),
                Item::Forget(forget) if entry.recorded_pending => cleared.push(change(forget, false, true)),
                _ => {}
            }
            upto = number;
        }
        (keys, cleared, upto)
    }

    /// The database has the transitions up to `recorded`, and knows of those up to `confirmed` that the
    /// broker has them.
    pub fn on_recorded(&mut self, recorded: TransitionNumber, confirmed: TransitionNumber) {
        self.recorded = self.recorded.max(recorded);
        self.confirmed = self.confirmed.max(confirmed);
        self.trim();
    }

    /// Returns the oldest unpublished transitions behind the one numbered `after`, at most `count_max`, each
    /// with its number.
    pub fn to_publish(
        &self,
        after: TransitionNumber,
        count_max: usize,
    ) -> impl Iterator<Item = (TransitionNumber, &Item)> {
        let first = self.published.max(after) + 1;
        let entries = self.entries.iter().skip(self.index(first));
        let wanted = if self.destinations.broker { count_max } else { 0 };
        (first..).zip(entries).take(wanted).map(|(number, entry)| (number, &entry.item))
    }

    /// The broker has the transitions up to `upto`.
    pub fn on_published(&mut self, upto: TransitionNumber) {
        self.published = self.published.max(upto);
        self.trim();
    }

    /// Returns how many transitions wait to be recorded.
    #[must_use]
    pub fn unrecorded_len(&self) -> usize {
        let waiting = if self.destinations.database { self.newest - self.recorded } else { 0 };
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    /// Returns whether transitions or confirmations wait for the database.
    #[must_use]
    pub fn waits_for_database(&self) -> bool {
        let (events, cleared, _) = self.to_confirm(1);
        self.unrecorded_len() > 0 || !events.is_empty() || !cleared.is_empty()
    }

    /// Returns how many were dropped unrecorded; each is an event missing from the database.
    #[must_use]
    pub fn dropped_unrecorded(&self) -> u64 {
        self.dropped_unrecorded
    }

    /// Returns how many were dropped unpublished; each is a change that subscribers did not see.
    #[must_use]
    pub fn dropped_unpublished(&self) -> u64 {
        self.dropped_unpublished
    }

    fn first(&self) -> TransitionNumber {
        self.newest + 1 - self.entries.len() as u64
    }

    fn index(&self, number: TransitionNumber) -> usize {
        usize::try_from(number.saturating_sub(self.first())).unwrap_or(usize::MAX)
    }

    /// Removes what has reached every destination (OBX-1).
    fn trim(&mut self) {
        let recorded = if self.destinations.database { self.recorded } else { self.newest };
        let published = if self.destinations.broker { self.published } else { self.newest };
        (self.recorded, self.published) = (recorded, published);
        while let Some(entry) = self.entries.front() {
            let first = self.first();
            let is_confirmed =
                !entry.recorded_pending || !self.destinations.broker || first <= self.confirmed;
            if first > recorded.min(published) || !is_confirmed {
                break;
            }
            self.entries.pop_front();
            self.confirmed = self.confirmed.max(first);
        }
    }
}

fn change(forget: &Forget, removes: bool, cleared: bool) -> ForgetChange {
    let Forget { machine_id, requested_at, .. } = forget.clone();
    ForgetChange { machine_id, requested_at, removes, cleared }
}

fn key_of(transition: &Transition) -> EventKey {
    EventKey {
        machine_id: transition.machine_id.clone(),
        occurred_at: transition.occurred_at,
        status: transition.status,
    }
}
