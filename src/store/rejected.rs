//! What could not become a reading: looked at, and tried again.
//!
//! A retry moves elements inside the ledger of their journal, from `rejected` to `stored` or `duplicate`, in the
//! transaction that stores the readings and deletes the row (STO-6). The position does not move, so a service that runs
//! meanwhile never notices: both lock the checkpoint's row first, and both only add to its counters.

use diesel::prelude::*;
use diesel::sql_types::{Binary, Integer};

use super::failure::CommitFailure;
use super::schema::SqlInstant;
use super::{Cause, ReadingRow, RejectionRow, bigint, from_bigint};
use crate::domain::{Qos, Seq, Timestamp};

/// A row of `rejected_message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Numbers the rows as they were written.
    pub id: i64,
    /// The journal that the message came through.
    pub journal_id: String,
    /// The message's place in it.
    pub seq: Seq,
    /// Which element of the message, from 0.
    pub element: u32,
    /// When the message was received.
    pub received_at: Timestamp,
    /// The message's topic.
    pub topic: String,
    /// The message's quality of service.
    pub qos: Qos,
    /// The message was a retained one.
    pub retained: bool,
    /// Andon's clock was unset when it came; rows of older versions do not say, and count as `false`.
    pub clock_unset: bool,
    /// The bytes that are kept, or as many of them as were asked for.
    pub payload: Vec<u8>,
    /// How many are kept.
    pub payload_bytes: u64,
    /// A word of [`RejectReason`](crate::domain::RejectReason), or of a later version.
    pub reason: String,
    /// Why, for a person.
    pub detail: String,
}

/// Which rejected elements of the site are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RejectedFilter {
    /// Only of this reason.
    pub reason: Option<String>,
    /// Received at or after this.
    pub from: Option<Timestamp>,
    /// Received before this.
    pub to: Option<Timestamp>,
}

/// Which part of the rows that a filter lets through, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectedPage {
    /// Newest first, those with a smaller id.
    Before(i64),
    /// Oldest first, those with a larger id.
    After(i64),
    /// This one.
    Only(i64),
}

/// How many elements of one reason and topic there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedCount {
    /// Why.
    pub reason: String,
    /// The message's topic.
    pub topic: String,
    /// How many.
    pub elements: u64,
}

/// A rejected element as it is to be now. A message that was rejected as a whole may turn out to be an array of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// The row.
    pub id: i64,
    /// Whose ledger.
    pub journal_id: String,
    /// What is a reading now; at least one.
    pub readings: Vec<ReadingRow>,
    /// Elements beside them that are none.
    pub rejections: Vec<RejectionRow>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryOutcome {
    /// The row is gone, and this took its place.
    Settled {
        /// Readings that are new in the database.
        stored: u64,
        /// Readings that were there already.
        duplicate: u64,
        /// Elements that are rejected now.
        rejected: u64,
    },
    /// Nothing changed: the database refuses the reading, in these words.
    Refused(String),
    /// Nothing changed: the row is not there any more.
    Gone,
}

/// How a retry's transaction ends without a commit.
pub(super) enum RetryStop {
    Refused(String),
    Gone,
    Failed(Cause),
}

impl From<diesel::result::Error> for RetryStop {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<CommitFailure> for RetryStop {
    fn from(failure: CommitFailure) -> Self {
        match failure {
            CommitFailure::Step(_, error) | CommitFailure::Cancelled { error, .. } => error.into(),
            CommitFailure::Stale(_) => Self::Gone,
        }
    }
}

impl RetryStop {
    /// The outcome, unless it is an error.
    pub(super) fn into_result(self) -> Result<RetryOutcome, Cause> {
        match self {
            Self::Refused(words) => Ok(RetryOutcome::Refused(words)),
            Self::Gone => Ok(RetryOutcome::Gone),
            Self::Failed(error) => Err(error),
        }
    }

