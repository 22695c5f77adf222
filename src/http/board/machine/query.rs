//! Loads what a machine's page shows of its history, in a few bounded queries.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use chrono_tz::Tz;
use serde_json::value::RawValue;

use super::span::{Lookback, Window, windows};
use super::status_timeline::{Change, timeline};
use crate::domain::{DisplayStatus, MachineId, Timestamp};
use crate::http::board::charts::{Point, Span};
use crate::http::history::ANSWER_MAX;
use crate::http::latest::size_placeholder;
use crate::http::{HistoryClient, HistoryError};
use crate::store::{
    Aggregate, Bucket, BucketsQuery, EXTRA_LISTED_BYTES_MAX, Events, EventsQuery, Order, ReadingCursor,
    ReadingsQuery, StoredEvent, StoredReading, collected,
};

/// Most numeric `extra` fields that get a chart.
const EXTRAS_MAX: usize = 4;
/// Under these names `extra` keeps the original of an unusable value. It is no measurement, even if it is a number.
const ORIGINALS: [&str; 4] = ["temperature", "humidity", "vibration", "timestamp"];
/// Newest readings that are searched for numeric fields.
const READINGS_SEARCHED: u32 = 20;
/// Most bytes of `extra` that are searched.
const SEARCHED_BYTES_MAX: usize = 1024 * 1024;
/// Most changes of status that are loaded, for the list and the timeline.
const EVENTS_MAX: u32 = 1_000;

/// A measurement of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measurement {
    /// °C.
    Temperature,
    /// %.
    Humidity,
    /// mm/s.
    Vibration,
    /// A numeric field of `extra`. Its name comes from the machine.
    Extra(String),
}

impl Measurement {
    /// Returns its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Temperature => "Temperature",
            Self::Humidity => "Humidity",
            Self::Vibration => "Vibration",
            Self::Extra(field) => field,
        }
    }

    /// Returns its unit; empty for an `extra` field.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Temperature => "°C",
            Self::Humidity => "%",
            Self::Vibration => "mm/s",
            Self::Extra(_) => "",
        }
    }

    /// Returns the CSS class of its colour.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Vibration => "vibration",
            Self::Extra(_) => "extra",
        }
    }

    fn of(&self, bucket: &Bucket) -> Option<Aggregate> {
        match self {
            Self::Temperature => bucket.temperature,
            Self::Humidity => bucket.humidity,
            Self::Vibration => bucket.vibration,
            Self::Extra(_) => bucket.extra,
        }
    }
}

/// One measurement over the range.
#[derive(Debug)]
pub struct Series {
    /// The measurement.
    pub measurement: Measurement,
    /// In order of time; never empty.
    pub points: Vec<Point>,
    /// Its statistics for each of [`MachineHistory::windows`].
    pub statistics: Vec<Option<Aggregate>>,
}

/// Everything that the page shows of the past.
#[derive(Debug)]
pub struct MachineHistory {
    /// Start of the charts, inclusive.
    pub from: Timestamp,
    /// End of the charts, exclusive.
    pub to: Timestamp,
    /// The measurements.
    pub series: Vec<Series>,
    /// The periods of the statistics.
    pub windows: [Window; 4],
    /// The status over time; from [`MachineHistory::changes_from`] on, if that is set.
    pub timeline: Vec<Span>,
    /// Changes of status, newest first.
    pub events: Vec<StoredEvent>,
    /// Time of the oldest loaded change, if older ones in the range were not loaded.
    pub changes_from: Option<Timestamp>,
    /// The newest reading by its own time. A large `extra` is replaced by its size.
    pub latest: Option<StoredReading>,
}

/// What to load.
pub struct PageRequest {
    /// The machine.
    pub machine_id: MachineId,
    /// How far back.
    pub lookback: Lookback,
    /// The site's time zone.
    pub zone: Tz,
    /// The current time.
    pub now: Timestamp,
    /// The current status and its start, as far as known.
    pub status: Option<(DisplayStatus, Timestamp)>,
}

impl PageRequest {
    fn from(&self) -> Timestamp {
        self.now.minus(self.lookback.length())
    }

    fn buckets(
        &self,
        from: Timestamp,
        to: Timestamp,
        seconds: Option<u32>,
        extra: Option<&str>,
    ) -> BucketsQuery {
        BucketsQuery {
            machine_id: self.machine_id.clone(),
            from,
            to,
            bucket_seconds: seconds,
            extra: extra.map(str::to_owned),
        }
    }

    /// Loads the history. All queries of a page together take no longer than one query may.
    pub async fn load(&self, history: &HistoryClient) -> Result<MachineHistory, HistoryError> {
        let loaded = actix_rt::time::timeout(ANSWER_MAX, self.load_all(history)).await;
        loaded.unwrap_or(Err(HistoryError::TooSlow))
    }

    async fn load_all(&self, history: &HistoryClient) -> Result<MachineHistory, HistoryError> {
        let (latest, extras) = self.newest_readings(history).await?;
        let mut events = self.events(history).await?;
        let changes_from = limit_events(&mut events, self.from());
        let to = self.now;
        // One query per `extra` field. The first one also returns the usual measurements.
        let mut series: Vec<Series> = Vec::new();
        let queries: Vec<Option<&str>> = match extras.as_slice() {
            [] => vec![None],
            fields => fields.iter().map(|field| Some(field.as_str())).collect(),
        };
        for (index, extra) in queries.into_iter().enumerate() {
            let mut measurements: Vec<_> =
                extra.map(|field| Measurement::Extra(field.to_owned())).into_iter().collect();
            if index == 0 {
                measurements
                    .splice(0..0, [Measurement::Temperature, Measurement::Humidity, Measurement::Vibration]);
            }
            series.extend(self.series(history, measurements, extra).await?);
        }
        let mut changes: Vec<_> = events.iter().rev().map(change).collect();
        if let (Some(oldest), Some(_)) = (changes.first_mut(), changes_from) {
            // It names the status just before it, but not how long that lasted.
            oldest.was_online = None;
        }
        Ok(MachineHistory {
            from: self.from(),
            to,
            series,
            windows: windows(self.now, self.zone),
            timeline: timeline(&changes, self.from(), to, self.status),
            events,
            changes_from,
            latest,
        })
    }

