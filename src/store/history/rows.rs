//! What the queries return, and the columns that it comes from.

use std::ops::ControlFlow;

use diesel::deserialize::QueryableByName;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Double, Nullable, Text};

use super::range::{EventCursor, ReadingCursor};
use crate::domain::{MachineId, Timestamp};
use crate::store::from_bigint;
use crate::store::liveness_rows::unreadable_event;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::unreadable::{Column, UnreadableRow, UnreadableRows};

/// A machine's id as it is stored.
#[derive(QueryableByName)]
pub struct MachineIdColumn {
    #[diesel(sql_type = Text)]
    pub machine_id: String,
}

/// The newest reading of a machine, by its own time.
#[derive(Debug, Clone, PartialEq)]
pub struct LatestReading {
    /// When it was measured.
    pub recorded_at: Timestamp,
    /// Usually °C.
    pub temperature: Option<f64>,
    /// Usually %.
    pub humidity: Option<f64>,
    /// Usually mm/s.
    pub vibration: Option<f64>,
    /// The text of a JSON object with everything else.
    pub extra: Option<String>,
}

/// A row of `machine_telemetry`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReading {
    /// Its key among those of its machine.
    pub key: ReadingCursor,
    /// Its content.
    pub reading: LatestReading,
    /// `device` or `server`.
    pub time_source: String,
    /// When its message was received.
    pub received_at: Timestamp,
}

/// Statistics of one measurement.
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

/// Statistics of a stretch of time; `None` for a measurement without values.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Its start in seconds since 1970; 0 if the range is one bucket.
    pub start_seconds: i64,
    /// Readings in it.
    pub count: u64,
    /// Of `temperature`.
    pub temperature: Option<Aggregate>,
    /// Of `humidity`.
    pub humidity: Option<Aggregate>,
    /// Of `vibration`.
    pub vibration: Option<Aggregate>,
    /// Of the requested field of `extra`.
    pub extra: Option<Aggregate>,
}

/// Means of one machine over one step of time.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendPoint {
    /// The machine.
    pub machine_id: MachineId,
    /// Start of the step in seconds since 1970.
    pub start_seconds: i64,
    /// Usually °C.
    pub temperature: Option<f64>,
    /// Usually %.
    pub humidity: Option<f64>,
    /// Usually mm/s.
    pub vibration: Option<f64>,
}

/// A row of `machine_event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its key among those of the site.
    pub key: EventCursor,
    /// The machine.
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

/// Takes rows one by one as they are read; `Break` ends the reading.
pub type EachRow<'a, T> = &'a mut dyn FnMut(T) -> ControlFlow<()>;

