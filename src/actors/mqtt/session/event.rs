//! What a session reacts to.

use super::Subscribed;
use crate::actors::mqtt::client::error::LinkError;
use crate::clock::Mono;
use crate::journal::Space;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::actors::mqtt) enum Event {
    /// The actor has started.
    Started,
    /// The journal has filled, or has room again. Repeated every second: the fact itself may be lost.
    SpaceChanged(Space),
    /// The timer of [`super::Effect::SetTimer`] fired.
    TimerFired,
    /// An attempt to connect, and to subscribe, is over.
    ConnectAnswered {
        /// Which.
        attempt: u64,
        /// What the broker answered.
        outcome: Result<Connected, LinkError>,
    },
    /// The link of [`super::Effect::CloseStaleLink`] is closed.
    StaleLinkClosed,
    /// The broker has answered once more to the filters that it refused.
    AskedAgain {
        /// The attempt that made the link.
        attempt: u64,
        /// When it was asked.
        asked_at: Mono,
        /// Its answers.
        subscribed: Subscribed,
    },
    /// The client library says that a connection has ended. It may be an older one.
    LinkEnded {
        /// Why.
        reason: String,
        /// The broker said that another client took the session over.
        taken_over: bool,
    },
    /// The link looks connected, and the broker answers nothing.
    BrokerUnresponsive,
    /// A second has passed.
    SecondPassed,
    /// The supervisor ends the actor.
    StopRequested,
}

/// The broker took us and has answered every SUBSCRIBE, or the link went down meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::actors::mqtt) struct Connected {
    /// The broker still had our session.
    pub(in crate::actors::mqtt) session_present: bool,
    /// What became of the subscriptions.
    pub(in crate::actors::mqtt) subscribed: Subscribed,
}

/// What the actor sees at the time of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::actors::mqtt) struct Facts {
    /// The time.
    pub(in crate::actors::mqtt) now: Mono,
    /// The library holds the newest link for connected.
    pub(in crate::actors::mqtt) connected: bool,
    /// A message of the link before waits for the disk and holds the library's lock: no client can be made.
    pub(in crate::actors::mqtt) receiving: bool,
    /// Why the broker ended the newest connection, in its words.
    pub(in crate::actors::mqtt) brokers_reason: Option<String>,
}
