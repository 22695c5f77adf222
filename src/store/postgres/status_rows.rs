//! Rows beside the readings: events, machines, marks of published events, outages, sightings. One statement
//! per kind and run.

use std::collections::HashSet;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Nullable, Text};

use super::runs::RunWriter;
use super::statements::UpdateSightings;
use crate::domain::{Timestamp, Transition};
use crate::store::batch::Batch;
use crate::store::error::CommitStep;
use crate::store::failure::CommitFailure;
use crate::store::forget::postgres as forget;
use crate::store::liveness_rows::EventKey;
use crate::store::liveness_rows::postgres::{write_outage, write_seen_until};
use crate::store::machine_changes::{MachineChange, machine_changes};
use crate::store::refused::{RefusedRow, RowLocation};
use crate::store::schema::{Instant, SqlInstant};

/// An event, and whether it still has to reach the broker.
type PendingEvent<'a> = (&'a Transition, bool);

/// Writes them all. Returns those that the database refuses (STO-4).
pub fn write(
    writer: &mut RunWriter<'_>,
    site: &str,
    batch: &Batch,
) -> Result<Vec<RefusedRow>, CommitFailure> {
    let events = pending_events(batch);
    let liveness = &batch.liveness;
    let mut known = HashSet::new();
    let mut writing = Writing { writer, batch, changes: &[], refused: Vec::new() };
    writing.rows(CommitStep::Transitions, RowLocation::Forget, &liveness.forgets, |connection, run| {
        run.iter().try_for_each(|change| forget::write(connection, site, change).map(drop))
    })?;
    writing.rows(CommitStep::Transitions, RowLocation::Event, &events, |connection, run| {
        known.extend(insert_events(connection, site, run)?);
        Ok(())
    })?;
    let is_new = |event: &&Transition| !known.contains(&key(event));
    let changes = machine_changes(batch.transitions.iter().filter(is_new));
    writing.changes = &changes;
    writing.rows(CommitStep::Transitions, RowLocation::Machine, &changes, |connection, run| {
        upsert_machines(connection, site, run)
    })?;
    writing.rows(
        CommitStep::Transitions,
        RowLocation::PublishedMark,
        &liveness.published,
        |connection, run| mark_published(connection, site, run),
    )?;
    writing.rows(CommitStep::Outages, RowLocation::Outage, &liveness.outages, |connection, run| {
        run.iter().try_for_each(|outage| write_outage(connection, site, outage).map(drop))
    })?;
    writing.rows(
        CommitStep::Outages,
        |_| RowLocation::SeenUntil,
        liveness.seen_until.as_slice(),
        |connection, run| {
            run.iter().try_for_each(|seen_until| write_seen_until(connection, site, *seen_until).map(drop))
        },
    )?;
    writing.rows(CommitStep::Sightings, RowLocation::Sighting, &batch.sightings, |connection, run| {
        connection.execute_returning_count(&UpdateSightings::new(site, run)).map(drop)
    })?;
    Ok(writing.refused)
}

fn pending_events(batch: &Batch) -> Vec<PendingEvent<'_>> {
    let published = batch.liveness.transitions_published;
    batch.transitions.iter().enumerate().map(|(index, event)| (event, index >= published)).collect()
}

struct Writing<'w, 'c> {
    writer: &'w mut RunWriter<'c>,
    batch: &'w Batch,
    changes: &'w [MachineChange<'w>],
    refused: Vec<RefusedRow>,
}

impl Writing<'_, '_> {
    fn rows<'a, T>(
        &mut self,
        step: CommitStep,
        location: impl Fn(usize) -> RowLocation,
        rows: &'a [T],
        statement: impl FnMut(&mut PgConnection, &'a [T]) -> QueryResult<()>,
    ) -> Result<(), CommitFailure> {
        let row = |index: usize, refusal| location(index).refused(self.batch, self.changes, refusal);
        let name = |index| row(index, String::new()).map(|row| row.to_string()).unwrap_or_default();
        let refused = self.writer.write(step, rows, |_| 0, name, statement)?;
        self.refused.extend(refused.into_iter().filter_map(|(index, refusal)| row(index, refusal)));
        Ok(())
    }
}

