//! One attempt to connect, from its start to its outcome (MQTT-2, MQTT-5).

use super::failover::{Failure, Next};
use super::refused_filters::RefusedFilters;
use super::{Connected, Effect, Facts, FilterLine, Line, Session, State, Subscribed, Trouble};
use crate::actors::mqtt::client::error::LinkError;

impl Session {
    pub(super) fn connect(&mut self, facts: &Facts) {
        if self.state != State::Waiting || self.answer_due {
            return;
        }
        self.cancel_timer();
        if facts.receiving {
            return self.retry_later();
        }
        self.state = State::Connecting;
        self.attempt += 1;
        self.attempt_began = facts.now;
        self.answer_due = true;
        let (endpoint, v5) = (self.endpoint().clone(), self.failover.ask(facts.now));
        self.effects.push(Effect::Connect { attempt: self.attempt, endpoint, v5 });
    }

    pub(super) fn retry_later(&mut self) {
        if !self.timer_runs {
            let delay = self.backoff.next_unhurried_delay();
            self.set_timer(delay);
        }
    }

    pub(super) fn on_connect_answered(
        &mut self,
        attempt: u64,
        outcome: Result<Connected, LinkError>,
        facts: &Facts,
    ) {
        self.answer_due = false;
        match outcome {
            // The session gave it up meanwhile: the journal filled, for example.
            _ if attempt != self.attempt => self.effects.push(Effect::CloseStaleLink),
            Ok(connected) if connected.subscribed.is_answered() && facts.connected => {
                self.on_connected(connected.session_present, connected.subscribed, facts);
            }
            Ok(connected) => self.on_lost_while_subscribing(connected.session_present, facts),
            Err(error) => self.on_connect_failed(&error, facts),
        }
    }

    fn on_connected(&mut self, session_present: bool, subscribed: Subscribed, facts: &Facts) {
        self.log_ended_filters(&subscribed);
        self.refused = RefusedFilters::new(&subscribed, &self.options.subscriptions, self.attempt_began);
        if let Some(learnt) = self.failover.accepted(self.refused.is_empty(), facts.now) {
            self.log(Line::V5Unanswered { reason: learnt.reason() });
        }
        if !session_present {
            self.takeover.reset();
        }
        let v5 = self.failover.speaks_v5();
        let is_healthy = !self.takeover.is_on() && self.refused.is_empty();
        if is_healthy {
            self.log(Line::Connected { v5, session_present });
        }
        self.log_lowered(&subscribed);
        if self.had_session && !session_present {
            self.log(Line::SessionForgotten);
        }
        self.had_session = true;
        let endpoint = self.endpoint().clone();
        let is_another = self.newest_broker.as_ref().is_some_and(|known| *known != endpoint);
        self.broker_forgot = !session_present || is_another;
        self.newest_broker = Some(endpoint.clone());
        if is_healthy {
            self.logged_trouble = None;
        }
        self.state = State::Up { since: facts.now };
        self.effects.push(Effect::ProveLink(subscribed.echo));
        self.effects.push(Effect::ShowConnected { endpoint, v5, session_present });
        self.show_refusals(&subscribed.refused);
        self.tell_liveness(true);
        self.effects.push(Effect::Announce);
        self.effects.push(Effect::CheckCertificates);
    }

    fn on_lost_while_subscribing(&mut self, session_present: bool, facts: &Facts) {
        if !facts.connected && session_present {
            // Another client may take the session over as quickly as this.
            self.judge_loss(std::time::Duration::ZERO, false);
        }
        self.give_up_link("connection lost while subscribing", facts);
        self.turn_to_the_next(Failure::Other, facts);
    }

    fn on_connect_failed(&mut self, error: &LinkError, facts: &Facts) {
        self.effects.push(Effect::CountFailure);
        self.takeover.reset();
        self.state = State::Waiting;
        if *error == LinkError::ProtocolRefused && self.failover.refused_v5().is_some() {
            self.log(Line::V5Refused);
            return self.connect(facts);
        }
        self.complain(&error.to_string(), Trouble::NotConnected);
        self.turn_to_the_next(Failure::from(error), facts);
    }

    fn turn_to_the_next(&mut self, how: Failure, facts: &Facts) {
        match self.failover.failed(how) {
            Next::AskNow => self.connect(facts),
            Next::Wait => self.retry_later(),
        }
    }

    pub(super) fn log_lowered(&mut self, subscribed: &Subscribed) {
        for (filter, asked, granted) in subscribed.lowered.clone() {
            self.log_filter(FilterLine::Lowered { filter, asked, granted });
        }
    }

    fn log_ended_filters(&mut self, subscribed: &Subscribed) {
        for filter in subscribed.ended.clone() {
            self.log_filter(FilterLine::Unsubscribed(filter));
        }
        for error in &subscribed.not_ended {
            self.log_filter(FilterLine::StillSubscribed(error.to_string()));
        }
        let failure = subscribed.file_failures.first().cloned();
        if let Some(failure) = failure.clone().filter(|_| self.logged_file_failure != failure) {
            self.log_filter(FilterLine::FileFailed(failure));
        }
        self.logged_file_failure = failure;
    }
}
