//! How many rows the next step of deletion may touch: the database decides, by how long the last one took.
//!
//! Batches wait for a step. On a fast disk thousands of rows go in a few milliseconds; on a slow one, or with
//! large rows, the same number would hold batches up for seconds.

use std::time::Duration;

use super::PruneBounds;

/// Machines that a step examines.
const MACHINES_MAX: u32 = 1_000;
/// Rows of a step at most …
const ROWS_MAX: u32 = 5_000;
/// … and at least.
const ROWS_MIN: u32 = 50;
/// Payload bytes that a step deletes.
const BYTES_MAX: u64 = 8 << 20;
/// How long a step should take.
const STEP_WANTED: Duration = Duration::from_millis(100);

/// Sets the bounds of each step by the time that the one before it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunePace {
    rows_max: u32,
}

impl Default for PrunePace {
    fn default() -> Self {
        Self { rows_max: ROWS_MAX }
    }
}

impl PrunePace {
    /// Returns the bounds of the next step.
    #[must_use]
    pub fn bounds(&self) -> PruneBounds {
        let share = u64::from(self.rows_max) * BYTES_MAX / u64::from(ROWS_MAX);
        PruneBounds {
            machines_max: MACHINES_MAX,
            rows_max: self.rows_max,
            bytes_max: share,
            time_max: STEP_WANTED,
        }
    }

    /// Notes how long a step took: halves the next one if that was too long, and doubles it if it was short.
    pub fn step_took(&mut self, took: Duration) {
        if took > STEP_WANTED * 2 {
            self.rows_max = (self.rows_max / 2).max(ROWS_MIN);
        } else if took < STEP_WANTED / 2 {
            self.rows_max = (self.rows_max * 2).min(ROWS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_steps_shrink_and_quick_ones_grow_back_within_bounds() {
        let mut pace = PrunePace::default();
        let rows = |pace: PrunePace| pace.bounds().rows_max;
        pace.step_took(Duration::from_millis(100));
        assert_eq!(rows(pace), ROWS_MAX);
        pace.step_took(Duration::from_millis(201));
        assert_eq!((rows(pace), pace.bounds().bytes_max), (ROWS_MAX / 2, BYTES_MAX / 2));
        (0..20).for_each(|_| pace.step_took(Duration::from_secs(9)));
        assert_eq!(rows(pace), ROWS_MIN);
        (0..20).for_each(|_| pace.step_took(Duration::from_millis(1)));
        assert_eq!(rows(pace), ROWS_MAX);
    }
}
