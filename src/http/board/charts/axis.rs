//! The axes: labels at round times, and a value range with a margin.

use chrono::{DateTime, Duration, NaiveTime, TimeZone, Timelike as _};

use crate::domain::Timestamp;

use super::Point;

/// Most labels of a time axis, in case a step is far too short for its span.
const LABELS_MAX: usize = 40;

/// Distance between two labels: minutes counted from midnight, or days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Minutes(u32),
    Days(u32),
}

/// Returns about `wanted` label positions between `from` and `to`, with their texts in the site's time.
pub fn time_labels<Z: TimeZone>(
    from: Timestamp,
    to: Timestamp,
    zone: &Z,
    wanted: u32,
) -> Vec<(Timestamp, String)>
where
    Z::Offset: std::fmt::Display,
{
    let step = step_for(to.since(from).as_secs() / 60, wanted);
    let mut labels = Vec::new();
    let mut at = midnight_before(from.to_chrono().with_timezone(zone));
    // Step day by day, because not every local day has 24 hours.
    let mut day_number = 0;
    while Timestamp::from(at.to_utc()) < to && labels.len() < LABELS_MAX {
        match step {
            Step::Minutes(minutes) => {
                for minute in (0..24 * 60).step_by(minutes as usize) {
                    let time = NaiveTime::from_num_seconds_from_midnight_opt(minute * 60, 0);
                    let local = time.and_then(|time| at.with_time(time).earliest());
                    labels.extend(local.map(|local| (Timestamp::from(local.to_utc()), clock(&local))));
                }
            }
            Step::Days(days) => {
                if day_number % days == 0 {
                    labels.push((Timestamp::from(at.to_utc()), at.format("%-d %b").to_string()));
                }
            }
        }
        labels.retain(|(instant, _)| *instant >= from && *instant < to);
        day_number += 1;
        at = next_midnight(at);
    }
    labels
}

fn clock<Z: TimeZone>(local: &DateTime<Z>) -> String {
    format!("{:02}:{:02}", local.hour(), local.minute())
}

/// Returns the smallest step that needs no more than `wanted` labels.
fn step_for(span_minutes: u64, wanted: u32) -> Step {
    const MINUTES: [u32; 9] = [5, 10, 15, 30, 60, 120, 180, 360, 720];
    const DAYS: [u32; 5] = [1, 2, 5, 10, 30];
    let wanted = u64::from(wanted.max(1));
    let fits = |minutes: u64| span_minutes / minutes <= wanted;
    let minutes = MINUTES.into_iter().find(|minutes| fits(u64::from(*minutes))).map(Step::Minutes);
    // Half days suit spans of up to three days only.
    let minutes = minutes.filter(|step| span_minutes <= 3 * 24 * 60 || *step != Step::Minutes(720));
    minutes.unwrap_or_else(|| {
        let days = DAYS.into_iter().find(|days| fits(u64::from(*days) * 24 * 60));
        Step::Days(days.unwrap_or(30))
    })
}

/// Returns the first instant of the local day.
fn midnight_before<Z: TimeZone>(at: DateTime<Z>) -> DateTime<Z> {
    // Where clocks go forward at midnight, the day begins at one o'clock.
    let first = |hour| NaiveTime::from_hms_opt(hour, 0, 0).and_then(|time| at.with_time(time).earliest());
    first(0).or_else(|| first(1)).unwrap_or_else(|| at.clone())
}

/// Returns the first instant of the next local day.
fn next_midnight<Z: TimeZone>(midnight: DateTime<Z>) -> DateTime<Z> {
    midnight_before(midnight + Duration::hours(26))
}

/// Returns the range of values with a margin. It is never empty.
pub fn value_range(points: &[Point]) -> std::ops::Range<f64> {
    let low = points.iter().map(|point| point.min).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|point| point.max).fold(f64::NEG_INFINITY, f64::max);
    if !(low.is_finite() && high.is_finite()) {
        return 0.0..1.0;
    }
    let room = (high - low) * 0.08;
    // A minimum margin, for values that are equal or nearly so.
    let least = (low.abs().max(high.abs()) * 0.005).max(1e-6);
    let room = if room.is_finite() { room.max(least) } else { 0.0 };
    let range = (low - room).max(f64::MIN / 4.0)..(high + room).min(f64::MAX / 4.0);
    if range.start < range.end { range } else { 0.0..1.0 }
}

