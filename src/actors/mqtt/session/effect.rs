//! What a session wants done.

use std::time::Duration;

use super::EchoSubscription;
use crate::clock::Mono;
use crate::domain::{Endpoint, FilterSet, OutageReason, Qos, TopicFilter};
use crate::status::BrokerState;

/// Something to do. Carries what it needs: by the time that it is done the session is a step further.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::actors::mqtt) enum Effect {
    /// Make a client, connect, subscribe; answer with [`super::Event::ConnectAnswered`].
    Connect { attempt: u64, endpoint: Endpoint, v5: bool },
    /// Subscribe once more to what was refused, while `granted_max` was granted for the rest; answer with
    /// [`super::Event::AskedAgain`].
    AskAgain { attempt: u64, filters: Vec<(TopicFilter, Qos)>, granted_max: Qos },
    /// Start the one timer.
    SetTimer(Duration),
    /// Stop it.
    CancelTimer,
    /// Close the connection at once.
    CloseLink,
    /// The same with one that was answered after it was given up; answer with [`super::Event::StaleLinkClosed`].
    CloseStaleLink,
    /// Leave the broker in order.
    SayGoodbye,
    /// Say goodbye, tell liveness, and end the actor.
    Stop { was_up: bool },
    /// The link is up: prove from now on that it is alive.
    ProveLink(EchoSubscription),
    /// The link is down: no proof counts any more.
    ForgetLink,
    /// Tell liveness, until it has taken it.
    TellLiveness(LinkReport),
    /// Publish our own availability.
    Announce,
    /// Look at certificates.
    CheckCertificates,
    /// Count a failure of the broker.
    CountFailure,
    /// Set the metric of a full journal.
    SetHolding(bool),
    /// Show that the link is up.
    ShowConnected { endpoint: Endpoint, v5: bool, session_present: bool },
    /// Show why it is not, or what is missing.
    Show { state: BrokerState, reason: Option<String>, endpoint: Endpoint },
    /// Write a line to the log, about this broker.
    Log { line: Line, endpoint: Endpoint },
}

/// What liveness has to know of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::actors::mqtt) struct LinkReport {
    pub(in crate::actors::mqtt) up: bool,
    /// The attempt that made the link.
    pub(in crate::actors::mqtt) link: u64,
    /// What was received from here on came over it.
    pub(in crate::actors::mqtt) heard_from: Mono,
    /// The broker does not have the statuses that were published before.
    pub(in crate::actors::mqtt) forgotten: bool,
    /// Telemetry filters that the broker refuses.
    pub(in crate::actors::mqtt) refused: FilterSet,
    /// When those that it refuses no longer were asked for.
    pub(in crate::actors::mqtt) asked_at: Mono,
    /// Why the link is down.
    pub(in crate::actors::mqtt) reason: OutageReason,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::actors::mqtt) enum Line {
    /// The journal is full at the start.
    NotConnecting,
    /// The journal has filled: why.
    LeavingForRoom(String),
    /// The journal has room again.
    RoomAgain,
    /// Not connected, or not as configured.
    Trouble { what: &'static str, reason: String },
    /// The broker refuses MQTT 5.
    V5Refused,
    /// The broker was found to speak 3.1.1 only.
    V5Unanswered { reason: &'static str },
    /// The link is up, and everything is granted.
    Connected { v5: bool, session_present: bool },
    /// The broker has lost our session.
    SessionForgotten,
    /// Another client uses our client id.
    TakenOver { broker_says_so: bool },
    /// It does not any more.
    NotTakenOver,
    /// About one filter, or the file of filters.
    Filters(FilterLine),
}

/// A line of the log about filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::actors::mqtt) enum FilterLine {
    /// A subscription has a lower QoS than configured.
    Lowered { filter: TopicFilter, asked: Qos, granted: Qos },
    /// A filter that is not configured any more is ended.
    Unsubscribed(TopicFilter),
    /// The broker does not end one.
    StillSubscribed(String),
    /// The file of filters cannot be read or written.
    FileFailed(String),
    /// What was refused is granted now.
    AllGranted,
}
