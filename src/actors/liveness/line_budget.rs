//! Limits the log lines about machines: a line for each event while they are few, one summary for many. Pure.

use std::time::Duration;

use crate::clock::Mono;

/// Events that may have lines of their own within [`WINDOW`].
pub(super) const LINES_MAX: usize = 20;
/// The window of the budget, and the time between two summaries.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// The budget of one kind of event.
#[derive(Debug, Default)]
pub(super) struct LineBudget {
    /// When the whole budget is available again.
    renewed_at: Mono,
    left: usize,
    /// When the next summary may be logged.
    summary_at: Mono,
}

impl LineBudget {
    /// Returns whether this many simultaneous events get a line each. Otherwise they, and all further ones
    /// until the budget is renewed, go into a summary.
    pub(super) fn admits(&mut self, events: usize, now: Mono) -> bool {
        if now >= self.renewed_at {
            self.renewed_at = Mono(now.0.saturating_add(Mono::from(WINDOW).0));
            self.left = LINES_MAX;
        }
        let admitted = events <= self.left;
        self.left = if admitted { self.left - events } else { 0 };
        admitted
    }

    /// Returns whether a summary may be logged now. Call it only if there is one to log.
    pub(super) fn allows_summary(&mut self, now: Mono) -> bool {
        let is_due = now >= self.summary_at;
        if is_due {
            self.summary_at = Mono(now.0.saturating_add(Mono::from(WINDOW).0));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn few_events_get_lines_and_many_get_a_summary_at_once_and_then_every_ten_seconds() {
        let mut budget = LineBudget::default();
        assert!(budget.admits(20, Mono(SECOND)));
        assert!(budget.admits(0, Mono(SECOND)));
        assert!(!budget.admits(1, Mono(2 * SECOND)));
        assert!(budget.allows_summary(Mono(2 * SECOND)));
        assert!(!budget.allows_summary(Mono(11 * SECOND)));
        assert!(budget.allows_summary(Mono(12 * SECOND)));
        assert!(budget.admits(1, Mono(11 * SECOND)), "a new window");
        assert!(!budget.admits(20, Mono(11 * SECOND)), "all simultaneous events, or none");
        assert!(!budget.admits(1, Mono(12 * SECOND)), "no single lines between summaries");
    }

    #[test]
    fn two_thousand_changes_one_by_one_take_few_lines() {
        let mut budget = LineBudget::default();
        let mut lines = 0;
        for change in 0..2_000 {
            let now = Mono(change * 10_000);
            lines += u64::from(budget.admits(1, now) || budget.allows_summary(now));
        }
        assert!(lines <= 2 * 21 + 1, "{lines} lines in 20 seconds");
    }
}
