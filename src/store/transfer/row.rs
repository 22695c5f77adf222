//! A row on its way: read from SQLite or PostgreSQL, its values in the binary form of PostgreSQL.
//!
//! Both sides become the same bytes, so that checksums can be compared, and what is read is what COPY sends.

use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::pg::Pg;
use diesel::row::{Field, NamedRow, Row};
use diesel::sql_types::{BigInt, Binary, Double, Text};
use diesel::sqlite::{Sqlite, SqliteType};

use super::checksum::canonical_json;
use crate::store::instant_text::parse_instant;
use crate::store::schema::SqlInstant;

/// Length of a NULL.
const NULL: i32 = -1;
/// Version of the binary format of `jsonb`: the text follows.
const JSONB_VERSION: u8 = 1;

/// The type of a column on PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Bool,
    Bytes,
    BigInt,
    SmallInt,
    Integer,
    Text,
    Double,
    Instant,
    Json,
}

impl ColumnType {
    /// Returns the type with this oid, if a table of ours may have it.
    pub fn of_oid(oid: i64) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytes,
            20 => Self::BigInt,
            21 => Self::SmallInt,
            23 => Self::Integer,
            25 => Self::Text,
            701 => Self::Double,
            1184 => Self::Instant,
            3802 => Self::Json,
            _ => return None,
        })
    }

    /// Returns its oid and its name in SQL.
    pub const fn oid_and_name(self) -> (u32, &'static str) {
        match self {
            Self::Bool => (16, "boolean"),
            Self::Bytes => (17, "bytea"),
            Self::BigInt => (20, "bigint"),
            Self::SmallInt => (21, "smallint"),
            Self::Integer => (23, "integer"),
            Self::Text => (25, "text"),
            Self::Double => (701, "double precision"),
            Self::Instant => (1184, "timestamptz"),
            Self::Json => (3802, "jsonb"),
        }
    }
}

/// A column that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub column_type: ColumnType,
}

/// The values of a row, in the order of its table's columns: each its length and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedRow(pub Vec<u8>);

impl EncodedRow {
    fn put(&mut self, value: Option<&[u8]>) {
        let length = value.map_or(NULL, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value.unwrap_or_default());
    }

    /// Returns each value; `None` is NULL.
    pub fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                rest = behind;
                return Some(None);
            };
            let (value, behind) = behind.split_at_checked(length)?;
            rest = behind;
            Some(Some(value))
        })
    }

    /// Returns a hash that is the same for equal rows, however each database writes JSON.
    pub fn hash(&self, columns: &[Column]) -> u64 {
        if !columns.iter().any(|column| column.column_type == ColumnType::Json) {
            return xxhash_rust::xxh3::xxh3_64(&self.0);
        }
        let mut canonical = Self::default();
        for (value, column) in self.values().zip(columns) {
            match (value, column.column_type) {
                (Some([JSONB_VERSION, json @ ..]), ColumnType::Json) => {
                    canonical.put(Some(&canonical_json(json)));
                }
                _ => canonical.put(value),
            }
        }
        xxhash_rust::xxh3::xxh3_64(&canonical.0)
    }
}

/// A row of PostgreSQL is what it sent.
impl QueryableByName<Pg> for EncodedRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let mut encoded = Self::default();
        for index in 0..row.field_count() {
            let field = Row::get(row, index).ok_or("a column is missing")?;
            encoded.put(field.value().as_ref().map(|value| value.as_bytes()));
        }
        Ok(encoded)
    }
}

/// A value of SQLite, which may have any type in any column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// A row of SQLite: its number, then the columns that are copied.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    pub number: i64,
    cells: Vec<Cell>,
}

impl QueryableByName<Sqlite> for SourceRow {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let number = Row::get(row, 0).ok_or("a column is missing")?;
        let number = number.value().ok_or("a row without a number")?;
        let number = <i64 as FromSql<BigInt, Sqlite>>::from_sql(number)?;
        let cells = (1..row.field_count()).map(|index| {
            let field = Row::get(row, index).ok_or("a column is missing")?;
            let Some(value) = field.value() else { return Ok(Cell::Null) };
            Ok(match value.value_type() {
                None => Cell::Null,
                Some(SqliteType::Double | SqliteType::Float) => {
                    Cell::Real(<f64 as FromSql<Double, Sqlite>>::from_sql(value)?)
                }
                Some(SqliteType::Integer | SqliteType::SmallInt | SqliteType::Long) => {
                    Cell::Integer(<i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?)
                }
                Some(SqliteType::Text) => Cell::Text(<String as FromSql<Text, Sqlite>>::from_sql(value)?),
                Some(SqliteType::Binary) => {
                    Cell::Blob(<Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?)
                }
            })
        });
        Ok(Self { number, cells: cells.collect::<deserialize::Result<_>>()? })
    }
}

