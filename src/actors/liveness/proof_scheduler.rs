//! When the mqtt actor is asked for a proof of the link: as soon as it would change something, which is seldom the moment of a
//! tick. A machine's silence is so noticed within a round trip to the broker of its deadline.

use std::time::Duration;

use actix::prelude::*;

use super::{Liveness, TICK};
use crate::actors::mqtt::messages::ProveLink;
use crate::clock::{Mono, mono_now};

/// Time between two questions, so that a fleet that falls silent machine by machine makes no storm of them.
const APART: Duration = Duration::from_millis(50);

/// The newest question, and when the next one is due.
#[derive(Debug, Default)]
pub(super) struct ProofScheduler {
    asked: Option<Mono>,
    /// Nothing has proven the link since.
    open: bool,
    wake_at: Option<Mono>,
}

/// What to do about a proof that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Ask,
    /// Consider it again then.
    WakeAt(Mono),
    /// The next tick, or a call that is arranged for, comes soon enough.
    Wait,
}

impl ProofScheduler {
    /// Something would change if the link were proven at `wanted` or later; it is `now`.
    fn consider(&mut self, wanted: Mono, now: Mono) -> Then {
        let not_before = self.asked.map(|asked| Mono(asked.0.saturating_add(Mono::from(APART).0)));
        let due = not_before.map_or(wanted, |not_before| wanted.max(not_before));
        if due <= now {
            (self.asked, self.open) = (Some(now), true);
            return Then::Ask;
        }
        let is_arranged_for = self.wake_at.is_some_and(|wake_at| now < wake_at && wake_at <= due);
        if is_arranged_for || due.0 - now.0 >= Mono::from(TICK).0 {
            return Then::Wait;
        }
        self.wake_at = Some(due);
        Then::WakeAt(due)
    }

    /// The link is proven up to `until`. Whether somebody waited for that, so that the next deadline is to be looked for.
    pub(super) fn on_proven(&mut self, until: Mono) -> bool {
        let was_open = self.open;
        self.open = was_open && self.asked > Some(until);
        was_open
    }
}

impl Liveness {
    /// Asks for a proof of the link if it would change something, or arranges to do so when it will.
    pub(super) fn look_ahead(&mut self, context: &mut Context<Self>) {
        let now = mono_now();
        let mark = self.outage_log.wants_proof(now).then_some(now);
        let Some(wanted) = self.watch.proof_wanted_at().into_iter().chain(mark).min() else { return };
        match self.questions.consider(wanted, now) {
            Then::Ask => {
                // Asked again at the next tick if it cannot be taken now.
                let _next_tick = self.wires.prove.try_send(ProveLink);
            }
            Then::WakeAt(at) => {
                let delay = Duration::from_micros(at.0.saturating_sub(now.0));
                context.run_later(delay, Self::look_ahead);
            }
            Then::Wait => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    #[test]
    fn a_proof_is_asked_for_at_the_deadline_and_not_before() {
        let mut questions = ProofScheduler::default();
        assert_eq!(questions.consider(Mono(900 * MS), Mono(100 * MS)), Then::Wait, "a tick comes before");
        assert_eq!(questions.consider(Mono(900 * MS), Mono(800 * MS)), Then::WakeAt(Mono(900 * MS)));
        assert_eq!(questions.consider(Mono(900 * MS), Mono(850 * MS)), Then::Wait, "arranged for");
        assert_eq!(
            questions.consider(Mono(870 * MS), Mono(850 * MS)),
            Then::WakeAt(Mono(870 * MS)),
            "sooner"
        );
        assert_eq!(questions.consider(Mono(900 * MS), Mono(900 * MS)), Then::Ask);
    }

    #[test]
    fn questions_keep_their_distance() {
        let mut questions = ProofScheduler::default();
        assert_eq!(questions.consider(Mono(5 * MS), Mono(10 * MS)), Then::Ask);
        assert_eq!(questions.consider(Mono(12 * MS), Mono(13 * MS)), Then::WakeAt(Mono(60 * MS)));
        assert_eq!(questions.consider(Mono(12 * MS), Mono(60 * MS)), Then::Ask);
    }

    #[test]
    fn the_next_deadline_is_looked_for_when_a_question_is_answered_and_only_then() {
        let mut questions = ProofScheduler::default();
        assert!(!questions.on_proven(Mono(1)), "a message proves the link, and nobody had asked");
        questions.consider(Mono(10), Mono(10));
        assert!(questions.on_proven(Mono(9)), "not yet: it may have to be asked again");
        assert!(questions.on_proven(Mono(10)));
        assert!(!questions.on_proven(Mono(11)));
    }
}
