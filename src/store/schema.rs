//! The tables of both databases as diesel sees them, and the SQL type for instants, which differs between them.
//!
//! One schema serves both: the tables and columns are the same (`migrations/`). Only the types differ: an
//! [`Instant`] is `timestamptz` on PostgreSQL and fixed-width UTC text on SQLite.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, SqlType, Text};
use diesel::sqlite::Sqlite;

use super::instant_text::{InstantText, parse_instant};
use crate::domain::Timestamp;

/// `timestamptz` on PostgreSQL; on SQLite text `YYYY-MM-DD HH:MM:SS.ffffff+00:00`.
#[derive(Debug, Clone, Copy, Default, SqlType, QueryId)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185))]
#[diesel(sqlite_type(name = "Text"))]
pub struct Instant;

/// A [`Timestamp`] on its way into or out of a database. Instants outside the years 0001 to 9999 are stored
/// as the nearest one inside, because neither database holds the whole range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Instant)]
pub struct SqlInstant(pub Timestamp);

/// 0001-01-01T00:00:00Z in microseconds since 1970.
pub const INSTANT_MICROS_MIN: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z in microseconds since 1970.
pub const INSTANT_MICROS_MAX: i64 = 253_402_300_799_999_999;
/// PostgreSQL counts from 2000-01-01; that instant in microseconds since 1970.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

impl SqlInstant {
    /// Returns microseconds since 1970, clamped to the years that can be stored.
    pub fn stored_micros(self) -> i64 {
        self.0.as_micros().clamp(INSTANT_MICROS_MIN, INSTANT_MICROS_MAX)
    }

    /// Returns the binary form of PostgreSQL.
    pub fn postgres_micros(self) -> i64 {
        self.stored_micros() - POSTGRES_EPOCH_MICROS
    }
}

impl ToSql<Instant, Pg> for SqlInstant {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<BigInt, Pg>::to_sql(&self.postgres_micros(), &mut out.reborrow())
    }
}

impl FromSql<Instant, Pg> for SqlInstant {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let micros = <i64 as FromSql<BigInt, Pg>>::from_sql(value)?.saturating_add(POSTGRES_EPOCH_MICROS);
        if !(INSTANT_MICROS_MIN..=INSTANT_MICROS_MAX).contains(&micros) {
            return Err("an instant outside the years 1 to 9999".into());
        }
        Ok(Self(Timestamp::from_micros(micros)))
    }
}

impl ToSql<Instant, Sqlite> for SqlInstant {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(InstantText::new(*self).as_str().to_owned());
        Ok(IsNull::No)
    }
}

impl ToSql<Instant, Sqlite> for InstantText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.as_str());
        Ok(IsNull::No)
    }
}

impl FromSql<Instant, Sqlite> for SqlInstant {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
        let instant =
            parse_instant(&text).ok_or_else(|| format!("{text:?}, which is not an instant in UTC"))?;
        Ok(Self(instant))
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::Instant;

    machine (site, machine_id) {
        site -> Text,
        machine_id -> Text,
        status -> Text,
        status_since -> Nullable<Instant>,
        first_seen_at -> Nullable<Instant>,
        last_seen_at -> Nullable<Instant>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::Instant;

    ingest_checkpoint (journal_id) {
        journal_id -> Text,
        site -> Text,
        committed_seq -> BigInt,
        messages -> BigInt,
        stored -> BigInt,
        duplicate -> BigInt,
        rejected -> BigInt,
        control -> BigInt,
        updated_at -> Instant,
        open_id -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::Instant;

    machine_event (id) {
        id -> BigInt,
        site -> Text,
        machine_id -> Text,
        status -> Text,
        reason -> Text,
        occurred_at -> Instant,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::Instant;

    rejected_message (id) {
        id -> BigInt,
        site -> Text,
        journal_id -> Text,
        seq -> BigInt,
        element -> Integer,
        received_at -> Instant,
        topic -> Text,
        qos -> SmallInt,
        retained -> Bool,
        clock_unset -> Nullable<Bool>,
        payload -> Binary,
        reason -> Text,
        detail -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::Instant;

    // As on PostgreSQL, which gets its readings by COPY; SQLite has `extra` as text.
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
        digest -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::Instant;

    clock_record (site) {
        site -> Text,
        seq -> BigInt,
        trusted_at -> Instant,
        wall_at -> Instant,
        step_held_us -> Nullable<BigInt>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(machine, machine_event);
