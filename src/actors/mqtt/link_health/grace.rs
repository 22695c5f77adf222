//! The grace period of a late broker (LINK-3, LINK-4).

use std::time::Duration;

use super::{PROMPT, after};
use crate::clock::Mono;

/// Bounds on the time to settle: how long after a late answer the broker is asked again.
const SETTLE_MIN: Duration = Duration::from_secs(2);
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long after that an equally late answer is believed.
const INSIST_MAX: Duration = Duration::from_secs(8);

/// Present from the first late answer, or standstill, after the last proof.
#[derive(Debug, Default)]
pub(super) struct Doubt(Option<Grant>);

#[derive(Debug, Clone, Copy)]
struct Grant {
    /// The time that the broker gets to deliver what waits.
    settle: Duration,
    ask_at: Mono,
    /// From then on an equally late answer is believed.
    believe_from: Mono,
}

impl Doubt {
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether the answer to a question asked now may be a proof.
    pub(super) fn is_settled(&self, now: Mono) -> bool {
        self.0.is_none_or(|grant| grant.ask_at <= now)
    }

    /// Returns whether to believe an answer this late: it is prompt, or the grace period for such a delay is
    /// used up.
    pub(super) fn allows(&self, lateness: Duration, now: Mono) -> bool {
        let grace_is_over = |grant: Grant| grant.believe_from <= now && settle(lateness) <= grant.settle;
        lateness <= PROMPT || self.0.is_some_and(grace_is_over)
    }

    /// Starts a grace period: no proof until the broker has had time to deliver what waited for `lateness`.
    pub(super) fn put_off(&mut self, lateness: Duration, now: Mono) {
        let settle = settle(lateness);
        let ask_at = after(now, settle);
        match &mut self.0 {
            Some(grant) if settle <= grant.settle => grant.ask_at = ask_at,
            grant => *grant = Some(Grant { settle, ask_at, believe_from: after(ask_at, INSIST_MAX) }),
        }
    }
}

/// Returns the time to deliver what waited for so long.
fn settle(lateness: Duration) -> Duration {
    lateness.clamp(SETTLE_MIN, SETTLE_MAX)
}
