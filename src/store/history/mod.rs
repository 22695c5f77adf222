//! What the board and the API read: history, through a read-only connection of its own.
//!
//! The same SQL on both databases wherever they understand it alike (`$1` is a parameter to both, as long as each
//! first appears in order). Every query is a walk along an index, bounded by a limit or by the range asked for;
//! none scans a table (a test asks both databases for their plans).
//!
//! Statistics of long times come from buckets of five minutes that are kept with the rows ([`rolled`]). No statement takes longer
//! than `statement_timeout`, on SQLite by a [`deadline`] of ours.
//!
//! Invariants
//! - **HIS-1** Nothing is written: SQLite opens the file with `mode=ro`, PostgreSQL's session is read-only.
//! - **HIS-2** A page continues exactly where the one before ended, whatever was inserted meanwhile: a cursor is the key
//!   of the last row, never a count.

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

/// Of a larger `extra` a list of machines has the size alone, in bytes: `{"_bytes":250000}`.
pub const EXTRA_LISTED_BYTES_MAX: usize = 16 * 1024;

/// Readings of one machine, from a first key on and up to before a last one.
#[derive(Debug, Clone)]
pub struct ReadingsQuery {
    /// Whose.
    pub machine_id: MachineId,
    /// The first key that counts.
    pub from: ReadingCursor,
    /// The first key that counts no more.
    pub to: ReadingCursor,
    /// Oldest or newest first.
    pub order: Order,
    /// Rows at most.
    pub limit: u32,
}

impl ReadingsQuery {
    /// Goes on after `cursor`, within the range.
    pub fn advance(&mut self, cursor: ReadingCursor) {
        match self.order {
            Order::Ascending => self.from = self.from.max(cursor.successor()),
            Order::Descending => self.to = self.to.min(cursor),
        }
    }
}

/// Minimum, mean, maximum and count, for each of equal stretches of time or for one.
#[derive(Debug, Clone)]
pub struct BucketsQuery {
    /// Whose.
    pub machine_id: MachineId,
    /// The first instant that counts.
    pub from: Timestamp,
    /// The first instant that counts no more.
    pub to: Timestamp,
    /// Length of a bucket in seconds; buckets begin at multiples of it since 1970. `None`: all is one bucket.
    pub bucket_seconds: Option<u32>,
    /// Also of this numeric field of `extra`.
    pub extra: Option<String>,
}

/// Changes of status, newest first.
#[derive(Debug, Clone)]
pub struct EventsQuery {
    /// Whose; `None`: of all machines of the site.
    pub machine_id: Option<MachineId>,
    /// Which, and in which order.
    pub which: Events,
    /// Rows at most.
    pub limit: u32,
}

/// Which events, and in which order.
#[derive(Debug, Clone, Copy)]
pub enum Events {
    /// In the order in which they happened, whatever the wall clock said: those with an id below this.
    Recorded(i64),
    /// Those of a time, in the order of the times that they bear.
    Within {
        /// The first instant that counts.
        from: Timestamp,
        /// The first key that counts no more: the last one of the page before.
        before: EventCursor,
    },
}

impl Events {
    /// The newest first, and all of them.
    pub const ALL: Self = Self::Recorded(i64::MAX);

    /// Goes on after a page, of which this is the last row that could be read, and the id of the last row. `false`: there is no going on.
    fn go_on_after(&mut self, last: Option<EventCursor>, last_id: Option<i64>) -> bool {
        match (self, last, last_id) {
            (Self::Recorded(before), _, Some(id)) => *before = id,
            (which, Some(last), _) => which.advance(last),
            _ => return false,
        }
        true
    }

    /// Goes on after `cursor`.
    pub fn advance(&mut self, cursor: EventCursor) {
        match self {
            Self::Recorded(id) => *id = cursor.id.min(*id),
            Self::Within { before, .. } => *before = cursor.min(*before),
        }
    }
}

