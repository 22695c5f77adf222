//! How far an import is: one row a site in `reference_import`, and the rows that could not be read.

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use crate::store::from_bigint;

/// Ids beyond the newest old one that are kept free for rows that come in while the import runs.
const SPARE_IDS: i64 = 1_000_000;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS reference_import (
    site text PRIMARY KEY,
    source text NOT NULL,
    kept_as text,
    id_offset bigint NOT NULL,
    id_max bigint NOT NULL,
    id_first_newest bigint NOT NULL,
    done_to bigint,
    rows_read bigint NOT NULL DEFAULT 0,
    stored bigint NOT NULL DEFAULT 0,
    known bigint NOT NULL DEFAULT 0,
    unreadable bigint NOT NULL DEFAULT 0,
    late bigint NOT NULL DEFAULT 0,
    begun_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz
);
COMMENT ON TABLE reference_import IS 'Imports from the reference worker: how far each is. id here = id there + id_offset.';
CREATE TABLE IF NOT EXISTS reference_unreadable (
    site text NOT NULL,
    id bigint NOT NULL,
    reason text NOT NULL,
    old_row jsonb NOT NULL,
    PRIMARY KEY (site, id)
);
COMMENT ON TABLE reference_unreadable IS 'Rows of the reference worker that are no readings, and why. The rows themselves are also in the table that the import kept.';
CREATE TABLE IF NOT EXISTS reference_deleted (
    transaction_id xid8 NOT NULL,
    site text NOT NULL,
    machine_id text NOT NULL,
    bucket_start timestamptz NOT NULL,
    PRIMARY KEY (transaction_id, site, machine_id, bucket_start)
);
COMMENT ON TABLE reference_deleted IS 'Rollups to compute anew at the end of a transaction that deletes through the view; empty between transactions.';
";

const COLUMNS: &str = "source, kept_as, id_offset, id_max, id_first_newest, done_to, rows_read, stored, known, unreadable, late";

/// An import, as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportState {
    /// The schema of the old table.
    pub source: String,
    /// The old table's name since the import was completed.
    pub kept_as: Option<String>,
    /// What was added to each old id.
    pub id_offset: i64,
    /// Ids up to this are the import's.
    pub(super) id_max: i64,
    /// The newest old id at the begin; newer rows came in meanwhile.
    pub(super) id_first_newest: i64,
    /// Rows up to this old id are done.
    pub(super) done_to: Option<i64>,
    /// Rows read: those of the other counts together.
    pub rows_read: u64,
    /// Rows that became readings.
    pub stored: u64,
    /// Rows that Andon had stored itself, or that are equal to another one.
    pub known: u64,
    /// Rows that cannot be read.
    pub unreadable: u64,
    /// Rows that the old worker inserted since the import began; counted among the others.
    pub late: u64,
}

/// A row that is no reading.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct UnreadableOldRow {
    /// Its id in the old table.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// What is wrong with it.
    #[diesel(sql_type = Text)]
    pub reason: String,
}

#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Nullable<Text>)]
    kept_as: Option<String>,
    #[diesel(sql_type = BigInt)]
    id_offset: i64,
    #[diesel(sql_type = BigInt)]
    id_max: i64,
    #[diesel(sql_type = BigInt)]
    id_first_newest: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    done_to: Option<i64>,
    #[diesel(sql_type = BigInt)]
    rows_read: i64,
    #[diesel(sql_type = BigInt)]
    stored: i64,
    #[diesel(sql_type = BigInt)]
    known: i64,
    #[diesel(sql_type = BigInt)]
    unreadable: i64,
    #[diesel(sql_type = BigInt)]
    late: i64,
}

impl From<StateRow> for ImportState {
    fn from(row: StateRow) -> Self {
        Self {
            source: row.source,
            kept_as: row.kept_as,
            id_offset: row.id_offset,
            id_max: row.id_max,
            id_first_newest: row.id_first_newest,
            done_to: row.done_to,
            rows_read: from_bigint(row.rows_read),
            stored: from_bigint(row.stored),
            known: from_bigint(row.known),
            unreadable: from_bigint(row.unreadable),
            late: from_bigint(row.late),
        }
    }
}

#[derive(QueryableByName)]
struct Exists {
    #[diesel(sql_type = Bool)]
    value: bool,
}

/// Creates the tables of imports.
pub(super) fn create_tables(connection: &mut PgConnection) -> QueryResult<()> {
    connection.batch_execute(TABLES)
}

