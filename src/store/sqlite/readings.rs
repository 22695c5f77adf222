//! Inserting readings: many in one statement, in the order of their key, so that neighbours in the index are
//! written one after the other. Binding and starting a statement costs more than inserting its row.
//!
//! If a statement inserts its whole run, every row is new. If not, its count hides which rows are new, which
//! are duplicates, and which a constraint refuses: `OR IGNORE` passes over all but the first. So the rows of
//! such a run are looked up one by one. One that is not there is inserted by itself, so that the database
//! names its refusal.
//!
//! A table on which somebody has put a trigger is written row by row: `OR IGNORE` would reach into the
//! trigger and pass over what the trigger's own statements refuse.

use std::borrow::Cow;

use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_query;
use diesel::sql_types::{BigInt, Double, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteConnection};

use super::commit::{Failure, Fatal, RowWriter, text, write_row};
use super::refusal::refusal;
use super::statements::{FindReading, InsertReading};
use crate::store::batch::{CommitOutcome, ReadingRow, RejectionRow};
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};
use crate::store::instant_text::InstantText;
use crate::store::refused::RowLocation;
use crate::store::rollup::Rollup;
use crate::store::schema::{Instant, SqlInstant};
use crate::store::without_nul;

/// Rows in one statement. More in one save nothing more.
const RUN_ROWS: usize = 64;
/// Rows in one statement towards the end of a batch; the rest goes row by row.
const SHORT_RUN_ROWS: usize = 8;

const TABLE: &str = "SELECT coalesce(max(id), 0) AS newest_id, (SELECT count(*) FROM sqlite_master \
     WHERE type = 'trigger' AND tbl_name = 'machine_telemetry' COLLATE NOCASE) AS triggers FROM machine_telemetry";

/// What to know of the table before a run.
#[derive(QueryableByName)]
struct TableRow {
    #[diesel(sql_type = BigInt)]
    newest_id: i64,
    #[diesel(sql_type = BigInt)]
    triggers: i64,
}

/// A row and its place in the batch.
type Placed<'a> = (usize, &'a ReadingRow);

/// What became of the rows so far.
struct Inserted<'o, 'a> {
    outcome: &'o mut CommitOutcome,
    rollup: &'o mut Rollup<'a>,
    refused: Vec<RejectionRow>,
}

impl<'a> Inserted<'_, 'a> {
    fn store(&mut self, row: &'a ReadingRow) {
        self.outcome.stored += 1;
        self.rollup.add(&row.reading);
    }

    /// Takes the result of one row's own statement.
    fn take(&mut self, row: &'a ReadingRow, written: Result<usize, String>) {
        match written {
            Ok(0) => {}
            Ok(_) => self.store(row),
            Err(refusal) => self.refused.push(self.outcome.poison(row, refusal)),
        }
    }
}

