//! What the board and the API read, through a separate, read-only connection.
//!
//! Both databases run the same SQL wherever possible (`$1` is a parameter on both, as long as each first
//! appears in order). Every query walks along an index and is bounded by a limit or a range; none scans a
//! table (tests check the plans of both databases).
//!
//! Statistics of long ranges come from the rollups of five minutes ([`rolled`]). No statement takes longer
//! than `statement_timeout`; on SQLite a [`deadline`] enforces it.
//!
//! Invariants
//! - **HIS-1** The connection cannot write: SQLite opens the file with `mode=ro`, PostgreSQL's session is
//!   read-only.
//! - **HIS-2** A page continues exactly after the last row of the previous page, whatever was inserted
//!   meanwhile: a cursor is that row's key, never a count.

mod bucket_page;
mod deadline;
mod outages;
mod postgres;
mod queries;
mod range;
pub(super) mod rolled;
mod rows;
pub(super) mod sql;
mod sqlite;

use std::time::{Duration, Instant};

use crate::domain::{LinkOutage, MachineId, Timestamp};

pub use range::{EventCursor, Order, ReadingCursor};
pub use rows::{
    Aggregate, Bucket, EachRow, LatestReading, StoredEvent, StoredReading, TrendPoint, collected,
};

use super::{DatabaseUrl, MachineRow, StoreError, StoreOptions};

/// A list of machines replaces a larger `extra` by its size in bytes: `{"_bytes":250000}`.
pub const EXTRA_LISTED_BYTES_MAX: usize = 16 * 1024;

/// Readings of one machine in a range of keys.
#[derive(Debug, Clone)]
pub struct ReadingsQuery {
    /// The machine.
    pub machine_id: MachineId,
    /// Start of the range, inclusive.
    pub from: ReadingCursor,
    /// End of the range, exclusive.
    pub to: ReadingCursor,
    /// Oldest or newest first.
    pub order: Order,
    /// Bound on rows.
    pub limit: u32,
}

impl ReadingsQuery {
    /// Continues after `cursor`, within the range.
    pub fn advance(&mut self, cursor: ReadingCursor) {
        match self.order {
            Order::Ascending => self.from = self.from.max(cursor.successor()),
            Order::Descending => self.to = self.to.min(cursor),
        }
    }
}

/// Minimum, mean, maximum and count: of each bucket of a range, or of the whole range.
#[derive(Debug, Clone)]
pub struct BucketsQuery {
    /// The machine.
    pub machine_id: MachineId,
    /// Start of the range, inclusive.
    pub from: Timestamp,
    /// End of the range, exclusive.
    pub to: Timestamp,
    /// Length of a bucket in seconds; buckets begin at multiples of it since 1970. `None`: the range is one
    /// bucket.
    pub bucket_seconds: Option<u32>,
    /// A numeric field of `extra` to include.
    pub extra: Option<String>,
}

/// Changes of status, newest first.
#[derive(Debug, Clone)]
pub struct EventsQuery {
    /// The machine; `None`: all machines of the site.
    pub machine_id: Option<MachineId>,
    /// Which, and in which order.
    pub which: Events,
    /// Bound on rows.
    pub limit: u32,
}

/// Which events, and in which order.
#[derive(Debug, Clone, Copy)]
pub enum Events {
    /// Those with a smaller id, in the order in which they happened, whatever the wall clock said.
    Recorded(i64),
    /// Those of a range of time, in the order of their times.
    Within {
        /// Start of the range, inclusive.
        from: Timestamp,
        /// End of the range, exclusive: the last key of the previous page.
        before: EventCursor,
    },
}

impl Events {
    /// All of them.
    pub const ALL: Self = Self::Recorded(i64::MAX);

    /// Continues after a page with this last readable row, whose last row has this id. Returns `false` if
    /// neither is known.
    fn advance_past(&mut self, last: Option<EventCursor>, last_id: Option<i64>) -> bool {
        match (self, last, last_id) {
            (Self::Recorded(before), _, Some(id)) => *before = id,
            (which, Some(last), _) => which.advance(last),
            _ => return false,
        }
        true
    }

    /// Continues after `cursor`.
    pub fn advance(&mut self, cursor: EventCursor) {
        match self {
            Self::Recorded(id) => *id = cursor.id.min(*id),
            Self::Within { before, .. } => *before = cursor.min(*before),
        }
    }
}

/// Means of some machines by equal steps of time, for small charts.
#[derive(Debug, Clone)]
pub struct TrendsQuery {
    /// The machines.
    pub machine_ids: Vec<MachineId>,
    /// Start of the range, inclusive.
    pub from: Timestamp,
    /// End of the range, exclusive.
    pub to: Timestamp,
    /// Length of a step in seconds; steps begin at multiples of it since 1970.
    pub step_seconds: u32,
}

