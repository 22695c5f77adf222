//! Rollups: statistics of five minutes, and what a batch adds to them.
//!
//! A site's rollups are exact from `exact_from` on ([`exact`]); before it charts are computed from the
//! readings.
//!
//! Invariants
//! - **ROL-1** Each bucket from `exact_from` on holds exactly the readings that are stored.
//! - **ROL-2** `exact_from` only moves forward; no chart reads a bucket before it.
//!
//! Why ROL-1 holds: a reading and what it adds to its bucket are one transaction, and only a reading that was
//! really inserted adds. The transaction that deletes readings before an instant moves `exact_from` to the
//! end of that instant's bucket, so no later bucket loses a reading. This suffices on PostgreSQL under READ
//! COMMITTED, too:
//! - Two writers of one bucket: the second waits for the row lock of the first and adds to its result,
//!   because `ON CONFLICT DO UPDATE` reads the newest row. Both lock in the order of the keys, within a table
//!   and from `machine_rollup` to `machine_rollup_extra`, so they never wait in a circle.
//! - A writer never locks `machine_rollup_exact`. A deletion locks that row first, and of the buckets only
//!   those that no writer holds (`SKIP LOCKED`). A bucket deleted while a writer waits for it is inserted
//!   again, before `exact_from`.
//! - A chart is one statement ([`rolled`](super::history)), so it sees each of those transactions whole or
//!   not at all.

pub mod exact;
mod numbers;

use std::borrow::Cow;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::schema::SqlInstant;
use crate::domain::{Reading, Timestamp};

/// Length of a bucket. Buckets begin at multiples of it since 1970.
pub const BUCKET_SECONDS: u32 = 300;
/// Length of a bucket in microseconds.
pub const BUCKET_MICROS: i64 = BUCKET_SECONDS as i64 * 1_000_000;
/// A larger value is no measurement, and would overflow a sum.
pub const MEASUREMENT_MAX: f64 = 1e150;
/// Numeric fields of one `extra`. The fields of a reading with more are left out.
pub const EXTRA_FIELDS_MAX: usize = 8;
/// Characters in the name of such a field.
pub const FIELD_CHARS_MAX: usize = 100;

/// Returns the start of the bucket of `instant` as it is stored.
pub fn bucket_start(instant: Timestamp) -> Timestamp {
    let micros = SqlInstant(instant).stored_micros();
    Timestamp::from_micros(micros - micros.rem_euclid(BUCKET_MICROS))
}

/// Statistics of some values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    /// How many values.
    pub count: i64,
    /// The smallest; `None` if there are none.
    pub min: Option<f64>,
    /// The largest; `None` if there are none.
    pub max: Option<f64>,
    /// Their sum.
    pub sum: f64,
}

impl Statistics {
    fn add(&mut self, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.abs() <= MEASUREMENT_MAX) else { return };
        self.count += 1;
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
        self.sum += value;
    }
}

/// What to add to one row of `machine_rollup`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BucketSums {
    /// Readings.
    pub readings: i64,
    /// Of `temperature`.
    pub temperature: Statistics,
    /// Of `humidity`.
    pub humidity: Statistics,
    /// Of `vibration`.
    pub vibration: Statistics,
    /// Readings whose fields of `extra` are left out.
    pub extra_left_out: i64,
}

/// The part of a reading that buckets hold.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    pub machine_id: &'a str,
    pub recorded_at: Timestamp,
    pub temperature: Option<f64>,
    pub humidity: Option<f64>,
    pub vibration: Option<f64>,
    pub extra: Option<&'a str>,
}

impl<'a> From<&'a Reading> for Measured<'a> {
    fn from(reading: &'a Reading) -> Self {
        Self {
            machine_id: reading.machine_id.as_str(),
            recorded_at: reading.recorded_at,
            temperature: reading.temperature,
            humidity: reading.humidity,
            vibration: reading.vibration,
            extra: reading.extra.as_deref(),
        }
    }
}

/// A bucket: its machine, and its start in microseconds since 1970.
pub type BucketKey<'a> = (&'a str, i64);
/// A bucket and a field of `extra`.
pub type ExtraKey<'a> = (&'a str, i64, Cow<'a, str>);