impl RowWriter<'_> {
    /// Inserts `rows` one by one, but for the `fatal` ones; counts the new ones, and returns the refused ones
    /// as rejections.
    pub(super) fn insert_readings<'a>(
        &self,
        connection: &mut SqliteConnection,
        rows: &'a [ReadingRow],
        fatal: &Fatal,
        outcome: &mut CommitOutcome,
        rollup: &mut Rollup<'a>,
    ) -> Result<Vec<RejectionRow>, Failure> {
        let mut inserted = Inserted { outcome, rollup, refused: Vec::new() };
        for (index, row) in rows.iter().enumerate() {
            let written = self.insert_one(connection, (index, row), fatal)?;
            inserted.take(row, written);
        }
        Ok(inserted.refused)
    }

    /// Inserts `rows` in runs, with the same result. After [`Failure::RowByRow`] the transaction must be rolled
    /// back, as some rows of a run may be in the table.
    pub(super) fn insert_in_runs<'a>(
        &self,
        connection: &mut SqliteConnection,
        rows: &'a [ReadingRow],
        outcome: &mut CommitOutcome,
        rollup: &mut Rollup<'a>,
    ) -> Result<Vec<RejectionRow>, Failure> {
        let none = Fatal::new();
        if rows.len() < SHORT_RUN_ROWS {
            return self.insert_readings(connection, rows, &none, outcome, rollup);
        }
        let TableRow { newest_id, triggers } =
            sql_query(TABLE).get_result(connection).at(CommitStep::Readings)?;
        if triggers > 0 {
            return self.insert_readings(connection, rows, &none, outcome, rollup);
        }
        let mut inserted = Inserted { outcome, rollup, refused: Vec::new() };
        let ordered = in_key_order(rows);
        let rest = self.insert_all_runs(connection, &ordered, newest_id, &mut inserted)?;
        for &(index, row) in rest {
            let written = self.insert_one(connection, (index, row), &none)?;
            inserted.take(row, written);
        }
        let Inserted { mut refused, outcome, .. } = inserted;
        refused.sort_by_key(|row| (row.seq, row.element));
        outcome.poisoned.sort_by_key(|row| (row.seq, row.element));
        Ok(refused)
    }

    /// Inserts as many of the rows as make runs, and returns the rest.
    fn insert_all_runs<'o, 'a>(
        &self,
        connection: &mut SqliteConnection,
        ordered: &'o [Placed<'a>],
        mut newest_id: i64,
        inserted: &mut Inserted<'_, 'a>,
    ) -> Result<&'o [Placed<'a>], Failure> {
        let mut rest = ordered;
        while rest.len() >= SHORT_RUN_ROWS {
            let (run, after) = rest.split_at(if rest.len() < RUN_ROWS { SHORT_RUN_ROWS } else { RUN_ROWS });
            rest = after;
            let count = self.insert_run(connection, run)?;
            if count == run.len() {
                run.iter().for_each(|(_, row)| inserted.store(row));
            } else {
                self.look_up(connection, run, newest_id, count, inserted)?;
            }
            newest_id = newest_id.saturating_add_unsigned(count as u64);
        }
        Ok(rest)
    }

    /// Inserts the rows of a run that the database does not have and does not refuse. Returns how many.
    fn insert_run(&self, connection: &mut SqliteConnection, run: &[Placed<'_>]) -> Result<usize, Failure> {
        let rows = run.iter().map(|(_, row)| Columns::of(row)).collect();
        let (site, now) = (self.site, self.now);
        let result = if run.len() == RUN_ROWS {
            connection.execute_returning_count(&InsertRun::<RUN_ROWS> { site, now, rows })
        } else {
            connection.execute_returning_count(&InsertRun::<SHORT_RUN_ROWS> { site, now, rows })
        };
        result.map_err(|error| match refusal(&error) {
            Some(_) => Failure::RowByRow,
            None => CommitFailure::Step(CommitStep::Readings, error).into(),
        })
    }

    /// Finds out what became of the rows of a run of which `count` were inserted. `newest_id` is from before.
    fn look_up<'a>(
        &self,
        connection: &mut SqliteConnection,
        run: &[Placed<'a>],
        newest_id: i64,
        count: usize,
        inserted: &mut Inserted<'_, 'a>,
    ) -> Result<(), Failure> {
        let mut new_ids = 0;
        let mut seen = None;
        for &(index, row) in run {
            let find = FindReading {
                site: self.site,
                machine_id: row.reading.machine_id.as_str(),
                recorded_at: text(row.reading.recorded_at),
                digest: row.reading.digest.cast_signed(),
            };
            let id = find.get_result::<i64>(connection).optional().at(CommitStep::Readings)?;
            if id.is_none() {
                let written = self.insert_one(connection, (index, row), &Fatal::new())?;
                inserted.take(row, written);
            } else if id > Some(newest_id) && id != seen {
                new_ids += 1;
                inserted.store(row);
            }
            seen = id;
        }
        // Ids do not grow any more once the greatest possible one is taken.
        if new_ids == count { Ok(()) } else { Err(Failure::RowByRow) }
    }

    /// Inserts one row. Returns how many rows changed, or the message with which the database refuses it.
    fn insert_one(
        &self,
        connection: &mut SqliteConnection,
        (index, row): Placed<'_>,
        fatal: &Fatal,
    ) -> Result<Result<usize, String>, Failure> {
        let Columns {
            machine_id,
            temperature,
            humidity,
            vibration,
            extra,
            source_topic,
            recorded_at,
            time_source,
            received_at,
            digest,
        } = Columns::of(row);
        let insert = InsertReading {
            site: self.site,
            machine_id,
            temperature,
            humidity,
            vibration,
            extra,
            source_topic: &source_topic,
            recorded_at,
            time_source,
            received_at,
            created_at: self.now,
            digest,
        };
        let location = RowLocation::Reading(index);
        write_row(connection, location, fatal, CommitStep::Readings, |connection| {
            connection.execute_returning_count(&insert)
        })
    }
}

