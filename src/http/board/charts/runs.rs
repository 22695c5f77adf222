//! Points of a measurement: where the line breaks, and how to merge points.

use std::time::Duration;

use crate::domain::{Timestamp, signed_micros};

/// The statistics of a bucket. All numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Start of the bucket.
    pub at: Timestamp,
    /// The smallest value.
    pub min: f64,
    /// The mean of all values.
    pub mean: f64,
    /// The largest value.
    pub max: f64,
    /// The number of values.
    pub count: u64,
}

/// Splits `points` (in order of time) where neighbours are further apart than `gap_max`.
pub fn runs(points: &[Point], gap_max: Duration) -> impl Iterator<Item = &[Point]> {
    points.chunk_by(move |before, after| after.at.since(before.at) <= gap_max)
}

/// Returns the largest distance between neighbours that is not a gap: two and a half times the usual one. A machine that
/// sends every two minutes fills every fourth half-minute bucket, which is no gap.
pub fn gap_max(points: &[Point], bucket: Duration) -> Duration {
    let mut steps: Vec<_> = points.windows(2).map(|pair| pair[1].at.since(pair[0].at)).collect();
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).copied().unwrap_or(bucket);
    usual.max(bucket) * 5 / 2
}

/// Merges points into buckets of length `bucket`, for a readable table.
pub fn merge_into_buckets(points: &[Point], bucket: Duration) -> Vec<Point> {
    let width = signed_micros(bucket).max(1);
    let bucket_of = |point: &Point| point.at.as_micros().div_euclid(width);
    points
        .chunk_by(|a, b| bucket_of(a) == bucket_of(b))
        .map(|chunk| {
            let count: u64 = chunk.iter().map(|point| point.count).sum();
            // Weight each mean by its count. Dividing first keeps large values from overflowing.
            let weighed = |point: &Point| point.mean * (point.count as f64 / count.max(1) as f64);
            Point {
                at: Timestamp::from_micros(bucket_of(&chunk[0]) * width),
                min: chunk.iter().map(|point| point.min).fold(f64::INFINITY, f64::min),
                mean: chunk.iter().map(weighed).sum(),
                max: chunk.iter().map(|point| point.max).fold(f64::NEG_INFINITY, f64::max),
                count,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(seconds: &[i64]) -> Vec<Point> {
        let point = |at: &i64| Point {
            at: Timestamp::from_micros(at * 1_000_000),
            min: *at as f64 - 1.0,
            mean: *at as f64,
            max: *at as f64 + 1.0,
            count: 1,
        };
        seconds.iter().map(point).collect()
    }

    /// Proves CHT-1.
    #[test]
    fn the_line_breaks_where_data_is_missing() {
        let points = points(&[0, 30, 60, 300, 330]);
        let gap = gap_max(&points, Duration::from_secs(30));
        let lengths: Vec<_> = runs(&points, gap).map(<[Point]>::len).collect();
        assert_eq!(lengths, [3, 2]);
    }

    #[test]
    fn a_machine_that_sends_rarely_has_no_gaps() {
        let points = points(&[0, 120, 240, 390, 480]);
        assert_eq!(runs(&points, gap_max(&points, Duration::from_secs(30))).count(), 1);
    }

    #[test]
    fn merged_points_keep_extremes_and_weighted_means() {
        let mut points = points(&[0, 30, 60]);
        points[0].count = 3;
        let joined = merge_into_buckets(&points, Duration::from_secs(60));
        assert_eq!(joined.len(), 2);
        assert_eq!((joined[0].min, joined[0].max, joined[0].count), (-1.0, 31.0, 4));
        assert!((joined[0].mean - 7.5).abs() < 1e-9);
        assert_eq!(joined[1].at, Timestamp::from_micros(60_000_000));
    }
}
