//! Named periods: the last hour, today, yesterday. A day begins at the site's midnight, so it has 23 or 25 hours when
//! the clocks change.

use chrono::{Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;

use crate::domain::Timestamp;

/// A named period that ends now or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The last seconds, as many as given.
    Last(i64),
    /// Since midnight.
    Today,
    /// The day before.
    Yesterday,
}

impl Window {
    /// Every window of the API with its name. The first is the default.
    pub const ALL: [(&'static str, Self); 5] = [
        ("1h", Self::Last(3_600)),
        ("1m", Self::Last(60)),
        ("24h", Self::Last(86_400)),
        ("today", Self::Today),
        ("yesterday", Self::Yesterday),
    ];

    /// Returns the window's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, window)| *window == self).map_or("", |(name, _)| name)
    }

    /// Returns the start (inclusive) and the end (exclusive).
    pub fn range(self, now: Timestamp, zone: Tz) -> (Timestamp, Timestamp) {
        let date = now.to_chrono().with_timezone(&zone).date_naive();
        match self {
            Self::Last(seconds) => {
                (Timestamp::from_micros(now.as_micros().saturating_sub(seconds * 1_000_000)), now)
            }
            Self::Today => (midnight(date, zone), now),
            Self::Yesterday => {
                let before = date.checked_sub_days(Days::new(1)).unwrap_or(date);
                (midnight(before, zone), midnight(date, zone))
            }
        }
    }
}

/// Returns the first instant of the day. Where clocks go forward at midnight, that is the end of the gap.
pub fn midnight(date: NaiveDate, zone: Tz) -> Timestamp {
    let mut local = NaiveDateTime::new(date, NaiveTime::MIN);
    // No gap of any zone is longer than a day (Samoa skipped one).
    for _ in 0..=24 * 4 {
        if let Some(instant) = zone.from_local_datetime(&local).earliest() {
            return Timestamp::from(instant.to_utc());
        }
        local += TimeDelta::minutes(15);
    }
    Timestamp::from(date.and_time(NaiveTime::MIN).and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from(chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc())
    }

    #[test]
    fn days_begin_at_the_sites_midnight() {
        let hours = |window: Window, now: &str, zone: Tz| {
            let (from, to) = window.range(at(now), zone);
            (from.to_string(), to.since(from).as_secs_f64() / 3600.0)
        };
        let berlin = chrono_tz::Europe::Berlin;
        // Put forward on 29 March, back on 25 October.
        let (from, length) = hours(Window::Yesterday, "2026-03-30T10:00:00Z", berlin);
        assert_eq!((from.as_str(), length), ("2026-03-28T23:00:00.000000Z", 23.0));
        let (from, length) = hours(Window::Yesterday, "2026-10-26T10:00:00Z", berlin);
        assert_eq!((from.as_str(), length), ("2026-10-24T22:00:00.000000Z", 25.0));
        let (from, length) = hours(Window::Today, "2026-03-29T10:00:00Z", berlin);
        assert_eq!((from.as_str(), length), ("2026-03-28T23:00:00.000000Z", 11.0));
        // In Berlin 23:30 UTC is already the next day.
        let (from, _) = hours(Window::Today, "2026-07-01T23:30:00Z", berlin);
        assert_eq!(from, "2026-07-01T22:00:00.000000Z");
        // Cuba puts its clocks forward at midnight: the day begins at one o'clock.
        let (from, _) = hours(Window::Today, "2026-03-08T20:00:00Z", chrono_tz::America::Havana);
        assert_eq!(from, "2026-03-08T05:00:00.000000Z");
        // Samoa had no 30 December 2011.
        let (from, length) = hours(Window::Yesterday, "2011-12-31T10:00:00Z", chrono_tz::Pacific::Apia);
        assert!(length <= 24.0, "{from} {length}");
    }

    #[test]
    fn the_last_minutes_end_now() {
        let (from, to) = Window::Last(60).range(at("2026-07-01T00:00:30Z"), chrono_tz::UTC);
        assert_eq!((from, to), (at("2026-06-30T23:59:30Z"), at("2026-07-01T00:00:30Z")));
        for (name, window) in Window::ALL {
            assert_eq!(window.name(), name);
        }
    }
}
