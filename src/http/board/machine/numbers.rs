//! Numbers, times and words for people. `format.js` does the same for live values.

use chrono_tz::Tz;

use crate::domain::{DisplayStatus, Timestamp};

/// Formats a number: three significant digits below ten, one decimal below a thousand, none above.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(0.0005..1e9).contains(&size) => format!("{value:.1e}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats day and time in the site's time zone.
pub fn date_and_time(at: Timestamp, zone: Tz) -> String {
    at.to_chrono().with_timezone(&zone).format("%-d %b %Y, %H:%M:%S").to_string()
}

/// Returns the word for a state.
pub const fn word(status: DisplayStatus) -> &'static str {
    match status {
        DisplayStatus::Online => "Online",
        DisplayStatus::Offline => "Offline",
        DisplayStatus::Unknown => "Unknown",
        DisplayStatus::NeverSeen => "Never seen",
    }
}

/// Describes why a machine changed. Returns an unknown reason as it is.
pub fn reason_in_words(reason: &str) -> &str {
    match reason {
        "first_seen" => "first message ever",
        "message" => "sends again",
        "silence" => "silent",
        "last_will" => "disconnected (last will)",
        "never_seen" => "expected, never heard from",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_useful_precision() {
        let texts = [0.0, 0.05123, 4.5678, 61.27, -999.94, 1234.5, 123_456_789.0, 1e9, 1e-9].map(number);
        assert_eq!(
            texts,
            ["0", "0.051", "4.57", "61.3", "-999.9", "1,234", "123,456,789", "1.0e9", "1.0e-9"]
        );
    }
}
