//! Time: the wall clock for labels, a monotonic clock for every decision.
//!
//! The wall clock of a plant PC jumps (NTP, a technician, a dead battery); nothing but a label
//! may depend on it. Durations and deadlines are measured on the monotonic clock.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// An instant on the monotonic clock: microseconds since the first use of the clock in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(pub u64);

/// The wall clock's present instant in UTC.
#[must_use]
pub fn wall_now() -> Timestamp {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    Timestamp::from_micros(micros + turned_by())
}

/// A test turns the wall clock of one process, without the machine's: failpoint `clock::offset=return(<file>)` names a file
/// that holds the microseconds to add, and that the test rewrites.
#[cfg(feature = "failpoints")]
fn turned_by() -> i64 {
    fail::fail_point!("clock::offset", |file: Option<String>| {
        let text = std::fs::read_to_string(file.unwrap_or_default()).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    });
    0
}

#[cfg(not(feature = "failpoints"))]
const fn turned_by() -> i64 {
    0
}

/// The monotonic clock's present instant.
#[must_use]
pub fn mono_now() -> Mono {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
    Mono(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

impl From<std::time::Duration> for Mono {
    /// The instant that far after the clock's origin; also used as a length of time.
    fn from(duration: std::time::Duration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}
