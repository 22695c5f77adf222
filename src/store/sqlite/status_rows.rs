//! Rows beside the readings, one by one: events, machines, marks of published events, outages, sightings.
//!
//! The commit leaves out a row that the database refuses, and reports it.

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::commit::{Failure, Fatal, RowWriter, text, write_row};
use super::statements::{InsertEvent, MarkPublished, UpdateSighting, UpsertMachine};
use crate::domain::{MachineId, Timestamp, Transition};
use crate::store::batch::Batch;
use crate::store::error::CommitStep;
use crate::store::forget::sqlite as forget;
use crate::store::liveness_rows::EventKey;
use crate::store::liveness_rows::sqlite::{write_outage, write_seen_until};
use crate::store::machine_changes::{MachineChange, machine_changes};
use crate::store::refused::{RefusedRow, RowLocation};

/// Writes them all. Returns those that the database refuses (STO-4).
pub fn write(
    connection: &mut SqliteConnection,
    writer: &RowWriter<'_>,
    batch: &Batch,
    fatal: &Fatal,
) -> Result<Vec<RefusedRow>, Failure> {
    let mut writing = Writing { connection, batch, changes: Vec::new(), fatal, refused: Vec::new() };
    let site = writer.site;
    for (index, forget) in batch.liveness.forgets.iter().enumerate() {
        let change = |connection: &mut _| forget::write(connection, site, forget);
        writing.row(RowLocation::Forget(index), CommitStep::Transitions, change)?;
    }
    let changes = machine_changes(writing.events(site)?);
    writing.changes.clone_from(&changes);
    for (index, change) in changes.iter().enumerate() {
        let upsert = |connection: &mut _| upsert_machine(connection, site, change);
        writing.row(RowLocation::Machine(index), CommitStep::Transitions, upsert)?;
    }
    for (index, event) in batch.liveness.published.iter().enumerate() {
        let mark = |connection: &mut _| mark_published(connection, site, event);
        writing.row(RowLocation::PublishedMark(index), CommitStep::Transitions, mark)?;
    }
    for (index, outage) in batch.liveness.outages.iter().enumerate() {
        let upsert = |connection: &mut _| write_outage(connection, site, outage);
        writing.row(RowLocation::Outage(index), CommitStep::Outages, upsert)?;
    }
    if let Some(seen_until) = batch.liveness.seen_until {
        let upsert = |connection: &mut _| write_seen_until(connection, site, seen_until);
        writing.row(RowLocation::SeenUntil, CommitStep::Outages, upsert)?;
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

impl<'a> Writing<'a> {
    /// Inserts the events. Returns those that the database did not have yet, the refused ones included.
    fn events(&mut self, site: &str) -> Result<Vec<&'a Transition>, Failure> {
        let batch = self.batch;
        let mut new = Vec::with_capacity(batch.transitions.len());
        for (index, event) in batch.transitions.iter().enumerate() {
            let is_pending = index >= batch.liveness.transitions_published;
            let insert = |connection: &mut _| insert_event(connection, site, event, is_pending);
            let is_known = self.row(RowLocation::Event(index), CommitStep::Transitions, insert)? == Some(0);
            if !is_known {
                new.push(event);
            }
        }
        Ok(new)
    }

    /// Writes one row. Returns how many rows changed; `None` if the database refuses it.
    fn row(
        &mut self,
        location: RowLocation,
        step: CommitStep,
        statement: impl FnOnce(&mut SqliteConnection) -> QueryResult<usize>,
    ) -> Result<Option<usize>, Failure> {
        match write_row(self.connection, location, self.fatal, step, statement)? {
            Ok(changed) => Ok(Some(changed)),
            Err(refusal) => {
                self.refused.extend(location.refused(self.batch, &self.changes, refusal));
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
    seen_at: Timestamp,
) -> QueryResult<usize> {
    let (seen_at, machine_id) = (text(seen_at), machine_id.as_str());
    connection.execute_returning_count(&UpdateSighting { seen_at, site, machine_id, unlike: seen_at })
}
