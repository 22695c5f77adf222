//! Whether the database takes data, and when to try again if it does not (invariant WRI-3 of [`super`]). Pure.

use std::time::Duration;

use crate::actors::backoff::Backoff;

/// What the attempts so far say of the database.
#[derive(Debug)]
pub(super) struct Outage {
    backoff: Backoff,
    /// Why it takes no data, if it does not.
    reason: Option<String>,
}

/// What follows from an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    /// The wait before the next one.
    pub(super) delay: Duration,
    /// The reason is another than last time: it is to be said.
    pub(super) is_news: bool,
}

impl Outage {
    /// Nothing was tried yet.
    pub(super) fn new(backoff_min: Duration, backoff_max: Duration) -> Self {
        Self { backoff: Backoff::new(backoff_min, backoff_max), reason: None }
    }

    /// The database took data. Returns whether this ends an outage.
    pub(super) fn over(&mut self) -> bool {
        self.backoff.reset();
        self.reason.take().is_some()
    }

    /// It did not, for this reason.
    pub(super) fn goes_on(&mut self, reason: &str) -> Retry {
        let is_news = self.reason.as_deref() != Some(reason);
        if is_news {
            self.reason = Some(reason.to_owned());
        }
        Retry { delay: self.backoff.next_delay(), is_news }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_ever_more_seldom_and_quickly_again_after_a_success() {
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
    fn each_reason_is_said_once_and_the_end_of_an_outage_once() {
        let mut outage = Outage::new(Duration::from_millis(1), Duration::from_millis(1));
        assert!(!outage.over(), "there was none");
        let said = ["away", "away", "full", "full", "away"].map(|reason| outage.goes_on(reason).is_news);
        assert_eq!(said, [true, false, true, false, true]);
        assert!(outage.over() && !outage.over());
        assert!(outage.goes_on("away").is_news, "another outage");
    }
}
