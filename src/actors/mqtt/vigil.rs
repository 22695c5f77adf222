//! The vigil: a broker that does not answer is noticed, within one and a half keep-alives at the latest.
//!
//! The library alone takes up to two and a half: it pings after one interval of silence and waits one and a half for the
//! answer (paho C 1.3.16, `MQTTProtocol_keepalive`). So after three quarters of a keep-alive without a word from the broker we
//! ask ourselves ([`Link::round_trip`](super::link::Link::round_trip)), and give up after one and a quarter.
//!
//! We ask earlier, after a quarter of the shortest `offline_after`, if that is less: a broker that was frozen for longer has kept
//! words of machines for so long that their silence could be believed when it thaws. Its late answer says for how long
//! ([`proving`](super::proving)).
//!
//! Nothing is asked, and nobody given up, while a message is in the callback: then the broker has just spoken, and it is the
//! disk that is slow. (A call into the library would wait for the callback, too.)

use std::time::Duration;

use actix::prelude::*;

use super::pulse::STANDSTILL_MIN;
use super::{Mqtt, State};
use crate::clock::{Mono, mono_now};

/// A broker gets no longer than this to answer, however long the keep-alive.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The broker is not asked more often than this.
const ASK_AFTER_MIN: Duration = Duration::from_millis(250);

/// When to look, when to ask, and how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vigil {
    /// Pause between two looks.
    look_every: Duration,
    /// Silence after which the broker is asked.
    ask_after: Duration,
    /// Its time to answer.
    answer_within: Duration,
}

impl Vigil {
    /// For a keep-alive, and the shortest time in which a machine falls silent.
    pub(super) fn of(keep_alive: Duration, offline_after_min: Duration) -> Self {
        let ask_after = (offline_after_min / 4).max(ASK_AFTER_MIN).min(keep_alive * 3 / 4);
        let look_every = (ask_after / 4).min(keep_alive / 8).min(Duration::from_secs(1));
        Self { look_every, ask_after, answer_within: (keep_alive * 5 / 4 - ask_after).min(ANSWER_MAX) }
    }
}

/// What the vigil has asked on a link.
#[derive(Debug)]
pub(super) struct VigilQuestion {
    /// Which link.
    attempt: u64,
    asked_at: Mono,
}

impl Mqtt {
    pub(super) fn begin_vigil(&mut self, context: &mut Context<Self>) {
        let vigil = Vigil::of(self.options.link.keep_alive, self.options.offline_after_min);
        context.run_interval(vigil.look_every, move |actor, context| actor.look_for_silence(vigil, context));
    }

    fn look_for_silence(&mut self, vigil: Vigil, context: &mut Context<Self>) {
        let State::Up { since_mono, .. } = self.state else { return };
        let asked_at = mono_now();
        let silent_since = self.heard_at().max(since_mono);
        let is_due = asked_at.0.saturating_sub(silent_since.0) >= Mono::from(vigil.ask_after).0;
        if !is_due || self.vigil_asked().is_some() || self.inlet.is_receiving() {
            return;
        }
        let Some(link) = self.link.clone() else { return };
        self.vigil_question = Some(VigilQuestion { attempt: self.attempt, asked_at });
        // If it was frozen, what it says first after that proves nothing.
        self.pulse.doubt();
        let attempt = self.attempt;
        let question = async move { link.round_trip(None, vigil.answer_within).await };
        context.spawn(question.into_actor(self).map(move |outcome, actor, context| {
            if actor.attempt != attempt || !matches!(actor.state, State::Up { .. }) {
                return; // It says nothing of the link that came after.
            }
            actor.vigil_question = None;
            if outcome.is_ok() || actor.was_heard(asked_at, vigil.answer_within) {
                actor.on_sign_of_life(asked_at, context);
            } else {
                actor.give_up_link("the broker does not answer; is it frozen, or the cable cut?", context);
            }
        }));
    }

    /// When the vigil asked what has not been answered yet.
    pub(super) fn vigil_asked(&self) -> Option<Mono> {
        let question = self.vigil_question.as_ref()?;
        (question.attempt == self.attempt).then_some(question.asked_at)
    }

    /// Whether the broker was heard since `asked_at`, or we could not have heard it: our disk is slow, or we stood still ourselves
    /// while its answer was due.
    pub(super) fn was_heard(&self, asked_at: Mono, within: Duration) -> bool {
        let took = Mono(mono_now().0.saturating_sub(asked_at.0));
        let stood_still = took.0 > Mono::from(within).0.saturating_add(STANDSTILL_MIN.0);
        stood_still || self.heard_at() >= asked_at || self.inlet.is_receiving()
    }

    /// When the broker was last known to be there.
    fn heard_at(&self) -> Mono {
        self.pulse.heard().map_or(Mono::default(), |beat| beat.at)
    }

    /// The link looks connected, and nobody answers.
    pub(super) fn give_up_link(&mut self, reason: &str, context: &mut Context<Self>) {
        let link = self.link.clone();
        self.on_link_ended(reason, context);
        let leaving = async move {
            if let Some(link) = link {
                link.disconnect().await;
            }
        };
        context.wait(leaving.into_actor(self));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_broker_is_given_up_within_one_and_a_half_keep_alives() {
        for (seconds, offline_after_ms) in [1, 2, 5, 30, 60, 65_535]
            .into_iter()
            .flat_map(|keep_alive| [100, 15_000, 86_400_000].map(|ms| (keep_alive, ms)))
        {
            let keep_alive = Duration::from_secs(seconds);
            let vigil = Vigil::of(keep_alive, Duration::from_millis(offline_after_ms));
            // It falls silent right after a word of its own, and the look that would see it has just passed.
            let noticed_after = vigil.ask_after + vigil.look_every + vigil.answer_within;
            assert!(noticed_after <= keep_alive * 3 / 2, "{seconds} s: {noticed_after:?}");
            assert!(vigil.look_every >= Duration::from_millis(50) && vigil.ask_after >= ASK_AFTER_MIN);
        }
    }

    #[test]
    fn a_broker_is_asked_long_before_a_machine_could_fall_silent() {
        let ask_after = |keep_alive, offline_after_ms| {
            Vigil::of(Duration::from_secs(keep_alive), Duration::from_millis(offline_after_ms)).ask_after
        };
        assert_eq!(ask_after(30, 15_000), Duration::from_millis(3_750));
        assert_eq!(ask_after(2, 15_000), Duration::from_millis(1_500));
        assert_eq!(ask_after(30, 100), ASK_AFTER_MIN);
    }
}