/// Returns the shortest label that still distinguishes neighbours.
pub fn value_label(value: f64, range: &std::ops::Range<f64>) -> String {
    let span = range.end - range.start;
    let largest = range.start.abs().max(range.end.abs());
    if !(1e-4..1e7).contains(&largest) {
        let decimals = (largest.log10() - span.log10()).floor().clamp(0.0, 3.0) as usize + 1;
        return format!("{value:.decimals$e}");
    }
    let decimals = (1.0 - span.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    // Print -0.0 as 0.0.
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        text.replace('-', "")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::Berlin;

    fn instant(text: &str) -> Timestamp {
        Timestamp::from(DateTime::parse_from_rfc3339(text).unwrap().to_utc())
    }

    fn texts(from: &str, to: &str, wanted: u32) -> Vec<String> {
        time_labels(instant(from), instant(to), &Berlin, wanted).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn an_hour_is_labelled_with_round_minutes() {
        let labels = texts("2026-11-22T10:07:00Z", "2026-11-22T11:07:00Z", 6);
        assert_eq!(labels, ["11:10", "11:20", "11:30", "11:40", "11:50", "12:00"]);
    }

    #[test]
    fn a_day_is_labelled_in_the_sites_time() {
        let labels = texts("2026-11-21T22:30:00Z", "2026-11-22T22:30:00Z", 8);
        assert_eq!(labels, ["00:00", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00"]);
    }

    #[test]
    fn days_are_labelled_at_local_midnight_also_when_the_clocks_change() {
        // In Berlin the 25th of October 2026 has 25 hours.
        let from = instant("2026-10-22T12:00:00Z");
        let labels = time_labels(from, instant("2026-10-29T12:00:00Z"), &Berlin, 8);
        let expected = ["23 Oct", "24 Oct", "25 Oct", "26 Oct", "27 Oct", "28 Oct", "29 Oct"];
        assert_eq!(labels.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(labels[2].0, instant("2026-10-24T22:00:00Z"));
        assert_eq!(labels[3].0, instant("2026-10-25T23:00:00Z"));
    }

    #[test]
    fn every_span_has_few_labels() {
        for minutes in [1, 60, 24 * 60, 7 * 24 * 60, 30 * 24 * 60] {
            let from = instant("2026-01-31T23:59:59Z");
            let to = from.plus(std::time::Duration::from_secs(minutes * 60));
            assert!(time_labels(from, to, &Berlin, 8).len() <= 9, "{minutes} minutes");
        }
    }

    #[test]
    fn a_range_of_values_is_never_empty() {
        let point =
            |value| Point { at: Timestamp::from_micros(0), min: value, mean: value, max: value, count: 1 };
        for value in [0.0, 20.0, -1e300, 1e-300, f64::MAX, f64::MIN] {
            let range = value_range(&[point(value)]);
            assert!(range.start < range.end && range.start.is_finite() && range.end.is_finite(), "{value}");
        }
        let widest = value_range(&[point(f64::MIN), point(f64::MAX)]);
        assert!((widest.end - widest.start).is_finite());
        assert_eq!(value_range(&[]), 0.0..1.0);
    }

    #[test]
    fn labels_have_just_enough_decimals_to_differ() {
        assert_eq!(value_label(60.25, &(55.0..65.0)), "60");
        assert_eq!(value_label(60.25, &(60.0..61.0)), "60.2");
        assert_eq!(value_label(0.0512, &(0.05..0.06)), "0.051");
        assert_eq!(value_label(-0.0001, &(-1.0..1.0)), "0.0");
        assert_eq!(value_label(1.5e9, &(0.0..2e9)), "1.5e9");
        assert_eq!(value_label(1.2345e9, &(1.23e9..1.24e9)), "1.234e9");
    }
}
