//! Adding to buckets, many in one statement.
//!
//! The rows are sent and locked in the order of their keys, so two processes of one site never wait in a
//! circle.

use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Nullable, Text};

use super::runs::RUN_BYTES_MAX;
use crate::domain::Timestamp;
use crate::store::batch::runs;
use crate::store::rollup::{BucketKey, BucketSums, ExtraKey, Rollup, Statistics};
use crate::store::schema::{Instant, SqlInstant};
use crate::store::statement::cached_statement;

cached_statement! {
    /// Adds to buckets.
    AddToBuckets on Pg, PgConnection:
    "INSERT INTO machine_rollup AS r (site, machine_id, bucket_start, readings, \
     temperature_count, temperature_min, temperature_max, temperature_sum, \
     humidity_count, humidity_min, humidity_max, humidity_sum, \
     vibration_count, vibration_min, vibration_max, vibration_sum, extra_left_out) SELECT " [site: Text = &'a str]
    ", u.* FROM unnest("
    [
        machine_ids: Array<Text> = Vec<&'a str>,
        bucket_starts: Array<Instant> = Vec<SqlInstant>,
        readings: Array<BigInt> = Vec<i64>,
        temperature_count: Array<BigInt> = Vec<i64>,
        temperature_min: Array<Nullable<Double>> = Vec<Option<f64>>,
        temperature_max: Array<Nullable<Double>> = Vec<Option<f64>>,
        temperature_sum: Array<Double> = Vec<f64>,
        humidity_count: Array<BigInt> = Vec<i64>,
        humidity_min: Array<Nullable<Double>> = Vec<Option<f64>>,
        humidity_max: Array<Nullable<Double>> = Vec<Option<f64>>,
        humidity_sum: Array<Double> = Vec<f64>,
        vibration_count: Array<BigInt> = Vec<i64>,
        vibration_min: Array<Nullable<Double>> = Vec<Option<f64>>,
        vibration_max: Array<Nullable<Double>> = Vec<Option<f64>>,
        vibration_sum: Array<Double> = Vec<f64>,
        extra_left_out: Array<BigInt> = Vec<i64>,
    ]
    ") AS u ON CONFLICT (site, machine_id, bucket_start) DO UPDATE SET readings = r.readings + excluded.readings, \
     temperature_count = r.temperature_count + excluded.temperature_count, \
     temperature_min = least(r.temperature_min, excluded.temperature_min), temperature_max = greatest(r.temperature_max, excluded.temperature_max), \
     temperature_sum = r.temperature_sum + excluded.temperature_sum, \
     humidity_count = r.humidity_count + excluded.humidity_count, \
     humidity_min = least(r.humidity_min, excluded.humidity_min), humidity_max = greatest(r.humidity_max, excluded.humidity_max), \
     humidity_sum = r.humidity_sum + excluded.humidity_sum, \
     vibration_count = r.vibration_count + excluded.vibration_count, \
     vibration_min = least(r.vibration_min, excluded.vibration_min), vibration_max = greatest(r.vibration_max, excluded.vibration_max), \
     vibration_sum = r.vibration_sum + excluded.vibration_sum, \
     extra_left_out = r.extra_left_out + excluded.extra_left_out"
}

cached_statement! {
    /// Adds to fields of `extra`.
    AddToExtras on Pg, PgConnection:
    "INSERT INTO machine_rollup_extra AS r (site, machine_id, bucket_start, field, value_count, value_min, value_max, \
     value_sum) SELECT " [site: Text = &'a str]
    ", u.* FROM unnest("
    [
        machine_ids: Array<Text> = Vec<&'a str>,
        bucket_starts: Array<Instant> = Vec<SqlInstant>,
        fields: Array<Text> = Vec<&'a str>,
        value_count: Array<BigInt> = Vec<i64>,
        value_min: Array<Nullable<Double>> = Vec<Option<f64>>,
        value_max: Array<Nullable<Double>> = Vec<Option<f64>>,
        value_sum: Array<Double> = Vec<f64>,
    ]
    ") AS u ON CONFLICT (site, machine_id, bucket_start, field) DO UPDATE SET \
     value_count = r.value_count + excluded.value_count, value_min = least(r.value_min, excluded.value_min), \
     value_max = greatest(r.value_max, excluded.value_max), value_sum = r.value_sum + excluded.value_sum"
}

/// Adds all of `rollup` (ROL-1), with at most `rows_max` rows by one statement.
pub fn add(
    connection: &mut PgConnection,
    site: &str,
    rollup: &Rollup<'_>,
    rows_max: usize,
) -> QueryResult<()> {
    for run in runs(&rollup.buckets(), rows_max, RUN_BYTES_MAX, |_| 0) {
        connection.execute_returning_count(&AddToBuckets::new(site, run))?;
    }
    for run in runs(&rollup.extras(), rows_max, RUN_BYTES_MAX, |((_, _, field), _)| field.len()) {
        connection.execute_returning_count(&AddToExtras::new(site, run))?;
    }
    Ok(())
}

impl<'a> AddToBuckets<'a> {
    fn new(site: &'a str, run: &[(BucketKey<'a>, BucketSums)]) -> Self {
        fn columns<T>(run: &[(BucketKey<'_>, BucketSums)], of: impl Fn(&BucketSums) -> T) -> Vec<T> {
            run.iter().map(|(_, sums)| of(sums)).collect()
        }
        Self {
            site,
            machine_ids: run.iter().map(|((machine_id, _), _)| *machine_id).collect(),
            bucket_starts: run.iter().map(|((_, start), _)| instant(*start)).collect(),
            readings: columns(run, |sums| sums.readings),
            temperature_count: columns(run, |sums| sums.temperature.count),
            temperature_min: columns(run, |sums| sums.temperature.min),
            temperature_max: columns(run, |sums| sums.temperature.max),
            temperature_sum: columns(run, |sums| sums.temperature.sum),
            humidity_count: columns(run, |sums| sums.humidity.count),
            humidity_min: columns(run, |sums| sums.humidity.min),
            humidity_max: columns(run, |sums| sums.humidity.max),
            humidity_sum: columns(run, |sums| sums.humidity.sum),
            vibration_count: columns(run, |sums| sums.vibration.count),
            vibration_min: columns(run, |sums| sums.vibration.min),
            vibration_max: columns(run, |sums| sums.vibration.max),
            vibration_sum: columns(run, |sums| sums.vibration.sum),
            extra_left_out: columns(run, |sums| sums.extra_left_out),
        }
    }
}

impl<'a> AddToExtras<'a> {
    fn new(site: &'a str, run: &'a [(ExtraKey<'a>, Statistics)]) -> Self {
        let values = || run.iter().map(|(_, values)| values);
        Self {
            site,
            machine_ids: run.iter().map(|((machine_id, ..), _)| *machine_id).collect(),
            bucket_starts: run.iter().map(|((_, start, _), _)| instant(*start)).collect(),
            fields: run.iter().map(|((.., field), _)| &**field).collect(),
            value_count: values().map(|values| values.count).collect(),
            value_min: values().map(|values| values.min).collect(),
            value_max: values().map(|values| values.max).collect(),
            value_sum: values().map(|values| values.sum).collect(),
        }
    }
}

fn instant(micros: i64) -> SqlInstant {
    SqlInstant(Timestamp::from_micros(micros))
}