impl ImportState {
    /// Returns the site's import, if there is one.
    pub(super) fn load(connection: &mut PgConnection, site: &str) -> QueryResult<Option<Self>> {
        let exists = sql_query("SELECT to_regclass('reference_import') IS NOT NULL AS value");
        if !exists.get_result::<Exists>(connection)?.value {
            return Ok(None);
        }
        let row = sql_query(format!("SELECT {COLUMNS} FROM reference_import WHERE site = $1"))
            .bind::<Text, _>(site)
            .get_result::<StateRow>(connection)
            .optional()?;
        Ok(row.map(Self::from))
    }

    /// Returns the site's import, and keeps other processes from going on with it until the end of the transaction.
    pub(super) fn lock(connection: &mut PgConnection, site: &str) -> QueryResult<Self> {
        let row = sql_query(format!("SELECT {COLUMNS} FROM reference_import WHERE site = $1 FOR UPDATE"))
            .bind::<Text, _>(site)
            .get_result::<StateRow>(connection)?;
        Ok(row.into())
    }

    /// Notes a new import. The old rows keep their ids, unless Andon has used some of these already: then all are moved by
    /// the same number. The ids of new readings begin behind them.
    pub(super) fn begin(
        connection: &mut PgConnection,
        site: &str,
        source: &str,
        newest: i64,
    ) -> QueryResult<Self> {
        // No reading gets an id meanwhile: an INSERT holds its own lock before it takes one.
        connection.batch_execute("LOCK TABLE machine_telemetry IN SHARE ROW EXCLUSIVE MODE")?;
        sql_query(
            "WITH used AS (SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('machine_telemetry', 'id')::regclass), 0) AS id), \
             noted AS (INSERT INTO reference_import (site, source, id_offset, id_max, id_first_newest) \
                 SELECT $1, $2, used.id, used.id + $3 + $4, $3 FROM used RETURNING id_max) \
             SELECT setval(pg_get_serial_sequence('machine_telemetry', 'id')::regclass, noted.id_max) FROM noted",
        )
        .bind::<Text, _>(site)
        .bind::<Text, _>(source)
        .bind::<BigInt, _>(newest.max(0))
        .bind::<BigInt, _>(SPARE_IDS)
        .execute(connection)?;
        Self::lock(connection, site)
    }

    /// Records what a batch did.
    pub(super) fn save(&self, connection: &mut PgConnection, site: &str) -> QueryResult<()> {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        sql_query(
            "UPDATE reference_import SET done_to = $2, rows_read = $3, stored = $4, known = $5, unreadable = $6, late = $7 \
             WHERE site = $1",
        )
        .bind::<Text, _>(site)
        .bind::<Nullable<BigInt>, _>(self.done_to)
        .bind::<BigInt, _>(count(self.rows_read))
        .bind::<BigInt, _>(count(self.stored))
        .bind::<BigInt, _>(count(self.known))
        .bind::<BigInt, _>(count(self.unreadable))
        .bind::<BigInt, _>(count(self.late))
        .execute(connection)
        .map(drop)
    }

    /// Records that the view stands and the old table is called `kept_as`.
    pub(super) fn complete(
        &mut self,
        connection: &mut PgConnection,
        site: &str,
        kept_as: &str,
    ) -> QueryResult<()> {
        self.kept_as = Some(kept_as.to_owned());
        sql_query("UPDATE reference_import SET kept_as = $2, completed_at = now() WHERE site = $1")
            .bind::<Text, _>(site)
            .bind::<Text, _>(kept_as)
            .execute(connection)
            .map(drop)
    }

    /// Returns the id that an old row gets; `None`: the next one of our own table.
    pub(super) fn new_id(&self, old: i64) -> Option<i64> {
        let id = self.id_offset.checked_add(old)?;
        (old > 0 && id <= self.id_max).then_some(id)
    }
}

/// Returns the first unreadable rows of a site.
pub(super) fn unreadable(
    connection: &mut PgConnection,
    site: &str,
    rows_max: u32,
) -> QueryResult<Vec<UnreadableOldRow>> {
    sql_query("SELECT id, reason FROM reference_unreadable WHERE site = $1 ORDER BY id LIMIT $2")
        .bind::<Text, _>(site)
        .bind::<BigInt, _>(i64::from(rows_max))
        .load(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_ids_are_moved_by_one_number_and_those_without_room_get_the_next_free_one() {
        let state = ImportState {
            source: "public".to_owned(),
            kept_as: None,
            id_offset: 40,
            id_max: 150,
            id_first_newest: 100,
            done_to: None,
            rows_read: 0,
            stored: 0,
            known: 0,
            unreadable: 0,
            late: 0,
        };
        let ids = [1, 100, 110, 111, 0, -3, i64::MAX].map(|old| state.new_id(old));
        assert_eq!(ids, [Some(41), Some(140), Some(150), None, None, None, None]);
    }
}
