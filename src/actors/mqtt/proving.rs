//! Proofs of the link that liveness asks for: a round trip of our own.
//!
//! A broker that was frozen, or had no time, has a backlog of what others sent to it meanwhile, and may answer us before it
//! reads that. So once it is asked only a prompt answer is a proof, and no message is (invariant M8 of [`super`]). After a late
//! answer, and after a standstill of our own process, the broker gets [`SETTLE`] to work its backlog off, and is asked again. One that is always slow is believed after
//! [`INSIST_MAX`] all the same.

use std::time::Duration;

use actix::prelude::*;

use super::link::Published;
use super::reasons::LinkError;
use super::{KEEP_ALIVE_SLACK, Mqtt, State};
use crate::clock::{Mono, mono_now};

/// An answer within this is prompt.
const PROMPT: Duration = Duration::from_millis(500);
/// How long after a late answer the broker is asked again.
const SETTLE: Duration = Duration::from_secs(2);
/// How long after the first late answer any answer is taken.
const INSIST_MAX: Duration = Duration::from_secs(10);

/// Prove that the link is alive, by a round trip of our own.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ProveLink;

/// The question under way, and how patient we are.
#[derive(Debug, Default)]
pub(super) struct Proving {
    /// Numbers the questions.
    question: u64,
    under_way: bool,
    /// The first of the late answers since the last prompt one.
    late_since: Option<Mono>,
}

/// What an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    Proof,
    /// It came late: ask again in a while.
    AskAgain,
}

impl Proving {
    /// The number of the question that may be asked now; `None` while one is under way.
    fn begin(&mut self) -> Option<u64> {
        if std::mem::replace(&mut self.under_way, true) {
            return None;
        }
        self.question += 1;
        Some(self.question)
    }

    /// As after a late answer: the number of a question to be asked in a while, in place of any that is under way.
    fn begin_late(&mut self, now: Mono) -> u64 {
        (self.under_way, self.late_since) = (true, Some(now));
        self.question += 1;
        self.question
    }

    fn waits_for(&self, question: u64) -> bool {
        self.under_way && self.question == question
    }

    /// What was asked at `asked` is answered `now`.
    fn on_answer(&mut self, asked: Mono, now: Mono) -> Worth {
        let took = |since: Mono| Duration::from_micros(now.0.saturating_sub(since.0));
        let is_prompt = took(asked) <= PROMPT;
        let is_always_slow = self.late_since.is_some_and(|since| took(since) >= INSIST_MAX);
        if is_prompt || is_always_slow {
            self.late_since = None;
            return Worth::Proof;
        }
        self.late_since = self.late_since.or(Some(now));
        Worth::AskAgain
    }

    /// The link is gone, and with it what was asked.
    pub(super) fn forget(&mut self) {
        self.under_way = false;
        self.late_since = None;
    }
}

impl Handler<ProveLink> for Mqtt {
    type Result = ();

    fn handle(&mut self, _: ProveLink, context: &mut Context<Self>) {
        self.look_at_own_clock(context);
        let State::Up { since_mono, .. } = self.state else { return };
        if self.options.link.availability_topic.is_none() {
            // Without a topic of our own the library's keep-alive is the only witness: it pings after one interval of
            // silence and gives up one and a half intervals after that (paho C 1.3.16, `MQTTProtocol_keepalive`).
            let noticed_within = Mono::from(self.options.link.keep_alive.mul_f32(2.5) + KEEP_ALIVE_SLACK);
            let at = Mono(mono_now().0.saturating_sub(noticed_within.0));
            if at >= since_mono && self.is_connected() {
                self.prove(at);
            }
            return;
        }
        if let Some(question) = self.proving.begin() {
            self.ask(question, context);
        }
    }
}

impl Mqtt {
    /// Notices that the process did not run for a while. What the broker had to tell meanwhile is still to come, so that nothing
    /// is concluded from the first of it.
    pub(super) fn look_at_own_clock(&mut self, context: &mut Context<Self>) {
        let now = mono_now();
        if !self.pulse.running(now) || !matches!(self.state, State::Up { .. }) {
            return;
        }
        if self.options.link.availability_topic.is_none() {
            context.run_later(INSIST_MAX, |actor, _| actor.pulse.trust());
            return;
        }
        let question = self.proving.begin_late(now);
        self.ask_later(question, context);
    }

    fn ask_later(&mut self, question: u64, context: &mut Context<Self>) {
        context.run_later(SETTLE, move |actor, context| {
            if actor.proving.waits_for(question) {
                actor.ask(question, context);
            }
        });
    }

    fn ask(&mut self, question: u64, context: &mut Context<Self>) {
        let (Some(link), Some(topic)) = (self.link.clone(), self.options.link.availability_topic.clone())
        else {
            return;
        };
        let asked = mono_now();
        self.pulse.doubt();
        let round_trip = async move { link.publish(&topic, b"online".to_vec(), true).await };
        context.spawn(round_trip.into_actor(self).map(move |outcome, actor, context| {
            if !actor.proving.waits_for(question) {
                return; // It says nothing of the link that came after.
            }
            match outcome {
                Ok(Published::Accepted | Published::Refused(_)) => actor.on_answer(question, asked, context),
                // The link looks connected, and nobody answers: a frozen broker, or a half-open connection.
                Err(LinkError::NoAnswer { .. }) if matches!(actor.state, State::Up { .. }) => {
                    actor.give_up_link("no answer to a message of our own; is the broker frozen?", context);
                }
                Err(_) => actor.proving.forget(),
            }
        }));
    }

    fn on_answer(&mut self, question: u64, asked: Mono, context: &mut Context<Self>) {
        match self.proving.on_answer(asked, mono_now()) {
            Worth::Proof => {
                self.proving.forget();
                self.pulse.trust();
                self.prove(asked);
            }
            Worth::AskAgain => self.ask_later(question, context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000)
    }

    #[test]
    fn a_late_answer_is_no_proof_and_a_prompt_one_after_it_is() {
        let mut proving = Proving::default();
        assert_eq!(proving.on_answer(at(0), at(500)), Worth::Proof);
        assert_eq!(proving.on_answer(at(1_000), at(1_501)), Worth::AskAgain);
        assert_eq!(proving.on_answer(at(3_501), at(3_502)), Worth::Proof);
        assert_eq!(proving.late_since, None);
    }

    #[test]
    fn a_broker_that_is_always_slow_is_believed_after_a_while() {
        let mut proving = Proving::default();
        assert_eq!(proving.on_answer(at(0), at(2_000)), Worth::AskAgain);
        assert_eq!(proving.on_answer(at(4_000), at(11_000)), Worth::AskAgain);
        assert_eq!(proving.on_answer(at(13_000), at(15_000)), Worth::Proof);
        assert_eq!(proving.on_answer(at(16_000), at(18_000)), Worth::AskAgain, "anew");
    }

    #[test]
    fn one_question_at_a_time_and_none_outlives_its_link() {
        let mut proving = Proving::default();
        assert_eq!((proving.begin(), proving.begin()), (Some(1), None));
        assert!(proving.waits_for(1));
        proving.forget();
        assert!(!proving.waits_for(1));
        assert_eq!(proving.begin(), Some(2));
        assert!(!proving.waits_for(1) && proving.waits_for(2));
    }
}
