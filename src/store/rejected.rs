//! The table `rejected_message`: what could not become a reading, listed, counted and deleted.

use diesel::prelude::*;
use diesel::sql_types::{Binary, Integer};

use super::both_databases::for_both_databases;
use super::from_bigint;
use super::schema::SqlInstant;
use crate::domain::{Qos, Seq, Timestamp};

/// A row of `rejected_message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Numbers the rows in the order in which they were written.
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
    /// How many bytes are kept.
    pub payload_bytes: u64,
    /// The text of a [`RejectReason`](crate::domain::RejectReason), perhaps of a later version.
    pub reason: String,
    /// Why, for a person.
    pub detail: String,
}

/// Selects rejected elements of the site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RejectedFilter {
    /// Only of this reason.
    pub reason: Option<String>,
    /// Received at or after this.
    pub from: Option<Timestamp>,
    /// Received before this.
    pub to: Option<Timestamp>,
}

/// Which of the selected rows, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectedPage {
    /// Newest first, those with a smaller id.
    Before(i64),
    /// Oldest first, those with a larger id.
    After(i64),
    /// The one with this id.
    Only(i64),
}

/// How many elements share a reason and a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedCount {
    /// Why they were rejected.
    pub reason: String,
    /// The messages' topic.
    pub topic: String,
    /// How many.
    pub elements: u64,
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
    /// Some bytes of a value; the same on both databases.
    fn substr(bytes: Binary, from: Integer, length: Integer) -> diesel::sql_types::Nullable<Binary>;
}

diesel::define_sql_function! {
    /// The number of bytes; the same on both databases.
    fn length(bytes: Binary) -> Integer;
}

/// Adds the conditions of a filter to a boxed query.
macro_rules! filtered {
    ($query:expr, $filter:expr) => {{
        let (mut query, filter): (_, &RejectedFilter) = ($query, $filter);
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
    }};
}

for_both_databases! {
    []

    use crate::store::schema::rejected_message::{self as row, dsl};

    /// Loads at most `rows_max` rows of a page, each with the first `payload_bytes` of its payload.
    pub fn load(
        connection: &mut Connection,
        site: &str,
        filter: &RejectedFilter,
        page: RejectedPage,
        rows_max: u32,
        payload_bytes: u32,
    ) -> QueryResult<Vec<RejectedRow>> {
        let query = filtered!(row::table.filter(row::site.eq(site)).into_boxed(), filter);
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
        let rows = query.limit(i64::from(rows_max)).select(columns).load::<RejectedColumns>(connection)?;
        Ok(rows.into_iter().map(rejected_row).collect())
    }

    /// Counts elements by reason and topic.
    pub fn count(
        connection: &mut Connection,
        site: &str,
        filter: &RejectedFilter,
    ) -> QueryResult<Vec<RejectedCount>> {
        let query = row::table
            .group_by((row::reason, row::topic))
            .select((row::reason, row::topic, diesel::dsl::count_star()))
            .filter(row::site.eq(site))
            .into_boxed();
        let counts = filtered!(query, filter).load::<(String, String, i64)>(connection)?;
        let count =
            |(reason, topic, elements)| RejectedCount { reason, topic, elements: from_bigint(elements) };
        Ok(counts.into_iter().map(count).collect())
    }

    /// Deletes one row. Returns `false` if it does not exist.
    pub fn delete(connection: &mut Connection, site: &str, id: i64) -> QueryResult<bool> {
        let deleted = diesel::delete(dsl::rejected_message.filter(row::site.eq(site)).filter(row::id.eq(id)));
        Ok(deleted.execute(connection)? == 1)
    }
}
