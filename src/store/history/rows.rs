//! What the queries give back, and the columns they come from.

use diesel::deserialize::QueryableByName;
use diesel::sql_types::{BigInt, Double, Nullable, Text};

use super::range::{EventCursor, ReadingCursor};
use crate::domain::{MachineId, Timestamp};
use crate::store::schema::{Instant, Moment};
use crate::store::{Cause, from_bigint};

/// The newest reading of a machine, by its own time.
#[derive(Debug, Clone, PartialEq)]
pub struct LatestReading {
    /// When it was measured.
    pub recorded_at: Timestamp,
    /// °C, or whatever the machine sends.
    pub temperature: Option<f64>,
    /// %, or whatever the machine sends.
    pub humidity: Option<f64>,
    /// mm/s, or whatever the machine sends.
    pub vibration: Option<f64>,
    /// The text of a JSON object with everything else.
    pub extra: Option<String>,
}

/// A row of `machine_telemetry`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReading {
    /// Its place among those of its machine.
    pub key: ReadingCursor,
    /// What it says.
    pub reading: LatestReading,
    /// `device` or `server`.
    pub time_source: String,
    /// When its message was received.
    pub received_at: Timestamp,
}

/// Figures of one measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aggregate {
    /// The smallest value.
    pub min: f64,
    /// The arithmetic mean of all values.
    pub mean: f64,
    /// The largest value.
    pub max: f64,
    /// How many values there are; at least 1.
    pub count: u64,
}

/// Figures of a stretch of time. A measurement without any value has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Where it begins, in seconds since 1970; 0 if all is one bucket.
    pub start_seconds: i64,
    /// Readings in it.
    pub count: u64,
    /// Of `temperature`.
    pub temperature: Option<Aggregate>,
    /// Of `humidity`.
    pub humidity: Option<Aggregate>,
    /// Of `vibration`.
    pub vibration: Option<Aggregate>,
    /// Of the field of `extra` that was asked for.
    pub extra: Option<Aggregate>,
}

/// Means of one machine over one step of time.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendPoint {
    /// Whose.
    pub machine_id: MachineId,
    /// Where the step begins, in seconds since 1970.
    pub start_seconds: i64,
    /// °C, or whatever the machine sends.
    pub temperature: Option<f64>,
    /// %, or whatever the machine sends.
    pub humidity: Option<f64>,
    /// mm/s, or whatever the machine sends.
    pub vibration: Option<f64>,
}

/// A row of `machine_event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place among those of the site.
    pub key: EventCursor,
    /// Whose.
    pub machine_id: MachineId,
    /// `online` or `offline`.
    pub status: String,
    /// The status before; `None` if the machine was not known.
    pub previous_status: Option<String>,
    /// Why.
    pub reason: String,
    /// The machine's last message before or at the change.
    pub last_seen_at: Option<Timestamp>,
}

#[derive(QueryableByName)]
pub(super) struct ReadingColumns {
    #[diesel(sql_type = Instant)]
    recorded_at: Moment,
    #[diesel(sql_type = BigInt)]
    digest: i64,
    #[diesel(sql_type = Instant)]
    received_at: Moment,
    #[diesel(sql_type = Nullable<Double>)]
    temperature: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    humidity: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    vibration: Option<f64>,
    #[diesel(sql_type = Nullable<Text>)]
    extra: Option<String>,
    #[diesel(sql_type = Text)]
    time_source: String,
}

impl From<ReadingColumns> for StoredReading {
    fn from(columns: ReadingColumns) -> Self {
        Self {
            key: ReadingCursor { at: columns.recorded_at.0, digest: columns.digest },
            reading: LatestReading {
                recorded_at: columns.recorded_at.0,
                temperature: columns.temperature,
                humidity: columns.humidity,
                vibration: columns.vibration,
                extra: columns.extra,
            },
            time_source: columns.time_source,
            received_at: columns.received_at.0,
        }
    }
}

#[derive(QueryableByName)]
pub(super) struct LatestColumns {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(embed)]
    reading: ReadingColumns,
}

impl LatestColumns {
    pub(super) fn into_latest(self) -> Result<(MachineId, LatestReading), Cause> {
        Ok((MachineId::parse(&self.machine_id)?, StoredReading::from(self.reading).reading))
    }
}

#[derive(QueryableByName)]
pub(super) struct EventColumns {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Text>)]
    previous_status: Option<String>,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = Instant)]
    occurred_at: Moment,
    #[diesel(sql_type = Nullable<Instant>)]
    last_seen_at: Option<Moment>,
}

impl EventColumns {
    pub(super) fn into_event(self) -> Result<StoredEvent, Cause> {
        Ok(StoredEvent {
            key: EventCursor { at: self.occurred_at.0, id: self.id },
            machine_id: MachineId::parse(&self.machine_id)?,
            status: self.status,
            previous_status: self.previous_status,
            reason: self.reason,
            last_seen_at: self.last_seen_at.map(|moment| moment.0),
        })
    }
}

#[derive(QueryableByName)]
pub(super) struct TrendColumns {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = BigInt)]
    start_seconds: i64,
    #[diesel(sql_type = Nullable<Double>)]
    temperature: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    humidity: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    vibration: Option<f64>,
}

impl TrendColumns {
    pub(super) fn into_point(self) -> Result<TrendPoint, Cause> {
        Ok(TrendPoint {
            machine_id: MachineId::parse(&self.machine_id)?,
            start_seconds: self.start_seconds,
            temperature: self.temperature,
            humidity: self.humidity,
            vibration: self.vibration,
        })
    }
}

macro_rules! aggregate_columns {
    ($($name:ident: $min:ident, $mean:ident, $max:ident, $count:ident;)+) => {
        #[derive(QueryableByName)]
        pub(super) struct BucketColumns {
            #[diesel(sql_type = BigInt)]
            start_seconds: i64,
            #[diesel(sql_type = BigInt)]
            readings: i64,
            $(
                #[diesel(sql_type = Nullable<Double>)]
                $min: Option<f64>,
                #[diesel(sql_type = Nullable<Double>)]
                $mean: Option<f64>,
                #[diesel(sql_type = Nullable<Double>)]
                $max: Option<f64>,
                #[diesel(sql_type = BigInt)]
                $count: i64,
            )+
        }

        impl From<BucketColumns> for Bucket {
            fn from(columns: BucketColumns) -> Self {
                Self {
                    start_seconds: columns.start_seconds,
                    count: from_bigint(columns.readings),
                    $($name: aggregate(columns.$min, columns.$mean, columns.$max, columns.$count),)+
                }
            }
        }
    };
}

aggregate_columns! {
    temperature: temperature_min, temperature_mean, temperature_max, temperature_count;
    humidity: humidity_min, humidity_mean, humidity_max, humidity_count;
    vibration: vibration_min, vibration_mean, vibration_max, vibration_count;
    extra: extra_min, extra_mean, extra_max, extra_count;
}

fn aggregate(min: Option<f64>, mean: Option<f64>, max: Option<f64>, count: i64) -> Option<Aggregate> {
    Some(Aggregate { min: min?, mean: mean?, max: max?, count: from_bigint(count) })
}
