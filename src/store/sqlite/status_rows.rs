//! Rows beside the readings, one by one: events, machines, marks, outages, sight and sightings.
//!
//! One that the database refuses is left out and told, as a refused reading is.

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::commit::{Failure, Fatal, Writer, text, write_row};
use super::statements::{InsertEvent, MarkPublished, UpdateSighting, UpsertMachine};
use crate::domain::{MachineId, Timestamp, Transition};
use crate::store::batch::Batch;
use crate::store::error::CommitStep;
use crate::store::liveness_rows::EventKey;
use crate::store::liveness_rows::sqlite::{write_outage, write_sight};
use crate::store::machine_changes::{MachineChange, machine_changes};
use crate::store::refused::{RefusedRow, RowLocation};

/// Writes them all and returns those that the database refuses (STO-4).
pub fn write(
    connection: &mut SqliteConnection,
    writer: &Writer<'_>,
    batch: &Batch,
    fatal: &Fatal,
) -> Result<Vec<RefusedRow>, Failure> {
    let mut writing = Writing { connection, batch, changes: Vec::new(), fatal, refused: Vec::new() };
    let mut new = Vec::with_capacity(batch.transitions.len());
    let site = writer.site;
    for (index, event) in batch.transitions.iter().enumerate() {
        let is_pending = index >= batch.liveness.transitions_published;
        let insert = |connection: &mut _| insert_event(connection, site, event, is_pending);
        let is_there_already =
            writing.row(RowLocation::Event(index), CommitStep::Transitions, insert)? == Some(0);
        if !is_there_already {
            new.push(event);
        }
    }
    let changes = machine_changes(new);
    writing.changes.clone_from(&changes);
    for (index, change) in changes.iter().enumerate() {
        let upsert = |connection: &mut _| upsert_machine(connection, site, change);
        writing.row(RowLocation::Machine(index), CommitStep::Transitions, upsert)?;
    }
    for (index, event) in batch.liveness.published.iter().enumerate() {
        let mark = |connection: &mut _| mark_published(connection, site, event);
        writing.row(RowLocation::Mark(index), CommitStep::Transitions, mark)?;
    }
    for (index, outage) in batch.liveness.outages.iter().enumerate() {
        let upsert = |connection: &mut _| write_outage(connection, site, outage);
        writing.row(RowLocation::Outage(index), CommitStep::Outages, upsert)?;
    }
    if let Some(seen_until) = batch.liveness.seen_until {
        let upsert = |connection: &mut _| write_sight(connection, site, seen_until);
        writing.row(RowLocation::Sight, CommitStep::Outages, upsert)?;
    }
    for (index, (machine_id, seen_at)) in batch.sightings.iter().enumerate() {
        let update = |connection: &mut _| record_sighting(connection, site, machine_id, *seen_at);
        writing.row(RowLocation::Sighting(index), CommitStep::Sightings, update)?;
    }
    Ok(writing.refused)
}

struct Writing<'a> {
    connection: &'a mut SqliteConnection,
    batch: &'a Batch,
    changes: Vec<MachineChange<'a>>,
    fatal: &'a Fatal,
    refused: Vec<RefusedRow>,
}

impl Writing<'_> {
    /// How many rows that changed; `None` if the row is refused.
    fn row(
        &mut self,
        place: RowLocation,
        step: CommitStep,
        statement: impl FnOnce(&mut SqliteConnection) -> QueryResult<usize>,
    ) -> Result<Option<usize>, Failure> {
        match write_row(self.connection, place, self.fatal, step, statement)? {
            Ok(changed) => Ok(Some(changed)),
            Err(refusal) => {
                self.refused.extend(place.refused(self.batch, &self.changes, refusal));
                Ok(None)
            }
        }
    }
}

fn insert_event(
    connection: &mut SqliteConnection,
    site: &str,
    event: &Transition,
    publish_pending: bool,
) -> QueryResult<usize> {
    connection.execute_returning_count(&InsertEvent {
        site,
        machine_id: event.machine_id.as_str(),
        status: event.status.as_str(),
        previous_status: event.previous_status.map(|status| status.as_str()),
        reason: event.reason.as_str(),
        occurred_at: text(event.occurred_at),
        last_seen_at: event.last_seen_at.map(text),
        publish_pending,
    })
}

fn upsert_machine(
    connection: &mut SqliteConnection,
    site: &str,
    change: &MachineChange<'_>,
) -> QueryResult<usize> {
    connection.execute_returning_count(&UpsertMachine {
        site,
        machine_id: change.machine_id,
        status: change.status.as_str(),
        status_since: text(change.status_since),
        first_seen_at: change.first_seen_at.map(text),
        last_seen_at: change.last_seen_at.map(text),
    })
}

fn mark_published(connection: &mut SqliteConnection, site: &str, event: &EventKey) -> QueryResult<usize> {
    connection.execute_returning_count(&MarkPublished {
        site,
        machine_id: event.machine_id.as_str(),
        occurred_at: text(event.occurred_at),
        status: event.status.as_str(),
    })
}

fn record_sighting(
    connection: &mut SqliteConnection,
    site: &str,
    machine_id: &MachineId,
    seen: Timestamp,
) -> QueryResult<usize> {
    let (seen_at, machine_id) = (text(seen), machine_id.as_str());
    connection.execute_returning_count(&UpdateSighting { seen_at, site, machine_id, unlike: seen_at })
}
