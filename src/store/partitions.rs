//! What became of the partitions of the readings, where the database has any. Only PostgreSQL has.

use chrono::{Datelike, Months, NaiveTime};

use super::retention::PruneLimits;
use crate::domain::Timestamp;

/// A partition, or a chunk, that is gone with all of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedPart {
    /// Its name.
    pub name: String,
    /// Rows that it had, as the database's statistics estimate.
    pub rows: u64,
    /// They were recorded before this instant.
    pub ends: Timestamp,
}

/// What a round over the partitions did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartsTended {
    /// What remains to be deleted one by one.
    pub limits: PruneLimits,
    /// Partitions dropped.
    pub dropped: Vec<DroppedPart>,
    /// Partitions created ahead.
    pub created: Vec<String>,
    /// What could not be done, for a person.
    pub troubles: Vec<String>,
}

impl PartsTended {
    pub(super) fn unchanged(limits: &PruneLimits) -> Self {
        Self { limits: *limits, dropped: Vec::new(), created: Vec::new(), troubles: Vec::new() }
    }
}

/// Returns the starts of `count` months, from the one of `now` on, each with its name such as `2026_12`.
pub(super) fn month_starts(now: Timestamp, count: u32) -> Vec<(String, Timestamp)> {
    let now = now.to_chrono();
    let months = (0..count).filter_map(|ahead| {
        let start = now.date_naive().with_day(1)?.checked_add_months(Months::new(ahead))?;
        Some((start.format("%Y_%m").to_string(), start.and_time(NaiveTime::MIN).and_utc().into()))
    });
    months.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_where_the_calendar_says() {
        let starts = |micros: i64, count| -> Vec<String> {
            let months = month_starts(Timestamp::from_micros(micros), count);
            months.iter().map(|(name, start)| format!("{name} {start}")).collect()
        };
        let december = 1_796_083_200_000_000;
        let expected = [
            "2026_11 2026-11-01T00:00:00.000000Z",
            "2026_12 2026-12-01T00:00:00.000000Z",
            "2027_01 2027-01-01T00:00:00.000000Z",
        ];
        assert_eq!(starts(december - 1, 3), expected);
        assert_eq!(starts(december, 1), expected[1..2]);
    }
}
