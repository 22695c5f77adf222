//! The objects of the API's responses. Their field names are contract.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::{DisplayStatus, OutageReason, Timestamp, Transition};
use crate::status::MachineView;
use crate::store::{Aggregate, Bucket, LatestReading, StoredEvent, StoredReading};

/// A machine.
#[derive(Debug, Serialize, ToSchema)]
pub struct Machine<'a> {
    /// Its id within the site.
    pub machine_id: String,
    /// `online`, `offline`, `unknown` (Andon cannot tell at present) or `never_seen`.
    pub status: &'static str,
    /// When it last went online or offline.
    #[schema(format = DateTime)]
    pub status_since: Option<String>,
    /// Why it changed: `first_seen`, `message`, `silence`, `last_will` or `never_seen`.
    pub reason: Option<&'static str>,
    /// Why this machine alone is unknown: `filter_refused` (the broker refuses the subscription that covers it, or may cover
    /// it); null otherwise.
    pub unknown_reason: Option<&'static str>,
    /// True if it changes its status too often.
    pub flapping: bool,
    /// Time of its first message ever.
    #[schema(format = DateTime)]
    pub first_seen_at: Option<String>,
    /// Time of its newest message.
    #[schema(format = DateTime)]
    pub last_seen_at: Option<String>,
    /// How long it may be silent, in seconds.
    #[schema(value_type = f64)]
    pub offline_after_seconds: serde_json::Number,
    /// Its newest reading; null if there is none, or while the database is away and none is known.
    pub latest: Option<Latest<'a>>,
}

/// The newest reading of a machine.
#[derive(Debug, Serialize, ToSchema)]
pub struct Latest<'a> {
    /// When it was measured.
    #[schema(format = DateTime)]
    pub recorded_at: String,
    /// As the machine sent it.
    pub temperature: Option<f64>,
    /// As the machine sent it.
    pub humidity: Option<f64>,
    /// As the machine sent it.
    pub vibration: Option<f64>,
    /// All other fields that the machine sent. In lists of machines, more than 16 KiB become `{"_bytes":n}`, the size alone.
    #[schema(value_type = Option<Object>)]
    pub extra: Option<&'a RawValue>,
}

/// A page of machines, in order of their ids.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used; pages are written row by row")]
pub struct Machines<'a> {
    /// The machines.
    pub machines: Vec<Machine<'a>>,
    /// Pass this as `cursor` for the next page; null on the last page.
    pub next: Option<String>,
}

/// The field after the rows of a page.
#[derive(Debug, Serialize)]
pub struct NextPage {
    /// Pass this as `cursor` for the next page; null on the last page.
    pub next: Option<String>,
}

/// A stored reading.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reading<'a> {
    /// What was measured, and when.
    #[serde(flatten)]
    pub reading: Latest<'a>,
    /// The clock of `recorded_at`: `device` or `server`.
    pub time_source: &'a str,
    /// When its message was received.
    #[schema(format = DateTime)]
    pub received_at: String,
}

/// A page of readings.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used; pages are written row by row")]
pub struct Readings<'a> {
    /// The readings: at most 4 MiB, or one.
    pub readings: Vec<Reading<'a>>,
    /// Pass this as `cursor` for the next page; null on the last page.
    pub next: Option<String>,
}

/// Statistics of one measurement.
#[derive(Debug, Serialize, ToSchema)]
pub struct Statistics {
    /// The smallest value.
    pub min: f64,
    /// The mean of all values.
    pub mean: f64,
    /// The largest value.
    pub max: f64,
    /// The number of values.
    pub count: u64,
}

/// Statistics of every measurement in a period; null without values.
#[derive(Debug, Serialize, ToSchema)]
pub struct Measured {
    /// Number of readings.
    pub count: u64,
    /// Statistics of the temperature.
    pub temperature: Option<Statistics>,
    /// Statistics of the humidity.
    pub humidity: Option<Statistics>,
    /// Statistics of the vibration.
    pub vibration: Option<Statistics>,
    /// Statistics of the requested `extra` field.
    pub extra: Option<Statistics>,
}

/// A bucket.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadingsBucket {
    /// Start of the bucket.
    #[schema(format = DateTime)]
    pub start: String,
    /// The statistics.
    #[serde(flatten)]
    pub measured: Measured,
}

/// Readings by bucket, oldest first, without empty buckets.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used; pages are written bucket by bucket")]
pub struct ReadingsBuckets {
    /// The buckets.
    pub buckets: Vec<ReadingsBucket>,
    /// Bucket length and range.
    #[serde(flatten)]
    pub page: BucketsPage,
}

/// The fields after the buckets of a page.
#[derive(Debug, Serialize, ToSchema)]
pub struct BucketsPage {
    /// Length of a bucket in seconds.
    pub bucket_seconds: u32,
    /// Start, inclusive.
    #[schema(format = DateTime)]
    pub from: String,
    /// End of the page, exclusive.
    #[schema(format = DateTime)]
    pub to: String,
    /// Pass this as `cursor`, with the same `from` and `to`, for the next buckets; null on the last page.
    pub next: Option<String>,
}

