//! Restart intensity as OTP defines it: after more than `restarts_max` restarts within `period`, restarting
//! does not help.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Remembers the restarts of the last `period`.
#[derive(Debug)]
pub struct RestartIntensity {
    restarts_max: u32,
    period: Duration,
    restarts: VecDeque<Instant>,
}

impl RestartIntensity {
    /// Allows `restarts_max` restarts in any window of `period`; 0 allows none.
    #[must_use]
    pub fn new(restarts_max: u32, period: Duration) -> Self {
        Self { restarts_max, period, restarts: VecDeque::new() }
    }

    /// Counts a restart at `now`. Returns `false` if it exceeds the limit.
    pub fn allow(&mut self, now: Instant) -> bool {
        self.restarts.push_back(now);
        while self.restarts.front().is_some_and(|first| now.duration_since(*first) > self.period) {
            self.restarts.pop_front();
        }
        self.restarts.len() <= self.restarts_max as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_allowed_and_one_past_it_is_not() {
        let start = Instant::now();
        let mut intensity = RestartIntensity::new(3, Duration::from_secs(10));
        for second in 0..3 {
            assert!(intensity.allow(start + Duration::from_secs(second)));
        }
        assert!(!intensity.allow(start + Duration::from_secs(3)));
    }

    #[test]
    fn restarts_older_than_the_period_are_forgotten() {
        let start = Instant::now();
        let mut intensity = RestartIntensity::new(1, Duration::from_secs(10));
        assert!(intensity.allow(start));
        assert!(!intensity.allow(start + Duration::from_secs(10)), "the window includes its border");
        assert!(intensity.allow(start + Duration::from_millis(20_001)));
    }

    #[test]
    fn zero_allows_no_restart() {
        assert!(!RestartIntensity::new(0, Duration::from_secs(1)).allow(Instant::now()));
    }
}
