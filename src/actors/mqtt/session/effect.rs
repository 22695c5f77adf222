//! Output of the session.

use std::time::Duration;

use super::EchoSubscription;
use crate::clock::Mono;
use crate::domain::{Endpoint, FilterSet, OutageReason, Qos, TopicFilter};
use crate::status::BrokerState;

/// What the actor has to do. An effect carries what it needs, as the session has moved on by the time it is
/// carried out.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::actors::mqtt) enum Effect {
    /// Make a client, connect, subscribe; answer with [`super::Event::ConnectAnswered`].
    Connect { attempt: u64, endpoint: Endpoint, v5: bool },
    /// Subscribe once more to what was refused, while `granted_max` was granted for the rest; answer with
    /// [`super::Event::AskedAgain`].
    AskAgain { attempt: u64, filters: Vec<(TopicFilter, Qos)>, granted_max: Qos },
    /// Start the timer.
    SetTimer(Duration),
    /// Stop the timer.
    CancelTimer,
    /// Close the connection at once.
    CloseLink,
    /// Close one that was established after the session gave the attempt up; answer with
    /// [`super::Event::StaleLinkClosed`].
    CloseStaleLink,
    /// Leave the broker in order.
    SayGoodbye,
    /// Leave the broker in order, report that to liveness, and end the actor.
    Stop { was_up: bool },
    /// Start to prove that the link is alive.
    ProveLink(EchoSubscription),
    /// The link is down: stop proving it.
    ForgetLink,
    /// Report the link to liveness, until it takes the report.
    TellLiveness(LinkReport),
    /// Publish our own availability.
    Announce,
    /// Check when certificates expire.
    CheckCertificates,
    /// Count a failure of the broker.
    CountFailure,
    /// Set the metric of a full journal.
    SetHolding(bool),
    /// Show that the link is up.
    ShowConnected { endpoint: Endpoint, v5: bool, session_present: bool },
    /// Show that the link is down or restricted, and why.
    Show { state: BrokerState, reason: Option<String>, endpoint: Endpoint },
    /// Write a line to the log, about this broker.
    Log { line: Line, endpoint: Endpoint },
}

/// What liveness needs to know of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::actors::mqtt) struct LinkReport {
    pub(in crate::actors::mqtt) up: bool,
    /// The attempt that made the link.
    pub(in crate::actors::mqtt) link: u64,
    /// Messages since then came over this link.
    pub(in crate::actors::mqtt) heard_from: Mono,
    /// The broker lacks the statuses that were published earlier.
    pub(in crate::actors::mqtt) forgotten: bool,
    /// Telemetry filters that the broker refuses.
    pub(in crate::actors::mqtt) refused: FilterSet,
    /// When Andon asked for the filters that are no longer refused.
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
    /// Not connected, or a filter is refused.
    Trouble { trouble: Trouble, reason: String },
    /// The broker refuses MQTT 5.
    V5Refused,
    /// The broker leaves MQTT 5 unanswered and accepts 3.1.1.
    V5Unanswered { reason: &'static str },
    /// The link is up, and everything is granted.
    Connected { v5: bool, session_present: bool },
    /// The broker has lost our session.
    SessionForgotten,
    /// Another client uses our client id.
    TakenOver { broker_says_so: bool },
    /// No other client does any more.
    NotTakenOver,
    /// About one filter, or the file of filters.
    Filters(FilterLine),
}

/// What is wrong with the link or its subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::actors::mqtt) enum Trouble {
    /// No connection came up.
    NotConnected,
    /// A connection has ended.
    LinkDown,
    /// The broker refuses a subscription.
    FilterRefused,
}

/// A line of the log about filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::actors::mqtt) enum FilterLine {
    /// A subscription has a lower QoS than configured.
    Lowered { filter: TopicFilter, asked: Qos, granted: Qos },
    /// A filter that is no longer configured is unsubscribed.
    Unsubscribed(TopicFilter),
    /// The broker refuses to unsubscribe one.
    StillSubscribed(String),
    /// The file of filters cannot be read or written.
    FileFailed(String),
    /// Every filter that was refused is granted now.
    AllGranted,
}