/// A page of readings, or buckets if `bucket` is given.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum ReadingsAnswer<'a> {
    /// Without `bucket`.
    Page(Readings<'a>),
    /// With `bucket`.
    Buckets(ReadingsBuckets),
}

/// Statistics of a named period.
#[derive(Debug, Serialize, ToSchema)]
pub struct Summary {
    /// The machine.
    pub machine_id: String,
    /// The period's name.
    pub window: &'static str,
    /// The site's time zone, which decides when a day begins.
    pub time_zone: String,
    /// Start, inclusive.
    #[schema(format = DateTime)]
    pub from: String,
    /// End, exclusive.
    #[schema(format = DateTime)]
    pub to: String,
    /// The statistics.
    #[serde(flatten)]
    pub measured: Measured,
}

/// A change of a machine's status.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// The machine.
    pub machine_id: String,
    /// `online` or `offline`.
    pub status: String,
    /// The previous status; null if the machine was not known.
    pub previous_status: Option<String>,
    /// `first_seen`, `message`, `silence`, `last_will` or `never_seen`.
    pub reason: String,
    /// When the status began.
    #[schema(format = DateTime)]
    pub occurred_at: String,
    /// Time of the machine's last message up to the change.
    #[schema(format = DateTime)]
    pub last_seen_at: Option<String>,
}

/// A page of events, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used; pages are written row by row")]
pub struct Events {
    /// The events.
    pub events: Vec<Event>,
    /// Pass this as `cursor` for the next page; null on the last page.
    pub next: Option<String>,
}

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

impl<'a> Machine<'a> {
    /// Combines the snapshot's view, the trusted status, and the newest reading.
    pub fn new(view: &MachineView, status: DisplayStatus, latest: Option<&'a LatestReading>) -> Self {
        Self {
            machine_id: view.machine_id.to_string(),
            status: status.as_str(),
            status_since: text(view.status_since),
            reason: view.reason.map(|reason| reason.as_str()),
            unknown_reason: (status == DisplayStatus::Unknown && view.refused)
                .then_some(OutageReason::FilterRefused.as_str()),
            flapping: view.flapping,
            first_seen_at: text(view.first_seen_at),
            last_seen_at: text(view.last_seen_at),
            offline_after_seconds: seconds(view.offline_after),
            latest: latest.map(Latest::from),
        }
    }
}

/// Returns whole seconds as an integer, others with a fraction.
fn seconds(duration: std::time::Duration) -> serde_json::Number {
    let fraction =
        serde_json::Number::from_f64(duration.as_secs_f64()).filter(|_| duration.subsec_nanos() > 0);
    fraction.unwrap_or_else(|| duration.as_secs().into())
}

impl<'a> From<&'a LatestReading> for Latest<'a> {
    fn from(reading: &'a LatestReading) -> Self {
        let extra = reading.extra.as_deref();
        Self {
            recorded_at: reading.recorded_at.to_string(),
            temperature: reading.temperature,
            humidity: reading.humidity,
            vibration: reading.vibration,
            // Another program may have written text there that is not JSON.
            extra: extra.and_then(|text| serde_json::from_str(text).ok()),
        }
    }
}

impl<'a> From<&'a StoredReading> for Reading<'a> {
    fn from(stored: &'a StoredReading) -> Self {
        Self {
            reading: Latest::from(&stored.reading),
            time_source: &stored.time_source,
            received_at: stored.received_at.to_string(),
        }
    }
}

fn statistics(aggregate: Option<Aggregate>) -> Option<Statistics> {
    aggregate.map(|Aggregate { min, mean, max, count }| Statistics { min, mean, max, count })
}

impl From<&Bucket> for Measured {
    fn from(bucket: &Bucket) -> Self {
        Self {
            count: bucket.count,
            temperature: statistics(bucket.temperature),
            humidity: statistics(bucket.humidity),
            vibration: statistics(bucket.vibration),
            extra: statistics(bucket.extra),
        }
    }
}

impl From<&Bucket> for ReadingsBucket {
    fn from(bucket: &Bucket) -> Self {
        let start = Timestamp::from_micros(bucket.start_seconds.saturating_mul(1_000_000));
        Self { start: start.to_string(), measured: Measured::from(bucket) }
    }
}

impl From<&StoredEvent> for Event {
    fn from(event: &StoredEvent) -> Self {
        Self {
            machine_id: event.machine_id.to_string(),
            status: event.status.clone(),
            previous_status: event.previous_status.clone(),
            reason: event.reason.clone(),
            occurred_at: event.key.at.to_string(),
            last_seen_at: text(event.last_seen_at),
        }
    }
}

impl From<&Transition> for Event {
    fn from(transition: &Transition) -> Self {
        Self {
            machine_id: transition.machine_id.to_string(),
            status: transition.status.as_str().to_owned(),
            previous_status: transition.previous_status.map(|status| status.as_str().to_owned()),
            reason: transition.reason.as_str().to_owned(),
            occurred_at: transition.occurred_at.to_string(),
            last_seen_at: text(transition.last_seen_at),
        }
    }
}
