//! Exponential backoff with jitter, for everything outside that may be away.

use std::time::Duration;

/// Doubles from `min` to `max`; each delay is drawn evenly from its upper half ("equal jitter"), so that
/// many clients of one broker or database do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// Starts at `min`. `min` is raised to 1 ms, `max` to `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        let min = min.max(Duration::from_millis(1));
        Self { min, max: max.max(min), attempts: 0 }
    }

    /// The longest delay before the next attempt, without jitter.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.min.saturating_mul(factor).min(self.max)
    }

    /// The delay before the next attempt, between half the ceiling and the ceiling; the next one is longer.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Like [`Self::next_delay`], but at the cap between `max` and a quarter more. So the other side sees at
    /// most one attempt in `max`, however long it is away.
    pub fn next_unhurried_delay(&mut self) -> Duration {
        if self.ceiling() < self.max {
            return self.next_delay();
        }
        self.attempts = self.attempts.saturating_add(1);
        self.max.mul_f64(rand::random_range(1.0..=1.25))
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Attempts since the last success.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_stay_there() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut ceilings = Vec::new();
        for _ in 0..80 {
            let ceiling = backoff.ceiling();
            let delay = backoff.next_delay();
            assert!(
                delay <= ceiling && delay >= ceiling / 2,
                "{delay:?} outside [{ceiling:?}/2, {ceiling:?}]"
            );
            ceilings.push(ceiling.as_millis());
        }
        assert_eq!(ceilings[..6], [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(ceilings[79], 1000);
    }

    #[test]
    fn an_unhurried_delay_is_at_the_cap_never_less_than_it_and_never_the_same() {
        let max = Duration::from_secs(1);
        let mut backoff = Backoff::new(Duration::from_millis(100), max);
        let delays: Vec<_> = (0..40).map(|_| backoff.next_unhurried_delay()).collect();
        // 100, 200, 400, 800 ms are below the cap.
        assert!(delays[..4].iter().all(|delay| *delay <= Duration::from_millis(800)), "{delays:?}");
        assert!(delays[4..].iter().all(|delay| *delay >= max && *delay <= max.mul_f64(1.25)), "{delays:?}");
        assert!(delays[5..].iter().any(|delay| *delay != delays[4]), "equal delays are no jitter");
    }

    #[test]
    fn a_success_starts_over_and_jitter_is_present() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
        let delays: Vec<_> = (0..20)
            .map(|_| {
                backoff.reset();
                backoff.next_delay()
            })
            .collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(100)));
        assert!(delays.iter().any(|delay| *delay != delays[0]), "twenty equal delays are no jitter");
    }
}
