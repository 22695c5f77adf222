//! Rejected messages: old ones go, and of the others the oldest, once all of a site have too many payload
//! bytes.
//!
//! Counting reads the whole table, in steps, from the newest row to the oldest. A count that was within the
//! bound is remembered: until as many bytes have been added, nothing can be beyond it, because rows that were
//! deleted meanwhile only make the sum smaller. Once the bound is passed, rows go until a part of the room is
//! free again ([`FREED_PART`]), so that the next count is not due at once.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::{Place, PruneBounds, PruneCursor, PruneTable, Pruned, RowKey};
use crate::domain::Timestamp;
use crate::store::both_databases::for_both_databases;
use crate::store::from_bigint;
use crate::store::retention::PruneLimits;
use crate::store::schema::{Instant, SqlInstant};

/// Once rows go, a 64th of the room is freed.
const FREED_PART: u64 = 64;

/// A finished count that was within the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedBytes {
    /// Rows up to this id are in it.
    upto: i64,
    /// Their payload bytes.
    bytes: u64,
}

#[derive(QueryableByName)]
struct SizedRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Instant)]
    received_at: SqlInstant,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

impl SizedRow {
    fn key(&self) -> RowKey {
        RowKey { at: self.received_at.0, id: self.id }
    }

    fn bytes(&self) -> u64 {
        from_bigint(self.bytes)
    }
}

#[derive(QueryableByName)]
struct NewestRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    value: Option<i64>,
}

