//! How long a child waits before it is started again (invariant SUP-3 of [`super`]). Pure: the caller passes
//! the length of the run.

use std::time::Duration;

use super::SupervisorOptions;
use crate::actors::backoff::Backoff;

/// The backoff of one child.
#[derive(Debug)]
pub(super) struct RestartDelay {
    backoff: Backoff,
    period: Duration,
}

/// The wait before one restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    /// Without jitter, for the operator.
    pub(super) ceiling: Duration,
    /// With it.
    pub(super) delay: Duration,
}

impl RestartDelay {
    /// The backoff of a child that has not failed yet.
    pub(super) fn new(options: &SupervisorOptions) -> Self {
        Self { backoff: Backoff::new(options.backoff_min, options.backoff_max), period: options.period }
    }

    /// Returns the pause after a run of `ran_for`.
    pub(super) fn after_run(&mut self, ran_for: Duration) -> Pause {
        if ran_for > self.period {
            self.backoff.reset();
        }
        Pause { ceiling: self.backoff.ceiling(), delay: self.backoff.next_delay() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    /// Proves SUP-3.
    #[test]
    fn restarts_wait_ever_longer_until_the_child_has_run_for_the_period() {
        let mut restarts = RestartDelay::new(&SupervisorOptions {
            restarts_max: 5,
            period: PERIOD,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            hang_after: Duration::from_secs(10),
        });
        let beyond = PERIOD + Duration::from_millis(1);
        let runs =
            [(Duration::ZERO, 100), (PERIOD, 200), (PERIOD, 400), (beyond, 100), (Duration::ZERO, 200)];
        for (ran_for, ceiling_ms) in runs {
            let pause = restarts.after_run(ran_for);
            assert_eq!(pause.ceiling, Duration::from_millis(ceiling_ms), "after a run of {ran_for:?}");
            assert!(pause.delay <= pause.ceiling && pause.delay >= pause.ceiling / 2, "{pause:?}");
        }
    }
}
