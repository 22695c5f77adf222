//! When to ask the mqtt actor for a proof of the link: as soon as a proof would change something, rather than
//! at the next tick. So a machine's silence is noticed within one round trip to the broker after its
//! deadline.

use std::time::Duration;

use actix::prelude::*;

use super::{Liveness, TICK};
use crate::actors::mqtt::messages::ProveLink;
use crate::clock::{Mono, mono_now};

/// Time between two requests, so that many machines falling silent one by one make no storm of them.
const REQUEST_SPACING: Duration = Duration::from_millis(50);

/// The newest request, and when the next one is scheduled.
#[derive(Debug, Default)]
pub(super) struct ProofScheduler {
    requested_at: Option<Mono>,
    /// No proof has answered the request yet.
    unanswered: bool,
    wake_at: Option<Mono>,
}

/// What to do about a wanted proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    /// Decide again at that time.
    WakeAt(Mono),
    /// The next tick, or a scheduled call, comes soon enough.
    Wait,
}

impl ProofScheduler {
    /// Decides about a proof that would change something at `wanted` or later; it is `now`.
    fn decide(&mut self, wanted: Mono, now: Mono) -> Next {
        let not_before = self.requested_at.map(|at| Mono(at.0.saturating_add(Mono::from(REQUEST_SPACING).0)));
        let due = not_before.map_or(wanted, |not_before| wanted.max(not_before));
        if due <= now {
            (self.requested_at, self.unanswered) = (Some(now), true);
            return Next::Request;
        }
        let is_scheduled = self.wake_at.is_some_and(|wake_at| now < wake_at && wake_at <= due);
        if is_scheduled || due.0 - now.0 >= Mono::from(TICK).0 {
            return Next::Wait;
        }
        self.wake_at = Some(due);
        Next::WakeAt(due)
    }

    /// The link is proven up to `until`. Returns whether a request waited for that, so that the next deadline
    /// may be due.
    pub(super) fn on_proven(&mut self, until: Mono) -> bool {
        let was_unanswered = self.unanswered;
        self.unanswered = was_unanswered && self.requested_at > Some(until);
        was_unanswered
    }
}

impl Liveness {
    /// Requests a proof of the link if it would change something, or schedules the request.
    pub(super) fn schedule_proof(&mut self, context: &mut Context<Self>) {
        let now = mono_now();
        let for_outages = self.outage_log.wants_proof(now).then_some(now);
        let Some(wanted) = self.replay.proof_wanted_at().into_iter().chain(for_outages).min() else { return };
        match self.proof_scheduler.decide(wanted, now) {
            Next::Request => {
                // If it cannot be delivered now, the next tick tries again.
                let _next_tick = self.wires.prove.try_send(ProveLink);
            }
            Next::WakeAt(at) => {
                context.run_later(at.since(now), Self::schedule_proof);
            }
            Next::Wait => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    /// Proves LIV-3.
    #[test]
    fn a_proof_is_requested_at_the_deadline_and_not_before() {
        let mut scheduler = ProofScheduler::default();
        assert_eq!(scheduler.decide(Mono(900 * MS), Mono(100 * MS)), Next::Wait, "a tick comes first");
        assert_eq!(scheduler.decide(Mono(900 * MS), Mono(800 * MS)), Next::WakeAt(Mono(900 * MS)));
        assert_eq!(scheduler.decide(Mono(900 * MS), Mono(850 * MS)), Next::Wait, "scheduled");
        assert_eq!(scheduler.decide(Mono(870 * MS), Mono(850 * MS)), Next::WakeAt(Mono(870 * MS)), "sooner");
        assert_eq!(scheduler.decide(Mono(900 * MS), Mono(900 * MS)), Next::Request);
    }

    #[test]
    fn requests_keep_their_distance() {
        let mut scheduler = ProofScheduler::default();
        assert_eq!(scheduler.decide(Mono(5 * MS), Mono(10 * MS)), Next::Request);
        assert_eq!(scheduler.decide(Mono(12 * MS), Mono(13 * MS)), Next::WakeAt(Mono(60 * MS)));
        assert_eq!(scheduler.decide(Mono(12 * MS), Mono(60 * MS)), Next::Request);
    }

    #[test]
    fn only_the_answer_to_a_request_calls_for_the_next_deadline() {
        let mut scheduler = ProofScheduler::default();
        assert!(!scheduler.on_proven(Mono(1)), "a proof without a request");
        scheduler.decide(Mono(10), Mono(10));
        assert!(scheduler.on_proven(Mono(9)), "older than the request, which stays unanswered");
        assert!(scheduler.on_proven(Mono(10)));
        assert!(!scheduler.on_proven(Mono(11)));
    }
}
