//! Where a page of buckets ends, so that one statement is never computed from too many readings.

use diesel::QueryableByName;

use super::BucketsQuery;
use super::rolled::whole_buckets;
use crate::domain::Timestamp;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::unreadable::Column;

#[derive(QueryableByName)]
pub(super) struct InstantColumn {
    #[diesel(sql_type = Instant)]
    pub recorded_at: Column<SqlInstant>,
}

/// Returns whether all of `query` is one page: one bucket, or rollups answer.
pub(super) fn is_one_page(query: &BucketsQuery) -> bool {
    query.bucket_seconds.is_none() || whole_buckets(query).is_some()
}

/// Returns the end of the page: the start of the bucket that holds `one_too_many`, the first reading beyond
/// the page. A page has at least one bucket, and never ends after `query`.
pub(super) fn end_before(query: &BucketsQuery, one_too_many: Timestamp) -> Timestamp {
    let Some(seconds) = query.bucket_seconds else { return query.to };
    let length = i64::from(seconds) * 1_000_000;
    let start = |instant: Timestamp| instant.as_micros() - instant.as_micros().rem_euclid(length);
    let end = start(one_too_many).max(start(query.from).saturating_add(length));
    Timestamp::from_micros(end).min(query.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MachineId;

    #[test]
    fn a_page_ends_at_a_bucket_and_has_at_least_one() {
        let second = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let query = BucketsQuery {
            machine_id: MachineId::parse("m").unwrap(),
            from: second(30),
            to: second(1_000),
            bucket_seconds: Some(60),
            extra: None,
        };
        for (one_too_many, end) in [(31, 60), (60, 60), (119, 60), (120, 120), (659, 600), (999, 960)] {
            assert_eq!(end_before(&query, second(one_too_many)), second(end), "{one_too_many}");
        }
        assert_eq!(end_before(&BucketsQuery { to: second(50), ..query }, second(40)), second(50));
    }
}
