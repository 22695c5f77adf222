//! Instants as SQLite keeps them: text `YYYY-MM-DD HH:MM:SS.ffffff+00:00`, always UTC and 32 bytes, so that
//! text order is time order. chrono's `format` would cost more than inserting the row.

use chrono::DateTime;
use diesel::expression::AsExpression;

use super::schema::{Instant, SqlInstant};
use crate::domain::Timestamp;

const LENGTH: usize = 32;
const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// The text of one instant, on the stack.
#[derive(Debug, Clone, Copy, AsExpression)]
#[diesel(sql_type = Instant)]
pub struct InstantText([u8; LENGTH]);

impl InstantText {
    /// Writes `instant`. Years outside 0001 to 9999 become the nearest instant inside.
    pub fn new(instant: SqlInstant) -> Self {
        let micros = instant.stored_micros();
        let seconds = micros.div_euclid(MICROS_PER_SECOND);
        let fraction = micros.rem_euclid(MICROS_PER_SECOND);
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);

        let mut text = *b"0000-00-00 00:00:00.000000+00:00";
        put(&mut text[0..4], year);
        put(&mut text[5..7], month);
        put(&mut text[8..10], day);
        put(&mut text[11..13], second_of_day / 3_600);
        put(&mut text[14..16], second_of_day / 60 % 60);
        put(&mut text[17..19], second_of_day % 60);
        put(&mut text[20..26], fraction);
        Self(text)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII digits and punctuation are written")
    }
}

/// Writes `number` right-aligned in decimal. It must not be negative, and fit.
fn put(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Returns year, month and day of the proleptic Gregorian calendar for days since 1970-01-01. Counts in
/// 400-year eras that start on 1 March (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Parses what [`InstantText`] wrote, or any RFC 3339 text with an offset that a person put in its place.
pub fn parse_instant(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|instant| Timestamp::from(instant.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::super::schema::{INSTANT_MICROS_MAX, INSTANT_MICROS_MIN};
    use super::*;

    fn written(micros: i64) -> String {
        InstantText::new(SqlInstant(Timestamp::from_micros(micros))).as_str().to_owned()
    }

    #[test]
    fn every_instant_reads_as_chrono_writes_it_and_parses_back() {
        let day = SECONDS_PER_DAY * MICROS_PER_SECOND;
        // A step of 1.37 days walks through every day of the year, leap years and century years.
        let walk = (-800_000..3_000_000).step_by(97).map(|n: i64| n * (day + 31_968_123_457) + n);
        let edges =
            [0, -1, 1, 951_782_399_999_999, 951_782_400_000_000, INSTANT_MICROS_MIN, INSTANT_MICROS_MAX];
        for micros in walk.chain(edges) {
            if !(INSTANT_MICROS_MIN..=INSTANT_MICROS_MAX).contains(&micros) {
                continue;
            }
            let instant = Timestamp::from_micros(micros);
            let expected = instant.to_chrono().format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string();
            assert_eq!(written(micros), expected);
            assert_eq!(parse_instant(&expected), Some(instant), "{expected}");
        }
    }

    #[test]
    fn instants_outside_the_four_digit_years_are_clamped() {
        assert_eq!(written(i64::MIN), "0001-01-01 00:00:00.000000+00:00");
        assert_eq!(written(i64::MAX), "9999-12-31 23:59:59.999999+00:00");
    }
}
