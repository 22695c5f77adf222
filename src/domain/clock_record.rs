//! The record of the trusted time that survives restarts.

use std::time::Duration;

use super::Timestamp;

/// The trusted time as last recorded: in the database, and in a file beside the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockRecord {
    /// Grows with each record. The record with the larger number is the newer one, whatever the clocks say.
    pub seq: u64,
    /// The trusted time.
    pub trusted_at: Timestamp,
    /// The wall clock at that moment.
    pub wall_at: Timestamp,
    /// How long the process has run with a wall clock that disagrees and is not believed; `None` if they agree.
    pub step_held: Option<Duration>,
}

impl ClockRecord {
    /// How far ahead a confirming command numbers its record: further than a running service counts before it reads it.
    pub const CONFIRMED_AHEAD: u64 = 1_000;
    /// Larger numbers are not ours: one per second lasts for millions of years.
    const SEQ_MAX: u64 = 1 << 53;

    /// Returns whether Andon can have written it.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.seq <= Self::SEQ_MAX && self.trusted_at >= Timestamp::CLOCK_SET_SINCE
    }
}
