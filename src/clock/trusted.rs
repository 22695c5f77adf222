//! The trusted time, from which the age of stored rows is counted. Pure.
//!
//! The wall clock of a plant PC may be years wrong, and retention by a wrong clock deletes everything. So retention uses
//! this clock. It continues with the monotonic clock from the last record, and follows the wall clock only as far as it can
//! be believed.
//!
//! - **CLK-1** The trusted time follows a difference of at most an hour: drift, or a clock set right.
//! - **CLK-2** A larger difference, ahead or back, waits until the kernel reports a synchronised clock, an operator confirms
//!   it, or it has held for seven days of running, added up over restarts; another step starts the count again.
//! - **CLK-3** A difference found at a start is believed up to a tenth of the shortest retention, and always up to an hour: the
//!   PC was off for the night. While a step waits, the new wall clock is compared with the one in the record.
//! - **CLK-4** A wall clock before 2025 was never set, and is never followed.
//! - **CLK-5** Without any record the wall clock is believed.
//! - **CLK-6** Record 0 is the newest trace of Andon in a database without a record: the true time is not before it. With a
//!   clock that was never set and no trace, 2025-01-01 stands in until the clock is set.

use std::time::Duration;

use super::Mono;
use crate::domain::{ClockRecord, Timestamp, signed_micros};

/// Largest difference that is followed at once (CLK-1).
pub const FOLLOWED_MAX: Duration = Duration::from_secs(3_600);
/// How long a larger difference must hold to be believed (CLK-2).
pub const BELIEVED_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// Shortest retention assumed if none is configured: 90 days.
const RETENTION_ASSUMED: Duration = Duration::from_secs(90 * 86_400);

/// A reading of the clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock, which also counts while the machine sleeps.
    pub boot: Mono,
    /// The kernel reports a synchronised wall clock.
    pub synchronised: bool,
}

impl Reading {
    fn is_set(&self) -> bool {
        self.wall >= Timestamp::CLOCK_SET_SINCE
    }
}

/// Why the wall clock is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The kernel reports a synchronised clock.
    Synchronised,
    /// The step has held for [`BELIEVED_AFTER`].
    Held,
    /// It agrees with the trusted time again.
    Agrees,
    /// An operator has confirmed it.
    Confirmed,
}

/// A change to report to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The wall clock is this far ahead (behind, if negative), in microseconds, and is not believed yet.
    StepWaits(i64),
    /// The wall clock is followed again, after it was this far ahead or behind.
    Followed(i64, Reason),
    /// The wall clock was never set (CLK-4).
    Unset,
}

/// A difference that is not believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Wall clock minus trusted time when the step was first seen, in microseconds.
    offset: i64,
    held: Duration,
}

/// The clock that retention uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedClock {
    /// Number of the newest record.
    seq: u64,
    trusted: Timestamp,
    /// The monotonic clock at `trusted`.
    at: Mono,
    /// The wall clock at `trusted`.
    wall: Timestamp,
    step: Option<Step>,
    is_unset: bool,
    /// There was a record, or the wall clock was set (CLK-5).
    is_known: bool,
}

/// Returns the largest difference that a start believes (CLK-3).
#[must_use]
pub fn start_max(shortest_retention: Option<Duration>) -> Duration {
    (shortest_retention.unwrap_or(RETENTION_ASSUMED) / 10).max(FOLLOWED_MAX)
}

/// Returns the instant before which rows are older than `retention`.
#[must_use]
pub fn cutoff(trusted_now: Timestamp, retention: Duration) -> Timestamp {
    trusted_now.minus(retention)
}

fn difference(later: Timestamp, earlier: Timestamp) -> i64 {
    later.as_micros().saturating_sub(earlier.as_micros())
}

fn is_within(difference: i64, bound: Duration) -> bool {
    difference.unsigned_abs() <= signed_micros(bound).unsigned_abs()
}

