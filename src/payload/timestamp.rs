//! When a reading was measured, according to the device.
//!
//! **ISO 8601**: `2025-11-22T10:11:12.123456Z`; also `t` or a space for `T`, `z`, an offset `+02:00`, `+0200` or `+02`,
//! none (UTC), a fraction of any length (cut to microseconds, `.` or `,`), no seconds, the basic form
//! `20251122T101112Z`, and a date alone (midnight UTC). The leap second `23:59:60` UTC reads as the second after it, as
//! in POSIX time; `:60` anywhere else is unreadable.
//!
//! **Unix time**: a number, or a string that holds one, with any fraction and exponent, read digit by digit and not through
//! a float. The unit follows from the magnitude, that is from the number of digits before the point: below
//! 10^11 seconds (until the year 5138), below 10^14 milliseconds, below 10^17 microseconds, below 10^20 nanoseconds.
//! (So a date without hyphens, `20251122`, reads as seconds in the year 1970, and is not used.)

use chrono::{Datelike, NaiveDate};

use crate::domain::Timestamp;

use super::fields::Use;
use super::json::Node;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Reads the timestamp, if it lies between [`Timestamp::CLOCK_SET_SINCE`] and `latest`, both included.
pub(super) fn read(node: &Node<'_>, latest: Timestamp) -> Use<Timestamp> {
    let read = match node {
        Node::Null => return Use::Nothing,
        Node::Number(text) => unix(text),
        Node::String(text) => match text.trim() {
            "" => return Use::Nothing,
            trimmed => instant(trimmed),
        },
        Node::Bool(_) | Node::Array(_) | Node::Object(_) => None,
    };
    match read {
        Some(instant) if Timestamp::CLOCK_SET_SINCE <= instant && instant <= latest => Use::Used(instant),
        _ => Use::Unusable,
    }
}

/// Reads a text as the rule of `timestamp` reads it, whatever instant it names: also one of before 2025, which a payload
/// may not have.
#[must_use]
pub fn instant(text: &str) -> Option<Timestamp> {
    let trimmed = text.trim();
    iso(trimmed).or_else(|| unix(trimmed))
}

/// Reads Unix time in the unit that its magnitude implies. `None` if it is not a plain decimal number, is negative, or has
/// more than 20 digits before the point.
fn unix(text: &str) -> Option<Timestamp> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_decimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_decimal(whole) || !is_decimal(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    // The value is 0.ddd… × 10^magnitude, the first d not 0.
    let leading_zeros = whole.bytes().chain(fraction.bytes()).take_while(|byte| *byte == b'0').count();
    let magnitude =
        i64::try_from(whole.len()).ok()? - i64::try_from(leading_zeros).ok()? + i64::from(exponent);
    let digits_per_microsecond = match magnitude {
        ..=11 => 6,
        12..=14 => 3,
        15..=17 => 0,
        18..=20 => -3,
        _ => return None,
    };
    let wanted = usize::try_from(magnitude + digits_per_microsecond).unwrap_or(0);
    let digits = whole.bytes().chain(fraction.bytes()).skip(leading_zeros).chain(std::iter::repeat(b'0'));
    let micros = digits.take(wanted).fold(0_i64, |micros, digit| micros * 10 + i64::from(digit - b'0'));
    Some(Timestamp::from_micros(micros))
}

/// Reads an ISO 8601 date, or date and time.
fn iso(text: &str) -> Option<Timestamp> {
    let mut rest = Cursor(text.as_bytes());
    let year = rest.digits(4)?;
    let extended = rest.eat(b"-").is_some();
    let month = rest.digits(2)?;
    if extended {
        rest.eat(b"-")?;
    }
    let day = rest.digits(2)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let days = i64::from(date.num_days_from_ce()) - EPOCH_DAYS_FROM_CE;
    if rest.0.is_empty() {
        return extended.then(|| Timestamp::from_micros(days * SECONDS_PER_DAY * MICROS_PER_SECOND));
    }
    rest.eat(b"Tt ")?;
    let time = time_of_day(&mut rest)?;
    let offset = offset(&mut rest)?;
    let seconds = days * SECONDS_PER_DAY + time.seconds - offset;
    if !rest.0.is_empty() || (time.leap && seconds.rem_euclid(SECONDS_PER_DAY) != 0) {
        return None;
    }
    Some(Timestamp::from_micros(seconds * MICROS_PER_SECOND + time.micros))
}

/// Days from 0001-01-01 (day 1) to 1970-01-01.
const EPOCH_DAYS_FROM_CE: i64 = 719_163;

struct TimeOfDay {
    seconds: i64,
    micros: i64,
    /// The second is 60: it must turn out to be the last of a UTC day.
    leap: bool,
}

fn time_of_day(rest: &mut Cursor<'_>) -> Option<TimeOfDay> {
    let hour = rest.digits(2)?;
    let extended = rest.eat(b":").is_some();
    let minute = rest.digits(2)?;
    let has_second = if extended { rest.eat(b":").is_some() } else { rest.next_is_digit() };
    let (second, micros) = if has_second { (rest.digits(2)?, rest.fraction()?) } else { (0, 0) };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Some(TimeOfDay { seconds, micros, leap: second == 60 })
}

/// Reads the offset, in seconds east of UTC; 0 if there is none.
fn offset(rest: &mut Cursor<'_>) -> Option<i64> {
    if rest.0.is_empty() || rest.eat(b"Zz").is_some() {
        return Some(0);
    }
    let sign = if rest.eat(b"+-")? == b'+' { 1 } else { -1 };
    let hour = rest.digits(2)?;
    let minute = if rest.eat(b":").is_some() || rest.next_is_digit() { rest.digits(2)? } else { 0 };
    if hour > 23 || minute > 59 {
        return None;
    }
    Some(sign * i64::from(hour * 3600 + minute * 60))
}

