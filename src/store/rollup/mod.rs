//! Rollups: figures of five minutes, and what a batch adds to them.
//!
//! A site's rollups are exact from [`exact`] `exact_from` on; before it charts are computed from the readings.
//!
//! Invariants
//! - **ROL-1** Each bucket that begins at `exact_from` or later holds exactly the readings that are stored. A reading and what it adds to its
//!   bucket are one transaction, and only a reading that was really inserted adds. Readings before an instant are deleted in a
//!   transaction that moves `exact_from` to the end of that instant's bucket, so no bucket from there on ever loses one.
//! - **ROL-2** `exact_from` only moves forward. What is before it may be deleted, added to, or half there: nobody reads it any more.
//!
//! That is all, on PostgreSQL under READ COMMITTED, too:
//! - Two that add to one bucket: the second waits for the row of the first and adds to what it left, for `ON CONFLICT DO UPDATE` goes by
//!   the newest row. Both go by the order of the keys, within a table and from `machine_rollup` to `machine_rollup_extra`, so they
//!   never wait in a circle.
//! - Who adds never touches `machine_rollup_exact`; who deletes takes that row first, and of the buckets only those that nobody is
//!   adding to (`SKIP LOCKED`). A bucket that is deleted while somebody waits to add to it is made anew, before `exact_from`.
//! - A chart is one statement ([`rolled`](super::history)), and so sees each of those transactions whole or not at all.

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
/// What is beyond this is no measurement, and would overflow a sum.
pub const MEASUREMENT_MAX: f64 = 1e150;
/// Numeric fields of one `extra`; a reading with more of them leaves its fields out.
pub const EXTRA_FIELDS_MAX: usize = 8;
/// Characters of such a field's name.
pub const FIELD_CHARS_MAX: usize = 100;

/// Where the bucket of `instant`, as it is stored, begins.
pub fn bucket_start(instant: Timestamp) -> Timestamp {
    let micros = SqlInstant(instant).stored_micros();
    Timestamp::from_micros(micros - micros.rem_euclid(BUCKET_MICROS))
}

/// Statistics of some values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    /// How many.
    pub count: i64,
    /// The smallest; `None` if there are none.
    pub min: Option<f64>,
    /// The largest; `None` if there are none.
    pub max: Option<f64>,
    /// Of all.
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

/// What is to be added to one row of `machine_rollup`.
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

/// A reading, as far as buckets are concerned.
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

/// Whose bucket, and where it begins in microseconds since 1970.
pub type BucketKey<'a> = (&'a str, i64);
/// The same, and a field of `extra`.
pub type ExtraKey<'a> = (&'a str, i64, Cow<'a, str>);

/// What readings add to their buckets.
#[derive(Debug, Default)]
pub struct Rollup<'a> {
    buckets: HashMap<BucketKey<'a>, BucketSums, RandomState>,
    extras: HashMap<ExtraKey<'a>, Statistics, RandomState>,
}

impl<'a> Rollup<'a> {
    /// Counts a reading that was stored.
    pub fn add(&mut self, reading: impl Into<Measured<'a>>) {
        let reading = reading.into();
        let machine_id = reading.machine_id;
        let start = bucket_start(reading.recorded_at).as_micros();
        let tally = self.buckets.entry((machine_id, start)).or_default();
        tally.readings += 1;
        tally.temperature.add(reading.temperature);
        tally.humidity.add(reading.humidity);
        tally.vibration.add(reading.vibration);
        match reading.extra.map(numbers::numbers_of) {
            None => {}
            Some(None) => tally.extra_left_out += 1,
            Some(Some(numbers)) => {
                for (field, value) in numbers.into_iter().filter(|(_, value)| value.abs() <= MEASUREMENT_MAX)
                {
                    self.extras.entry((machine_id, start, field)).or_default().add(Some(value));
                }
            }
        }
    }

    /// The buckets, in the order of their keys: two writers never wait for each other in a circle.
    pub fn buckets(&self) -> Vec<(BucketKey<'a>, BucketSums)> {
        sorted(&self.buckets)
    }

    /// The fields of `extra`, in the order of their keys.
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
    fn a_bucket_has_five_minutes_and_the_figures_of_its_readings() {
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