#[derive(QueryableByName)]
struct AddedRow {
    #[diesel(sql_type = BigInt)]
    elements: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// `$1` site, `$2` and `$3` time and id before which to look, `$4` rows at most.
fn sized_rows(order: &str) -> String {
    format!(
        "SELECT id, received_at, CAST(length(payload) AS bigint) AS bytes FROM rejected_message \
         WHERE site = $1 AND (received_at, id) < ($2, $3) ORDER BY received_at {order}, id {order} LIMIT $4"
    )
}

const NEWEST: &str = "SELECT max(id) AS value FROM rejected_message";

/// `$1` an id, `$2` site, `$3` rows at most. `|| ''` keeps the databases from walking the index on site and
/// time.
const ADDED: &str = "SELECT count(*) AS elements, CAST(coalesce(sum(length(added.payload)), 0) AS bigint) AS bytes \
     FROM (SELECT payload FROM rejected_message WHERE id > $1 AND site || '' = $2 LIMIT $3) AS added";

/// How many rows, from the first, have at most `bytes_max` bytes; at least one.
fn within(rows: &[SizedRow], bytes_max: u64) -> usize {
    let mut bytes = 0u64;
    let fits = |row: &&SizedRow| {
        bytes = bytes.saturating_add(row.bytes());
        bytes <= bytes_max
    };
    rows.iter().take_while(fits).count().max(1)
}

for_both_databases! {
    []

    /// Deletes rows received before the limit; then, if the site has more payload bytes than its limit, the
    /// oldest of the others.
    pub fn prune(
        connection: &mut Connection,
        site: &str,
        limits: &PruneLimits,
        from: &Place,
        bounds: PruneBounds,
        counted: &mut Option<CountedBytes>,
    ) -> QueryResult<Pruned> {
        let table = PruneTable::Rejected;
        match (from, limits.rejected, limits.rejected_bytes_max) {
            (Place::Surplus(upto), ..) => delete_surplus(connection, site, *upto, bounds),
            (Place::Counted { from, bytes, newest }, _, Some(bytes_max)) => {
                let so_far = (*from, *bytes, *newest);
                count_on(connection, site, so_far, bytes_max, bounds, counted)
            }
            (Place::Start, Some(before), bytes_max) => {
                let mut step = delete_oldest(connection, site, RowKey::before(before), bounds)?;
                step.before = Some(before);
                step.next = step.next.or(bytes_max.map(|_| PruneCursor::at(table, Place::Bytes)));
                Ok(step)
            }
            (Place::Start | Place::Bytes, _, Some(bytes_max)) => {
                begin_count(connection, site, bytes_max, bounds, counted)
            }
            _ => Ok(Pruned::nothing(table, None)),
        }
    }

    /// Begins a count, unless the last one and what was added since are within the bound.
    fn begin_count(
        connection: &mut Connection,
        site: &str,
        bytes_max: u64,
        bounds: PruneBounds,
        counted: &mut Option<CountedBytes>,
    ) -> QueryResult<Pruned> {
        let table = PruneTable::Rejected;
        if let Some(last) = *counted {
            let added: AddedRow = sql_query(ADDED)
                .bind::<BigInt, _>(last.upto)
                .bind::<Text, _>(site)
                .bind::<BigInt, _>(i64::from(bounds.rows_max))
                .get_result(connection)?;
            let is_all = added.elements < i64::from(bounds.rows_max);
            if is_all && last.bytes.saturating_add(from_bigint(added.bytes)) <= bytes_max {
                let examined = from_bigint(added.elements);
                return Ok(Pruned { examined, ..Pruned::nothing(table, None) });
            }
        }
        *counted = None;
        let newest: NewestRow = sql_query(NEWEST).get_result(connection)?;
        let so_far = (RowKey::LAST, 0, newest.value.unwrap_or(0));
        count_on(connection, site, so_far, bytes_max, bounds, counted)
    }

    /// Counts the next older rows.
    fn count_on(
        connection: &mut Connection,
        site: &str,
        (from, mut bytes, newest): (RowKey, u64, i64),
        bytes_max: u64,
        bounds: PruneBounds,
        counted: &mut Option<CountedBytes>,
    ) -> QueryResult<Pruned> {
        let table = PruneTable::Rejected;
        let rows = load(connection, site, from, "DESC", bounds)?;
        let mut step = Pruned { examined: rows.len() as u64, ..Pruned::nothing(table, None) };
        let kept_max = bytes_max - bytes_max / FREED_PART;
        let mut cut = None;
        for row in &rows {
            let with_this = bytes.saturating_add(row.bytes());
            // Everything from the first row beyond the freed room on goes, if anything does.
            cut = cut.or((with_this > kept_max).then(|| row.key()));
            bytes = with_this;
        }
        step.next = match (cut, rows.last()) {
            (Some(cut), _) if bytes > bytes_max => Some(PruneCursor::at(table, Place::Surplus(cut))),
            (_, Some(last)) if rows.len() >= bounds.rows_max as usize => {
                let from = last.key();
                Some(PruneCursor::at(table, Place::Counted { from, bytes, newest }))
            }
            _ => {
                *counted = Some(CountedBytes { upto: newest, bytes });
                None
            }
        };
        Ok(step)
    }

    fn delete_surplus(
        connection: &mut Connection,
        site: &str,
        upto: RowKey,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        let end = RowKey { at: upto.at, id: upto.id.saturating_add(1) };
        let mut step = delete_oldest(connection, site, end, bounds)?;
        step.is_surplus = true;
        step.next = step.next.map(|_| PruneCursor::at(PruneTable::Rejected, Place::Surplus(upto)));
        Ok(step)
    }

    /// Deletes the oldest rows before `end`; `next` is set if there may be more.
    fn delete_oldest(
        connection: &mut Connection,
        site: &str,
        end: RowKey,
        bounds: PruneBounds,
    ) -> QueryResult<Pruned> {
        let table = PruneTable::Rejected;
        let found = load(connection, site, end, "ASC", bounds)?;
        if found.is_empty() {
            return Ok(Pruned::nothing(table, None));
        }
        let old = &found[..within(&found, bounds.bytes_max)];
        let ids: Vec<i64> = old.iter().map(|row| row.id).collect();
        let rows = database::prune::delete_by_id(connection, table, site, &ids)? as u64;
        let is_last = old.len() == found.len() && found.len() < bounds.rows_max as usize;
        let next = (!is_last).then_some(PruneCursor::at(table, Place::Start));
        let before = old.last().map(|row| Timestamp::from_micros(row.received_at.0.as_micros() + 1));
        Ok(Pruned { rows, before, examined: found.len() as u64, next, ..Pruned::nothing(table, None) })
    }

    fn load(
        connection: &mut Connection,
        site: &str,
        end: RowKey,
        order: &str,
        bounds: PruneBounds,
    ) -> QueryResult<Vec<SizedRow>> {
        sql_query(sized_rows(order))
            .bind::<Text, _>(site)
            .bind::<Instant, _>(SqlInstant(end.at))
            .bind::<BigInt, _>(end.id)
            .bind::<BigInt, _>(i64::from(bounds.rows_max))
            .load(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_deletes_as_many_bytes_as_it_may_and_at_least_one_row() {
        let rows = |sizes: &[i64]| -> Vec<SizedRow> {
            let received_at = SqlInstant(Timestamp::from_micros(0));
            sizes.iter().map(|bytes| SizedRow { id: 0, received_at, bytes: *bytes }).collect()
        };
        assert_eq!(within(&rows(&[4, 4, 4]), 8), 2);
        assert_eq!(within(&rows(&[4, 4]), 8), 2);
        assert_eq!(within(&rows(&[9, 1]), 8), 1);
    }
}
