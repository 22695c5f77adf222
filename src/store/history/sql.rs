//! The text of queries that are the same on both databases, or differ only in an expression.

use super::range::Order;

use super::EXTRA_LISTED_BYTES_MAX;

/// The columns of a reading `t` without its `extra`.
const MEASURED: &str =
    "t.recorded_at, t.digest, t.received_at, t.temperature, t.humidity, t.vibration, t.time_source";
const EXTRA: &str = "CAST(t.extra AS text) AS extra";

/// The `extra` in a list: a large one is replaced by its size and never leaves the database. `bytes` is its
/// length.
fn listed_extra(bytes: &str) -> String {
    format!(
        "CASE WHEN {bytes} > {EXTRA_LISTED_BYTES_MAX} THEN '{{\"_bytes\":' || {bytes} || '}}' \
         ELSE CAST(t.extra AS text) END AS extra"
    )
}

/// `$1` site, `$2` machine, `$3` and `$4` the first key, `$5` and `$6` the end of the range, exclusive, `$7`
/// limit.
pub fn readings(order: Order) -> String {
    let direction = match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    format!(
        "SELECT {MEASURED}, {EXTRA} FROM machine_telemetry t WHERE t.site = $1 AND t.machine_id = $2 \
         AND (t.recorded_at, t.digest) >= ($3, $4) AND (t.recorded_at, t.digest) < ($5, $6) \
         ORDER BY t.recorded_at {direction}, t.digest {direction} LIMIT $7"
    )
}

/// `$1` site, `$2` machine.
pub fn latest_of() -> String {
    format!(
        "SELECT t.machine_id, {MEASURED}, {EXTRA} FROM machine_telemetry t WHERE t.site = $1 AND t.machine_id = $2 \
         ORDER BY t.recorded_at DESC, t.digest DESC LIMIT 1"
    )
}

/// `$1` site. SQLite knows no LATERAL; CROSS JOIN keeps the order of the tables there.
pub fn latest_on_sqlite() -> String {
    // SQLite finds the length of a text without reading it.
    let extra = listed_extra("octet_length(t.extra)");
    format!(
        "SELECT m.machine_id, {MEASURED}, {extra} FROM machine m CROSS JOIN machine_telemetry t ON t.id = ( \
             SELECT n.id FROM machine_telemetry n WHERE n.site = m.site AND n.machine_id = m.machine_id \
             ORDER BY n.recorded_at DESC, n.digest DESC LIMIT 1) \
         WHERE m.site = $1"
    )
}

/// `$1` site.
pub fn latest_on_postgres() -> String {
    let extra = listed_extra("octet_length(CAST(t.extra AS text))");
    format!(
        "SELECT m.machine_id, t.* FROM machine m CROSS JOIN LATERAL ( \
             SELECT {MEASURED}, {extra} FROM machine_telemetry t WHERE t.site = m.site AND t.machine_id = m.machine_id \
             ORDER BY t.recorded_at DESC, t.digest DESC LIMIT 1) t \
         WHERE m.site = $1"
    )
}

const EVENT: &str = "SELECT e.id, e.machine_id, e.status, e.previous_status, e.reason, e.occurred_at, e.last_seen_at \
     FROM machine_event e WHERE e.site = $1";

/// `$1` site, `$2` start of the range, `$3` and `$4` its end, exclusive, `$5` the machine if `of_machine`.
pub fn events_within(of_machine: bool, limit: u32) -> String {
    let of_machine = if of_machine { "AND e.machine_id = $5" } else { "" };
    format!(
        "{EVENT} AND e.occurred_at >= $2 AND (e.occurred_at, e.id) < ($3, $4) {of_machine} \
         ORDER BY e.occurred_at DESC, e.id DESC LIMIT {limit}"
    )
}

/// `$1` site, `$2` the end of the ids, exclusive, `$3` the machine if `of_machine`.
///
/// With `e.id < $2` alone SQLite would walk through the ids of other sites.
pub fn events_recorded(of_machine: bool, limit: u32) -> String {
    let before = if of_machine { "e.id < $2 AND e.machine_id = $3" } else { "(e.site, e.id) < ($1, $2)" };
    format!("{EVENT} AND {before} ORDER BY e.id DESC LIMIT {limit}")
}

/// The first machine behind a text that has readings.
pub const MACHINE_WITH_READINGS: &str = "SELECT machine_id FROM machine_telemetry WHERE site = $1 AND machine_id > $2 \
     ORDER BY machine_id LIMIT 1";

/// `$1` site, `$2` machine, `$3` start of the range, `$4` its end, exclusive, `$5` how many readings to skip.
pub const ONE_TOO_MANY: &str = "SELECT t.recorded_at FROM machine_telemetry t WHERE t.site = $1 AND t.machine_id = $2 \
     AND t.recorded_at >= $3 AND t.recorded_at < $4 ORDER BY t.recorded_at LIMIT 1 OFFSET $5";

