//! The PostgreSQL database that the rows are copied into.

use std::collections::BTreeMap;

use diesel::connection::SimpleConnection;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};

use super::checksum::Checksum;
use super::insert;
use super::row::EncodedRow;
use super::tables::{Owner, Table, TargetColumn};
use crate::store::Cause;

/// Key of the lock that keeps a second copy into the same database away: "ancopy" in ASCII.
const COPY_LOCK: i64 = 0x61_6e_63_6f_70_79;
/// How far each source is copied. `db copy` makes the table; the service does not know it.
const PROGRESS_TABLE: &str = "CREATE TABLE IF NOT EXISTS db_copy (source text PRIMARY KEY, upto_id bigint NOT NULL, \
     upto_hash bigint NOT NULL, positions text NOT NULL)";
/// Days since 2000-01-01 of a reading's receipt, as [`day_of`] counts them.
const DAY: &str = "(received_at AT TIME ZONE 'UTC')::date - date '2000-01-01'";
const DAY_MICROS: i64 = 86_400_000_000;

/// Whose rows are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    pub sites: Vec<String>,
    pub journals: Vec<String>,
}

impl Owners {
    fn of(&self, owner: Owner) -> &[String] {
        match owner {
            Owner::Site => &self.sites,
            Owner::Journal => &self.journals,
        }
    }
}

/// How far a source is copied.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct CopyProgress {
    /// Number of the last reading that is copied, in the source.
    #[diesel(sql_type = BigInt)]
    pub upto_id: i64,
    /// Its hash, by which the source is known again.
    #[diesel(sql_type = BigInt)]
    pub upto_hash: i64,
    /// The journals' positions after the last copy that ended; empty before it.
    #[diesel(sql_type = Text)]
    pub positions: String,
}

#[derive(QueryableByName)]
struct ColumnRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    type_oid: i64,
    #[diesel(sql_type = Bool)]
    is_identity: bool,
}

#[derive(QueryableByName)]
struct FlagRow {
    #[diesel(sql_type = Bool)]
    value: bool,
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

/// The database that the rows are copied into.
pub struct Target {
    pub connection: PgConnection,
}

impl Target {
    /// Keeps another copy into this database away, until the connection ends. Returns `false` if one is running.
    pub fn lock(&mut self) -> QueryResult<bool> {
        let lock = sql_query("SELECT pg_try_advisory_lock($1) AS value").bind::<BigInt, _>(COPY_LOCK);
        Ok(lock.get_result::<FlagRow>(&mut self.connection)?.value)
    }

