//! Parsers of arguments, whose errors say what is allowed.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::domain::Timestamp;

/// Reads a duration such as `15s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a duration, such as 250ms, 15s or 7d".to_owned())
}

/// Reads a duration from `min` to `max`; `allowed` names both.
pub(super) fn duration_within(
    text: &str,
    min: Duration,
    max: Duration,
    allowed: &str,
) -> Result<Duration, String> {
    let duration = duration(text)?;
    let is_allowed = (min..=max).contains(&duration);
    is_allowed.then_some(duration).ok_or_else(|| format!("expected a duration from {allowed}"))
}

/// Reads a whole number that fits its type.
pub(super) fn whole_number<N: FromStr>(text: &str) -> Result<N, String> {
    text.trim().parse().map_err(|_| "expected a whole number".to_owned())
}

/// Reads a UTC date or instant, or an instant with an offset.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(Timestamp::from_micros(instant.timestamp_micros()));
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0));
    local.map(|instant| Timestamp::from_micros(instant.and_utc().timestamp_micros())).ok_or_else(|| {
        "expected a date or an instant, such as 2026-11-22 or 2026-11-22T10:00:00Z (UTC)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_allowed() {
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("soon"), Err("expected a duration, such as 250ms, 15s or 7d".to_owned()));
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(duration_within("1m", min, max, "1s to 1m"), Ok(max));
        assert_eq!(
            duration_within("61s", min, max, "1s to 1m"),
            Err("expected a duration from 1s to 1m".to_owned())
        );
        assert_eq!(whole_number("7"), Ok(7_i64));
        assert_eq!(whole_number::<i64>("x"), Err("expected a whole number".to_owned()));
    }

    #[test]
    fn instants_are_dates_or_times_in_utc_or_with_an_offset() {
        let at = |text| instant(text).unwrap().to_string();
        assert_eq!(at("2026-11-22"), "2026-11-22T00:00:00.000000Z");
        assert_eq!(at("2026-11-22 10:00"), "2026-11-22T10:00:00.000000Z");
        assert_eq!(at("2026-11-22T10:00:00.5"), "2026-11-22T10:00:00.500000Z");
        assert_eq!(at("2026-11-22T10:00:00+02:00"), "2026-11-22T08:00:00.000000Z");
        assert!(instant("yesterday").is_err());
    }
}
