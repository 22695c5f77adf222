//! What a machine's page shows of its history: asked of the database, in few bounded questions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use chrono_tz::Tz;
use serde_json::value::RawValue;

use super::span::{Lookback, Window, windows};
use super::status_timeline::{Change, band};
use crate::domain::{DisplayStatus, MachineId, Timestamp};
use crate::http::board::charts::{Point, Span};
use crate::http::history::ANSWER_MAX;
use crate::http::latest::size_placeholder;
use crate::http::{HistoryError, HistoryPool};
use crate::store::{
    Aggregate, Bucket, BucketsQuery, EXTRA_LISTED_BYTES_MAX, Events, EventsQuery, Order, ReadingCursor,
    ReadingsQuery, StoredEvent, StoredReading, collected,
};

/// Numeric fields of `extra` that get a chart of their own.
const EXTRAS_MAX: usize = 4;
/// What stands in `extra` under these names is the original of a value that could not be used: no further measurement, whatever
/// it looks like.
const ORIGINALS: [&str; 4] = ["temperature", "humidity", "vibration", "timestamp"];
/// Newest readings that are looked at for such fields, and bytes of their `extra`.
const READINGS_LOOKED_AT: u32 = 20;
const LOOKED_AT_BYTES_MAX: usize = 1024 * 1024;
/// Changes of status that are shown, and that make the band.
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
    /// A numeric field of `extra`; its name comes from the machine.
    Extra(String),
}

impl Measurement {
    /// In words.
    pub fn name(&self) -> &str {
        match self {
            Self::Temperature => "Temperature",
            Self::Humidity => "Humidity",
            Self::Vibration => "Vibration",
            Self::Extra(field) => field,
        }
    }

    /// Its unit; none for what only the machine knows.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Temperature => "°C",
            Self::Humidity => "%",
            Self::Vibration => "mm/s",
            Self::Extra(_) => "",
        }
    }

    /// A class for its colour.
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

/// One measurement over the time that is looked at.
#[derive(Debug)]
pub struct Series {
    /// Which.
    pub measurement: Measurement,
    /// In order of time; never empty.
    pub points: Vec<Point>,
    /// Its figures for each of [`Past::windows`].
    pub figures: Vec<Option<Aggregate>>,
}

/// All that the page shows of the past.
#[derive(Debug)]
pub struct Past {
    /// The first instant of the charts.
    pub from: Timestamp,
    /// The instant after their last.
    pub to: Timestamp,
    /// What is measured.
    pub series: Vec<Series>,
    /// What the figures are for.
    pub windows: [Window; 4],
    /// The states; from [`Past::changes_from`] on, if that is set.
    pub band: Vec<Span>,
    /// Changes of status, newest first.
    pub events: Vec<StoredEvent>,
    /// There are more changes than are shown: the oldest of these. What was before it is not known here.
    pub changes_from: Option<Timestamp>,
    /// The newest reading, by its own time; of a large `extra` the size alone.
    pub latest: Option<StoredReading>,
}

/// What is asked for.
pub struct Question {
    /// Whose page.
    pub machine_id: MachineId,
    /// How far back.
    pub lookback: Lookback,
    /// The site's time zone.
    pub zone: Tz,
    /// The time.
    pub now: Timestamp,
    /// The present state and since when, as far as it is known.
    pub status: Option<(DisplayStatus, Timestamp)>,
}