    /// Returns the columns of a table; none if there is no such table.
    pub fn columns(&mut self, table: &str) -> QueryResult<Vec<TargetColumn>> {
        let columns = sql_query(
            "SELECT attname::text AS name, atttypid::bigint AS type_oid, attidentity <> '' AS is_identity \
             FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        );
        let rows = columns.bind::<Text, _>(format!("\"{table}\"")).load::<ColumnRow>(&mut self.connection)?;
        let column = |row: ColumnRow| TargetColumn {
            name: row.name,
            type_oid: row.type_oid,
            is_identity: row.is_identity,
        };
        Ok(rows.into_iter().map(column).collect())
    }

    /// Returns how far `source` is copied, as an earlier run has left it.
    pub fn progress(&mut self, source: &str) -> QueryResult<Option<CopyProgress>> {
        self.connection.batch_execute(PROGRESS_TABLE)?;
        let progress = sql_query("SELECT upto_id, upto_hash, positions FROM db_copy WHERE source = $1");
        progress.bind::<Text, _>(source).get_result(&mut self.connection).optional()
    }

    /// Returns whether the table holds rows of `owners`.
    pub fn holds(&mut self, table: &Table, owners: &Owners) -> QueryResult<bool> {
        let column = table.owner.column();
        let sql = format!("SELECT EXISTS (SELECT FROM \"{}\" WHERE {column} = ANY($1)) AS value", table.name);
        let query = sql_query(sql).bind::<Array<Text>, _>(owners.of(table.owner));
        Ok(query.get_result::<FlagRow>(&mut self.connection)?.value)
    }

    /// Returns the position and claim of each journal of `owners`, as one text.
    pub fn positions(&mut self, owners: &Owners) -> QueryResult<String> {
        let query = sql_query(
            "SELECT string_agg(concat_ws(' ', journal_id, committed_seq, open_id), ', ' ORDER BY journal_id) AS value \
             FROM ingest_checkpoint WHERE site = ANY($1) OR journal_id = ANY($2)",
        );
        let query = query
            .bind::<Array<Text>, _>(owners.of(Owner::Site))
            .bind::<Array<Text>, _>(owners.of(Owner::Journal));
        Ok(query.get_result::<TextRow>(&mut self.connection)?.value.unwrap_or_default())
    }

    /// Writes how far `source` is copied. Call it in the transaction of the rows.
    pub fn note_progress(&mut self, source: &str, progress: &CopyProgress) -> QueryResult<()> {
        sql_query(
            "INSERT INTO db_copy (source, upto_id, upto_hash, positions) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (source) DO UPDATE SET upto_id = $2, upto_hash = $3, positions = $4",
        )
        .bind::<Text, _>(source)
        .bind::<BigInt, _>(progress.upto_id)
        .bind::<BigInt, _>(progress.upto_hash)
        .bind::<Text, _>(&progress.positions)
        .execute(&mut self.connection)
        .map(drop)
    }

    /// Inserts readings; those that are there already stay. Returns the places of the rows that the database refuses, and why.
    pub fn insert_readings(
        &mut self,
        table: &Table,
        rows: &[EncodedRow],
    ) -> QueryResult<Vec<(usize, String)>> {
        insert::readings(&mut self.connection, table, rows)
    }

    /// Inserts rows of another table, and returns the same.
    pub fn insert(&mut self, table: &Table, rows: &[EncodedRow]) -> QueryResult<Vec<(usize, String)>> {
        insert::rows(&mut self.connection, table, rows)
    }

    /// Deletes the rows of `owners`.
    pub fn delete(&mut self, table: &Table, owners: &Owners) -> QueryResult<usize> {
        let sql = format!("DELETE FROM \"{}\" WHERE {} = ANY($1)", table.name, table.owner.column());
        sql_query(sql).bind::<Array<Text>, _>(owners.of(table.owner)).execute(&mut self.connection)
    }

    /// Deletes the readings that were received on these days.
    pub fn delete_days(&mut self, table: &Table, owners: &Owners, days: &[i32]) -> QueryResult<usize> {
        let sql = format!("DELETE FROM \"{}\" WHERE site = ANY($1) AND {DAY} = ANY($2)", table.name);
        sql_query(sql)
            .bind::<Array<Text>, _>(&owners.sites)
            .bind::<Array<Integer>, _>(days)
            .execute(&mut self.connection)
    }

    /// Reads the rows of `owners` and passes on the hash of each, with the day of a reading's receipt.
    pub fn each_hash(
        &mut self,
        table: &Table,
        owners: &Owners,
        take: &mut dyn FnMut(Option<i32>, u64),
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT {} FROM \"{}\" WHERE {} = ANY($1)",
            table.column_list(),
            table.name,
            table.owner.column()
        );
        let query = sql_query(sql).bind::<Array<Text>, _>(owners.of(table.owner));
        let rows = query.load_iter::<EncodedRow, PgRowByRowLoadingMode>(&mut self.connection)?;
        for row in rows {
            let row = row?;
            take(day_of(table, &row), row.hash(&table.columns));
        }
        Ok(())
    }

    /// Returns the checksum of the rows of `owners`.
    pub fn checksum(&mut self, table: &Table, owners: &Owners) -> QueryResult<Checksum> {
        let mut sum = Checksum::default();
        self.each_hash(table, owners, &mut |_, hash| sum.add(hash))?;
        Ok(sum)
    }

    /// Runs `work` in a transaction.
    pub fn transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Cause>) -> Result<T, Cause> {
        use diesel::connection::TransactionManager;
        type Manager = <PgConnection as Connection>::TransactionManager;
        Manager::begin_transaction(&mut self.connection)?;
        match work(self) {
            Ok(done) => {
                <Manager as TransactionManager<PgConnection>>::commit_transaction(&mut self.connection)?;
                Ok(done)
            }
            Err(cause) => {
                // The connection may be broken: the cause says why.
                let _ =
                    <Manager as TransactionManager<PgConnection>>::rollback_transaction(&mut self.connection);
                Err(cause)
            }
        }
    }
}

/// Returns the day on which a reading was received, from 2000-01-01 on; `None` for a row of another table.
pub fn day_of(table: &Table, row: &EncodedRow) -> Option<i32> {
    let received_at = row.values().nth(table.place("received_at")?)??;
    let micros = i64::from_be_bytes(received_at.try_into().ok()?);
    i32::try_from(micros.div_euclid(DAY_MICROS)).ok()
}

/// Checksums by day.
pub type DayChecksums = BTreeMap<i32, Checksum>;

/// Returns the days on which the two differ.
pub fn differing_days(one: &DayChecksums, other: &DayChecksums) -> Vec<i32> {
    let mut days: Vec<i32> = one.keys().chain(other.keys()).copied().collect();
    days.sort_unstable();
    days.dedup();
    days.retain(|day| one.get(day) != other.get(day));
    days
}
