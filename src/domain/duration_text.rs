//! Prints durations as a person writes them: the one place that does. Configuration reads them back
//! (`config::units`).

use std::time::Duration;

/// Writes every unit that is not zero, from days to nanoseconds: `37s`, `1h30m`, `250ms`.
///
/// The text has no space, so it can be pasted into a configuration file, and reads back as the same duration.
#[must_use]
pub fn exact(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
        (u64::from(duration.subsec_micros() % 1_000), "us"),
        (u64::from(duration.subsec_nanos() % 1_000), "ns"),
    ];
    let written: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if written.is_empty() { "0s".to_owned() } else { written }
}

/// Writes the two largest units, in whole seconds: `7s`, `12m 5s`, `2h 13m`, `3d 4h`.
///
/// For ages and forecasts, which are not known to the second.
#[must_use]
pub fn rounded(duration: Duration) -> String {
    const DAY: u64 = 86_400;
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..DAY => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / DAY, seconds % DAY / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_durations_name_every_unit_in_use() {
        let table = [
            (Duration::ZERO, "0s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_secs(37), "37s"),
            (Duration::from_secs(5_400), "1h30m"),
            (Duration::from_secs(65_535), "18h12m15s"),
            (Duration::from_secs(36_500 * 86_400), "36500d"),
            (Duration::new(1, 2_003_004), "1s2ms3us4ns"),
        ];
        for (duration, text) in table {
            assert_eq!(exact(duration), text);
        }
    }

    #[test]
    fn rounded_durations_have_at_most_two_units() {
        let texts = [0, 59, 725, 7_999, 90_000].map(|seconds| rounded(Duration::from_secs(seconds)));
        assert_eq!(texts, ["0s", "59s", "12m 5s", "2h 13m", "1d 1h"]);
    }
}
