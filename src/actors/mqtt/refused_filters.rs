//! Filters that the broker refuses (invariant MQTT-3 of [`super`]): the link is up without them, they are asked for again and again,
//! and if there are other brokers, one of those is tried after a while (rule HOST-2 of [`hosts`](super::session::failover)).

use actix::prelude::*;
use slog::info;

use super::actor::{Mqtt, State};
use super::client::error::LinkError;
use super::subscribing::{EchoSubscription, Subscribed};
use crate::clock::{Mono, mono_now};
use crate::domain::{FilterSet, Qos, TopicFilter};
use crate::status::BrokerState;

/// What the broker of the present link refuses.
#[derive(Debug, Default)]
pub(super) struct RefusedFilters {
    filters: Vec<(TopicFilter, Qos)>,
    /// How often they were asked for again, and when last.
    asked: u32,
    asked_at: Mono,
    /// The highest QoS granted for the others.
    granted_max: Qos,
}

impl RefusedFilters {
    pub(super) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Those that machines come through.
    pub(super) fn among(&self, telemetry: &[TopicFilter]) -> FilterSet {
        FilterSet::of(telemetry, |filter| self.filters.iter().any(|(refused, _)| refused == filter))
    }

    /// When those that are granted now were asked for, if they had been refused before.
    pub(super) fn asked_at(&self) -> Mono {
        self.asked_at
    }
}

impl Mqtt {
    /// The link is up, with these refusals.
    pub(super) fn note_refusals(&mut self, subscribed: &Subscribed) {
        self.refused = RefusedFilters {
            filters: self.those_refused(&subscribed.refused),
            asked: 0,
            asked_at: self.attempt_began,
            granted_max: subscribed.granted_max,
        };
    }

    fn those_refused(&self, errors: &[LinkError]) -> Vec<(TopicFilter, Qos)> {
        let is_refused = |wanted: &TopicFilter| {
            errors
                .iter()
                .any(|error| matches!(error, LinkError::Subscribe { filter, .. } if filter == wanted))
        };
        self.options.subscriptions.iter().filter(|(filter, _)| is_refused(filter)).cloned().collect()
    }

    /// Shows that something is refused, and says so if that is new.
    pub(super) fn show_refusals(&mut self, errors: &[LinkError], context: &mut Context<Self>) {
        let Some(first) = errors.first() else { return };
        let reason = match errors.len() {
            1 => first.to_string(),
            all => format!("{first}; and {} more", all - 1),
        };
        self.show(BrokerState::Restricted, Some(&reason));
        self.tell_new(
            &reason,
            "a subscription was refused: the machines that come through it cannot be seen",
        );
        self.ask_later(context);
    }

    fn ask_later(&mut self, context: &mut Context<Self>) {
        let delay = self.backoff.next_delay();
        self.retry = Some(context.run_later(delay, Self::ask_again));
    }

    fn ask_again(&mut self, context: &mut Context<Self>) {
        self.retry = None;
        let Some(link) = self.link.clone().filter(|_| matches!(self.state, State::Up { .. })) else { return };
        let (attempt, asked_at, subscribing) = (self.attempt, mono_now(), self.subscribing());
        let (filters, granted_max) = (self.refused.filters.clone(), self.refused.granted_max);
        let asking = async move { subscribing.ask_again(&link, &filters, granted_max).await };
        context.spawn(asking.into_actor(self).map(move |subscribed, actor, context| {
            if actor.attempt == attempt && matches!(actor.state, State::Up { .. }) {
                actor.on_asked_again(subscribed, asked_at, context);
            }
        }));
    }

    fn on_asked_again(&mut self, subscribed: Subscribed, asked_at: Mono, context: &mut Context<Self>) {
        if subscribed.refused.iter().any(|error| !matches!(error, LinkError::Subscribe { .. })) {
            // The link itself is in trouble, which others notice.
            return self.ask_later(context);
        }
        self.tell_of_lowered(&subscribed);
        if subscribed.echo != EchoSubscription::NotWanted {
            self.begin_to_prove(subscribed.echo);
        }
        let filters = self.those_refused(&subscribed.refused);
        let some_granted = filters.len() < self.refused.filters.len();
        let asked = self.refused.asked.saturating_add(1);
        let granted_max = subscribed.granted_max;
        self.refused = RefusedFilters { filters, asked, asked_at, granted_max };
        if some_granted {
            self.tell_liveness(true, context);
        }
        if self.refused.is_empty() {
            info!(self.logger, "every subscription is granted now"; "uri" => self.uri());
            self.last_reason = None;
            self.on_all_granted();
        } else if self.failover.is_over_for_refusing(asked) {
            self.leave_for_another(context);
        } else {
            self.show_refusals(&subscribed.refused, context);
        }
    }

    fn leave_for_another(&mut self, context: &mut Context<Self>) {
        self.give_up_link("it goes on refusing a subscription; trying another broker", context);
        self.failover.leave_refusing();
        if let Some(retry) = self.retry.take() {
            context.cancel_future(retry);
        }
        self.connect(context);
    }
}
