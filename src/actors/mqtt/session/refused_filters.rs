//! Filters that the broker refuses (MQTT-3). The link is up without them, and the session asks for them again
//! and again. With several brokers it tries another one after a while (HOST-2).

use super::{EchoSubscription, Effect, Facts, FilterLine, Line, Session, Subscribed, Trouble};
use crate::actors::mqtt::client::error::LinkError;
use crate::clock::Mono;
use crate::domain::{FilterSet, Qos, TopicFilter};
use crate::status::BrokerState;

/// What the broker of the current link refuses.
#[derive(Debug, Default)]
pub(super) struct RefusedFilters {
    filters: Vec<(TopicFilter, Qos)>,
    /// How often the session has asked again, and when last.
    asked: u32,
    asked_at: Mono,
    /// The highest QoS granted for the others.
    granted_max: Qos,
}

impl RefusedFilters {
    /// Takes the refusals from `subscribed`, the answers to `subscriptions`, which were asked for at
    /// `asked_at`.
    pub(super) fn new(subscribed: &Subscribed, subscriptions: &[(TopicFilter, Qos)], asked_at: Mono) -> Self {
        let filters = subscribed.refused_among(subscriptions);
        Self { filters, asked: 0, asked_at, granted_max: subscribed.granted_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Returns the refused telemetry filters.
    pub(super) fn among(&self, telemetry: &[TopicFilter]) -> FilterSet {
        FilterSet::of(telemetry, |filter| self.filters.iter().any(|(refused, _)| refused == filter))
    }

    /// Returns when the filters that are no longer refused were asked for.
    pub(super) fn asked_at(&self) -> Mono {
        self.asked_at
    }
}

impl Session {
    /// Shows what is refused, if anything, and asks again later.
    pub(super) fn show_refusals(&mut self, errors: &[LinkError]) {
        let Some(first) = errors.first() else { return };
        let reason = match errors.len() {
            1 => first.to_string(),
            all => format!("{first}; and {} more", all - 1),
        };
        self.show(BrokerState::Restricted, Some(&reason));
        self.log_trouble(&reason, Trouble::FilterRefused);
        self.ask_later();
    }

    fn ask_later(&mut self) {
        let delay = self.backoff.next_delay();
        self.set_timer(delay);
    }

    pub(super) fn ask_again(&mut self) {
        let (filters, granted_max) = (self.refused.filters.clone(), self.refused.granted_max);
        self.effects.push(Effect::AskAgain { attempt: self.attempt, filters, granted_max });
    }

    pub(super) fn on_asked_again(
        &mut self,
        attempt: u64,
        asked_at: Mono,
        subscribed: &Subscribed,
        facts: &Facts,
    ) {
        if attempt != self.attempt || !self.is_up() {
            return;
        }
        if !subscribed.are_refusals() {
            // The link itself is in trouble, and its end will be an event.
            return self.ask_later();
        }
        self.log_lowered(subscribed);
        if subscribed.echo != EchoSubscription::NotWanted {
            self.effects.push(Effect::ProveLink(subscribed.echo.clone()));
        }
        let asked = self.refused.asked.saturating_add(1);
        let before = self.refused.filters.len();
        self.refused = RefusedFilters {
            asked,
            ..RefusedFilters::new(subscribed, &self.options.subscriptions, asked_at)
        };
        if self.refused.filters.len() < before {
            self.tell_liveness(true);
        }
        if self.refused.is_empty() {
            self.on_all_granted(facts);
        } else if self.failover.is_over_for_refusing(asked) {
            self.leave_for_another(facts);
        } else {
            self.show_refusals(&subscribed.refused);
        }
    }

    fn on_all_granted(&mut self, facts: &Facts) {
        self.log_filter(FilterLine::AllGranted);
        self.logged_trouble = None;
        self.failover.accepted(true, facts.now);
        self.show(BrokerState::Connected, None);
        let v5 = self.failover.speaks_v5();
        self.log(Line::Connected { v5, session_present: true });
    }

    fn leave_for_another(&mut self, facts: &Facts) {
        self.give_up_link("the broker keeps refusing a subscription; trying the next broker", facts);
        self.failover.leave_refusing();
        self.connect(facts);
    }
}