impl TrustedClock {
    /// Starts the clock: at the start of the process, or from a newer record. For `start_max` see CLK-3.
    #[must_use]
    pub fn start(record: Option<ClockRecord>, now: Reading, start_max: Duration) -> (Self, Option<News>) {
        let seq = record.map_or(0, |record| record.seq);
        let begin = |trusted: Timestamp, step| {
            let (is_unset, is_known) = (!now.is_set(), record.is_some() || now.is_set());
            Self { seq, trusted, at: now.boot, wall: now.wall, step, is_unset, is_known }
        };
        // CLK-6
        let is_trace_only =
            |record: &ClockRecord| record.seq == 0 && now.is_set() && record.trusted_at > now.wall;
        let record = record.filter(|record| !is_trace_only(record));
        let Some(record) = record else {
            let news = (!now.is_set()).then_some(News::Unset);
            return (begin(now.wall.max(Timestamp::CLOCK_SET_SINCE), None), news);
        };
        if !now.is_set() {
            return (begin(record.trusted_at, None), Some(News::Unset));
        }
        let by = difference(now.wall, record.trusted_at);
        if is_within(by, start_max) || now.synchronised {
            let is_news = record.step_held.is_some() || !is_within(by, start_max);
            let why = if now.synchronised { Reason::Synchronised } else { Reason::Agrees };
            return (begin(now.wall, None), is_news.then_some(News::Followed(by, why)));
        }
        let moved = difference(now.wall, record.wall_at);
        let (trusted, held) = match record.step_held {
            // The same step as before, and the process did not run for a while.
            Some(held) if is_within(moved, start_max) => {
                let off = Duration::from_micros(u64::try_from(moved).unwrap_or(0));
                (record.trusted_at.plus(off), held)
            }
            _ => (record.trusted_at, Duration::ZERO),
        };
        let offset = difference(now.wall, trusted);
        (begin(trusted, Some(Step { offset, held })), Some(News::StepWaits(offset)))
    }

    /// Returns the trusted time when the monotonic clock reads `boot`.
    #[must_use]
    pub fn now(&self, boot: Mono) -> Timestamp {
        self.trusted.plus(boot.since(self.at))
    }

    /// Takes a new reading. Returns each change once.
    pub fn tick(&mut self, now: Reading) -> Option<News> {
        let elapsed = now.boot.since(self.at);
        self.trusted = self.now(now.boot);
        (self.at, self.wall) = (now.boot, now.wall);
        if !now.is_set() {
            self.step = None;
            return (!std::mem::replace(&mut self.is_unset, true)).then_some(News::Unset);
        }
        let was_unset = std::mem::replace(&mut self.is_unset, false);
        let was_known = std::mem::replace(&mut self.is_known, true);
        let by = difference(now.wall, self.trusted);
        if !was_known || is_within(by, FOLLOWED_MAX) {
            let was_apart = self.step.is_some() || was_unset;
            self.follow(now.wall);
            return was_apart.then_some(News::Followed(by, Reason::Agrees));
        }
        if now.synchronised {
            self.follow(now.wall);
            return Some(News::Followed(by, Reason::Synchronised));
        }
        let same = self.step.filter(|step| is_within(by.saturating_sub(step.offset), FOLLOWED_MAX));
        let Some(step) = same else {
            self.step = Some(Step { offset: by, held: Duration::ZERO });
            return Some(News::StepWaits(by));
        };
        let held = step.held.saturating_add(elapsed);
        if held >= BELIEVED_AFTER {
            self.follow(now.wall);
            return Some(News::Followed(by, Reason::Held));
        }
        self.step = Some(Step { held, ..step });
        None
    }

    fn follow(&mut self, wall: Timestamp) {
        (self.trusted, self.step) = (wall, None);
    }

    /// Returns how far the wall clock is ahead of the trusted time (behind, if negative), in microseconds, while it is not
    /// believed.
    #[must_use]
    pub fn step(&self) -> Option<i64> {
        self.step.map(|_| difference(self.wall, self.trusted))
    }

    /// Returns whether the wall clock was never set (CLK-4).
    #[must_use]
    pub const fn is_unset(&self) -> bool {
        self.is_unset
    }

    /// Returns the state at the newest reading; `None` while no time is known (CLK-5).
    #[must_use]
    pub fn record(&self) -> Option<ClockRecord> {
        self.is_known.then(|| ClockRecord {
            seq: self.seq,
            trusted_at: self.trusted,
            wall_at: self.wall,
            step_held: self.step.map(|step| step.held),
        })
    }

    /// Returns the same under the next number.
    pub fn next_record(&mut self) -> Option<ClockRecord> {
        self.seq += u64::from(self.is_known);
        self.record()
    }
}
