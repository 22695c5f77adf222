//! The time range of a page, and the periods of its statistics.

use std::time::Duration;

use chrono_tz::Tz;

use crate::domain::{Timestamp, word_enum};
use crate::http::window::Window as Period;

word_enum! {
    /// How far back the charts go. The word is the value of `?range=`.
    #[derive(Default)]
    pub enum Lookback {
        /// One hour.
        #[default]
        Hour = "1h",
        /// 24 hours.
        Day = "24h",
        /// 7 days.
        Week = "7d",
        /// 30 days.
        Month = "30d",
    }
}

impl Lookback {
    /// Returns the range in words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Hour => "1 hour",
            Self::Day => "24 hours",
            Self::Week => "7 days",
            Self::Month => "30 days",
        }
    }

    /// Parses the value of `?range=`. Anything else is the default.
    pub fn parse(text: Option<&str>) -> Self {
        text.and_then(Self::from_word).unwrap_or_default()
    }

    /// Returns the length of the range.
    pub const fn length(self) -> Duration {
        const HOUR: u64 = 60 * 60;
        Duration::from_secs(match self {
            Self::Hour => HOUR,
            Self::Day => 24 * HOUR,
            Self::Week => 7 * 24 * HOUR,
            Self::Month => 30 * 24 * HOUR,
        })
    }

    /// Returns the length of a chart's bucket in seconds: a few hundred points per chart.
    pub const fn bucket_seconds(self) -> u32 {
        match self {
            Self::Hour => 15,
            Self::Day => 5 * 60,
            Self::Week => 30 * 60,
            Self::Month => 2 * 60 * 60,
        }
    }

    /// Returns the length of a row of the chart's table in seconds.
    pub const fn row_seconds(self) -> u32 {
        self.bucket_seconds() * 12
    }
}

/// A period with statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The period's name.
    pub name: &'static str,
    /// Start, inclusive.
    pub from: Timestamp,
    /// End, exclusive.
    pub to: Timestamp,
}

/// Returns the last minute and hour, and the site's today and yesterday.
pub fn windows(now: Timestamp, zone: Tz) -> [Window; 4] {
    // Include values that were just measured by a clock that is slightly ahead.
    let soon = now.plus(Duration::from_secs(5));
    let named = [
        ("Last minute", Period::Last(60)),
        ("Last hour", Period::Last(60 * 60)),
        ("Today", Period::Today),
        ("Yesterday", Period::Yesterday),
    ];
    named.map(|(name, period)| {
        let (from, to) = period.range(now, zone);
        Window { name, from, to: if to == now { soon } else { to } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::Berlin;

    fn instant(text: &str) -> Timestamp {
        Timestamp::from(chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc())
    }

    #[test]
    fn today_and_yesterday_are_the_sites_days_also_when_clocks_change() {
        let [.., today, yesterday] = windows(instant("2026-10-26T05:00:00Z"), Berlin);
        assert_eq!(
            (today.from, today.to),
            (instant("2026-10-25T23:00:00Z"), instant("2026-10-26T05:00:05Z"))
        );
        assert_eq!((yesterday.from, yesterday.to), (instant("2026-10-24T22:00:00Z"), today.from));
    }

    #[test]
    fn every_lookback_has_a_few_hundred_points() {
        for lookback in Lookback::ALL {
            let points = lookback.length().as_secs() / u64::from(lookback.bucket_seconds());
            assert!((200..=400).contains(&points), "{lookback:?}: {points}");
            assert_eq!(Lookback::parse(Some(lookback.as_str())), lookback);
        }
        assert_eq!(Lookback::parse(Some("1000y")), Lookback::Hour);
    }
}