/// What readings add to their buckets.
#[derive(Debug, Default)]
pub struct Rollup<'a> {
    buckets: HashMap<BucketKey<'a>, BucketSums, RandomState>,
    extras: HashMap<ExtraKey<'a>, Statistics, RandomState>,
}

impl<'a> Rollup<'a> {
    /// Adds a reading that was stored.
    pub fn add(&mut self, reading: impl Into<Measured<'a>>) {
        let reading = reading.into();
        let machine_id = reading.machine_id;
        let start = bucket_start(reading.recorded_at).as_micros();
        let sums = self.buckets.entry((machine_id, start)).or_default();
        sums.readings += 1;
        sums.temperature.add(reading.temperature);
        sums.humidity.add(reading.humidity);
        sums.vibration.add(reading.vibration);
        match reading.extra.map(numbers::numbers_of) {
            None => {}
            Some(None) => sums.extra_left_out += 1,
            Some(Some(numbers)) => {
                for (field, value) in numbers.into_iter().filter(|(_, value)| value.abs() <= MEASUREMENT_MAX)
                {
                    self.extras.entry((machine_id, start, field)).or_default().add(Some(value));
                }
            }
        }
    }

    /// Returns the buckets in the order of their keys, so that two writers never wait in a circle.
    pub fn buckets(&self) -> Vec<(BucketKey<'a>, BucketSums)> {
        sorted(&self.buckets)
    }

    /// Returns the fields of `extra` in the order of their keys.
    pub fn extras(&self) -> Vec<(ExtraKey<'a>, Statistics)> {
        sorted(&self.extras)
    }
}

fn sorted<K: Clone + Ord + Hash, V: Copy>(map: &HashMap<K, V, RandomState>) -> Vec<(K, V)> {
    let mut rows: Vec<(K, V)> = map.iter().map(|(key, value)| (key.clone(), *value)).collect();
    rows.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(micros: i64, temperature: f64, extra: &str) -> Measured<'_> {
        Measured {
            machine_id: "m",
            recorded_at: Timestamp::from_micros(micros),
            temperature: Some(temperature),
            humidity: None,
            vibration: None,
            extra: Some(extra),
        }
    }

    #[test]
    fn a_bucket_has_five_minutes_and_the_statistics_of_its_readings() {
        let long_name = format!(r#"{{"{}":3}}"#, "x".repeat(101));
        let mut rollup = Rollup::default();
        rollup.add(measured(BUCKET_MICROS - 1, 4.0, "{}"));
        rollup.add(measured(BUCKET_MICROS, 7.0, r#"{"p":2,"huge":1e151}"#));
        rollup.add(measured(2 * BUCKET_MICROS - 1, -1.5, r#"{"p":3,"word":"5"}"#));
        rollup.add(measured(2 * BUCKET_MICROS - 1, 1e151, &long_name));
        let buckets = rollup.buckets();
        assert_eq!(buckets.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [("m", 0), ("m", BUCKET_MICROS)]);
        let second = buckets[1].1;
        assert_eq!((second.readings, second.extra_left_out), (3, 1));
        let temperature = Statistics { count: 2, min: Some(-1.5), max: Some(7.0), sum: 5.5 };
        assert_eq!((second.temperature, second.humidity), (temperature, Statistics::default()));
        let pressure = Statistics { count: 2, min: Some(2.0), max: Some(3.0), sum: 5.0 };
        assert_eq!(rollup.extras(), [(("m", BUCKET_MICROS, "p".into()), pressure)]);
    }

    #[test]
    fn buckets_begin_at_multiples_also_before_1970_and_at_the_end_of_time() {
        for (micros, start) in [(-1, -BUCKET_MICROS), (0, 0), (i64::MIN, -62_135_596_800_000_000)] {
            assert_eq!(bucket_start(Timestamp::from_micros(micros)).as_micros(), start);
        }
        assert_eq!(bucket_start(Timestamp::from_micros(i64::MAX)).as_micros() % BUCKET_MICROS, 0);
    }
}
