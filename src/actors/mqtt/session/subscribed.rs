//! The broker's answers to our subscriptions.

use crate::actors::mqtt::client::error::LinkError;
use crate::domain::{Qos, TopicFilter};

/// The outcome of all subscriptions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::actors::mqtt) struct Subscribed {
    /// One error for each filter that is not granted.
    pub(in crate::actors::mqtt) refused: Vec<LinkError>,
    /// Filter, QoS configured, QoS granted.
    pub(in crate::actors::mqtt) lowered: Vec<(TopicFilter, Qos, Qos)>,
    /// No longer configured, and ended.
    pub(in crate::actors::mqtt) ended: Vec<TopicFilter>,
    /// No longer configured, but the broker refuses to end them.
    pub(in crate::actors::mqtt) not_ended: Vec<LinkError>,
    /// The highest QoS granted for telemetry.
    pub(in crate::actors::mqtt) granted_max: Qos,
    /// The subscription of our echo (LINK-1).
    pub(in crate::actors::mqtt) echo: EchoSubscription,
    /// Why the file of filters could not be read or written (FLT-2).
    pub(in crate::actors::mqtt) file_failures: Vec<String>,
}

/// Whether our echo comes back the way of the telemetry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::actors::mqtt) enum EchoSubscription {
    #[default]
    NotWanted,
    Granted,
    /// Not granted, or with too low a QoS, for this reason.
    Refused(String),
}

impl Subscribed {
    /// Returns whether the broker answered every request.
    pub(super) fn is_answered(&self) -> bool {
        let unanswered =
            |error: &LinkError| matches!(error, LinkError::NoAnswer { .. } | LinkError::Lost { .. });
        !self.refused.iter().any(unanswered)
    }

    /// Returns whether every failure is a refusal by the broker.
    pub(super) fn are_refusals(&self) -> bool {
        self.refused.iter().all(|error| matches!(error, LinkError::Subscribe { .. }))
    }

    /// Returns those of `subscriptions` that the broker refused.
    pub(super) fn refused_among(&self, subscriptions: &[(TopicFilter, Qos)]) -> Vec<(TopicFilter, Qos)> {
        let is_refused = |wanted: &TopicFilter| {
            self.refused
                .iter()
                .any(|error| matches!(error, LinkError::Subscribe { filter, .. } if filter == wanted))
        };
        subscriptions.iter().filter(|(filter, _)| is_refused(filter)).cloned().collect()
    }
}