/// The bytes not yet read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Reads exactly `count` decimal digits (at most 9).
    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }

    /// Reads the next byte if it is one of `wanted`.
    fn eat(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !wanted.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    fn next_is_digit(&self) -> bool {
        self.0.first().is_some_and(u8::is_ascii_digit)
    }

    /// Reads a fraction of a second in microseconds and cuts further digits; 0 if there is none, `None` if it has no digits.
    fn fraction(&mut self) -> Option<i64> {
        if self.eat(b".,").is_none() {
            return Some(0);
        }
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(length)?;
        if digits.is_empty() {
            return None;
        }
        self.0 = rest;
        let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(6);
        Some(padded.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-22T10:11:12Z
    const T: i64 = 1_763_806_272_000_000;

    #[test]
    fn iso_8601_is_read_in_all_its_forms() {
        let midnight = T - (10 * 3600 + 11 * 60 + 12) * MICROS_PER_SECOND;
        let table = [
            ("2025-11-22T10:11:12Z", Some(T)),
            ("2025-11-22t10:11:12z", Some(T)),
            ("2025-11-22 10:11:12", Some(T)),
            ("2025-11-22T10:11:12", Some(T)),
            ("2025-11-22T12:11:12+02:00", Some(T)),
            ("2025-11-22T12:11:12+0200", Some(T)),
            ("2025-11-22T12:11:12+02", Some(T)),
            ("2025-11-22T04:41:12-05:30", Some(T)),
            ("2025-11-22T10:11:12.5Z", Some(T + 500_000)),
            ("2025-11-22T10:11:12,5Z", Some(T + 500_000)),
            ("2025-11-22T10:11:12.1234567Z", Some(T + 123_456)),
            ("2025-11-22T10:11:12.999999999999999999999999+00:00", Some(T + 999_999)),
            ("2025-11-22T10:11Z", Some(T - 12 * MICROS_PER_SECOND)),
            ("20251122T101112Z", Some(T)),
            ("20251122T101112.25+0000", Some(T + 250_000)),
            ("2025-11-22", Some(midnight)),
            ("2024-02-29", Some(1_709_164_800_000_000)),
            ("0000-01-01", Some(-62_167_219_200_000_000)),
            ("9999-12-31T23:59:59.999999Z", Some(253_402_300_799_999_999)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800_000_000)),
            ("2017-01-01T01:59:60.5+02:00", Some(1_483_228_800_500_000)),
            ("2025-11-22T10:11:60Z", None),
            ("2025-11-22T23:59:61Z", None),
            ("2025-02-29", None),
            ("2025-13-01", None),
            ("2025-11-22T24:00:00Z", None),
            ("2025-11-22T10:60:00Z", None),
            ("2025-11-22T10:11:12.Z", None),
            ("2025-11-22T10:11:12Z ", None),
            ("2025-11-22T10:11:12ZZ", None),
            ("2025-11-22T10:11:12+", None),
            ("2025-11-22T10:11:12+2", None),
            ("2025-11-22T10:11:12+24:00", None),
            ("2025-11-22T10:11:12+02:60", None),
            ("2025-11-22T", None),
            ("2025-11-22Z", None),
            ("2025-1-2", None),
            ("22.11.2025 10:11:12", None),
            ("20251122", None),
            ("1763806272", None),
            ("２０２５-11-22", None),
            ("-2025-11-22", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(iso(text).map(Timestamp::as_micros), expected, "{text}");
        }
    }

    #[test]
    fn unix_time_is_read_exactly_in_the_unit_its_magnitude_implies() {
        let table = [
            ("1763806272", Some(T)),
            ("1763806272.123", Some(T + 123_000)),
            ("1763806272.1234569", Some(T + 123_456)),
            ("1763806272.000001", Some(T + 1)),
            ("+1763806272", Some(T)),
            ("001763806272", Some(T)),
            ("1.763806272e9", Some(T)),
            ("1763806272000E-3", Some(T)),
            ("17638062720e-1", Some(T)),
            ("1763806272123", Some(T + 123_000)),
            ("1763806272123.456", Some(T + 123_456)),
            ("1763806272123456", Some(T + 123_456)),
            ("1763806272123456.9", Some(T + 123_456)),
            ("1763806272123456789", Some(T + 123_456)),
            // The borders of the units.
            ("99999999999", Some(99_999_999_999_000_000)),
            ("100000000000", Some(100_000_000_000_000)),
            ("99999999999999", Some(99_999_999_999_999_000)),
            ("100000000000000", Some(100_000_000_000_000)),
            ("99999999999999999", Some(99_999_999_999_999_999)),
            ("100000000000000000", Some(100_000_000_000_000)),
            ("99999999999999999999", Some(99_999_999_999_999_999)),
            ("100000000000000000000", None),
            ("0", Some(0)),
            ("0.0", Some(0)),
            ("0.000001", Some(1)),
            ("1e-7", Some(0)),
            ("1e-2147483648", Some(0)),
            ("0e2147483647", None),
            ("1e2147483647", None),
            ("1e99999999999", None),
            ("-1763806272", None),
            (".", None),
            ("e5", None),
            ("", None),
            ("1 763 806 272", None),
            ("1763806272s", None),
            ("0x69219a00", None),
            ("--1", None),
        ];
        for (text, expected) in table {
            assert_eq!(unix(text).map(Timestamp::as_micros), expected, "{text}");
        }
    }
}
