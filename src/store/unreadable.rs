//! Rows that are not as Andon writes them. Somebody changed them by hand, or the disk did.
//!
//! A row with an unknown word, an invalid id, a time outside the calendar or an unexpected NULL is passed over: one such row
//! must not hide all others. [`UnreadableRows`] keeps which rows those are, each once, for whoever writes the log.

use std::collections::HashSet;
use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};

use super::schema::SqlInstant;
use crate::domain::MachineId;

/// Rows that are named. Of a table that is damaged from end to end these are enough.
const NAMED_MAX: usize = 1_000;

/// A row that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnreadableRow {
    /// Its table.
    pub table: &'static str,
    /// What tells it from other rows of that table, for a person.
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

/// The rows that were passed over since the start of the process, shared by all who read the database.
#[derive(Clone, Default)]
pub struct UnreadableRows(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    known: HashSet<(&'static str, String)>,
    news: Vec<UnreadableRow>,
}

impl UnreadableRows {
    /// Rows that were not named yet. At most 1,000 in the life of a process, and one that says that there are more.
    #[must_use]
    pub fn take_news(&self) -> Vec<UnreadableRow> {
        std::mem::take(&mut self.lock().news)
    }

    /// The rows that can be read; notes the others.
    pub(super) fn pass_over<T>(&self, rows: impl IntoIterator<Item = Result<T, UnreadableRow>>) -> Vec<T> {
        rows.into_iter().filter_map(|row| row.map_err(|row| self.note(row)).ok()).collect()
    }

    /// Notes one row.
    pub(super) fn note(&self, row: UnreadableRow) {
        let mut noted = self.lock();
        if noted.known.len() > NAMED_MAX || !noted.known.insert((row.table, row.key.clone())) {
            return;
        }
        let row = if noted.known.len() > NAMED_MAX {
            let what = format!("more than {NAMED_MAX} rows cannot be read; they are no longer named");
            UnreadableRow { table: row.table, key: "of many".to_owned(), what }
        } else {
            row
        };
        noted.news.push(row);
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A column that may hold anything. Reading it never fails; [`Column::get`] says what is wrong.
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
    /// The value, if it can be read.
    pub fn value(&self) -> Option<&T> {
        self.0.as_ref().ok()
    }

    /// The value; else what is wrong with the column `name`.
    pub fn get(self, name: &str) -> Result<T, String> {
        self.0.map_err(|why| format!("{name} is {why}"))
    }
}

impl Column<String> {
    /// The value as a machine's id.
    pub fn machine_id(self) -> Result<MachineId, String> {
        MachineId::parse(&self.get("machine_id")?).map_err(|error| error.to_string())
    }

    /// The value as one of the words that Andon writes.
    pub fn word<W>(self, name: &str, from_word: fn(&str) -> Option<W>) -> Result<W, String> {
        word(&self.get(name)?, name, from_word)
    }
}

impl Column<Option<String>> {
    /// The value as one of the words that Andon writes, or none.
    pub fn word<W>(self, name: &str, from_word: fn(&str) -> Option<W>) -> Result<Option<W>, String> {
        self.get(name)?.map(|text| word(&text, name, from_word)).transpose()
    }
}

fn word<W>(text: &str, name: &str, from_word: fn(&str) -> Option<W>) -> Result<W, String> {
    from_word(text).ok_or_else(|| format!("{name} is the unknown word {text:?}"))
}

/// For the key of a row.
impl Display for Column<String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(text) => Debug::fmt(text, f),
            Err(why) => f.write_str(why),
        }
    }
}

/// For the key of a row.
impl Display for Column<SqlInstant> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(moment) => Display::fmt(&moment.0, f),
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
    fn each_row_is_named_once_and_many_are_no_longer_named() {
        let rows = UnreadableRows::default();
        assert_eq!(rows.clone().pass_over([Ok(1), row(7), Ok(2), row(7), row(8)]), [1, 2]);
        let keys = |rows: &UnreadableRows| -> Vec<String> {
            rows.take_news().into_iter().map(|row| row.key).collect()
        };
        assert_eq!(keys(&rows), ["7", "8"]);
        assert!(rows.pass_over([row(8), row(7)]).is_empty());
        assert_eq!(keys(&rows), [""; 0], "they were named before");
        rows.pass_over((1_000..5_000).map(row));
        let named = keys(&rows);
        assert_eq!((named.len(), named.last().map(String::as_str)), (NAMED_MAX - 1, Some("of many")));
    }
}
