//! Statistics from rollups of five minutes; from the readings at the edges of a range and before the site's
//! rollups are exact.
//!
//! One statement reads both, so that it sees one state of the database.

use super::BucketsQuery;
use super::sql::{Dialect, MEASUREMENT_MAX, grouping};
use crate::domain::Timestamp;
use crate::store::rollup::{BUCKET_MICROS, BUCKET_SECONDS, bucket_start};

/// Returns the start and the end of the whole rollups within the range of `query`. `None` if there are none,
/// or if the length of its buckets is no multiple of theirs: then the readings answer.
pub fn whole_buckets(query: &BucketsQuery) -> Option<(Timestamp, Timestamp)> {
    let is_multiple = query.bucket_seconds.is_none_or(|seconds| seconds % BUCKET_SECONDS == 0);
    let mut first = bucket_start(query.from);
    if first < query.from {
        first = Timestamp::from_micros(first.as_micros().saturating_add(BUCKET_MICROS));
    }
    let end = bucket_start(query.to);
    (is_multiple && first < end).then_some((first, end))
}

/// The measurements; `machine_rollup` has columns for each.
const MEASUREMENTS: [&str; 3] = ["temperature", "humidity", "vibration"];

/// `$1` site, `$2` machine, `$3` start of the range, `$4` and `$5` start and end of the whole rollups, `$6`
/// end of the range, exclusive, `$7` the field of extra, if any. Parameters must appear in this order.
pub fn buckets(dialect: &Dialect, bucket_seconds: Option<u32>, with_extra: bool) -> String {
    let start_of = |instant: &str| {
        let epoch_seconds = dialect.epoch_seconds.replace("t.recorded_at", instant);
        bucket_seconds.map_or("CAST(0 AS bigint)".to_owned(), |seconds| {
            format!("CAST(({epoch_seconds} / {seconds}) * {seconds} AS bigint)")
        })
    };
    let exact_from = exact_from(dialect);
    let (extra_column, extra) = if with_extra {
        (", t.extra", dialect.extra_number.replace("$5", "$7"))
    } else {
        ("", dialect.no_number.to_owned())
    };
    let row = format!(
        "SELECT {} AS start_seconds, t.temperature, t.humidity, t.vibration{extra_column} FROM machine_telemetry t \
         WHERE t.site = $1 AND t.machine_id = $2",
        start_of("t.recorded_at")
    );
    let extra_branches =
        if with_extra { extra_branches(dialect, &start_of("b.bucket_start")) } else { String::new() };
    format!(
        "WITH r AS ({row} AND t.recorded_at >= $3 AND t.recorded_at < {exact_from} \
             UNION ALL {row} AND t.recorded_at >= $5 AND t.recorded_at < $6), \
         n AS (SELECT r.start_seconds, r.temperature, r.humidity, r.vibration, {extra} AS extra FROM r), \
         b AS (SELECT b.*, {} AS start_seconds FROM machine_rollup b WHERE b.site = $1 AND b.machine_id = $2 \
             AND b.bucket_start >= {exact_from} AND b.bucket_start < $5), \
         p AS (SELECT n.start_seconds, 1 AS readings, {} FROM n \
             UNION ALL SELECT b.start_seconds, b.readings, {} FROM b{extra_branches}) \
         SELECT {}, CAST(coalesce(sum(readings), 0) AS bigint) AS readings, {} FROM p {}",
        start_of("b.bucket_start"),
        values_of_a_reading(&[&MEASUREMENTS[..], &["extra"]].concat(), ""),
        values_of_a_rollup(dialect),
        grouping(bucket_seconds).0,
        totals(),
        grouping(bucket_seconds).1,
    )
}

/// From where on the whole rollups are exact: `$5` at the latest.
fn exact_from(dialect: &Dialect) -> String {
    (dialect.clamped)(
        "(SELECT coalesce(max(f.exact_from), '9999-12-31 00:00:00.000000+00:00') FROM machine_rollup_exact f \
         WHERE f.site = $1)",
    )
}

