//! The broker's answers to our subscriptions.

use crate::actors::mqtt::client::error::LinkError;
use crate::domain::{Qos, TopicFilter};

/// What became of all subscriptions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::actors::mqtt) struct Subscribed {
    /// One error for each filter that is not granted.
    pub(in crate::actors::mqtt) refused: Vec<LinkError>,
    /// Filter, QoS configured, QoS granted.
    pub(in crate::actors::mqtt) lowered: Vec<(TopicFilter, Qos, Qos)>,
    /// No longer configured, and ended.
    pub(in crate::actors::mqtt) ended: Vec<TopicFilter>,
    /// No longer configured, and the broker does not end them.
    pub(in crate::actors::mqtt) not_ended: Vec<LinkError>,
    /// The highest QoS granted for telemetry.
    pub(in crate::actors::mqtt) granted_max: Qos,
    /// Our echo (rule LINK-1 of [`link_health`](super::super::link_health)).
    pub(in crate::actors::mqtt) echo: EchoSubscription,
    /// Why the file of filters could not be read or written (rule FLT-2 of
    /// [`session_filters`](super::super::session_filters)).
    pub(in crate::actors::mqtt) file_failures: Vec<String>,
}

/// Whether our echo comes back as telemetry does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::actors::mqtt) enum EchoSubscription {
    #[default]
    NotWanted,
    Granted,
    /// And why not.
    Refused(String),
}

impl Subscribed {
    /// Returns whether the broker answered every request.
    pub(super) fn is_answered(&self) -> bool {
        let unanswered =
            |error: &LinkError| matches!(error, LinkError::NoAnswer { .. } | LinkError::Lost { .. });
        !self.refused.iter().any(unanswered)
    }

    /// Returns whether all that failed are refusals by the broker.
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
