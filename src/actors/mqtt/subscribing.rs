//! Subscribes to what is configured, and ends what the session holds beyond it.

use std::collections::BTreeSet;

use super::client::error::LinkError;
use super::client::link::Link;
use super::session::{EchoSubscription, Subscribed};
use super::session_filters::{FilterFile, obsolete};
use crate::actors::failpoint::failpoint;
use crate::domain::Endpoint;
use crate::domain::{Qos, TopicFilter};

/// One round of subscribing, for one session.
#[derive(Clone)]
pub(super) struct Subscribing {
    /// The configured filters.
    pub(super) wanted: Vec<(TopicFilter, Qos)>,
    pub(super) client_id: String,
    pub(super) endpoint: Endpoint,
    /// The other brokers, which may hold the same session.
    pub(super) others: Vec<Endpoint>,
    /// The topic of our echo; `None` without an echo.
    pub(super) echo: Option<TopicFilter>,
    pub(super) filter_file: FilterFile,
}

impl Subscribing {
    /// Subscribes to everything wanted, then ends what the session holds beyond it. A new session holds
    /// nothing.
    pub(super) async fn run(&self, link: &Link, session_present: bool) -> Subscribed {
        // A test may only delay here.
        let _never_fails = failpoint("mqtt::subscribe");
        let mut subscribed = Subscribed::default();
        let known = if session_present { self.known(&mut subscribed) } else { BTreeSet::new() };
        let wanted = self.wanted.iter().map(|(filter, _)| filter).chain(&self.echo);
        let mut held: BTreeSet<String> = wanted.clone().map(|filter| filter.as_str().to_owned()).collect();
        held.extend(known.iter().cloned());
        self.note(&held, &mut subscribed);
        ask_for(link, &self.wanted, &mut subscribed).await;
        self.subscribe_echo(link, &mut subscribed).await;
        for filter in obsolete(&known, wanted) {
            match link.unsubscribe(&filter).await {
                Ok(()) => {
                    held.remove(filter.as_str());
                    subscribed.ended.push(filter);
                }
                Err(error) => subscribed.not_ended.push(error),
            }
        }
        self.note(&held, &mut subscribed);
        subscribed
    }

    /// Asks again for the refused filters, while `granted_max` was granted for the others. Asking for those
    /// again would make the broker repeat their retained messages. The echo is subscribed again if the QoS of
    /// the telemetry has risen.
    pub(super) async fn ask_again(
        &self,
        link: &Link,
        refused: &[(TopicFilter, Qos)],
        granted_max: Qos,
    ) -> Subscribed {
        let mut subscribed = Subscribed { granted_max, ..Subscribed::default() };
        ask_for(link, refused, &mut subscribed).await;
        if subscribed.granted_max > granted_max {
            self.subscribe_echo(link, &mut subscribed).await;
        }
        subscribed
    }

    /// Subscribes to the echo with the QoS of the telemetry, so that both take the same way.
    async fn subscribe_echo(&self, link: &Link, subscribed: &mut Subscribed) {
        let Some(echo) = &self.echo else { return };
        let qos = subscribed.granted_max;
        subscribed.echo = match link.subscribe(echo, qos).await {
            Ok(granted) if granted < qos => EchoSubscription::Refused(format!(
                "the broker grants QoS {} for it and {} for telemetry",
                granted.as_u8(),
                qos.as_u8()
            )),
            Ok(_) => EchoSubscription::Granted,
            Err(LinkError::Subscribe { reason, .. }) => EchoSubscription::Refused(reason),
            // The link itself is gone.
            Err(error) => return subscribed.refused.push(error),
        };
    }

    fn known(&self, subscribed: &mut Subscribed) -> BTreeSet<String> {
        self.filter_file.filters(&self.client_id, &self.endpoint).unwrap_or_else(|error| {
            subscribed.file_failures.push(error.to_string());
            BTreeSet::new()
        })
    }

    /// Writes a few bytes, and only after a change of the configuration: the actor's own thread may block for
    /// that.
    fn note(&self, held: &BTreeSet<String>, subscribed: &mut Subscribed) {
        if let Err(error) = self.filter_file.note(&self.client_id, &self.endpoint, &self.others, held) {
            subscribed.file_failures.push(error.to_string());
        }
    }
}

async fn ask_for(link: &Link, filters: &[(TopicFilter, Qos)], subscribed: &mut Subscribed) {
    for (filter, qos) in filters {
        match link.subscribe(filter, *qos).await {
            Ok(granted) => {
                subscribed.granted_max = subscribed.granted_max.max(granted);
                if granted < *qos {
                    subscribed.lowered.push((filter.clone(), *qos, granted));
                }
            }
            Err(error) => subscribed.refused.push(error),
        }
    }
}