/// Selects the field's rollups, and the readings of those rollups that left out the fields of a reading.
fn extra_branches(dialect: &Dialect, start: &str) -> String {
    let none: Vec<String> = MEASUREMENTS.iter().map(|name| no_values(dialect, name)).collect();
    let none = none.join(", ");
    let number = dialect.extra_number.replace("$5", "$7").replace("r.extra", "t.extra");
    let start_of_extra = start.replace("b.bucket_start", "e.bucket_start");
    format!(
        " UNION ALL SELECT {start_of_extra}, 0, {none}, e.value_min, e.value_max, e.value_sum, e.value_count \
         FROM machine_rollup_extra e WHERE e.site = $1 AND e.machine_id = $2 AND e.field = $7 \
         AND e.bucket_start >= (SELECT min(b.bucket_start) FROM b) AND e.bucket_start < $5 \
         AND e.bucket_start NOT IN (SELECT b.bucket_start FROM b WHERE b.extra_left_out > 0) \
         UNION ALL SELECT x.start_seconds, 0, {none}, {} FROM (SELECT b.start_seconds, {number} AS extra \
             FROM b CROSS JOIN machine_telemetry t WHERE b.extra_left_out > 0 AND t.site = $1 AND t.machine_id = $2 \
             AND t.recorded_at >= b.bucket_start AND t.recorded_at < {}) x",
        values_of_a_reading(&["extra"], "x."),
        dialect.bucket_end
    )
}

/// Minimum, maximum, sum and count of each value of a reading.
fn values_of_a_reading(names: &[&str], of: &str) -> String {
    let values: Vec<String> = names
        .iter()
        .map(|name| {
            let value = format!("CASE WHEN abs({of}{name}) <= {MEASUREMENT_MAX} THEN {of}{name} END");
            format!(
                "{value} AS {name}_min, {value} AS {name}_max, {value} AS {name}_sum, \
                 CASE WHEN abs({of}{name}) <= {MEASUREMENT_MAX} THEN 1 ELSE 0 END AS {name}_count"
            )
        })
        .collect();
    values.join(", ")
}

fn values_of_a_rollup(dialect: &Dialect) -> String {
    let columns =
        MEASUREMENTS.map(|name| format!("b.{name}_min, b.{name}_max, b.{name}_sum, b.{name}_count"));
    format!("{}, {}", columns.join(", "), no_values(dialect, "extra"))
}

fn no_values(dialect: &Dialect, name: &str) -> String {
    let none = dialect.no_number;
    format!("{none} AS {name}_min, {none} AS {name}_max, {none} AS {name}_sum, 0 AS {name}_count")
}

fn totals() -> String {
    let totals: Vec<String> = [&MEASUREMENTS[..], &["extra"]]
        .concat()
        .iter()
        .map(|name| {
            format!(
                "min({name}_min) AS {name}_min, sum({name}_sum) / nullif(sum({name}_count), 0) AS {name}_mean, \
                 max({name}_max) AS {name}_max, CAST(coalesce(sum({name}_count), 0) AS bigint) AS {name}_count"
            )
        })
        .collect();
    totals.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MachineId;

    #[test]
    fn only_whole_rollups_within_the_range_count() {
        let query = |from: i64, to: i64, bucket_seconds: Option<u32>| BucketsQuery {
            machine_id: MachineId::parse("m").unwrap(),
            from: Timestamp::from_micros(from),
            to: Timestamp::from_micros(to),
            bucket_seconds,
            extra: None,
        };
        let whole = |from, to, bucket_seconds| {
            whole_buckets(&query(from, to, bucket_seconds))
                .map(|(first, end)| (first.as_micros() / BUCKET_MICROS, end.as_micros() / BUCKET_MICROS))
        };
        let bucket = BUCKET_MICROS;
        assert_eq!(whole(bucket, 3 * bucket, None), Some((1, 3)));
        assert_eq!(whole(bucket - 1, 3 * bucket - 1, None), Some((1, 2)));
        assert_eq!(whole(bucket + 1, 3 * bucket + 1, Some(600)), Some((2, 3)));
        assert_eq!(whole(bucket + 1, 3 * bucket - 1, None), None, "no whole one");
        assert_eq!(whole(0, 9 * bucket, Some(60)), None, "minutes are not made of five minutes");
        assert_eq!(whole(9 * bucket, 0, None), None);
    }
}