/// Collects all rows of a short answer.
///
/// # Errors
/// Those of `read`.
pub fn collected<T, E>(read: impl FnOnce(EachRow<'_, T>) -> Result<(), E>) -> Result<Vec<T>, E> {
    let mut rows = Vec::new();
    read(&mut |row| {
        rows.push(row);
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

/// How the rows of a statement were passed on.
pub(super) struct PassedOn {
    /// How many rows were read, unreadable ones included.
    pub rows: u32,
    /// The receiver wants no more.
    pub is_enough: bool,
}

/// Passes on one row after the other as `read` reads it, with only one in memory.
pub(super) fn pass_on<C, T>(
    rows: QueryResult<impl Iterator<Item = QueryResult<C>>>,
    read: impl Fn(C) -> Result<T, UnreadableRow>,
    unreadable: &UnreadableRows,
    each: EachRow<'_, T>,
) -> QueryResult<PassedOn> {
    let mut passed = PassedOn { rows: 0, is_enough: false };
    for columns in rows? {
        passed.rows += 1;
        match read(columns?) {
            Ok(row) => passed.is_enough = each(row).is_break(),
            Err(row) => unreadable.note(row),
        }
        if passed.is_enough {
            break;
        }
    }
    Ok(passed)
}

#[derive(QueryableByName)]
pub(super) struct ReadingColumns {
    #[diesel(sql_type = Instant)]
    recorded_at: Column<SqlInstant>,
    #[diesel(sql_type = BigInt)]
    digest: Column<i64>,
    #[diesel(sql_type = Instant)]
    received_at: Column<SqlInstant>,
    #[diesel(sql_type = Nullable<Double>)]
    temperature: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    humidity: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    vibration: Option<f64>,
    #[diesel(sql_type = Nullable<Text>)]
    extra: Option<String>,
    #[diesel(sql_type = Text)]
    time_source: Column<String>,
}

fn unreadable_reading(key: String) -> impl FnOnce(String) -> UnreadableRow {
    move |what| UnreadableRow { table: "machine_telemetry", key, what }
}

impl ReadingColumns {
    /// Reads the row as one of `machine_id`.
    pub(super) fn into_reading(self, machine_id: &str) -> Result<StoredReading, UnreadableRow> {
        let unreadable = unreadable_reading(format!("{machine_id:?} at {}", self.recorded_at));
        let read = || {
            let recorded_at = self.recorded_at.get("recorded_at")?.0;
            Ok(StoredReading {
                key: ReadingCursor { at: recorded_at, digest: self.digest.get("digest")? },
                reading: LatestReading {
                    recorded_at,
                    temperature: self.temperature,
                    humidity: self.humidity,
                    vibration: self.vibration,
                    extra: self.extra,
                },
                time_source: self.time_source.get("time_source")?,
                received_at: self.received_at.get("received_at")?.0,
            })
        };
        read().map_err(unreadable)
    }
}

#[derive(QueryableByName)]
pub(super) struct LatestColumns {
    #[diesel(sql_type = Text)]
    machine_id: Column<String>,
    #[diesel(embed)]
    reading: ReadingColumns,
}

impl LatestColumns {
    pub(super) fn into_latest(self) -> Result<(MachineId, LatestReading), UnreadableRow> {
        let unreadable = unreadable_reading(format!("{} at {}", self.machine_id, self.reading.recorded_at));
        let machine_id = self.machine_id.machine_id().map_err(unreadable)?;
        let reading = self.reading.into_reading(machine_id.as_str())?.reading;
        Ok((machine_id, reading))
    }
}

#[derive(QueryableByName)]
pub(super) struct EventColumns {
    #[diesel(sql_type = BigInt)]
    id: Column<i64>,
    #[diesel(sql_type = Text)]
    machine_id: Column<String>,
    #[diesel(sql_type = Text)]
    status: Column<String>,
    #[diesel(sql_type = Nullable<Text>)]
    previous_status: Option<String>,
    #[diesel(sql_type = Text)]
    reason: Column<String>,
    #[diesel(sql_type = Instant)]
    occurred_at: Column<SqlInstant>,
    #[diesel(sql_type = Nullable<Instant>)]
    last_seen_at: Column<Option<SqlInstant>>,
}

impl EventColumns {
    /// Returns its id, if that can be read.
    pub(super) fn id(&self) -> Option<i64> {
        self.id.value().copied()
    }

    pub(super) fn into_event(self) -> Result<StoredEvent, UnreadableRow> {
        let unreadable = unreadable_event(&self.machine_id, &self.occurred_at);
        let read = || {
            Ok(StoredEvent {
                key: EventCursor { at: self.occurred_at.get("occurred_at")?.0, id: self.id.get("id")? },
                machine_id: self.machine_id.machine_id()?,
                status: self.status.get("status")?,
                previous_status: self.previous_status,
                reason: self.reason.get("reason")?,
                last_seen_at: self.last_seen_at.get("last_seen_at")?.map(|instant| instant.0),
            })
        };
        read().map_err(unreadable)
    }
}

#[derive(QueryableByName)]
pub(super) struct TrendColumns {
    #[diesel(sql_type = Text)]
    machine_id: Column<String>,
    #[diesel(sql_type = BigInt)]
    start_seconds: Column<i64>,
    #[diesel(sql_type = Nullable<Double>)]
    temperature: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    humidity: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    vibration: Option<f64>,
}

impl TrendColumns {
    pub(super) fn into_point(self) -> Result<TrendPoint, UnreadableRow> {
        let unreadable = unreadable_reading(format!("of {}", self.machine_id));
        let read = || {
            Ok(TrendPoint {
                machine_id: self.machine_id.machine_id()?,
                start_seconds: self.start_seconds.get("recorded_at")?,
                temperature: self.temperature,
                humidity: self.humidity,
                vibration: self.vibration,
            })
        };
        read().map_err(unreadable)
    }
}

macro_rules! aggregate_columns {
    ($($name:ident: $min:ident, $mean:ident, $max:ident, $count:ident;)+) => {
        #[derive(QueryableByName)]
        pub(super) struct BucketColumns {
            #[diesel(sql_type = BigInt)]
            start_seconds: Column<i64>,
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

        impl BucketColumns {
            /// Reads the row as a bucket of `machine_id`. A bucket without a start holds readings whose time
            /// cannot be read.
            pub(super) fn into_bucket(self, machine_id: &str) -> Result<Bucket, UnreadableRow> {
                let unreadable = unreadable_reading(format!("of {machine_id:?}"));
                Ok(Bucket {
                    start_seconds: self.start_seconds.get("recorded_at").map_err(unreadable)?,
                    count: from_bigint(self.readings),
                    $($name: aggregate(self.$min, self.$mean, self.$max, self.$count),)+
                })
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