/// The columns of a reading, but for those that are the same in the whole batch.
struct Columns<'a> {
    machine_id: &'a str,
    temperature: Option<f64>,
    humidity: Option<f64>,
    vibration: Option<f64>,
    extra: Option<&'a str>,
    source_topic: Cow<'a, str>,
    recorded_at: InstantText,
    time_source: &'static str,
    received_at: InstantText,
    digest: i64,
}

impl<'a> Columns<'a> {
    fn of(row: &'a ReadingRow) -> Self {
        let reading = &row.reading;
        Self {
            machine_id: reading.machine_id.as_str(),
            temperature: reading.temperature,
            humidity: reading.humidity,
            vibration: reading.vibration,
            extra: reading.extra.as_deref(),
            source_topic: without_nul(&row.topic),
            recorded_at: text(reading.recorded_at),
            time_source: reading.time_source.as_str(),
            received_at: text(row.received_at),
            digest: reading.digest.cast_signed(),
        }
    }
}

/// Inserts `ROWS` readings, passing over those that the database has or refuses.
struct InsertRun<'a, const ROWS: usize> {
    site: &'a str,
    now: InstantText,
    rows: Vec<Columns<'a>>,
}

impl<const ROWS: usize> QueryId for InsertRun<'_, ROWS> {
    type QueryId = InsertRun<'static, ROWS>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const ROWS: usize> QueryFragment<Sqlite> for InsertRun<'_, ROWS> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        debug_assert_eq!(self.rows.len(), ROWS, "the text is prepared once for each length");
        out.push_sql(
            "INSERT OR IGNORE INTO machine_telemetry (site, created_at, machine_id, temperature, humidity, vibration, \
             extra, source_topic, recorded_at, time_source, received_at, digest) VALUES ",
        );
        for (index, row) in self.rows.iter().enumerate() {
            if index == 0 {
                out.push_sql("(");
                out.push_bind_param::<Text, _>(&self.site)?;
                out.push_sql(", ");
                out.push_bind_param::<Instant, _>(&self.now)?;
            } else {
                // The parameters of the first row.
                out.push_sql(", (?1, ?2");
            }
            row.walk_ast(out.reborrow())?;
            out.push_sql(")");
        }
        Ok(())
    }
}

impl Columns<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let source_topic: &'b str = &self.source_topic;
        out.push_sql(", ");
        out.push_bind_param::<Text, _>(&self.machine_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Double>, _>(&self.temperature)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Double>, _>(&self.humidity)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Double>, _>(&self.vibration)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Text>, _>(&self.extra)?;
        out.push_sql(", ");
        out.push_bind_param::<Text, str>(source_topic)?;
        out.push_sql(", ");
        out.push_bind_param::<Instant, _>(&self.recorded_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Text, _>(&self.time_source)?;
        out.push_sql(", ");
        out.push_bind_param::<Instant, _>(&self.received_at)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.digest)
    }
}

impl<const ROWS: usize> RunQueryDsl<SqliteConnection> for InsertRun<'_, ROWS> {}

/// Returns the rows in the order of their key; equal ones in the order of the batch.
fn in_key_order(rows: &[ReadingRow]) -> Vec<Placed<'_>> {
    let key = |row: &'_ ReadingRow| {
        (SqlInstant(row.reading.recorded_at).stored_micros(), row.reading.digest.cast_signed())
    };
    let mut ordered: Vec<Placed<'_>> = rows.iter().enumerate().collect();
    ordered.sort_by(|(_, one), (_, other)| {
        let by_machine = one.reading.machine_id.cmp(&other.reading.machine_id);
        by_machine.then_with(|| key(one).cmp(&key(other)))
    });
    ordered
}