impl SourceRow {
    /// Returns about how many bytes its values have.
    pub fn bytes(&self) -> usize {
        let bytes = self.cells.iter().map(|cell| match cell {
            Cell::Text(text) => text.len(),
            Cell::Blob(bytes) => bytes.len(),
            Cell::Null | Cell::Integer(_) | Cell::Real(_) => 8,
        });
        bytes.sum()
    }

    /// Returns the row as PostgreSQL sends it, or which value its column cannot hold.
    pub fn encoded(&self, columns: &[Column]) -> Result<EncodedRow, String> {
        let mut row = EncodedRow::default();
        for (cell, column) in self.cells.iter().zip(columns) {
            let shown = || format!("{} is {cell:?}", column.name);
            encode(&mut row, cell, column.column_type).ok_or_else(shown)?;
        }
        Ok(row)
    }
}

/// Appends a value; `None` if a column of this type cannot hold it.
fn encode(row: &mut EncodedRow, cell: &Cell, column_type: ColumnType) -> Option<()> {
    match (cell, column_type) {
        (Cell::Null, _) => row.put(None),
        (Cell::Integer(number @ (0 | 1)), ColumnType::Bool) => row.put(Some(&[*number as u8])),
        (Cell::Integer(number), ColumnType::SmallInt) => {
            row.put(Some(&i16::try_from(*number).ok()?.to_be_bytes()));
        }
        (Cell::Integer(number), ColumnType::Integer) => {
            row.put(Some(&i32::try_from(*number).ok()?.to_be_bytes()));
        }
        (Cell::Integer(number), ColumnType::BigInt) => row.put(Some(&number.to_be_bytes())),
        (Cell::Integer(number), ColumnType::Double) => row.put(Some(&(*number as f64).to_be_bytes())),
        (Cell::Real(number), ColumnType::Double) => row.put(Some(&number.to_be_bytes())),
        // PostgreSQL cannot hold U+0000.
        (Cell::Text(text), ColumnType::Text) if !text.contains('\0') => row.put(Some(text.as_bytes())),
        (Cell::Text(text), ColumnType::Instant) => {
            let micros = SqlInstant(parse_instant(text)?).postgres_micros();
            row.put(Some(&micros.to_be_bytes()));
        }
        (Cell::Text(text), ColumnType::Json) => {
            let json: Vec<u8> = std::iter::once(JSONB_VERSION).chain(text.bytes()).collect();
            row.put(Some(&json));
        }
        (Cell::Blob(bytes), ColumnType::Bytes) => row.put(Some(bytes)),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(column_type: ColumnType) -> Column {
        Column { name: "x".to_owned(), column_type }
    }

    #[test]
    fn a_row_keeps_its_values_and_a_null_is_no_empty_text() {
        let columns = [ColumnType::Text, ColumnType::Text, ColumnType::BigInt, ColumnType::Bytes].map(column);
        let cells = vec![Cell::Null, Cell::Text(String::new()), Cell::Integer(-2), Cell::Blob(vec![])];
        let row = SourceRow { number: 1, cells }.encoded(&columns).unwrap();
        let values: Vec<_> = row.values().collect();
        assert_eq!(values, [None, Some(&[][..]), Some(&(-2_i64).to_be_bytes()[..]), Some(&[][..])]);
    }

    #[test]
    fn what_a_column_cannot_hold_is_named() {
        let table = [
            (ColumnType::Instant, Cell::Text("yesterday".to_owned())),
            (ColumnType::SmallInt, Cell::Integer(70_000)),
            (ColumnType::Bool, Cell::Integer(2)),
            (ColumnType::Text, Cell::Text("a\0b".to_owned())),
            (ColumnType::BigInt, Cell::Text("7".to_owned())),
        ];
        for (column_type, cell) in table {
            let row = SourceRow { number: 1, cells: vec![cell] };
            let refused = row.encoded(&[column(column_type)]).unwrap_err();
            assert!(refused.starts_with("x is "), "{refused}");
        }
    }

    #[test]
    fn rows_are_equal_whose_json_differs_only_in_how_it_is_written() {
        let hash = |json: &str| {
            let columns = [ColumnType::Text, ColumnType::Json].map(column);
            let cells = vec![Cell::Text("a".to_owned()), Cell::Text(json.to_owned())];
            SourceRow { number: 1, cells }.encoded(&columns).unwrap().hash(&columns)
        };
        assert_eq!(hash(r#"{"b":1.50,"a":[1e3]}"#), hash(r#"{"a": [1000], "b": 1.5}"#));
        assert_ne!(hash(r#"{"a":1}"#), hash(r#"{"a":2}"#));
    }
}
