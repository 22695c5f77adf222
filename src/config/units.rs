//! Reads and writes durations (`"15s"`, `"1h30m"`) and sizes (`"64MiB"`, `"10MB"`) as people write them.

use std::time::Duration;

/// The units of sizes; decimal and binary ones differ.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("kb", 1000),
    ("mb", 1000 * 1000),
    ("gb", 1000 * 1000 * 1000),
    ("tb", 1000 * 1000 * 1000 * 1000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Reads a duration. A number without unit is refused, except 0.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// Reads a size in bytes: a whole number, with an optional unit (in any case, space allowed).
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    let bytes = match unit.as_str() {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(bytes)
}

/// Writes a size in the largest binary unit that divides it, or else in the largest decimal unit that does.
pub(super) fn show_size(bytes: u64) -> String {
    const SHOWN: [(u64, &str); 8] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    let unit = SHOWN.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::duration_text;

    #[test]
    fn durations_need_a_unit_and_may_be_composed() {
        let table = [
            ("15s", Some(15_000)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            (" 2 min ", Some(120_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("15", None),
            ("-1s", None),
            ("1.5s", Some(1_500)),
            ("", None),
            ("s", None),
            ("99999999999999999999s", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn decimal_and_binary_sizes_differ_and_nothing_overflows() {
        let table = [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64MiB", Some(64 << 20)),
            ("10MB", Some(10_000_000)),
            ("1 gib", Some(1 << 30)),
            ("7b", Some(7)),
            ("1TB", Some(1_000_000_000_000)),
            ("64M", None),
            ("1.5GiB", None),
            ("-1", None),
            ("", None),
            ("MiB", None),
            ("99999999999TiB", None),
            ("18446744073709551616", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }

    #[test]
    fn written_sizes_and_durations_read_back_as_the_same() {
        for bytes in [0, 1, 999, 1000, 1023, 1024, 1 << 20, 3 << 30, 5 << 40, 10_000_000, 1_000_001, u64::MAX]
        {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes), "{bytes}");
        }
        assert_eq!((show_size(16 << 20), show_size(10_000_000)), ("16MiB".to_owned(), "10MB".to_owned()));
        let odd = Duration::new(1, 2_003_004);
        assert_eq!(parse_duration(&duration_text::exact(odd)), Some(odd));
        for millis in [0, 1, 250, 1000, 90_000, 86_400_000, 864_000_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&duration_text::exact(duration)), Some(duration), "{millis}");
        }
    }
}
