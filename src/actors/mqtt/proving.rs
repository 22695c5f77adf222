//! Proofs of the link that liveness asks for: a round trip of our own, by a QoS 1 message to our own availability topic, or
//! without a topic by the vigil's question.
//!
//! A broker that was frozen, or had no time, has a backlog of what others sent to it meanwhile, and may answer us before it
//! reads that. So once it is asked only a prompt answer is a proof, and no message is (invariant M8 of [`super`]). After a late
//! answer, and after a standstill of our own process, the broker gets as long as that lasted, within [`SETTLE_MIN`] and
//! [`SETTLE_MAX`], to hand over what waits, and is asked again: one that keeps up with its machines has done so by then. One that is
//! always as slow is believed [`INSIST_MAX`] later all the same.

use std::time::Duration;

use actix::prelude::*;
use slog::{info, warn};

use super::reasons::LinkError;
use super::vigil::ANSWER_MAX;
use super::{Mqtt, State};
use crate::clock::{Mono, mono_now};

/// How often our own clock is looked at.
pub(super) const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_millis(100);
/// A standstill of our own that lasted as long as this is worth a line.
const STANDSTILL_TOLD_MIN: Duration = Duration::from_secs(3);
/// An answer within this is prompt.
const PROMPT: Duration = Duration::from_millis(500);
/// How long after a late answer the broker is asked again, at least.
const SETTLE_MIN: Duration = Duration::from_secs(2);
/// And at most: silence must be believed some day.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long after it could have handed over what waited an answer that is no later than that is taken.
const INSIST_MAX: Duration = Duration::from_secs(8);

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
    /// Since the first late answer after the last prompt one.
    patience: Option<Patience>,
    /// That the broker is late again and again has been said.
    told: bool,
}

/// What a late broker is granted.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// To hand over what waits.
    settle: Duration,
    /// From then on it is believed, unless it is later still.
    believe_from: Mono,
}

/// What an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    Proof,
    /// It came late: ask again after this.
    AskAgain(Duration),
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

    /// As after an answer that was late by `lateness`: the number of a question to be asked in a while, in place of any that is
    /// under way, and that while. `None` if we have been patient for long enough: then what is under way goes on.
    fn begin_late(&mut self, lateness: Duration, now: Mono) -> Option<(u64, Duration)> {
        if self.under_way && self.is_exhausted(lateness, now) {
            return None;
        }
        self.under_way = true;
        self.question += 1;
        Some((self.question, self.be_patient(lateness, now)))
    }

    fn waits_for(&self, question: u64) -> bool {
        self.under_way && self.question == question
    }

    /// What was asked at `asked` is answered `now`.
    fn on_answer(&mut self, asked: Mono, now: Mono) -> Worth {
        let took = since(asked, now);
        if took <= PROMPT || self.is_exhausted(took, now) {
            self.patience = None;
            return Worth::Proof;
        }
        Worth::AskAgain(self.be_patient(took, now))
    }

    fn be_patient(&mut self, lateness: Duration, now: Mono) -> Duration {
        let settle = settle(lateness);
        if self.patience.is_none_or(|patience| patience.settle < settle) {
            let believe_from = Mono(now.0.saturating_add(Mono::from(settle + INSIST_MAX).0));
            self.patience = Some(Patience { settle, believe_from });
        }
        settle
    }

    /// Whether who is as late as this has had all the time that it may have.
    fn is_exhausted(&self, lateness: Duration, now: Mono) -> bool {
        let exhausted =
            |patience: Patience| patience.believe_from <= now && settle(lateness) <= patience.settle;
        self.patience.is_some_and(exhausted)
    }

    /// The link is gone, and with it what was asked.
    pub(super) fn forget(&mut self) {
        self.under_way = false;
        self.patience = None;
    }
}

/// The time to hand over what waited for so long.
fn settle(lateness: Duration) -> Duration {
    lateness.clamp(SETTLE_MIN, SETTLE_MAX)
}