    /// The row's journal has no ledger to keep; somebody has tampered with the tables.
    pub(super) fn no_ledger(journal_id: &str) -> Self {
        Self::Failed(format!("journal {journal_id} has no row in ingest_checkpoint").into())
    }
}

type RejectedColumns = (
    i64,
    String,
    i64,
    i32,
    SqlInstant,
    String,
    i16,
    (bool, Option<bool>),
    Option<Vec<u8>>,
    i32,
    String,
    String,
);

fn rejected_row(columns: RejectedColumns) -> RejectedRow {
    let (
        id,
        journal_id,
        seq,
        element,
        received_at,
        topic,
        qos,
        (retained, clock_unset),
        payload,
        bytes,
        reason,
        detail,
    ) = columns;
    RejectedRow {
        id,
        journal_id,
        seq: Seq(from_bigint(seq)),
        element: u32::try_from(element).unwrap_or(0),
        received_at: received_at.0,
        topic,
        qos: u8::try_from(qos).ok().and_then(Qos::from_u8).unwrap_or(Qos::AtLeastOnce),
        retained,
        clock_unset: clock_unset.unwrap_or(false),
        payload: payload.unwrap_or_default(),
        payload_bytes: u64::try_from(bytes).unwrap_or(0),
        reason,
        detail,
    }
}

diesel::define_sql_function! {
    /// The first bytes; alike on both databases.
    fn substr(bytes: Binary, from: Integer, length: Integer) -> diesel::sql_types::Nullable<Binary>;
}

diesel::define_sql_function! {
    /// Number of bytes; alike on both databases.
    fn length(bytes: Binary) -> Integer;
}

macro_rules! rejected_queries_for {
    ($name:ident, $connection:ty) => {
        /// The queries on this connection.
        pub(super) mod $name {
            use super::super::schema::rejected_message::{self as row, dsl};
            use super::*;

            type Boxed<'a> = row::BoxedQuery<'a, <$connection as diesel::Connection>::Backend>;

            fn filtered<'a>(site: &'a str, filter: &'a RejectedFilter) -> Boxed<'a> {
                let mut query = row::table.filter(row::site.eq(site)).into_boxed();
                if let Some(reason) = &filter.reason {
                    query = query.filter(row::reason.eq(reason));
                }
                if let Some(from) = filter.from {
                    query = query.filter(row::received_at.ge(SqlInstant(from)));
                }
                if let Some(to) = filter.to {
                    query = query.filter(row::received_at.lt(SqlInstant(to)));
                }
                query
            }

            /// At most `rows_max` rows of a page, each with the first `payload_bytes` of its payload.
            pub(in super::super) fn load_rejected(
                connection: &mut $connection,
                site: &str,
                filter: &RejectedFilter,
                page: RejectedPage,
                rows_max: u32,
                payload_bytes: u32,
            ) -> QueryResult<Vec<RejectedRow>> {
                let query = filtered(site, filter);
                let query = match page {
                    RejectedPage::Before(id) => query.filter(row::id.lt(id)).order(row::id.desc()),
                    RejectedPage::After(id) => query.filter(row::id.gt(id)).order(row::id.asc()),
                    RejectedPage::Only(id) => query.filter(row::id.eq(id)),
                };
                let columns = (
                    row::id,
                    row::journal_id,
                    row::seq,
                    row::element,
                    row::received_at,
                    row::topic,
                    row::qos,
                    (row::retained, row::clock_unset),
                    substr(row::payload, 1, i32::try_from(payload_bytes).unwrap_or(i32::MAX)),
                    length(row::payload),
                    row::reason,
                    row::detail,
                );
                let rows =
                    query.limit(i64::from(rows_max)).select(columns).load::<RejectedColumns>(connection)?;
                Ok(rows.into_iter().map(rejected_row).collect())
            }

            /// Elements by reason and topic.
            pub(in super::super) fn count_rejected(
                connection: &mut $connection,
                site: &str,
                filter: &RejectedFilter,
            ) -> QueryResult<Vec<RejectedCount>> {
                let mut query = row::table
                    .group_by((row::reason, row::topic))
                    .select((row::reason, row::topic, diesel::dsl::count_star()))
                    .filter(row::site.eq(site))
                    .into_boxed();
                if let Some(reason) = &filter.reason {
                    query = query.filter(row::reason.eq(reason));
                }
                if let Some(from) = filter.from {
                    query = query.filter(row::received_at.ge(SqlInstant(from)));
                }
                if let Some(to) = filter.to {
                    query = query.filter(row::received_at.lt(SqlInstant(to)));
                }
                let counts = query.load::<(String, String, i64)>(connection)?;
                let count = |(reason, topic, elements)| RejectedCount {
                    reason,
                    topic,
                    elements: from_bigint(elements),
                };
                Ok(counts.into_iter().map(count).collect())
            }

            /// Deletes the row of a retry; `false` if it is not there.
            pub(in super::super) fn delete_rejected(
                connection: &mut $connection,
                site: &str,
                id: i64,
            ) -> QueryResult<bool> {
                let deleted =
                    diesel::delete(dsl::rejected_message.filter(row::site.eq(site)).filter(row::id.eq(id)));
                Ok(deleted.execute(connection)? == 1)
            }

            /// Moves one element from `rejected` to what it is now; `false` if the journal has no ledger.
            pub(in super::super) fn move_in_ledger(
                connection: &mut $connection,
                journal_id: &str,
                stored: u64,
                duplicate: u64,
                rejected: u64,
            ) -> QueryResult<bool> {
                use super::super::schema::ingest_checkpoint as ledger;
                let moved = diesel::update(ledger::table.find(journal_id)).set((
                    ledger::stored.eq(ledger::stored + bigint(stored)),
                    ledger::duplicate.eq(ledger::duplicate + bigint(duplicate)),
                    ledger::rejected.eq(ledger::rejected + bigint(rejected) - 1_i64),
                ));
                Ok(moved.execute(connection)? == 1)
            }
        }
    };
}

rejected_queries_for!(sqlite, SqliteConnection);
rejected_queries_for!(postgres, PgConnection);
