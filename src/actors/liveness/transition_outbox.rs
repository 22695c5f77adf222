//! The queue of transitions that still have to reach the database or the broker.
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

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::domain::{Seq, Transition};
use crate::store::EventKey;

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

#[derive(Debug)]
struct Entry {
    transition: Transition,
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
            self.entries.push_back(Entry { transition, recorded_pending: true });
            self.newest += 1;
        }
        self.recorded = self.newest;
    }

    /// Adds the newest transition.
    pub fn push(&mut self, transition: Transition) {
        self.newest += 1;
        self.entries.push_back(Entry { transition, recorded_pending: false });
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
            if entry.transition.seq > seq_max {
                break;
            }
            if number <= published {
                out.published += 1;
            } else {
                entry.recorded_pending = true;
            }
            out.transitions.push(entry.transition.clone());
            out.upto = number;
        }
        out
    }

    /// Returns whether transitions of records up to `seq_max`, behind the one numbered `upto`, are
    /// unrecorded.
    #[must_use]
    pub fn has_after(&self, upto: TransitionNumber, seq_max: Seq) -> bool {
        let next = self.entries.get(self.index(upto.max(self.recorded) + 1));
        self.destinations.database && next.is_some_and(|entry| entry.transition.seq <= seq_max)
    }

    /// Returns the oldest events that the database has as pending although the broker has them, at most
    /// `count_max`, and the number up to which all are confirmed once these are.
    #[must_use]
    pub fn to_confirm(&self, count_max: usize) -> (Vec<EventKey>, TransitionNumber) {
        let last = self.recorded.min(self.published);
        let mut upto = self.confirmed;
        let mut keys = Vec::new();
        let first = self.confirmed + 1;
        for (number, entry) in (first..).zip(self.entries.iter().skip(self.index(first))) {
            if number > last || keys.len() >= count_max {
                break;
            }
            if entry.recorded_pending {
                keys.push(key_of(&entry.transition));
            }
            upto = number;
        }
        (keys, upto)
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
    ) -> impl Iterator<Item = (TransitionNumber, &Transition)> {
        let first = self.published.max(after) + 1;
        let entries = self.entries.iter().skip(self.index(first));
        let wanted = if self.destinations.broker { count_max } else { 0 };
        (first..).zip(entries).take(wanted).map(|(number, entry)| (number, &entry.transition))
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
        self.unrecorded_len() > 0 || !self.to_confirm(1).0.is_empty()
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

fn key_of(transition: &Transition) -> EventKey {
    EventKey {
        machine_id: transition.machine_id.clone(),
        occurred_at: transition.occurred_at,
        status: transition.status,
    }
}
