//! The end of a link that was up or coming up.

use std::time::Duration;

use super::takeover::Loss;
use super::{Effect, Facts, Line, Session, State, Trouble};
use crate::status::BrokerState;

/// Once a link has been up for this long, and for the longest backoff, no other client takes the session
/// over.
pub(super) const UNDISTURBED_MIN: Duration = Duration::from_secs(10);

impl Session {
    /// The end of an older connection may be reported late; `facts` are about the newest one.
    pub(super) fn on_link_ended(&mut self, reason: &str, taken_over: bool, facts: &Facts) {
        if self.is_up() && !facts.connected {
            self.lose_link(reason, taken_over, facts);
        }
    }

    pub(super) fn on_broker_unresponsive(&mut self, facts: &Facts) {
        if self.is_up() {
            self.give_up_link("the broker does not answer; is it frozen, or is a cable unplugged?", facts);
        }
    }

    /// Gives up a link that may still look connected.
    pub(super) fn give_up_link(&mut self, reason: &str, facts: &Facts) {
        self.lose_link(reason, false, facts);
        self.effects.push(Effect::CloseLink);
    }

    pub(super) fn lose_link(&mut self, reason: &str, taken_over: bool, facts: &Facts) {
        let was_up = self.is_up();
        if let State::Up { since } = self.state {
            let lasted = facts.now.since(since);
            if lasted > self.options.backoff_max {
                self.backoff.reset();
            }
            self.judge_loss(lasted, taken_over);
        }
        self.state = State::Waiting;
        self.end_link(was_up);
        self.effects.push(Effect::CountFailure);
        let reason = facts.brokers_reason.as_deref().unwrap_or(reason);
        // While another client keeps taking the session over, show each loss without logging it.
        if self.takeover.is_on() {
            self.show(BrokerState::Away, Some(reason));
        } else {
            self.complain(reason, Trouble::LinkDown);
        }
        self.retry_later();
    }

    /// Ends everything that depends on the link, and reports the loss to liveness if the link was up.
    pub(super) fn end_link(&mut self, was_up: bool) {
        self.effects.push(Effect::ForgetLink);
        self.cancel_timer();
        if was_up {
            self.tell_liveness(false);
        }
    }

    /// Detects another client with our client id.
    pub(super) fn judge_loss(&mut self, lasted: Duration, taken_over: bool) {
        if self.takeover.lost(Loss { lasted, taken_over }) {
            self.log(Line::TakenOver { broker_says_so: taken_over });
        }
    }

    /// Notices that the link has been undisturbed for long enough.
    pub(super) fn check_takeover_is_over(&mut self, facts: &Facts) {
        if let State::Up { since } = self.state
            && facts.now.since(since) > self.options.backoff_max.max(UNDISTURBED_MIN)
            && self.takeover.end()
        {
            self.logged_trouble = None;
            self.log(Line::NotTakenOver);
        }
    }
}
