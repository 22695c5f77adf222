//! The messages that liveness receives from the parser and the mqtt actor, and its answers.

use actix::prelude::*;

pub use super::tracker::{Sighting, SightingKind, TimePoint};
use super::transition_outbox::TransitionNumber;
use crate::actors::supervisor::Generation;
use crate::clock::Mono;
use crate::domain::{FilterSet, OutageReason, Seq, Timestamp, Transition};
use crate::store::{LivenessPast, LivenessRows, MachineRow};

/// From the parser: begin from this state.
#[derive(Debug, Message)]
#[rtype(result = "Recovered")]
pub struct Recover {
    /// The machines as recorded in the database, after all records up to `after`.
    pub machines: Vec<MachineRow>,
    /// What else the database knows.
    pub past: LivenessPast,
    /// The committed position.
    pub after: Seq,
    /// Records up to here were received over earlier links, or before this process began; how long ago is
    /// unknown.
    pub received_before: Seq,
    /// The database is away, so `machines` and `past` are empty: publish, record nothing.
    pub without_history: bool,
}

/// The answer to [`Recover`].
#[derive(Debug, Clone, Copy, actix::MessageResponse)]
pub struct Recovered {
    /// Records up to here are observed.
    pub observed_upto: Seq,
    /// What waits to be recorded: transitions, confirmations of publishing, outages.
    pub transitions_pending: usize,
}

/// From the parser: all sightings of the records up to `upto`, in order.
#[derive(Debug, Message)]
#[rtype(result = "Observed")]
pub struct Observe {
    /// Of records that were not observed before.
    pub sightings: Vec<Sighting>,
    /// Every record up to here is in `sightings`, or in earlier ones, or makes no sighting.
    pub upto: Seq,
    /// The link was alive then or later, and every record received before then is observed.
    pub proven_until: Option<Mono>,
}

/// The answer to [`Observe`].
#[derive(Debug, Clone, Copy, actix::MessageResponse)]
pub enum Observed {
    /// The sightings are observed.
    Seen {
        /// What waits to be recorded: transitions, confirmations of publishing, outages.
        transitions_pending: usize,
    },
    /// This incarnation knows nothing yet (LIV-1).
    NotRecovered,
}

/// From the parser: a request for the oldest transitions that are not recorded.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "TakenTransitions")]
pub struct TakeTransitions {
    /// Only transitions of records up to here.
    pub upto: Seq,
    /// The most transitions to return.
    pub count_max: usize,
}

/// The answer to [`TakeTransitions`]: what to record.
#[derive(Debug, actix::MessageResponse)]
pub struct TakenTransitions {
    /// In order.
    pub transitions: Vec<Transition>,
    /// The other rows of the same transaction.
    pub rows: LivenessRows,
    /// For [`TransitionsRecorded`].
    pub receipt: Receipt,
    /// There are more transitions of records up to the asked one.
    pub more: bool,
}

/// What was taken; the parser returns it once it is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// The newest transition taken.
    pub transitions: TransitionNumber,
    /// The newest transition whose publishing is confirmed by these rows.
    pub confirmed: TransitionNumber,
    /// How many outages were ever taken.
    pub outages: u64,
    /// The newest instant at which the link was proven.
    pub seen_until: Option<Timestamp>,
}

/// Fact from the parser: what was taken is in the database.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TransitionsRecorded(pub Receipt);

/// Fact from the mqtt actor: the broker link came up or went down, or the set of refused filters changed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LinkChanged {
    /// The link is up.
    pub up: bool,
    /// When it changed.
    pub at: TimePoint,
    /// If up: what was received from here on came over this link. A session delivers while its subscriptions
    /// are still being checked.
    pub heard_from: Mono,
    /// If up: the broker may not have the statuses that were published before, because it lost our session or
    /// is another broker.
    pub forgotten: bool,
    /// When the broker last gave a sign of life.
    pub alive_until: Mono,
    /// Telemetry filters that the broker refuses.
    pub refused: FilterSet,
    /// When the filters that it no longer refuses were requested: what was received from then on may have
    /// come through them.
    pub asked_at: Mono,
    /// If down: why.
    pub reason: OutageReason,
    /// The newest record in the journal at that time.
    pub appended: Seq,
    /// The incarnation of the mqtt actor. Messages of an abandoned one are ignored.
    pub generation: Generation,
    /// Names the link within the incarnation. A repeated report of one link changes nothing.
    pub link: u64,
}
