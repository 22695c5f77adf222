//! Tracks an outage of the database and its retries (invariant WRI-3 of [`super`]). Pure.

use std::time::Duration;

use crate::actors::backoff::Backoff;

/// The state of the database, by the attempts so far.
#[derive(Debug)]
pub(super) struct Outage {
    backoff: Backoff,
    /// Why it accepts no data, if it does not.
    reason: Option<String>,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    /// The wait before the next attempt.
    pub(super) delay: Duration,
    /// The reason differs from the last one: log it.
    pub(super) is_new: bool,
}

impl Outage {
    /// No outage yet.
    pub(super) fn new(backoff_min: Duration, backoff_max: Duration) -> Self {
        Self { backoff: Backoff::new(backoff_min, backoff_max), reason: None }
    }

    /// Notes a success. Returns whether it ends an outage.
    pub(super) fn over(&mut self) -> bool {
        self.backoff.reset();
        self.reason.take().is_some()
    }

    /// Notes a failure with its reason.
    pub(super) fn goes_on(&mut self, reason: &str) -> Retry {
        let is_new = self.reason.as_deref() != Some(reason);
        if is_new {
            self.reason = Some(reason.to_owned());
        }
        Retry { delay: self.backoff.next_delay(), is_new }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves WRI-3.
    #[test]
    fn retries_slow_down_and_start_over_after_a_success() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(60));
        let mut outage = Outage::new(min, max);
        for _ in 0..3 {
            assert!(outage.goes_on("away").delay <= min, "the first attempt after a success");
            let last = (0..20).map(|_| outage.goes_on("away").delay).last();
            assert!(last >= Some(max / 2), "{last:?}");
            outage.over();
        }
    }

    #[test]
    fn each_reason_is_logged_once_and_the_end_of_an_outage_once() {
        let mut outage = Outage::new(Duration::from_millis(1), Duration::from_millis(1));
        assert!(!outage.over(), "there was none");
        let said = ["away", "away", "full", "full", "away"].map(|reason| outage.goes_on(reason).is_new);
        assert_eq!(said, [true, false, true, false, true]);
        assert!(outage.over() && !outage.over());
        assert!(outage.goes_on("away").is_new, "another outage");
    }
}