/// Identifies an event of a site.
type Key<'a> = (&'a str, Timestamp, &'a str);

fn key(event: &Transition) -> Key<'_> {
    (event.machine_id.as_str(), event.occurred_at, event.status.as_str())
}

#[derive(QueryableByName)]
struct Inserted {
    #[diesel(sql_type = Text)]
    machine_id: String,
    #[diesel(sql_type = Instant)]
    occurred_at: SqlInstant,
    #[diesel(sql_type = Text)]
    status: String,
}

/// Inserts the events of `run`. Returns the keys of those that the database had already.
fn insert_events<'a>(
    connection: &mut PgConnection,
    site: &str,
    run: &[PendingEvent<'a>],
) -> QueryResult<Vec<Key<'a>>> {
    let each = || run.iter().map(|(event, _)| *event);
    let inserted = sql_query(
        "INSERT INTO machine_event (site, machine_id, status, previous_status, reason, occurred_at, last_seen_at, \
         publish_pending) SELECT $1, u.* FROM unnest($2, $3, $4, $5, $6, $7, $8) AS u \
         ON CONFLICT (site, machine_id, occurred_at, status) DO NOTHING RETURNING machine_id, occurred_at, status",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(each().map(|transition| transition.machine_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(each().map(|transition| transition.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        each().map(|transition| transition.previous_status.map(|status| status.as_str())).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(each().map(|transition| transition.reason.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(each().map(|transition| SqlInstant(transition.occurred_at)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Instant>>, _>(
        each().map(|transition| transition.last_seen_at.map(SqlInstant)).collect::<Vec<_>>(),
    )
    .bind::<Array<Bool>, _>(run.iter().map(|(_, is_pending)| *is_pending).collect::<Vec<_>>())
    .load::<Inserted>(connection)?;
    if inserted.len() == run.len() {
        return Ok(Vec::new());
    }
    let inserted: HashSet<Key<'_>> = inserted
        .iter()
        .map(|row| (row.machine_id.as_str(), row.occurred_at.0, row.status.as_str()))
        .collect();
    Ok(each().map(key).filter(|key| !inserted.contains(key)).collect())
}

fn mark_published(connection: &mut PgConnection, site: &str, run: &[EventKey]) -> QueryResult<()> {
    let each = || run.iter();
    sql_query(
        "UPDATE machine_event SET publish_pending = false FROM unnest($2, $3, $4) AS u (id, at, became) \
         WHERE machine_event.site = $1 AND machine_event.machine_id = u.id AND machine_event.occurred_at = u.at \
         AND machine_event.status = u.became AND machine_event.publish_pending",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(each().map(|event| event.machine_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(each().map(|event| SqlInstant(event.occurred_at)).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(each().map(|event| event.status.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .map(drop)
}

fn upsert_machines(connection: &mut PgConnection, site: &str, run: &[MachineChange<'_>]) -> QueryResult<()> {
    let each = || run.iter();
    sql_query(
        "INSERT INTO machine (site, machine_id, status, status_since, first_seen_at, last_seen_at) \
         SELECT $1, u.* FROM unnest($2, $3, $4, $5, $6) AS u \
         ON CONFLICT (site, machine_id) DO UPDATE SET \
         status = excluded.status, status_since = excluded.status_since, \
         first_seen_at = least(machine.first_seen_at, excluded.first_seen_at), \
         last_seen_at = coalesce(excluded.last_seen_at, machine.last_seen_at)",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(each().map(|change| change.machine_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(each().map(|change| change.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(each().map(|change| SqlInstant(change.status_since)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Instant>>, _>(
        each().map(|change| change.first_seen_at.map(SqlInstant)).collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Instant>>, _>(
        each().map(|change| change.last_seen_at.map(SqlInstant)).collect::<Vec<_>>(),
    )
    .execute(connection)
    .map(drop)
}
