//! What is kept of the trusted time across restarts.

use std::time::Duration;

use super::Timestamp;

/// The trusted time as it was last recorded: in the database, and in a file beside the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockRecord {
    /// Grows with each record. Of two records the one with the larger number is the newer one, whatever the clocks say.
    pub seq: u64,
    /// The trusted time.
    pub trusted_at: Timestamp,
    /// What the wall clock said at that moment.
    pub wall_at: Timestamp,
    /// If the two disagree and the wall clock is not believed: how long the process has run since.
    pub step_held: Option<Duration>,
}

impl ClockRecord {
    /// How far a command that confirms the clock counts ahead: more than a running service counts until it looks.
    pub const CONFIRMED_AHEAD: u64 = 1_000;
    /// Larger numbers are no record of ours: one a second for millions of years.
    const SEQ_MAX: u64 = 1 << 53;

    /// Whether it can be one of ours.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.seq <= Self::SEQ_MAX && self.trusted_at >= Timestamp::CLOCK_SET_SINCE
    }
}
