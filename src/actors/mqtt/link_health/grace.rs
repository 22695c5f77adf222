//! What a late broker is granted (rules LINK-3 and LINK-4 of [`super`]).

use std::time::Duration;

use super::{PROMPT, after};
use crate::clock::Mono;

/// How long after a late answer the broker is asked again, at least and at most.
const SETTLE_MIN: Duration = Duration::from_secs(2);
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long after that an answer that is as late again is believed.
const INSIST_MAX: Duration = Duration::from_secs(8);

/// Since the first late answer, or standstill, after the last proof.
#[derive(Debug, Default)]
pub(super) struct Doubt(Option<Grant>);

#[derive(Debug, Clone, Copy)]
struct Grant {
    /// To hand over what waits.
    settle: Duration,
    ask_at: Mono,
    /// From then on it is believed, unless it is later still.
    believe_from: Mono,
}

impl Doubt {
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Whether what is asked now may be a proof.
    pub(super) fn is_settled(&self, now: Mono) -> bool {
        self.0.is_none_or(|grant| grant.ask_at <= now)
    }

    /// Whether who is as late as this is believed: it is prompt, or has had all the time that it may have.
    pub(super) fn allows(&self, lateness: Duration, now: Mono) -> bool {
        let had_its_time = |grant: Grant| grant.believe_from <= now && settle(lateness) <= grant.settle;
        lateness <= PROMPT || self.0.is_some_and(had_its_time)
    }

    /// Nothing is a proof until the broker has had time to hand over what waited for `lateness`.
    pub(super) fn put_off(&mut self, lateness: Duration, now: Mono) {
        let settle = settle(lateness);
        let ask_at = after(now, settle);
        match &mut self.0 {
            Some(grant) if settle <= grant.settle => grant.ask_at = ask_at,
            grant => *grant = Some(Grant { settle, ask_at, believe_from: after(ask_at, INSIST_MAX) }),
        }
    }
}

/// The time to hand over what waited for so long.
fn settle(lateness: Duration) -> Duration {
    lateness.clamp(SETTLE_MIN, SETTLE_MAX)
}
