//! Wall-clock instants.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// An instant in UTC as whole microseconds since 1970-01-01T00:00:00Z, the resolution of both databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 2025-01-01T00:00:00Z. A clock before this was never set: a dead battery, or the uptime of a device.
    pub const CLOCK_SET_SINCE: Self = Self(1_735_689_600_000_000);

    /// Converts microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns `self` plus a duration, cut to whole microseconds; saturates at the ends of the range.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(signed_micros(duration)))
    }

    /// Returns `self` minus a duration, cut to whole microseconds; saturates at the ends of the range.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(signed_micros(duration)))
    }

    /// Returns the time from `earlier` to `self`; zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Converts to chrono's type; instants outside its range become the epoch.
    #[must_use]
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

/// Returns a duration in whole microseconds; saturates.
pub fn signed_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant.timestamp_micros())
    }
}

/// RFC 3339 with microseconds and `Z`, as in every message Andon publishes or prints.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_chrono().format("%Y-%m-%dT%H:%M:%S%.6fZ").fmt(f)
    }
}