/// A read-only connection to the database of one site. Every call blocks.
pub trait History: Send {
    /// Checks that this connection has the file open that is at its path now. Always true of a server.
    ///
    /// # Errors
    /// [`StoreError::FileMoved`]: drop this connection.
    fn check_file(&self) -> Result<(), StoreError>;

    /// Returns every machine of the site, in order of their ids.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`] or [`StoreError::HistoryTooSlow`], as for every method here.
    fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError>;

    /// Returns the first machine behind `after` that has readings, with or without a status: one index seek. The text is as
    /// stored, so that one that is no machine id can be passed by.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn machine_with_readings(&mut self, after: &str) -> Result<Option<String>, StoreError>;

    /// Passes on the newest reading of each machine that has a status; one index seek each. Replaces an
    /// `extra` of more than [`EXTRA_LISTED_BYTES_MAX`] by its size.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn latest(&mut self, each: EachRow<'_, (MachineId, LatestReading)>) -> Result<(), StoreError>;

    /// Returns the newest reading of one machine, with or without a status.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn latest_of(&mut self, machine_id: &MachineId) -> Result<Option<LatestReading>, StoreError>;

    /// Passes on readings one by one: a single one may have `mqtt.max_payload` bytes. PostgreSQL also sends
    /// rows that `each` no longer takes.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn readings(&mut self, query: &ReadingsQuery, each: EachRow<'_, StoredReading>)
    -> Result<(), StoreError>;

    /// Passes on buckets in order of time, without empty ones. Without a length there is always one bucket.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn buckets(&mut self, query: &BucketsQuery, each: EachRow<'_, Bucket>) -> Result<(), StoreError>;

    /// Returns the end of a page of buckets computed from at most `readings_max` readings, or of one bucket:
    /// the start of a bucket, or the end of `query`. Rollups do not count as readings.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn bucket_page_end(&mut self, query: &BucketsQuery, readings_max: u32) -> Result<Timestamp, StoreError>;

    /// Returns the steps of all those machines, machine by machine in order of time, without empty ones.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn trends(&mut self, query: &TrendsQuery) -> Result<Vec<TrendPoint>, StoreError>;

    /// Returns a page of events, newest first.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn events(&mut self, query: &EventsQuery) -> Result<Vec<StoredEvent>, StoreError>;

    /// Returns our own outages that overlap the time from `from` to before `to`, in order of time; of very
    /// many the newest.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn outages(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<LinkOutage>, StoreError>;
}

/// Connects for reading only. Creates nothing: a missing SQLite file is an error.
///
/// # Errors
/// [`StoreError::Connect`].
pub fn open_history(options: &StoreOptions) -> Result<Box<dyn History>, StoreError> {
    match &options.url {
        DatabaseUrl::Sqlite(path) => Ok(Box::new(sqlite::SqliteHistory::open(path, options)?)),
        DatabaseUrl::Postgres(url) => Ok(Box::new(postgres::PostgresHistory::open(url, options)?)),
    }
}

/// A running query.
struct RunningQuery {
    begun_at: Instant,
    limit: Duration,
}

impl RunningQuery {
    fn new(limit: Duration) -> Self {
        Self { begun_at: Instant::now(), limit }
    }

    /// Turns the query's error into one that says which part could not be read. The clock tells whether it took
    /// too long; the messages of the databases differ.
    fn failed(self, what: &'static str) -> impl FnOnce(diesel::result::Error) -> StoreError {
        move |source| {
            let source = source.into();
            let is_too_slow = !self.limit.is_zero() && self.begun_at.elapsed() >= self.limit;
            if is_too_slow {
                StoreError::HistoryTooSlow { what, limit: self.limit, source }
            } else {
                StoreError::ReadHistory { what, source }
            }
        }
    }
}

/// Tries to write through a connection of [`open_history`].
#[cfg(test)]
pub(super) fn try_to_write(options: &StoreOptions) -> Result<(), String> {
    use diesel::connection::SimpleConnection;
    let statement = "DELETE FROM machine";
    let outcome = match &options.url {
        DatabaseUrl::Sqlite(path) => {
            sqlite::SqliteHistory::open(path, options).expect("it opens").connection.batch_execute(statement)
        }
        DatabaseUrl::Postgres(url) => postgres::PostgresHistory::open(url, options)
            .expect("it opens")
            .connection
            .batch_execute(statement),
    };
    outcome.map_err(|error| error.to_string())
}