    async fn series(
        &self,
        history: &HistoryClient,
        measurements: Vec<Measurement>,
        extra: Option<&str>,
    ) -> Result<Vec<Series>, HistoryError> {
        let seconds = self.lookback.bucket_seconds();
        let points = self.buckets(self.from(), self.now, Some(seconds), extra);
        let windows =
            windows(self.now, self.zone).map(|window| self.buckets(window.from, window.to, None, extra));
        // One statement per query: each is bounded, and other requests get their turn in between.
        let buckets = history.ask(move |history| collected(|each| history.buckets(&points, each))).await?;
        let mut statistics = Vec::with_capacity(windows.len());
        for window in windows {
            let buckets_of_window =
                history.ask(move |history| collected(|each| history.buckets(&window, each)));
            statistics.push(buckets_of_window.await?);
        }
        let series = measurements.into_iter().map(|measurement| Series {
            points: buckets.iter().filter_map(|bucket| point(bucket, &measurement)).collect(),
            statistics: statistics
                .iter()
                .map(|window| window.first().and_then(|all| measurement.of(all)))
                .collect(),
            measurement,
        });
        Ok(series
            .filter(|one| !one.points.is_empty() || one.statistics.iter().any(Option::is_some))
            .collect())
    }

    /// Returns the newest reading, and the numeric `extra` fields of the newest ones in order of their names.
    async fn newest_readings(
        &self,
        history: &HistoryClient,
    ) -> Result<(Option<StoredReading>, Vec<String>), HistoryError> {
        let query = ReadingsQuery {
            machine_id: self.machine_id.clone(),
            from: ReadingCursor::before(Timestamp::from_micros(0)),
            // The payload rules may accept readings from a clock that is ahead.
            to: ReadingCursor::before(self.now.plus(Duration::from_secs(365 * 24 * 60 * 60))),
            order: Order::Descending,
            limit: READINGS_SEARCHED,
        };
        history
            .ask(move |history| {
                let mut newest = Newest::default();
                history.readings(&query, &mut |row| newest.take(row))?;
                Ok((newest.reading, newest.fields.into_iter().take(EXTRAS_MAX).collect()))
            })
            .await
    }

    async fn events(&self, history: &HistoryClient) -> Result<Vec<StoredEvent>, HistoryError> {
        let query = EventsQuery {
            machine_id: Some(self.machine_id.clone()),
            which: Events::ALL,
            // One more shows whether older ones exist.
            limit: EVENTS_MAX + 1,
        };
        history.ask(move |history| history.events(&query)).await
    }
}

fn point(bucket: &Bucket, measurement: &Measurement) -> Option<Point> {
    let Aggregate { min, mean, max, count } = measurement.of(bucket)?;
    let at = Timestamp::from_micros(bucket.start_seconds.saturating_mul(1_000_000));
    (min.is_finite() && mean.is_finite() && max.is_finite()).then_some(Point { at, min, mean, max, count })
}

/// Keeps the newest [`EVENTS_MAX`] events from `from` on. Returns the time of the oldest one kept if that dropped others.
fn limit_events(events: &mut Vec<StoredEvent>, from: Timestamp) -> Option<Timestamp> {
    let more = events.len() > EVENTS_MAX as usize;
    events.truncate(EVENTS_MAX as usize);
    let more = more && events.last().is_some_and(|event| event.key.at >= from);
    events.retain(|event| event.key.at >= from);
    events.last().filter(|_| more).map(|event| event.key.at)
}

fn change(event: &StoredEvent) -> Change {
    Change {
        at: event.key.at,
        online: event.status == "online",
        was_online: event.previous_status.as_deref().map(|word| word == "online"),
    }
}

/// Collects the newest reading and the numeric fields from the newest readings.
#[derive(Default)]
struct Newest {
    reading: Option<StoredReading>,
    fields: BTreeSet<String>,
    bytes: usize,
}

impl Newest {
    fn take(&mut self, mut row: StoredReading) -> ControlFlow<()> {
        let extra = row.reading.extra.as_deref().unwrap_or_default();
        self.bytes += extra.len();
        let is_measured = |(name, value): &(String, Box<RawValue>)| {
            number(value).is_some() && !ORIGINALS.contains(&name.as_str())
        };
        if extra.len() <= SEARCHED_BYTES_MAX {
            let measured = members(extra).into_iter().filter(is_measured);
            // Only the first few get a chart, so keep no more of a machine that sends thousands.
            self.fields.extend(measured.map(|(name, _)| name).take(EXTRAS_MAX));
        }
        if self.reading.is_none() {
            row.reading.extra = row.reading.extra.map(|extra| match extra.len() {
                0..=EXTRA_LISTED_BYTES_MAX => extra,
                bytes => size_placeholder(bytes),
            });
            self.reading = Some(row);
        }
        if self.bytes < SEARCHED_BYTES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Returns the raw members of `extra`; none if it is not an object.
pub fn members(extra: &str) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(extra).unwrap_or_default()
}

/// Returns a JSON number that fits a double.
pub fn number(value: &RawValue) -> Option<f64> {
    let text = value.get();
    let begins_like_one = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number = begins_like_one.then(|| text.parse::<f64>().ok()).flatten();
    number.filter(|number| number.is_finite())
}
