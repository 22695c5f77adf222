//! When to ask the broker for a sign of life, and how long it may take to answer (LINK-5).

use std::time::Duration;

/// Bound on the time to answer, however long the keep-alive.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Bound on how often to ask the broker for a sign of life.
const ASK_AFTER_MIN: Duration = Duration::from_millis(250);

/// When to ask, and how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long without a sign of life before asking.
    pub(super) ask_after: Duration,
    /// How long the broker may take to answer.
    pub(super) answer_within: Duration,
    /// The shortest `offline_after` of all machines.
    pub(super) offline_after: Duration,
}

impl Timing {
    /// Derives the times from the keep-alive and the shortest `offline_after` of all machines.
    #[must_use]
    pub fn of(keep_alive: Duration, offline_after_min: Duration) -> Self {
        let ask_after = (offline_after_min / 4).max(ASK_AFTER_MIN).min(keep_alive * 3 / 4);
        let answer_within = (keep_alive * 5 / 4 - ask_after).min(ANSWER_MAX);
        Self { ask_after, answer_within, offline_after: offline_after_min }
    }
}

#[cfg(test)]
mod tests {
    use super::super::CHECK_EVERY;
    use super::*;

    /// Proves LINK-5, MQTT-6.
    #[test]
    fn a_silent_broker_is_given_up_within_one_and_a_half_keep_alives() {
        for (seconds, offline_after_ms) in [1, 2, 5, 30, 60, 65_535]
            .into_iter()
            .flat_map(|keep_alive| [100, 15_000, 86_400_000].map(|ms| (keep_alive, ms)))
        {
            let keep_alive = Duration::from_secs(seconds);
            let timing = Timing::of(keep_alive, Duration::from_millis(offline_after_ms));
            // Worst case: it falls silent right after a sign of life, and each check has just passed.
            let noticed_after = timing.ask_after + CHECK_EVERY + timing.answer_within + CHECK_EVERY;
            assert!(noticed_after <= keep_alive * 3 / 2, "{seconds} s: {noticed_after:?}");
            assert!(timing.ask_after >= ASK_AFTER_MIN);
        }
    }

    #[test]
    fn a_broker_is_asked_long_before_a_machine_could_fall_silent() {
        let ask_after = |keep_alive, offline_after_ms| {
            Timing::of(Duration::from_secs(keep_alive), Duration::from_millis(offline_after_ms)).ask_after
        };
        assert_eq!(ask_after(30, 15_000), Duration::from_millis(3_750));
        assert_eq!(ask_after(2, 15_000), Duration::from_millis(1_500));
        assert_eq!(ask_after(30, 100), ASK_AFTER_MIN);
    }
}
