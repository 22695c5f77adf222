//! The SQLite file that is copied, read only.

use std::path::Path;

use diesel::connection::{DefaultLoadingMode, SimpleConnection};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::PAGE_BYTES_MAX;
use super::row::SourceRow;
use super::tables::Table;
use crate::store::sqlite::read_only_uri;
use crate::store::{Cause, StoreOptions};

#[derive(QueryableByName)]
struct ColumnRow {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// The file that is copied.
pub struct Source {
    connection: SqliteConnection,
}

impl Source {
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, Cause> {
        let mut connection = SqliteConnection::establish(&read_only_uri(path))?;
        let wait = options.lock_timeout.as_millis();
        connection.batch_execute(&format!("PRAGMA busy_timeout = {wait}; PRAGMA query_only = true"))?;
        Ok(Self { connection })
    }

    /// Returns every table and its columns, except those of SQLite and of the migrations.
    pub fn tables(&mut self) -> QueryResult<Vec<(String, Vec<String>)>> {
        let columns = sql_query(
            "SELECT m.name AS table_name, c.name AS column_name FROM sqlite_master m, pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             AND m.name <> '__diesel_schema_migrations' ORDER BY m.name, c.cid",
        );
        let mut tables: Vec<(String, Vec<String>)> = Vec::new();
        for column in columns.load::<ColumnRow>(&mut self.connection)? {
            match tables.last_mut() {
                Some((table, columns)) if *table == column.table_name => columns.push(column.column_name),
                _ => tables.push((column.table_name, vec![column.column_name])),
            }
        }
        Ok(tables)
    }

    /// From here on until [`Self::end_snapshot`] sees the file as it is now, whatever is committed meanwhile.
    pub fn begin_snapshot(&mut self) -> QueryResult<()> {
        self.connection.batch_execute("BEGIN; SELECT count(*) FROM sqlite_master")
    }

    pub fn end_snapshot(&mut self) -> QueryResult<()> {
        self.connection.batch_execute("ROLLBACK")
    }

    /// Returns the different values of a column, in order; a step through its index each, if it has one.
    pub fn distinct(&mut self, table: &str, column: &str) -> QueryResult<Vec<String>> {
        let next = format!("SELECT min(\"{column}\") AS value FROM \"{table}\" WHERE \"{column}\" > ?");
        let mut found: Vec<String> = Vec::new();
        loop {
            // No site and no journal has an empty name.
            let after = found.last().cloned().unwrap_or_default();
            let row = sql_query(&next).bind::<Text, _>(after).get_result::<TextRow>(&mut self.connection)?;
            match row.value {
                Some(value) => found.push(value),
                None => return Ok(found),
            }
        }
    }

    /// Returns the first number behind `after` and the last one of the table's rows, 0 if there are none.
    pub fn numbers(&mut self, table: &Table, after: i64) -> QueryResult<(i64, i64)> {
        let mut number = |pick: &str| {
            let sql = format!("SELECT coalesce({pick}(id), 0) AS value FROM \"{}\" WHERE id > ?", table.name);
            let found = sql_query(sql).bind::<BigInt, _>(after).get_result::<NumberRow>(&mut self.connection);
            found.map(|row| row.value)
        };
        Ok((number("min")?, number("max")?))
    }

    /// Returns about how many rows a table has.
    pub fn rows(&mut self, table: &Table) -> QueryResult<u64> {
        let sql = format!("SELECT count(*) AS value FROM \"{}\"", table.name);
        let rows = sql_query(sql).get_result::<NumberRow>(&mut self.connection)?;
        Ok(u64::try_from(rows.value).unwrap_or(0))
    }

    /// Returns the rows with numbers behind `after`, in order: at most `rows_max`, and about [`PAGE_BYTES_MAX`]. `true`: there
    /// were no more.
    pub fn page(&mut self, table: &Table, after: i64, rows_max: u32) -> QueryResult<(Vec<SourceRow>, bool)> {
        let sql = format!(
            "SELECT id, {} FROM \"{}\" WHERE id > ? ORDER BY id LIMIT ?",
            table.column_list(),
            table.name
        );
        let query = sql_query(sql).bind::<BigInt, _>(after).bind::<BigInt, _>(i64::from(rows_max));
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for row in query.load_iter::<SourceRow, DefaultLoadingMode>(&mut self.connection)? {
            let row = row?;
            bytes += row.bytes();
            rows.push(row);
            if bytes >= PAGE_BYTES_MAX {
                return Ok((rows, false));
            }
        }
        let is_last = rows.len() < rows_max as usize;
        Ok((rows, is_last))
    }

    /// Returns the row with this number.
    pub fn row(&mut self, table: &Table, number: i64) -> QueryResult<Option<SourceRow>> {
        let sql = format!("SELECT id, {} FROM \"{}\" WHERE id = ?", table.column_list(), table.name);
        sql_query(sql).bind::<BigInt, _>(number).get_result(&mut self.connection).optional()
    }

    /// Passes on every row, in the order of its number if it has one.
    pub fn each(
        &mut self,
        table: &Table,
        take: &mut dyn FnMut(SourceRow) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        let (number, order) = if table.has_id { ("id", " ORDER BY id") } else { ("0", "") };
        let sql = format!("SELECT {number}, {} FROM \"{}\"{order}", table.column_list(), table.name);
        let rows = sql_query(sql).load_iter::<SourceRow, DefaultLoadingMode>(&mut self.connection)?;
        for row in rows {
            take(row?)?;
        }
        Ok(())
    }
}
