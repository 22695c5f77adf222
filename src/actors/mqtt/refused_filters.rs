//! Filters that the broker refuses (invariant M3 of [`super`]): the link is up without them, they are asked for again and again,
//! and if there are other brokers, one of those is tried after a while.

use actix::prelude::*;
use slog::info;

use super::reasons::LinkError;
use super::{Mqtt, State};
use crate::domain::{FilterSet, Qos, TopicFilter};
use crate::status::BrokerState;

/// Asked in vain so often, another broker is tried, unless that is known to refuse something, too.
const ASKED_MAX: u32 = 3;

/// What the broker of the present link refuses.
#[derive(Debug, Default)]
pub(super) struct RefusedFilters {
    filters: Vec<(TopicFilter, Qos)>,
    asked: u32,
}

impl RefusedFilters {
    pub(super) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Those that machines come through.
    pub(super) fn among(&self, telemetry: &[TopicFilter]) -> FilterSet {
        FilterSet::of(telemetry, |filter| self.filters.iter().any(|(refused, _)| refused == filter))
    }
}

impl Mqtt {
    /// The link is up, with these refusals.
    pub(super) fn note_refusals(&mut self, errors: &[LinkError]) {
        let refused = errors.iter().filter_map(|error| match error {
            LinkError::Subscribe { filter, .. } => Some(filter),
            _ => None,
        });
        let wanted =
            |filter: &TopicFilter| self.options.subscriptions.iter().find(|(known, _)| known == filter);
        self.refused = RefusedFilters { filters: refused.filter_map(wanted).cloned().collect(), asked: 0 };
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
            "a subscription was refused; the machines that come through it cannot be seen",
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
        let (attempt, filters) = (self.attempt, self.refused.filters.clone());
        let asking = async move {
            let mut errors = Vec::new();
            for (filter, qos) in filters {
                errors.extend(link.subscribe(&filter, qos).await.err());
            }
            errors
        };
        context.spawn(asking.into_actor(self).map(move |errors, actor, context| {
            if actor.attempt == attempt && matches!(actor.state, State::Up { .. }) {
                actor.on_asked_again(&errors, context);
            }
        }));
    }

    fn on_asked_again(&mut self, errors: &[LinkError], context: &mut Context<Self>) {
        if errors.iter().any(|error| !matches!(error, LinkError::Subscribe { .. })) {
            // The link itself is in trouble, which others notice.
            return self.ask_later(context);
        }
        let (before, asked) = (self.refused.filters.len(), self.refused.asked + 1);
        self.note_refusals(errors);
        self.refused.asked = asked;
        if self.refused.filters.len() != before {
            self.tell_liveness(true, context);
        }
        if self.refused.is_empty() {
            info!(self.logger, "every subscription is granted now"; "uri" => self.uri());
            self.last_reason = None;
            self.on_all_granted();
        } else if asked >= ASKED_MAX && self.turn.refuses() {
            self.give_up_link("it goes on refusing a subscription; trying another broker", context);
            self.turn.leave_refusing();
            if let Some(retry) = self.retry.take() {
                context.cancel_future(retry);
            }
            self.connect(context);
        } else {
            self.show_refusals(errors, context);
        }
    }
}
