//! What the others may say to liveness, and its answers.

use actix::prelude::*;

use super::outbox::Order;
pub use super::tracker::{Sighting, SightingKind, TimePoint};
use crate::actors::supervisor::Generation;
use crate::clock::Mono;
use crate::domain::{FilterSet, OutageReason, Seq, Timestamp, Transition};
use crate::store::{LivenessPast, LivenessRows, MachineRow};

/// Begin from this state.
#[derive(Debug, Message)]
#[rtype(result = "Recovered")]
pub struct Recover {
    /// The machines as the database knows them, after all records up to `after`.
    pub machines: Vec<MachineRow>,
    /// What else the database knows.
    pub past: LivenessPast,
    /// The committed position.
    pub after: Seq,
    /// Records up to here were received over links that are over, or before this process began; how long ago is not known.
    pub received_before: Seq,
    /// The database is away and the past unknown: watch and publish, record nothing.
    pub provisional: bool,
}

/// Where liveness stands.
#[derive(Debug, Clone, Copy, actix::MessageResponse)]
pub struct Recovered {
    /// Records up to here have been looked at.
    pub observed_upto: Seq,
    /// What waits to be recorded: transitions, marks, outages.
    pub transitions_pending: usize,
}

/// All sightings of the records up to `upto`, in order.
#[derive(Debug, Message)]
#[rtype(result = "Observed")]
pub struct Observe {
    /// Of records that have not been observed before.
    pub sightings: Vec<Sighting>,
    /// Every record up to here has been looked at.
    pub upto: Seq,
    /// The link was alive then or later, and every record received before then has been looked at.
    pub proven_until: Option<Mono>,
}

/// The answer to [`Observe`].
#[derive(Debug, Clone, Copy, actix::MessageResponse)]
pub enum Observed {
    /// They are taken into account.
    Seen {
        /// What waits to be recorded: transitions, marks, outages.
        transitions_pending: usize,
    },
    /// This incarnation knows nothing yet (LIV-1).
    NotRecovered,
}

/// Asks for the oldest transitions that are not recorded.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "TakenTransitions")]
pub struct TakeTransitions {
    /// Only those that records up to here caused, or that came after them.
    pub upto: Seq,
    /// At most so many.
    pub count_max: usize,
}

/// What liveness has to record.
#[derive(Debug, actix::MessageResponse)]
pub struct TakenTransitions {
    /// In order.
    pub transitions: Vec<Transition>,
    /// What goes with them.
    pub rows: LivenessRows,
    /// For [`TransitionsRecorded`].
    pub receipt: Receipt,
    /// There are more transitions than could be taken at once.
    pub more: bool,
}

/// What was taken, to be handed back once it is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Transitions up to this number.
    pub transitions: Order,
    /// Marks up to this number.
    pub marks: Order,
    /// Outages up to this number.
    pub outages: u64,
    /// The proof of sight.
    pub seen_until: Option<Timestamp>,
}

/// Fact: what was taken is in the database.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TransitionsRecorded(pub Receipt);

/// Fact from the mqtt actor: the broker link came up or went down, or what the broker refuses has changed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LinkChanged {
    /// Which.
    pub up: bool,
    /// When.
    pub at: TimePoint,
    /// If it came up: what was received from here on came over it. A session delivers while its subscriptions are still
    /// being checked.
    pub heard_from: Mono,
    /// If it came up: the broker does not have the statuses that were published before, as far as we know. It has lost our session,
    /// or it is another one.
    pub forgotten: bool,
    /// When the broker last gave a sign of life.
    pub alive_until: Mono,
    /// Telemetry filters that the broker refuses.
    pub refused: FilterSet,
    /// When those that it refuses no longer were asked for: what was received from then on came through them, too.
    pub asked_at: Mono,
    /// Why, if it went down.
    pub reason: OutageReason,
    /// The newest record in the journal at that moment.
    pub appended: Seq,
    /// The incarnation of the mqtt actor: an abandoned one that wakes up has no say any more.
    pub generation: Generation,
    /// Names the link within the incarnation: what is said twice of one link is no news.
    pub link: u64,
}
