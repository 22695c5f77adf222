//! The statements of nearly every commit, each prepared once a connection, and the columns they bind.

use std::borrow::Cow;

use diesel::pg::{Pg, PgConnection};
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, Text};

use crate::domain::{MachineId, Timestamp};
use crate::store::batch::ReadingRow;
use crate::store::checkpoint::LedgerTypes;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::statement::cached_statement;
use crate::store::without_nul;

cached_statement! {
    /// Moves the position from `after` to `upto` (STO-2) and counts every reading as stored. Returns the row
    /// after that. Switches `synchronous_commit` on for this transaction where it is off, because the journal
    /// deletes what is committed. Every commit does: role, database or server may change the setting at any
    /// time.
    MovePosition on Pg, PgConnection, returning (LedgerTypes, Nullable<Text>):
    "UPDATE ingest_checkpoint SET committed_seq = " [upto: BigInt = i64]
    ", messages = messages + " [messages: BigInt = i64]
    ", stored = stored + " [readings: BigInt = i64]
    ", rejected = rejected + " [rejections: BigInt = i64]
    ", control = control + " [control: BigInt = i64]
    ", updated_at = now() WHERE journal_id = " [journal_id: Text = &'a str]
    " AND committed_seq = " [after: BigInt = i64]
    " AND open_id = " [open_id: Text = &'a str]
    " RETURNING committed_seq, messages, stored, duplicate, rejected, control, \
     CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END"
}

cached_statement! {
    /// Inserts the readings of a run. Returns a row with NULLs and the number of new readings. If some are
    /// not new, the keys of the new ones follow.
    InsertReadings on Pg, PgConnection, returning (Nullable<Text>, Nullable<Instant>, BigInt):
    "WITH stored AS (INSERT INTO machine_telemetry (site, machine_id, temperature, humidity, vibration, extra, source_topic, \
     recorded_at, time_source, received_at, digest) SELECT " [site: Text = &'a str]
    ", m, t, h, v, e::jsonb, topic, recorded, src, received, digest FROM unnest("
    [
        machine_ids: Array<Text> = &'a [&'a str],
        temperatures: Array<Nullable<Double>> = &'a [Option<f64>],
        humidities: Array<Nullable<Double>> = &'a [Option<f64>],
        vibrations: Array<Nullable<Double>> = &'a [Option<f64>],
        extras: Array<Nullable<Text>> = &'a [Option<&'a str>],
        topics: Array<Text> = &'a [Cow<'a, str>],
        recorded: Array<Instant> = &'a [SqlInstant],
        time_sources: Array<Text> = &'a [&'static str],
        received: Array<Instant> = &'a [SqlInstant],
        digests: Array<BigInt> = &'a [i64],
    ]
    ") AS u (m, t, h, v, e, topic, recorded, src, received, digest) \
     ON CONFLICT (site, machine_id, recorded_at, digest) DO NOTHING RETURNING machine_id, recorded_at, digest) \
     SELECT NULL, NULL, count(*) FROM stored \
     UNION ALL SELECT machine_id, recorded_at, digest FROM stored WHERE (SELECT count(*) FROM stored) < "
    [sent: Integer = i32]
}

cached_statement! {
    /// Updates when known machines were last seen, where that differs.
    UpdateSightings on Pg, PgConnection:
    "UPDATE machine SET last_seen_at = seen.at FROM unnest("
    [machine_ids: Array<Text> = Vec<&'a str>, seen: Array<Instant> = Vec<SqlInstant>]
    ") AS seen (id, at) WHERE machine.site = " [site: Text = &'a str]
    " AND machine.machine_id = seen.id AND machine.last_seen_at IS DISTINCT FROM seen.at"
}

/// Readings turned from rows to columns.
#[derive(Default)]
pub struct ReadingColumns<'a> {
    pub machine_ids: Vec<&'a str>,
    pub temperatures: Vec<Option<f64>>,
    pub humidities: Vec<Option<f64>>,
    pub vibrations: Vec<Option<f64>>,
    pub extras: Vec<Option<&'a str>>,
    pub topics: Vec<Cow<'a, str>>,
    pub recorded: Vec<SqlInstant>,
    pub time_sources: Vec<&'static str>,
    pub received: Vec<SqlInstant>,
    pub digests: Vec<i64>,
}

impl<'a> ReadingColumns<'a> {
    /// Turns `rows` to columns.
    pub fn new(rows: &[&'a ReadingRow]) -> Self {
        let readings = || rows.iter().map(|row| &row.reading);
        Self {
            machine_ids: readings().map(|reading| reading.machine_id.as_str()).collect(),
            temperatures: readings().map(|reading| reading.temperature).collect(),
            humidities: readings().map(|reading| reading.humidity).collect(),
            vibrations: readings().map(|reading| reading.vibration).collect(),
            extras: readings().map(|reading| reading.extra.as_deref()).collect(),
            topics: rows.iter().map(|row| without_nul(&row.topic)).collect(),
            recorded: readings().map(|reading| SqlInstant(reading.recorded_at)).collect(),
            time_sources: readings().map(|reading| reading.time_source.as_str()).collect(),
            received: rows.iter().map(|row| SqlInstant(row.received_at)).collect(),
            digests: readings().map(|reading| reading.digest.cast_signed()).collect(),
        }
    }

    /// Returns the statement that inserts them.
    pub fn insert(&'a self, site: &'a str) -> InsertReadings<'a> {
        InsertReadings {
            site,
            machine_ids: &self.machine_ids,
            temperatures: &self.temperatures,
            humidities: &self.humidities,
            vibrations: &self.vibrations,
            extras: &self.extras,
            topics: &self.topics,
            recorded: &self.recorded,
            time_sources: &self.time_sources,
            received: &self.received,
            digests: &self.digests,
            sent: i32::try_from(self.digests.len()).unwrap_or(i32::MAX),
        }
    }
}

impl<'a> UpdateSightings<'a> {
    /// Returns the statement for a run of sightings.
    pub fn new(site: &'a str, sightings: &'a [(MachineId, Timestamp)]) -> Self {
        Self {
            machine_ids: sightings.iter().map(|(machine_id, _)| machine_id.as_str()).collect(),
            seen: sightings.iter().map(|(_, seen)| SqlInstant(*seen)).collect(),
            site,
        }
    }
}
