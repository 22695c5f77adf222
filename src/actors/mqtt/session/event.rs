//! Input of the session.

use super::Subscribed;
use crate::actors::mqtt::client::error::LinkError;
use crate::clock::Mono;
use crate::journal::Space;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::actors::mqtt) enum Event {
    /// The actor has started.
    Started,
    /// The journal is full, or has room. Repeated every second, as the journal's own message may be lost.
    SpaceChanged(Space),
    /// The timer of [`super::Effect::SetTimer`] fired.
    TimerFired,
    /// An attempt to connect and subscribe is over.
    ConnectAnswered {
        /// Its number.
        attempt: u64,
        /// What the broker answered.
        outcome: Result<Connected, LinkError>,
    },
    /// The link of [`super::Effect::CloseStaleLink`] is closed.
    StaleLinkClosed,
    /// The broker has answered again about the filters that it refused.
    AskedAgain {
        /// The attempt that made the link.
        attempt: u64,
        /// When it was asked.
        asked_at: Mono,
        /// Its answers.
        subscribed: Subscribed,
    },
    /// A connection has ended. It may be an older one.
    LinkEnded {
        /// Why.
        reason: String,
        /// The broker said that another client took the session over.
        taken_over: bool,
    },
    /// The link looks connected, but the broker does not answer.
    BrokerUnresponsive,
    /// A second has passed.
    SecondPassed,
    /// The supervisor stops the actor.
    StopRequested,
}

/// The broker accepted CONNECT, and has answered every SUBSCRIBE unless the link went down meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::actors::mqtt) struct Connected {
    /// The broker still had our session.
    pub(in crate::actors::mqtt) session_present: bool,
    /// Its answers to the subscriptions.
    pub(in crate::actors::mqtt) subscribed: Subscribed,
}

/// What the actor observes at the time of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::actors::mqtt) struct Facts {
    /// The time.
    pub(in crate::actors::mqtt) now: Mono,
    /// The newest link is connected, says the client library.
    pub(in crate::actors::mqtt) connected: bool,
    /// A message of the earlier link waits for the disk and holds the library's lock: no client can be made.
    pub(in crate::actors::mqtt) receiving: bool,
    /// Why the broker ended the newest connection, in its words.
    pub(in crate::actors::mqtt) brokers_reason: Option<String>,
}
