//! The statements of a commit, each prepared once a connection.

use diesel::sql_types::{BigInt, Binary, Bool, Double, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::{Sqlite, SqliteConnection};

use crate::store::checkpoint::LedgerTypes;
use crate::store::instant_text::InstantText;
use crate::store::schema::Instant;
use crate::store::statement::cached_statement;

cached_statement! {
    /// Moves the position from `after` to `upto` (STO-2) and counts every reading as stored. Returns the row
    /// after that.
    MovePosition on Sqlite, SqliteConnection, returning LedgerTypes:
    "UPDATE ingest_checkpoint SET committed_seq = " [upto: BigInt = i64]
    ", messages = messages + " [messages: BigInt = i64]
    ", stored = stored + " [readings: BigInt = i64]
    ", rejected = rejected + " [rejections: BigInt = i64]
    ", control = control + " [control: BigInt = i64]
    ", updated_at = " [now: Instant = InstantText]
    " WHERE journal_id = " [journal_id: Text = &'a str]
    " AND committed_seq = " [after: BigInt = i64]
    " AND open_id = " [open_id: Text = &'a str]
    " RETURNING committed_seq, messages, stored, duplicate, rejected, control"
}

cached_statement! {
    /// Inserts one reading, unless the database has it.
    InsertReading on Sqlite, SqliteConnection:
    "INSERT INTO machine_telemetry (site, machine_id, temperature, humidity, vibration, extra, source_topic, \
     recorded_at, time_source, received_at, created_at, digest) VALUES ("
    [
        site: Text = &'a str,
        machine_id: Text = &'a str,
        temperature: Nullable<Double> = Option<f64>,
        humidity: Nullable<Double> = Option<f64>,
        vibration: Nullable<Double> = Option<f64>,
        extra: Nullable<Text> = Option<&'a str>,
        source_topic: Text = &'a str,
        recorded_at: Instant = InstantText,
        time_source: Text = &'static str,
        received_at: Instant = InstantText,
        created_at: Instant = InstantText,
        digest: BigInt = i64,
    ]
    ") ON CONFLICT (site, machine_id, recorded_at, digest) DO NOTHING"
}

cached_statement! {
    /// Finds one reading. Returns its id.
    FindReading on Sqlite, SqliteConnection, returning BigInt:
    "SELECT id FROM machine_telemetry WHERE site = " [site: Text = &'a str]
    " AND machine_id = " [machine_id: Text = &'a str]
    " AND recorded_at = " [recorded_at: Instant = InstantText]
    " AND digest = " [digest: BigInt = i64]
}

cached_statement! {
    /// Inserts one rejected element.
    InsertRejection on Sqlite, SqliteConnection:
    "INSERT INTO rejected_message (site, journal_id, seq, element, received_at, topic, qos, retained, \
     clock_unset, payload, reason, detail) VALUES ("
    [
        site: Text = &'a str,
        journal_id: Text = &'a str,
        seq: BigInt = i64,
        element: Integer = i32,
        received_at: Instant = InstantText,
        topic: Text = &'a str,
        qos: SmallInt = i16,
        retained: Bool = bool,
        clock_unset: Bool = bool,
        payload: Binary = &'a [u8],
        reason: Text = &'static str,
        detail: Text = &'a str,
    ]
    ") ON CONFLICT (journal_id, seq, element) DO NOTHING"
}

cached_statement! {
    /// Inserts one range of records that the journal dropped.
    InsertGap on Sqlite, SqliteConnection:
    "INSERT INTO journal_gap (journal_id, from_seq, to_seq, reason, at) VALUES ("
    [
        journal_id: Text = &'a str,
        from_seq: BigInt = i64,
        to_seq: BigInt = i64,
        reason: Text = &'a str,
        at: Instant = InstantText,
    ]
    ") ON CONFLICT (journal_id, from_seq, to_seq) DO NOTHING"
}

cached_statement! {
    /// Inserts one event.
    InsertEvent on Sqlite, SqliteConnection:
    "INSERT INTO machine_event (site, machine_id, status, previous_status, reason, occurred_at, last_seen_at, \
     publish_pending) VALUES ("
    [
        site: Text = &'a str,
        machine_id: Text = &'a str,
        status: Text = &'static str,
        previous_status: Nullable<Text> = Option<&'static str>,
        reason: Text = &'static str,
        occurred_at: Instant = InstantText,
        last_seen_at: Nullable<Instant> = Option<InstantText>,
        publish_pending: Bool = bool,
    ]
    ") ON CONFLICT (site, machine_id, occurred_at, status) DO NOTHING"
}

cached_statement! {
    /// Marks one event as published.
    MarkPublished on Sqlite, SqliteConnection:
    "UPDATE machine_event SET publish_pending = 0 WHERE site = " [site: Text = &'a str]
    " AND machine_id = " [machine_id: Text = &'a str]
    " AND occurred_at = " [occurred_at: Instant = InstantText]
    " AND status = " [status: Text = &'static str]
    " AND publish_pending"
}

cached_statement! {
    /// Writes one machine's status.
    UpsertMachine on Sqlite, SqliteConnection:
    "INSERT INTO machine (site, machine_id, status, status_since, first_seen_at, last_seen_at) VALUES ("
    [
        site: Text = &'a str,
        machine_id: Text = &'a str,
        status: Text = &'static str,
        status_since: Instant = InstantText,
        first_seen_at: Nullable<Instant> = Option<InstantText>,
        last_seen_at: Nullable<Instant> = Option<InstantText>,
    ]
    ") ON CONFLICT (site, machine_id) DO UPDATE SET \
     status = excluded.status, status_since = excluded.status_since, \
     first_seen_at = coalesce(min(machine.first_seen_at, excluded.first_seen_at), machine.first_seen_at, \
         excluded.first_seen_at), \
     last_seen_at = coalesce(excluded.last_seen_at, machine.last_seen_at)"
}

cached_statement! {
    /// Updates when a known machine was last seen, if that differs.
    UpdateSighting on Sqlite, SqliteConnection:
    "UPDATE machine SET last_seen_at = " [seen_at: Instant = InstantText]
    " WHERE site = " [site: Text = &'a str]
    " AND machine_id = " [machine_id: Text = &'a str]
    " AND last_seen_at IS NOT " [unlike: Instant = InstantText]
}