fn since(asked: Mono, now: Mono) -> Duration {
    Duration::from_micros(now.0.saturating_sub(asked.0))
}

impl Handler<ProveLink> for Mqtt {
    type Result = ();

    fn handle(&mut self, _: ProveLink, context: &mut Context<Self>) {
        self.look_at_own_clock(context);
        if !matches!(self.state, State::Up { .. }) {
            return;
        }
        if let Some(question) = self.proving.begin() {
            self.ask(question, context);
        }
    }
}

impl Mqtt {
    /// Notices that the process, or the callback, did not go on for a while. What the broker had to tell meanwhile is still to
    /// come, so that nothing is concluded from the first of it.
    pub(super) fn look_at_own_clock(&mut self, context: &mut Context<Self>) {
        let Some(stood_still) = self.pulse.running(mono_now()) else { return };
        if !matches!(self.state, State::Up { .. }) {
            return;
        }
        if stood_still >= STANDSTILL_TOLD_MIN {
            warn!(self.logger, "the process, or the disk, stood still: what the broker has kept meanwhile is waited for before \
                any machine is called offline";
                "stood_still_ms" => stood_still.as_millis());
        }
        self.on_lateness(stood_still, context);
    }

    /// The broker answered what the vigil asked at `asked`, or said something else since.
    pub(super) fn on_sign_of_life(&mut self, asked: Mono, context: &mut Context<Self>) {
        let took = since(asked, mono_now());
        if took > PROMPT {
            self.on_lateness(took, context);
        } else if !self.proving.under_way {
            self.pulse.trust();
            self.prove(asked);
        }
    }

    /// Nothing that comes is a proof until the broker has had time to hand over what waited for `lateness`.
    fn on_lateness(&mut self, lateness: Duration, context: &mut Context<Self>) {
        self.pulse.doubt();
        if let Some((question, settle)) = self.proving.begin_late(lateness, mono_now()) {
            self.ask_later(question, settle, context);
        }
    }

    fn ask_later(&mut self, question: u64, settle: Duration, context: &mut Context<Self>) {
        context.run_later(settle, move |actor, context| {
            if actor.proving.waits_for(question) {
                actor.ask(question, context);
            }
        });
    }

    fn ask(&mut self, question: u64, context: &mut Context<Self>) {
        let Some(link) = self.link.clone() else { return };
        let topic = self.options.link.availability_topic.clone();
        // About as long as the vigil would wait: it is not for one question to end a link.
        let within = self.options.link.keep_alive.min(ANSWER_MAX);
        let asked = mono_now();
        self.pulse.doubt();
        let round_trip = async move { link.round_trip(topic.as_deref(), within).await };
        context.spawn(round_trip.into_actor(self).map(move |outcome, actor, context| {
            if !actor.proving.waits_for(question) {
                return; // It says nothing of the link that came after.
            }
            match outcome {
                Ok(()) => actor.on_answer(question, asked, context),
                // The link looks connected, and nobody answers: a frozen broker, or a half-open connection.
                Err(LinkError::NoAnswer { .. }) if matches!(actor.state, State::Up { .. }) => {
                    if actor.was_heard(asked, within) {
                        actor.proving.under_way = false;
                        actor.on_lateness(since(asked, mono_now()), context);
                    } else {
                        actor.give_up_link(
                            "no answer to a question of our own; is the broker frozen?",
                            context,
                        );
                    }
                }
                Err(_) => actor.proving.forget(),
            }
        }));
    }

