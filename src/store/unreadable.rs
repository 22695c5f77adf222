//! Rows that Andon cannot have written: a person or the disk changed them.
//!
//! A row with an unknown word, an invalid id, a time outside the calendar or an unexpected NULL is skipped:
//! one such row must not hide all others. [`UnreadableRows`] collects them, each once, for the log.

use std::collections::HashSet;
use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};

use super::schema::SqlInstant;
use crate::domain::MachineId;

/// Rows named in the life of a process: a table may be damaged from end to end.
const NAMED_MAX: usize = 1_000;

/// A row that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnreadableRow {
    /// Its table.
    pub table: &'static str,
    /// Its key, for a person.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

impl Display for UnreadableRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} of {}: {}", self.key, self.table, self.what)
    }
}

impl std::error::Error for UnreadableRow {}

/// The rows skipped since the start of the process, shared by all readers of the database.
#[derive(Clone, Default)]
pub struct UnreadableRows(Arc<Mutex<Skipped>>);

#[derive(Default)]
struct Skipped {
    known: HashSet<(&'static str, String)>,
    unnamed: Vec<UnreadableRow>,
}

impl UnreadableRows {
    /// Takes the rows that were not named yet: at most 1,000 in the life of a process, then one that stands
    /// for all others.
    #[must_use]
    pub fn take_unnamed(&self) -> Vec<UnreadableRow> {
        std::mem::take(&mut self.lock().unnamed)
    }

    /// Returns the rows that can be read, and notes the others.
    pub(super) fn skip<T>(&self, rows: impl IntoIterator<Item = Result<T, UnreadableRow>>) -> Vec<T> {
        rows.into_iter().filter_map(|row| row.map_err(|row| self.note(row)).ok()).collect()
    }

    /// Notes one row.
    pub(super) fn note(&self, row: UnreadableRow) {
        let mut noted = self.lock();
        if noted.known.len() > NAMED_MAX || !noted.known.insert((row.table, row.key.clone())) {
            return;
        }
        let row = if noted.known.len() > NAMED_MAX {
            let what = format!("more than {NAMED_MAX} rows cannot be read; further ones are not named");
            UnreadableRow { table: row.table, key: "of many".to_owned(), what }
        } else {
            row
        };
        noted.unnamed.push(row);
    }

    fn lock(&self) -> MutexGuard<'_, Skipped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A column with any content. Reading it never fails; [`Column::get`] returns what is wrong.
#[derive(Debug, Clone, FromSqlRow)]
pub(super) struct Column<T>(Result<T, String>);

impl<T, ST, DB> FromSql<ST, DB> for Column<T>
where
    DB: Backend,
    T: FromSql<ST, DB>,
{
    fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(T::from_sql(value).map_err(|error| error.to_string())))
    }

    fn from_nullable_sql(value: Option<DB::RawValue<'_>>) -> deserialize::Result<Self> {
        match value {
            Some(value) => Self::from_sql(value),
            None => Ok(Self(T::from_nullable_sql(None).map_err(|_| "NULL".to_owned()))),
        }
    }
}

impl<T> Column<T> {
    /// Returns the value, if it can be read.
    pub fn value(&self) -> Option<&T> {
        self.0.as_ref().ok()
    }

    /// Returns the value, or what is wrong with the column `name`.
    pub fn get(self, name: &str) -> Result<T, String> {
        self.0.map_err(|why| format!("{name} is {why}"))
    }
}

impl Column<String> {
    /// Returns the value as a machine's id.
    pub fn machine_id(self) -> Result<MachineId, String> {
        MachineId::parse(&self.get("machine_id")?).map_err(|error| error.to_string())
    }

    /// Returns the value that the text stands for.
    pub fn parsed<W>(self, name: &str, from_word: fn(&str) -> Option<W>) -> Result<W, String> {
        parsed(&self.get(name)?, name, from_word)
    }
}

impl Column<Option<String>> {
    /// Returns the value that the text stands for, if there is one.
    pub fn parsed<W>(self, name: &str, from_word: fn(&str) -> Option<W>) -> Result<Option<W>, String> {
        self.get(name)?.map(|text| parsed(&text, name, from_word)).transpose()
    }
}

fn parsed<W>(text: &str, name: &str, from_word: fn(&str) -> Option<W>) -> Result<W, String> {
    from_word(text).ok_or_else(|| format!("{name} is the unknown word {text:?}"))
}

/// As part of a row's key.
impl Display for Column<String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(text) => Debug::fmt(text, f),
            Err(why) => f.write_str(why),
        }
    }
}

/// As part of a row's key.
impl Display for Column<SqlInstant> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(instant) => Display::fmt(&instant.0, f),
            Err(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: usize) -> Result<usize, UnreadableRow> {
        Err(UnreadableRow { table: "machine", key: key.to_string(), what: "wrong".to_owned() })
    }

    #[test]
    fn each_row_is_named_once_and_at_most_a_thousand_are() {
        let rows = UnreadableRows::default();
        assert_eq!(rows.clone().skip([Ok(1), row(7), Ok(2), row(7), row(8)]), [1, 2]);
        let keys = |rows: &UnreadableRows| -> Vec<String> {
            rows.take_unnamed().into_iter().map(|row| row.key).collect()
        };
        assert_eq!(keys(&rows), ["7", "8"]);
        assert!(rows.skip([row(8), row(7)]).is_empty());
        assert_eq!(keys(&rows), [""; 0], "named before");
        rows.skip((1_000..5_000).map(row));
        let named = keys(&rows);
        assert_eq!((named.len(), named.last().map(String::as_str)), (NAMED_MAX - 1, Some("of many")));
    }
}