impl Question {
    fn from(&self) -> Timestamp {
        let length = i64::try_from(self.lookback.length().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.now.as_micros().saturating_sub(length))
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

    /// Asks the database; all the questions of a page together take no longer than one may.
    pub async fn ask(&self, history: &HistoryPool) -> Result<Past, HistoryError> {
        let gathered = actix_rt::time::timeout(ANSWER_MAX, self.gather(history)).await;
        gathered.unwrap_or(Err(HistoryError::TooSlow))
    }

    async fn gather(&self, history: &HistoryPool) -> Result<Past, HistoryError> {
        let (latest, extras) = self.newest_readings(history).await?;
        let mut events = self.events(history).await?;
        let changes_from = cut(&mut events, self.from());
        let to = self.now;
        // Bound by one extra field a question; the usual measurements come with the first.
        let mut series: Vec<Series> = Vec::new();
        let questions: Vec<Option<&str>> = match extras.as_slice() {
            [] => vec![None],
            fields => fields.iter().map(|field| Some(field.as_str())).collect(),
        };
        for (index, extra) in questions.into_iter().enumerate() {
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
            // It says what was just before it, and not how long that was so.
            oldest.was_online = None;
        }
        Ok(Past {
            from: self.from(),
            to,
            series,
            windows: windows(self.now, self.zone),
            band: band(&changes, self.from(), to, self.status),
            events,
            changes_from,
            latest,
        })
    }

    async fn series(
        &self,
        history: &HistoryPool,
        measurements: Vec<Measurement>,
        extra: Option<&str>,
    ) -> Result<Vec<Series>, HistoryError> {
        let seconds = self.lookback.bucket_seconds();
        let points = self.buckets(self.from(), self.now, Some(seconds), extra);
        let windows =
            windows(self.now, self.zone).map(|window| self.buckets(window.from, window.to, None, extra));
        // One statement a question: each is bounded, and others get their turn between.
        let buckets = history.ask(move |history| collected(|each| history.buckets(&points, each))).await?;
        let mut figures = Vec::with_capacity(windows.len());
        for window in windows {
            let figures_of = history.ask(move |history| collected(|each| history.buckets(&window, each)));
            figures.push(figures_of.await?);
        }
        let series = measurements.into_iter().map(|measurement| Series {
            points: buckets.iter().filter_map(|bucket| point(bucket, &measurement)).collect(),
            figures: figures
                .iter()
                .map(|window| window.first().and_then(|all| measurement.of(all)))
                .collect(),
            measurement,
        });
        Ok(series.filter(|one| !one.points.is_empty() || one.figures.iter().any(Option::is_some)).collect())
    }

    /// The newest reading, and the fields of `extra` that hold numbers in the newest ones, in order of their names.
    async fn newest_readings(
        &self,
        history: &HistoryPool,
    ) -> Result<(Option<StoredReading>, Vec<String>), HistoryError> {
        let query = ReadingsQuery {
            machine_id: self.machine_id.clone(),
            from: ReadingCursor::before(Timestamp::from_micros(0)),
            // A device's clock may be ahead as far as the payload's rules allow.
            to: ReadingCursor::before(self.now.plus(Duration::from_secs(365 * 24 * 60 * 60))),
            order: Order::Descending,
            limit: READINGS_LOOKED_AT,
        };
        history
            .ask(move |history| {
                let mut newest = Newest::default();
                history.readings(&query, &mut |row| newest.take(row))?;
                Ok((newest.reading, newest.fields.into_iter().take(EXTRAS_MAX).collect()))
            })
            .await
    }

    async fn events(&self, history: &HistoryPool) -> Result<Vec<StoredEvent>, HistoryError> {
        let query = EventsQuery {
            machine_id: Some(self.machine_id.clone()),
            which: Events::ALL,
            // One more tells whether there are more.
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

/// Leaves those from `from` on of the newest [`EVENTS_MAX`] of `events`, and tells when the oldest of these was if there were more.
fn cut(events: &mut Vec<StoredEvent>, from: Timestamp) -> Option<Timestamp> {
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

/// What is learnt from the newest readings, one after the other.
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
        if extra.len() <= LOOKED_AT_BYTES_MAX {
            let measured = members(extra).into_iter().filter(is_measured);
            // Those that come first are charted; of a machine that sends thousands no more are kept.
            self.fields.extend(measured.map(|(name, _)| name).take(EXTRAS_MAX));
        }
        if self.reading.is_none() {
            row.reading.extra = row.reading.extra.map(|extra| match extra.len() {
                0..=EXTRA_LISTED_BYTES_MAX => extra,
                bytes => size_placeholder(bytes),
            });
            self.reading = Some(row);
        }
        if self.bytes < LOOKED_AT_BYTES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// The members of `extra` as they stand there; none if it is no object.
pub fn members(extra: &str) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(extra).unwrap_or_default()
}

/// A JSON number that a double holds.
pub fn number(value: &RawValue) -> Option<f64> {
    let text = value.get();
    let begins_like_one = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number = begins_like_one.then(|| text.parse::<f64>().ok()).flatten();
    number.filter(|number| number.is_finite())
}
