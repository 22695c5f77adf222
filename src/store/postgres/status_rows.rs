//! Rows beside the readings: events, machines, marks, outages, sight and sightings.
//!
//! A statement a kind, for all rows at once. When one of them was refused for what may be a row's fault, the same rows are
//! written one by one inside the server (`andon_write_one_by_one`, see the migrations), and those that are refused are told.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Nullable, Text};

use super::commit::{RUN_BYTES_MAX, RUN_ROWS_MAX};
use super::statements::UpdateSightings;
use crate::domain::Transition;
use crate::store::batch::{Batch, runs};
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};
use crate::store::liveness_rows::EventKey;
use crate::store::liveness_rows::postgres::{write_outage, write_sight};
use crate::store::machine_changes::machine_changes;
use crate::store::schema::{Instant, Moment};

/// Writes them all; one that the database refuses fails them all.
pub fn write(connection: &mut PgConnection, site: &str, batch: &Batch) -> Result<(), CommitFailure> {
    record_transitions(connection, site, batch).at(CommitStep::Transitions)?;
    mark_published(connection, site, &batch.liveness.published).at(CommitStep::Transitions)?;
    for outage in &batch.liveness.outages {
        write_outage(connection, site, outage).at(CommitStep::Outages)?;
    }
    if let Some(seen_until) = batch.liveness.seen_until {
        write_sight(connection, site, seen_until).at(CommitStep::Outages)?;
    }
    for run in runs(&batch.sightings, RUN_ROWS_MAX, RUN_BYTES_MAX, |_| 0) {
        let update = UpdateSightings::new(site, run);
        connection.execute_returning_count(&update).at(CommitStep::Sightings)?;
    }
    Ok(())
}

fn record_transitions(connection: &mut PgConnection, site: &str, batch: &Batch) -> QueryResult<()> {
    let mut published = batch.liveness.transitions_published;
    for run in runs(&batch.transitions, RUN_ROWS_MAX, RUN_BYTES_MAX, |_| 0) {
        insert_events(connection, site, run, published)?;
        upsert_machines(connection, site, run)?;
        published = published.saturating_sub(run.len());
    }
    Ok(())
}

/// The first `published` of them are not pending.
fn insert_events(
    connection: &mut PgConnection,
    site: &str,
    run: &[Transition],
    published: usize,
) -> QueryResult<usize> {
    let each = || run.iter();
    sql_query(
        "INSERT INTO machine_event (site, machine_id, status, previous_status, reason, occurred_at, last_seen_at, \
         publish_pending) SELECT $1, u.* FROM unnest($2, $3, $4, $5, $6, $7, $8) AS u \
         ON CONFLICT (site, machine_id, occurred_at, status) DO NOTHING",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(each().map(|transition| transition.machine_id.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(each().map(|transition| transition.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        each().map(|transition| transition.previous_status.map(|status| status.as_str())).collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(each().map(|transition| transition.reason.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(each().map(|transition| Moment(transition.occurred_at)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Instant>>, _>(
        each().map(|transition| transition.last_seen_at.map(Moment)).collect::<Vec<_>>(),
    )
    .bind::<Array<Bool>, _>((0..run.len()).map(|index| index >= published).collect::<Vec<_>>())
    .execute(connection)
}

fn mark_published(connection: &mut PgConnection, site: &str, events: &[EventKey]) -> QueryResult<()> {
    runs(events, RUN_ROWS_MAX, RUN_BYTES_MAX, |_| 0).try_for_each(|run| {
        let each = || run.iter();
        sql_query(
            "UPDATE machine_event SET publish_pending = false FROM unnest($2, $3, $4) AS u (id, at, became) \
             WHERE machine_event.site = $1 AND machine_event.machine_id = u.id AND machine_event.occurred_at = u.at \
             AND machine_event.status = u.became AND machine_event.publish_pending",
        )
        .bind::<Text, _>(site)
        .bind::<Array<Text>, _>(each().map(|event| event.machine_id.as_str()).collect::<Vec<_>>())
        .bind::<Array<Instant>, _>(each().map(|event| Moment(event.occurred_at)).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(each().map(|event| event.status.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .map(drop)
    })
}

fn upsert_machines(connection: &mut PgConnection, site: &str, run: &[Transition]) -> QueryResult<usize> {
    let changes = machine_changes(run);
    let each = || changes.iter();
    sql_query(
        "INSERT INTO machine (site, machine_id, status, status_since, first_seen_at, last_seen_at) \
         SELECT $1, u.* FROM unnest($2, $3, $4, $5, $6) AS u \
         ON CONFLICT (site, machine_id) DO UPDATE SET \
         status = CASE WHEN machine.status_since > excluded.status_since THEN machine.status ELSE excluded.status END, \
         status_since = greatest(machine.status_since, excluded.status_since), \
         first_seen_at = least(machine.first_seen_at, excluded.first_seen_at), \
         last_seen_at = greatest(machine.last_seen_at, excluded.last_seen_at)",
    )
    .bind::<Text, _>(site)
    .bind::<Array<Text>, _>(each().map(|change| change.machine_id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(each().map(|change| change.status.as_str()).collect::<Vec<_>>())
    .bind::<Array<Instant>, _>(each().map(|change| Moment(change.status_since)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Instant>>, _>(each().map(|change| change.first_seen_at.map(Moment)).collect::<Vec<_>>())
    .bind::<Array<Nullable<Instant>>, _>(each().map(|change| change.last_seen_at.map(Moment)).collect::<Vec<_>>())
    .execute(connection)
}
