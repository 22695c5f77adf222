//! Putting encoded rows into a table: by COPY, by INSERT, and around rows that the database refuses.

use diesel::pg::{CopyFormat, Pg};
use diesel::prelude::*;
use diesel::result::Error;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_query;
use diesel::sql_types::SqlType;
use std::io::Write;

use super::row::EncodedRow;
use super::tables::Table;
use crate::store::postgres::copy::send_rows;
use crate::store::postgres::sqlstate::{self, Verdict, is_of_copy};

/// The readings with every column but `id`; [`readings`] copies them in this order.
pub mod reading_columns {
    use crate::store::schema::Instant;

    diesel::table! {
        use diesel::sql_types::*;
        use super::Instant;

        machine_telemetry (site, machine_id, recorded_at, digest) {
            site -> Text,
            machine_id -> Text,
            temperature -> Nullable<Double>,
            humidity -> Nullable<Double>,
            vibration -> Nullable<Double>,
            extra -> Nullable<Jsonb>,
            source_topic -> Text,
            recorded_at -> Instant,
            time_source -> Text,
            received_at -> Instant,
            created_at -> Instant,
            digest -> BigInt,
        }
    }

    /// Their names, in the order of COPY.
    pub const NAMES: [&str; 12] = [
        "site",
        "machine_id",
        "temperature",
        "humidity",
        "vibration",
        "extra",
        "source_topic",
        "recorded_at",
        "time_source",
        "received_at",
        "created_at",
        "digest",
    ];
}

/// What to do with a row whose key is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Skip,
    Refuse,
}

/// Copies readings, whose columns are [`reading_columns::NAMES`]; if that fails for a row, inserts those that are new. Returns the
/// places of the rows that the database refuses, and why.
pub fn readings(
    connection: &mut PgConnection,
    table: &Table,
    rows: &[EncodedRow],
) -> QueryResult<Vec<(usize, String)>> {
    match connection.transaction(|connection| copy(connection, rows)) {
        Err(error) if is_of_copy(&error) => {
            let mut refused = Vec::new();
            insert_around(connection, table, rows, Taken::Skip, 0, &mut refused)?;
            Ok(refused)
        }
        done => done.map(|()| Vec::new()),
    }
}

/// Inserts rows, whose keys must be new, and returns the same.
pub fn rows(
    connection: &mut PgConnection,
    table: &Table,
    rows: &[EncodedRow],
) -> QueryResult<Vec<(usize, String)>> {
    let mut refused = Vec::new();
    insert_around(connection, table, rows, Taken::Refuse, 0, &mut refused)?;
    Ok(refused)
}

fn copy(connection: &mut PgConnection, rows: &[EncodedRow]) -> QueryResult<()> {
    use reading_columns::machine_telemetry::dsl;
    // An error of libpq while it sends has no SQLSTATE of its own.
    sqlstate::forget();
    let columns = i16::try_from(reading_columns::NAMES.len()).expect("a dozen");
    let copied = diesel::copy_from(dsl::machine_telemetry)
        .from_raw_data(dsl::machine_telemetry, |out| {
            send_rows(out, rows, |part, row| {
                part.extend_from_slice(&columns.to_be_bytes());
                part.extend_from_slice(&row.0);
            })
        })
        .with_format(CopyFormat::Binary)
        .execute(connection)?;
    if copied == rows.len() { Ok(()) } else { Err(Error::RollbackTransaction) }
}

/// Inserts all rows, or, if one of them is refused, each half by itself.
fn insert_around(
    connection: &mut PgConnection,
    table: &Table,
    rows: &[EncodedRow],
    taken: Taken,
    first: usize,
    refused: &mut Vec<(usize, String)>,
) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlstate::forget();
    let error = match connection.transaction(|connection| insert(connection, table, rows, taken)) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    match (Verdict::of(&error), rows.len()) {
        (Verdict::Refused(message), 1) => refused.push((first, message)),
        (Verdict::Refused(_), count) => {
            let (left, right) = rows.split_at(count / 2);
            insert_around(connection, table, left, taken, first, refused)?;
            insert_around(connection, table, right, taken, first + count / 2, refused)?;
        }
        _ => return Err(error),
    }
    Ok(())
}

fn insert(
    connection: &mut PgConnection,
    table: &Table,
    rows: &[EncodedRow],
    taken: Taken,
) -> QueryResult<()> {
    let arrays = table.columns.iter().enumerate().map(|(place, column)| {
        let (_, name) = column.column_type.oid_and_name();
        format!("${}::{name}[]", place + 1)
    });
    let mut sql = format!(
        "INSERT INTO \"{}\" ({}) SELECT * FROM unnest({})",
        table.name,
        table.column_list(),
        arrays.collect::<Vec<_>>().join(", ")
    );
    if taken == Taken::Skip {
        sql.push_str(" ON CONFLICT DO NOTHING");
    }
    let mut query = sql_query(sql).into_boxed::<Pg>();
    for (place, column) in table.columns.iter().enumerate() {
        let (oid, _) = column.column_type.oid_and_name();
        query = query.bind::<AnyArray, _>(ColumnOf { rows, place, oid });
    }
    query.execute(connection).map(drop)
}

/// An array whose type the statement says by a cast.
#[derive(SqlType)]
#[diesel(postgres_type(oid = 0, array_oid = 0))]
struct AnyArray;

/// One column of some rows, as an array.
#[derive(Debug)]
struct ColumnOf<'a> {
    rows: &'a [EncodedRow],
    place: usize,
    oid: u32,
}

impl ToSql<AnyArray, Pg> for ColumnOf<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let length = i32::try_from(self.rows.len())?;
        // One dimension that may have NULLs and begins at 1.
        for number in [1, 1, self.oid.cast_signed(), length, 1] {
            out.write_all(&number.to_be_bytes())?;
        }
        for row in self.rows {
            match row.values().nth(self.place).flatten() {
                Some(value) => {
                    out.write_all(&i32::try_from(value.len())?.to_be_bytes())?;
                    out.write_all(value)?;
                }
                None => out.write_all(&(-1_i32).to_be_bytes())?,
            }
        }
        Ok(IsNull::No)
    }
}