/// The expressions of the bucket query that differ between the databases.
pub struct Dialect {
    /// Whole seconds since 1970 of `t.recorded_at`.
    pub epoch_seconds: &'static str,
    /// The number in the field `$5` of `r.extra`; NULL if it is no number, or too large for a double.
    pub extra_number: &'static str,
    /// NULL as a double.
    pub no_number: &'static str,
    /// An expression for an instant, clamped to `$4` and `$5`.
    pub clamped: fn(&str) -> String,
    /// The end, exclusive, of the rollup that begins at `b.bucket_start`.
    pub bucket_end: &'static str,
    /// A joined query may refer to tables before it.
    pub has_lateral: bool,
    /// A table `w` with a column `value`: the texts of the JSON array `$2`.
    pub texts: &'static str,
}

/// A larger value is no measurement, and would overflow a sum.
pub const MEASUREMENT_MAX: &str = "1e150";

/// `$1` site, `$2` machine, `$3` start of the range, `$4` its end, exclusive, `$5` the field of extra, if
/// any. Parameters must appear in this order.
pub fn buckets(dialect: &Dialect, bucket_seconds: Option<u32>, with_extra: bool) -> String {
    let start = match bucket_seconds {
        // No stored reading is older than 1970, so the division rounds down.
        Some(seconds) => format!("({} / {seconds}) * {seconds}", dialect.epoch_seconds),
        None => "0".to_owned(),
    };
    let (extra_column, extra) =
        if with_extra { (", t.extra", dialect.extra_number) } else { ("", dialect.no_number) };
    let statistics = ["temperature", "humidity", "vibration", "extra"].map(|name| {
        let value = format!("CASE WHEN abs({name}) <= {MEASUREMENT_MAX} THEN {name} END");
        format!(
            "min({value}) AS {name}_min, avg({value}) AS {name}_mean, max({value}) AS {name}_max, \
             count({value}) AS {name}_count"
        )
    });
    let (start_column, grouped) = grouping(bucket_seconds);
    format!(
        "WITH r AS (SELECT CAST({start} AS bigint) AS start_seconds, t.temperature, t.humidity, t.vibration{extra_column} \
             FROM machine_telemetry t WHERE t.site = $1 AND t.machine_id = $2 \
             AND t.recorded_at >= $3 AND t.recorded_at < $4), \
         n AS (SELECT r.start_seconds, r.temperature, r.humidity, r.vibration, {extra} AS extra FROM r) \
         SELECT {start_column}, count(*) AS readings, {} FROM n {grouped}",
        statistics.join(", ")
    )
}

/// Returns the column of a bucket's start, and the clauses after FROM. Without a length the range is one
/// bucket.
pub fn grouping(bucket_seconds: Option<u32>) -> (&'static str, &'static str) {
    match bucket_seconds {
        Some(_) => ("start_seconds", "GROUP BY start_seconds ORDER BY start_seconds"),
        None => ("CAST(0 AS bigint) AS start_seconds", ""),
    }
}

/// `$1` site, `$2` a JSON array of machine ids, `$3` start of the range, `$4` its end, exclusive.
pub fn trends(dialect: &Dialect, step_seconds: u32) -> String {
    let start = format!("({} / {step_seconds}) * {step_seconds}", dialect.epoch_seconds);
    let means = ["temperature", "humidity", "vibration"]
        .map(|name| format!("avg(CASE WHEN abs(t.{name}) <= {MEASUREMENT_MAX} THEN t.{name} END) AS {name}"));
    if dialect.has_lateral {
        // With another join PostgreSQL walks through the index of all machines for a few of them.
        return format!(
            "SELECT w.value AS machine_id, g.* FROM {} CROSS JOIN LATERAL ( \
             SELECT CAST({start} AS bigint) AS start_seconds, {} FROM machine_telemetry t \
             WHERE t.site = $1 AND t.machine_id = w.value AND t.recorded_at >= $3 AND t.recorded_at < $4 GROUP BY 1) g \
             ORDER BY 1, 2",
            dialect.texts,
            means.join(", ")
        );
    }
    // CROSS JOIN keeps this order on SQLite: for each machine a walk along the index.
    format!(
        "SELECT t.machine_id, CAST({start} AS bigint) AS start_seconds, {} \
         FROM (SELECT CAST($1 AS text) AS site) s CROSS JOIN {} CROSS JOIN machine_telemetry t \
         WHERE t.site = s.site AND t.machine_id = w.value AND t.recorded_at >= $3 AND t.recorded_at < $4 \
         GROUP BY 1, 2 ORDER BY 1, 2",
        means.join(", "),
        dialect.texts
    )
}

/// Returns the dialect of a database, for tests of query plans.
#[cfg(test)]
pub fn dialect(is_sqlite: bool) -> Dialect {
    if is_sqlite { super::sqlite::DIALECT } else { super::postgres::DIALECT }
}
