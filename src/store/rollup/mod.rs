//! Figures of five minutes: what a batch adds to them, and how they are made up for readings that were stored before there were any.
//!
//! Before `filled_from` of the site figures are computed from the rows. Filling goes from the newest rows back, step by step
//! ([`fill`]), each bucket computed anew from its rows.
//!
//! Invariants
//! - **S8** From `filled_from` of the site on, each bucket holds exactly the readings that are stored: what is added to it is
//!   committed with the rows, what is deleted makes `filled_from` move in the transaction that deletes.
//! - **S9** While a step of filling looks at a site, nobody else who adds to its buckets, or deletes its readings, commits. Else
//!   a row that is committed after the step cleared a bucket, and before it reads the rows, is in the bucket and is counted
//!   again; and a row that is deleted after the step has counted it stays in a bucket that `filled_from` then vouches for.
//!   SQLite has one writer at a time. PostgreSQL has an advisory lock a site, kept until the end of the transaction: who adds
//!   shares it (with each other), a step or a deletion has it alone.
//!   1. The step takes it in a statement of its own, before the first one that reads: each statement sees what was committed
//!      when it began, so one that waits for the lock itself would not see what it waited for.
//!   2. Who adds takes it with the statement that adds, after all its readings are inserted. Whoever has it then commits before
//!      the step reads, and its rows are counted; whoever has not adds when the step is over, to what it left. (An `ON CONFLICT`
//!      goes by the newest row there is, not by what the statement saw when it began.)
//!   3. Nobody waits in a circle: who shares the lock inserts no reading any more, and before that it has no bucket; who has it
//!      alone waits for nothing that somebody without it can have.
//! - **S10** A step ends only if the buckets it leaves count as many readings as it read. Whoever adds without the lock (an Andon
//!   of before it, or a person) and is committed meanwhile makes them differ, and the step is undone. Such an Andon deletes and fills
//!   under a lock of the table `machine_rollup_filled`, which is asked for, too: they exclude each other. One that knows no buckets
//!   at all must not write any more when filling begins.

pub mod fill;
mod numbers;

use std::borrow::Cow;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::schema::Moment;
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
    let micros = Moment(instant).stored_micros();
    Timestamp::from_micros(micros - micros.rem_euclid(BUCKET_MICROS))
}

/// Figures of some values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// How many.
    pub count: i64,
    /// The smallest; `None` if there are none.
    pub min: Option<f64>,
    /// The largest; `None` if there are none.
    pub max: Option<f64>,
    /// Of all.
    pub sum: f64,
}

impl Figures {
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
pub struct Tally {
    /// Readings.
    pub readings: i64,
    /// Of `temperature`.
    pub temperature: Figures,
    /// Of `humidity`.
    pub humidity: Figures,
    /// Of `vibration`.
    pub vibration: Figures,
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
    buckets: HashMap<BucketKey<'a>, Tally, RandomState>,
    extras: HashMap<ExtraKey<'a>, Figures, RandomState>,
    /// Bytes of the names in the keys of `extras`.
    names_bytes: usize,
}

impl<'a> Rollup<'a> {
    /// Counts a reading that was stored.
    pub fn add(&mut self, reading: impl Into<Measured<'a>>) {
        let reading = reading.into();
        self.count(reading.machine_id, reading, |name| name);
    }

    /// Counts a reading of `machine_id` that is not kept: names in its `extra` are copied.
    pub fn add_passing(&mut self, machine_id: &'a str, reading: Measured<'_>) {
        self.count(machine_id, reading, |name| Cow::Owned(name.into_owned()));
    }

    fn count<'r>(
        &mut self,
        machine_id: &'a str,
        reading: Measured<'r>,
        kept: impl Fn(Cow<'r, str>) -> Cow<'a, str>,
    ) {
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
                    let (name_bytes, fields) = (field.len(), self.extras.len());
                    self.extras.entry((machine_id, start, kept(field))).or_default().add(Some(value));
                    self.names_bytes += if self.extras.len() > fields { name_bytes } else { 0 };
                }
            }
        }
    }

    /// Bytes of memory that it takes, about.
    pub fn size(&self) -> usize {
        self.buckets.len() * size_of::<(BucketKey<'_>, Tally)>()
            + self.extras.len() * size_of::<(ExtraKey<'_>, Figures)>()
            + self.names_bytes
    }

    /// The buckets, in the order of their keys: two writers never wait for each other in a circle.
    pub fn buckets(&self) -> Vec<(BucketKey<'a>, Tally)> {
        sorted(&self.buckets)
    }

    /// The fields of `extra`, in the order of their keys.
    pub fn extras(&self) -> Vec<(ExtraKey<'a>, Figures)> {
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
        let temperature = Figures { count: 2, min: Some(-1.5), max: Some(7.0), sum: 5.5 };
        assert_eq!((second.temperature, second.humidity), (temperature, Figures::default()));
        let pressure = Figures { count: 2, min: Some(2.0), max: Some(3.0), sum: 5.0 };
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
