//! How many lines of the log news of machines take: a line each while they are few, one line for many. Pure.

use std::time::Duration;

use crate::clock::Mono;

/// Lines that news may have singly within [`WINDOW`].
pub(super) const LINES_MAX: usize = 20;
/// Also the time between two lines that sum up.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// What one kind of news may still say.
#[derive(Debug, Default)]
pub(super) struct LineBudget {
    /// From here on there is a whole budget again.
    renewed_at: Mono,
    left: usize,
    /// From here on withheld news may be summed up.
    sum_at: Mono,
}

impl LineBudget {
    /// True if so many news, which came together, get a line each. Else they are withheld, and everything with them until the
    /// budget is renewed.
    pub(super) fn admits(&mut self, news: usize, now: Mono) -> bool {
        if now >= self.renewed_at {
            self.renewed_at = Mono(now.0.saturating_add(Mono::from(WINDOW).0));
            self.left = LINES_MAX;
        }
        let admitted = news <= self.left;
        self.left = if admitted { self.left - news } else { 0 };
        admitted
    }

    /// True if a line may sum up now what was withheld. Asked only if something was.
    pub(super) fn sums_up(&mut self, now: Mono) -> bool {
        let is_due = now >= self.sum_at;
        if is_due {
            self.sum_at = Mono(now.0.saturating_add(Mono::from(WINDOW).0));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn few_are_told_singly_and_many_are_summed_up_at_once_and_then_every_ten_seconds() {
        let mut budget = LineBudget::default();
        assert!(budget.admits(20, Mono(SECOND)));
        assert!(budget.admits(0, Mono(SECOND)));
        assert!(!budget.admits(1, Mono(2 * SECOND)));
        assert!(budget.sums_up(Mono(2 * SECOND)));
        assert!(!budget.sums_up(Mono(11 * SECOND)));
        assert!(budget.sums_up(Mono(12 * SECOND)));
        assert!(budget.admits(1, Mono(11 * SECOND)), "a new window");
        assert!(!budget.admits(20, Mono(11 * SECOND)), "all that came together, or none");
        assert!(!budget.admits(1, Mono(12 * SECOND)), "nothing singly between sums");
    }

    #[test]
    fn two_thousand_changes_one_by_one_take_few_lines() {
        let mut budget = LineBudget::default();
        let mut lines = 0;
        for change in 0..2_000 {
            let now = Mono(change * 10_000);
            lines += u64::from(budget.admits(1, now) || budget.sums_up(now));
        }
        assert!(lines <= 2 * 21 + 1, "{lines} lines in 20 seconds");
    }
}
