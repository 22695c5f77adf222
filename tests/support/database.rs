//! Reads and changes the tables from outside, as any other tool would.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{PgConnection, SqliteConnection, sql_query};

/// A connection of the test's own.
pub enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

impl Database {
    /// Connects; `None` while the database or its file is away.
    pub fn open(url: &str) -> Option<Self> {
        match url.strip_prefix("sqlite://") {
            Some(path) if !std::path::Path::new(path).exists() => None,
            Some(path) => {
                let mut connection = SqliteConnection::establish(path).ok()?;
                sql_query("PRAGMA busy_timeout = 10000").execute(&mut connection).ok()?;
                Some(Self::Sqlite(connection))
            }
            None => PgConnection::establish(url).ok().map(Self::Postgres),
        }
    }

    /// Returns the number of `SELECT … AS value`; `None` if the query fails, as while a table does not exist yet.
    pub fn try_number(&mut self, sql: &str) -> Option<i64> {
        let row: QueryResult<Number> = match self {
            Self::Sqlite(connection) => sql_query(sql).get_result(connection),
            Self::Postgres(connection) => sql_query(sql).get_result(connection),
        };
        row.ok().map(|number| number.value)
    }

    pub fn number(&mut self, sql: &str) -> i64 {
        self.try_number(sql).unwrap_or_else(|| panic!("no number from {sql}"))
    }

    /// Returns the texts of `SELECT … AS value`; `None` if the query fails, as while a table does not exist yet.
    pub fn try_words(&mut self, sql: &str) -> Option<Vec<Option<String>>> {
        let rows: QueryResult<Vec<TextRow>> = match self {
            Self::Sqlite(connection) => sql_query(sql).load(connection),
            Self::Postgres(connection) => sql_query(sql).load(connection),
        };
        rows.ok().map(|rows| rows.into_iter().map(|row| row.value).collect())
    }

    pub fn words(&mut self, sql: &str) -> Vec<Option<String>> {
        self.try_words(sql).unwrap_or_else(|| panic!("no texts from {sql}"))
    }

    pub fn execute(&mut self, sql: &str) {
        let result = match self {
            Self::Sqlite(connection) => sql_query(sql).execute(connection),
            Self::Postgres(connection) => sql_query(sql).execute(connection),
        };
        result.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Parses a time as either database prints it.
pub fn instant(text: &str) -> chrono::DateTime<chrono::Utc> {
    let instant = chrono::DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z");
    instant.unwrap_or_else(|error| panic!("{text}: {error}")).to_utc()
}

/// Counts the rows of telemetry in the database at `url`; 0 while it is away.
pub fn rows_stored(url: &str) -> i64 {
    let mut database = Database::open(url);
    let count =
        |database: &mut Database| database.try_number("SELECT count(*) AS value FROM machine_telemetry");
    database.as_mut().and_then(count).unwrap_or(0)
}