    fn on_answer(&mut self, question: u64, asked: Mono, context: &mut Context<Self>) {
        let now = mono_now();
        // An older question may have been answered in the same moment: then the broker was away for all that time.
        let asked_first = self.vigil_asked().map_or(asked, |vigil| vigil.min(asked));
        let was_late = self.proving.patience.is_some();
        let took_ms = since(asked_first, now).as_millis();
        match self.proving.on_answer(asked_first, now) {
            Worth::Proof => {
                self.proving.forget();
                self.pulse.trust();
                self.prove(asked);
                if took_ms <= PROMPT.as_millis() && std::mem::take(&mut self.proving.told) {
                    info!(self.logger, "the broker answers in time again");
                }
            }
            Worth::AskAgain(settle) => {
                if was_late && !std::mem::replace(&mut self.proving.told, true) {
                    warn!(self.logger, "the broker answers late, again and again: is it, the network or this machine overloaded? \
                        Silence of a machine is noticed later than it could be"; "took_ms" => took_ms);
                }
                self.ask_later(question, settle, context);
            }
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
        assert_eq!(proving.on_answer(at(1_000), at(1_501)), Worth::AskAgain(SETTLE_MIN));
        assert_eq!(proving.on_answer(at(3_501), at(3_502)), Worth::Proof);
        assert!(proving.patience.is_none());
    }

    #[test]
    fn a_broker_that_is_always_slow_is_believed_after_a_while() {
        let mut proving = Proving::default();
        assert_eq!(proving.on_answer(at(0), at(2_000)), Worth::AskAgain(SETTLE_MIN));
        assert_eq!(proving.on_answer(at(4_000), at(11_000)), Worth::AskAgain(Duration::from_secs(7)));
        assert_eq!(
            proving.on_answer(at(18_000), at(20_000)),
            Worth::AskAgain(SETTLE_MIN),
            "7 and 8 s after 11"
        );
        assert_eq!(proving.on_answer(at(24_000), at(26_000)), Worth::Proof);
        assert_eq!(proving.on_answer(at(27_000), at(29_000)), Worth::AskAgain(SETTLE_MIN), "anew");
    }

    #[test]
    fn whoever_stood_still_gets_as_long_as_that_lasted_to_hand_over_what_waited() {
        let mut proving = Proving::default();
        let late = Duration::from_secs(60);
        assert_eq!(proving.on_answer(at(0), at(60_000)), Worth::AskAgain(late));
        assert_eq!(
            proving.on_answer(at(120_000), at(120_600)),
            Worth::AskAgain(SETTLE_MIN),
            "it is not believed before"
        );
        assert_eq!(proving.on_answer(at(130_000), at(130_600)), Worth::Proof);
        let (question, settle) = proving.begin_late(late, at(0)).unwrap();
        assert!(proving.waits_for(question) && settle == late);
        assert_eq!(proving.on_answer(at(60_000), at(60_100)), Worth::Proof);
    }

    #[test]
    fn whoever_stands_still_again_and_again_is_believed_at_last() {
        let mut proving = Proving::default();
        let stall = Duration::from_millis(600);
        for second in 0..10 {
            assert!(proving.begin_late(stall, at(second * 1_000)).is_some(), "{second}");
        }
        assert_eq!(proving.begin_late(stall, at(10_000)), None, "the question of second 9 is asked");
        assert_eq!(proving.on_answer(at(11_000), at(11_600)), Worth::Proof);
    }

    #[test]
    fn the_patience_for_a_short_standstill_is_none_for_a_long_one() {
        let mut proving = Proving::default();
        assert!(proving.begin_late(Duration::from_millis(600), at(0)).is_some());
        let (long, longest) = (Duration::from_secs(40), Duration::from_secs(3_600));
        assert_eq!(proving.begin_late(long, at(41_000)).map(|(_, settle)| settle), Some(long));
        assert_eq!(proving.on_answer(at(42_000), at(42_600)), Worth::AskAgain(SETTLE_MIN));
        assert_eq!(proving.on_answer(at(50_000), at(90_000)), Worth::Proof, "40 and 8 s after 41");
        assert_eq!(proving.begin_late(longest, at(100_000)).map(|(_, settle)| settle), Some(SETTLE_MAX));
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
