//! Time: the wall clock for labels, a monotonic clock for every decision, the trusted time for what may be deleted.
//!
//! The wall clock of a plant PC jumps (NTP, a technician, a dead battery), so only labels may depend on it. Durations and
//! deadlines are measured on the monotonic clock, the age of stored rows on the [`trusted`] time.
//!
//! ```text
//! mod       the clocks themselves; the trusted time overrules a wall clock that was never set
//! trusted   which steps of the wall clock the trusted time follows: pure
//! kernel    asks the kernel whether the wall clock is synchronised
//! file      the record beside the journal
//! keeper    the trusted time of this process: checks the clocks, stores and reports
//! ```

mod file;
mod keeper;
pub mod kernel;
pub mod trusted;
#[cfg(test)]
mod trusted_tests;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::{Timestamp, signed_micros};

pub use self::file::ClockFile;
pub use self::keeper::{ClockKeeper, ClockStatus, reading_now};

/// An instant on the monotonic clock: microseconds since the first use of the clock in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// Returns the time from `earlier` to `self`; zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The time of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The wall clock, or the trusted time if the wall clock is known to be far behind.
    pub at: Timestamp,
    /// The wall clock was never set, or is far behind: `at` may be late by as long as the machine was off, and a device's
    /// clock is better.
    pub clock_unset: bool,
}

/// Trusted time minus [`boot_now`] in microseconds; `i64::MIN` if this process keeps no trusted time.
static TRUSTED_MINUS_BOOT: AtomicI64 = AtomicI64::new(i64::MIN);
/// The trusted time overrules a wall clock that is further behind than this, in microseconds.
static BEHIND_MAX: AtomicI64 = AtomicI64::new(i64::MAX);

/// Returns the current time in UTC by the wall clock; by the trusted time while the wall clock is known to be far behind.
#[must_use]
pub fn wall_now() -> Timestamp {
    receipt_now().at
}

/// Returns the same, and whether the wall clock can be used.
#[must_use]
pub fn receipt_now() -> Receipt {
    let wall = system_now();
    let offset = TRUSTED_MINUS_BOOT.load(Ordering::Relaxed);
    if offset == i64::MIN {
        return Receipt { at: wall, clock_unset: wall < Timestamp::CLOCK_SET_SINCE };
    }
    let boot = i64::try_from(boot_now().0).unwrap_or(i64::MAX);
    overruled(wall, Timestamp::from_micros(boot.saturating_add(offset)), BEHIND_MAX.load(Ordering::Relaxed))
}

fn overruled(wall: Timestamp, trusted: Timestamp, behind_max: i64) -> Receipt {
    let is_behind = trusted.as_micros().saturating_sub(wall.as_micros()) > behind_max;
    let clock_unset = is_behind || wall < Timestamp::CLOCK_SET_SINCE;
    Receipt { at: if clock_unset { trusted } else { wall }, clock_unset }
}

/// Lets the trusted time, which is `trusted` when the monotonic clock reads `boot`, overrule [`wall_now`] from here on if the
/// wall clock is more than `behind_max` behind.
fn publish(trusted: Timestamp, boot: Mono, behind_max: Duration) {
    BEHIND_MAX.store(signed_micros(behind_max), Ordering::Relaxed);
    let boot = i64::try_from(boot.0).unwrap_or(i64::MAX);
    TRUSTED_MINUS_BOOT.store(trusted.as_micros().saturating_sub(boot), Ordering::Relaxed);
}

/// Returns the system's wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn system_now() -> Timestamp {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => signed_micros(since),
        Err(before) => -signed_micros(before.duration()),
    };
    Timestamp::from_micros(micros + turned_by())
}

/// Lets a test turn the wall clock of one process, not the machine's: failpoint `clock::offset=return(<file>)` names a file
/// with the microseconds to add, which the test rewrites.
#[cfg(feature = "failpoints")]
fn turned_by() -> i64 {
    fail_point!("clock::offset", |file: Option<String>| {
        let text = std::fs::read_to_string(file.unwrap_or_default()).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    });
    0
}

#[cfg(not(feature = "failpoints"))]
const fn turned_by() -> i64 {
    0
}

/// Returns the current instant of the monotonic clock.
#[must_use]
pub fn mono_now() -> Mono {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
    Mono(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

/// Returns the clock that also counts while the machine sleeps. Its origin differs from [`mono_now`]'s.
fn boot_now() -> Mono {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Mono(seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(now.tv_nsec / 1_000).unwrap_or(0)))
}

impl From<Duration> for Mono {
    /// Returns the instant that far after the clock's origin; also used as a length of time.
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_was_never_set_or_is_far_behind_is_overruled() {
        let hour = 3_600_000_000;
        let trusted = Timestamp::from_micros(Timestamp::CLOCK_SET_SINCE.as_micros() + 1_000 * hour);
        let back = |micros| Timestamp::from_micros(trusted.as_micros() - micros);
        let table = [
            (Timestamp::from_micros(7), true),
            (back(trusted.as_micros() - Timestamp::CLOCK_SET_SINCE.as_micros()), true),
            (back(10 * hour + 1), true),
            (back(10 * hour), false),
            (back(0), false),
            (back(-9_000 * hour), false),
        ];
        for (wall, clock_unset) in table {
            let at = if clock_unset { trusted } else { wall };
            assert_eq!(overruled(wall, trusted, 10 * hour), Receipt { at, clock_unset }, "{wall}");
        }
    }
}