/// The means of the newest minutes of some machines, for small curves.
#[derive(Debug, Clone)]
pub struct TrendsQuery {
    /// Whose.
    pub machine_ids: Vec<MachineId>,
    /// The first instant that counts.
    pub from: Timestamp,
    /// The first instant that counts no more.
    pub to: Timestamp,
    /// Length of a step in seconds; steps begin at multiples of it since 1970.
    pub step_seconds: u32,
}

/// A read-only connection to the database of one site. Every call blocks.
pub trait History: Send {
    /// Whether this connection still has the database open that is at its place.
    ///
    /// # Errors
    /// [`StoreError::FileMoved`]: it has not, and has to be dropped.
    fn check_place(&self) -> Result<(), StoreError>;

    /// Every machine of the site as the database knows it, in order of their ids.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`] or [`StoreError::HistoryTooSlow`], as of every call here.
    fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError>;

    /// The newest reading of each machine that has a status; one index seek each. An `extra` of more than
    /// [`EXTRA_LISTED_BYTES_MAX`] is replaced by its size.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn latest(&mut self, each: EachRow<'_, (MachineId, LatestReading)>) -> Result<(), StoreError>;

    /// The newest reading of one machine, also of one without status.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn latest_of(&mut self, machine_id: &MachineId) -> Result<Option<LatestReading>, StoreError>;

    /// Readings, one by one: a single one may be of `mqtt.max_payload` bytes. Rows that are asked for and not taken cost PostgreSQL
    /// their way over the network.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn readings(&mut self, query: &ReadingsQuery, each: EachRow<'_, StoredReading>)
    -> Result<(), StoreError>;

    /// Buckets in order of time; empty ones are left out. Without a bucket's length there is always one.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn buckets(&mut self, query: &BucketsQuery, each: EachRow<'_, Bucket>) -> Result<(), StoreError>;

    /// Where a page of those buckets ends that is computed from at most `readings_max` readings, or from one bucket: at the
    /// beginning of a bucket, or at the end of `query`. Whole buckets of five minutes are not counted.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn bucket_page_end(&mut self, query: &BucketsQuery, readings_max: u32) -> Result<Timestamp, StoreError>;

    /// The steps of all those machines in one query, machine by machine in order of time; empty ones are left out.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn trends(&mut self, query: &TrendsQuery) -> Result<Vec<TrendPoint>, StoreError>;

    /// A page of events.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn events(&mut self, query: &EventsQuery) -> Result<Vec<StoredEvent>, StoreError>;

    /// Our own outages that overlap with the time from `from` to before `to`, in order of time; the newest if they are very many.
    ///
    /// # Errors
    /// [`StoreError::ReadHistory`].
    fn outages(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<LinkOutage>, StoreError>;
}

/// Connects, for reading only. Creates nothing: an SQLite file that is not there is an error.
///
/// # Errors
/// [`StoreError::Connect`].
pub fn open_history(options: &StoreOptions) -> Result<Box<dyn History>, StoreError> {
    match &options.url {
        DatabaseUrl::Sqlite(path) => Ok(Box::new(sqlite::SqliteHistory::open(path, options)?)),
        DatabaseUrl::Postgres(url) => Ok(Box::new(postgres::PostgresHistory::open(url, options)?)),
    }
}

/// A statement on its way.
struct Begun {
    at: Instant,
    limit: Duration,
}

impl Begun {
    fn new(limit: Duration) -> Self {
        Self { at: Instant::now(), limit }
    }

    /// Names what could not be read. Databases say in various words that a statement took too long; the clock says it too.
    fn unread(self, what: &'static str) -> impl FnOnce(diesel::result::Error) -> StoreError {
        move |source| {
            let source = source.into();
            let is_too_slow = !self.limit.is_zero() && self.at.elapsed() >= self.limit;
            if is_too_slow {
                StoreError::HistoryTooSlow { what, limit: self.limit, source }
            } else {
                StoreError::ReadHistory { what, source }
            }
        }
    }
}

/// Tries to write through a connection as [`open_history`] makes it, and says why that failed.
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
