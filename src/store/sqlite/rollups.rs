//! Adding to buckets, row by row.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteConnection};

use crate::domain::Timestamp;
use crate::store::instant_text::InstantText;
use crate::store::rollup::Rollup;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::statement::cached_statement;

cached_statement! {
    /// Adds to one bucket.
    AddToBucket on Sqlite, SqliteConnection:
    "INSERT INTO machine_rollup (site, machine_id, bucket_start, readings, \
     temperature_count, temperature_min, temperature_max, temperature_sum, \
     humidity_count, humidity_min, humidity_max, humidity_sum, \
     vibration_count, vibration_min, vibration_max, vibration_sum, extra_left_out) VALUES ("
    [
        site: Text = &'a str,
        machine_id: Text = &'a str,
        bucket_start: Instant = InstantText,
        readings: BigInt = i64,
        temperature_count: BigInt = i64,
        temperature_min: Nullable<Double> = Option<f64>,
        temperature_max: Nullable<Double> = Option<f64>,
        temperature_sum: Double = f64,
        humidity_count: BigInt = i64,
        humidity_min: Nullable<Double> = Option<f64>,
        humidity_max: Nullable<Double> = Option<f64>,
        humidity_sum: Double = f64,
        vibration_count: BigInt = i64,
        vibration_min: Nullable<Double> = Option<f64>,
        vibration_max: Nullable<Double> = Option<f64>,
        vibration_sum: Double = f64,
        extra_left_out: BigInt = i64,
    ]
    ") ON CONFLICT (site, machine_id, bucket_start) DO UPDATE SET readings = readings + excluded.readings, \
     temperature_count = temperature_count + excluded.temperature_count, \
     temperature_min = coalesce(min(temperature_min, excluded.temperature_min), temperature_min, excluded.temperature_min), \
     temperature_max = coalesce(max(temperature_max, excluded.temperature_max), temperature_max, excluded.temperature_max), \
     temperature_sum = temperature_sum + excluded.temperature_sum, \
     humidity_count = humidity_count + excluded.humidity_count, \
     humidity_min = coalesce(min(humidity_min, excluded.humidity_min), humidity_min, excluded.humidity_min), \
     humidity_max = coalesce(max(humidity_max, excluded.humidity_max), humidity_max, excluded.humidity_max), \
     humidity_sum = humidity_sum + excluded.humidity_sum, \
     vibration_count = vibration_count + excluded.vibration_count, \
     vibration_min = coalesce(min(vibration_min, excluded.vibration_min), vibration_min, excluded.vibration_min), \
     vibration_max = coalesce(max(vibration_max, excluded.vibration_max), vibration_max, excluded.vibration_max), \
     vibration_sum = vibration_sum + excluded.vibration_sum, \
     extra_left_out = extra_left_out + excluded.extra_left_out"
}

cached_statement! {
    /// Adds to one field of `extra` of one bucket.
    AddToExtra on Sqlite, SqliteConnection:
    "INSERT INTO machine_rollup_extra (site, machine_id, bucket_start, field, value_count, value_min, value_max, \
     value_sum) VALUES ("
    [
        site: Text = &'a str,
        machine_id: Text = &'a str,
        bucket_start: Instant = InstantText,
        field: Text = &'a str,
        value_count: BigInt = i64,
        value_min: Nullable<Double> = Option<f64>,
        value_max: Nullable<Double> = Option<f64>,
        value_sum: Double = f64,
    ]
    ") ON CONFLICT (site, machine_id, bucket_start, field) DO UPDATE SET value_count = value_count + excluded.value_count, \
     value_min = min(value_min, excluded.value_min), value_max = max(value_max, excluded.value_max), \
     value_sum = value_sum + excluded.value_sum"
}

/// Adds all of `rollup` (ROL-1).
pub fn add(connection: &mut SqliteConnection, site: &str, rollup: &Rollup<'_>) -> QueryResult<()> {
    for ((machine_id, start), sums) in rollup.buckets() {
        let statement = AddToBucket {
            site,
            machine_id,
            bucket_start: text(start),
            readings: sums.readings,
            temperature_count: sums.temperature.count,
            temperature_min: sums.temperature.min,
            temperature_max: sums.temperature.max,
            temperature_sum: sums.temperature.sum,
            humidity_count: sums.humidity.count,
            humidity_min: sums.humidity.min,
            humidity_max: sums.humidity.max,
            humidity_sum: sums.humidity.sum,
            vibration_count: sums.vibration.count,
            vibration_min: sums.vibration.min,
            vibration_max: sums.vibration.max,
            vibration_sum: sums.vibration.sum,
            extra_left_out: sums.extra_left_out,
        };
        connection.execute_returning_count(&statement)?;
    }
    for ((machine_id, start, field), values) in rollup.extras() {
        let statement = AddToExtra {
            site,
            machine_id,
            bucket_start: text(start),
            field: &field,
            value_count: values.count,
            value_min: values.min,
            value_max: values.max,
            value_sum: values.sum,
        };
        connection.execute_returning_count(&statement)?;
    }
    Ok(())
}

fn text(micros: i64) -> InstantText {
    InstantText::new(SqlInstant(Timestamp::from_micros(micros)))
}
