//! The rows of a batch beside its readings, one by one inside the server: what is refused is told, the rest is written.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use serde_json::{Value, json};

use crate::domain::Timestamp;
use crate::store::batch::{Batch, runs};
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};
use crate::store::instant_text::InstantText;
use crate::store::machine_changes::{MachineChange, machine_changes};
use crate::store::refused::{Place, RefusedRow};
use crate::store::schema::Moment;

use super::commit::{RUN_BYTES_MAX, RUN_ROWS_MAX};

// The same as the statements for many rows, with `$2` as the row.
const EVENT: &str = "INSERT INTO machine_event (site, machine_id, status, previous_status, reason, occurred_at, \
     last_seen_at, publish_pending) VALUES ($1, $2->>0, $2->>1, $2->>2, $2->>3, ($2->>4)::timestamptz, \
     ($2->>5)::timestamptz, ($2->>6)::boolean) ON CONFLICT (site, machine_id, occurred_at, status) DO NOTHING";
const MACHINE: &str = "INSERT INTO machine (site, machine_id, status, status_since, first_seen_at, last_seen_at) \
     VALUES ($1, $2->>0, $2->>1, ($2->>2)::timestamptz, ($2->>3)::timestamptz, ($2->>4)::timestamptz) \
     ON CONFLICT (site, machine_id) DO UPDATE SET \
     status = CASE WHEN machine.status_since > excluded.status_since THEN machine.status ELSE excluded.status END, \
     status_since = greatest(machine.status_since, excluded.status_since), \
     first_seen_at = least(machine.first_seen_at, excluded.first_seen_at), \
     last_seen_at = greatest(machine.last_seen_at, excluded.last_seen_at)";
const MARK: &str = "UPDATE machine_event SET publish_pending = false WHERE site = $1 AND machine_id = $2->>0 \
     AND occurred_at = ($2->>1)::timestamptz AND status = $2->>2 AND publish_pending";
const OUTAGE: &str = "INSERT INTO link_outage (site, began_at, ended_at, reason) \
     VALUES ($1, ($2->>0)::timestamptz, ($2->>1)::timestamptz, $2->>2) \
     ON CONFLICT (site, began_at) DO UPDATE SET ended_at = coalesce(link_outage.ended_at, excluded.ended_at)";
const SIGHT: &str = "INSERT INTO link_sight (site, seen_until) VALUES ($1, ($2->>0)::timestamptz) \
     ON CONFLICT (site) DO UPDATE SET seen_until = excluded.seen_until";
const SIGHTING: &str = "UPDATE machine SET last_seen_at = ($2->>1)::timestamptz WHERE site = $1 AND machine_id = $2->>0 \
     AND (last_seen_at IS NULL OR last_seen_at < ($2->>1)::timestamptz)";

#[derive(QueryableByName)]
struct Refusal {
    /// The line's place in the call, from 1.
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = Text)]
    refusal: String,
}

/// Writes them all and returns those that the database refuses (S4).
pub fn write(
    connection: &mut PgConnection,
    site: &str,
    batch: &Batch,
) -> Result<Vec<RefusedRow>, CommitFailure> {
    let changes = machine_changes(&batch.transitions);
    let mut writing = Writing { connection, site, batch, changes: &changes, refused: Vec::new() };
    writing.all(EVENT, events(batch), Place::Event).at(CommitStep::Transitions)?;
    writing.all(MACHINE, machines(&changes), Place::Machine).at(CommitStep::Transitions)?;
    writing.all(MARK, marks(batch), Place::Mark).at(CommitStep::Transitions)?;
    writing.all(OUTAGE, outages(batch), Place::Outage).at(CommitStep::Outages)?;
    let sight = batch.liveness.seen_until.map(|seen_until| json!([instant(seen_until)]));
    writing.all(SIGHT, sight.into_iter().collect(), |_| Place::Sight).at(CommitStep::Outages)?;
    writing.all(SIGHTING, sightings(batch), Place::Sighting).at(CommitStep::Sightings)?;
    Ok(writing.refused)
}

struct Writing<'a> {
    connection: &'a mut PgConnection,
    site: &'a str,
    batch: &'a Batch,
    changes: &'a [MachineChange<'a>],
    refused: Vec<RefusedRow>,
}

impl Writing<'_> {
    fn all(&mut self, statement: &str, lines: Vec<Value>, place: impl Fn(usize) -> Place) -> QueryResult<()> {
        let mut written = 0;
        for run in runs(&lines, RUN_ROWS_MAX, RUN_BYTES_MAX, |_| 0) {
            let refusals: Vec<Refusal> =
                sql_query("SELECT ordinal, refusal FROM andon_write_one_by_one($1, $2, $3::jsonb)")
                    .bind::<Text, _>(statement)
                    .bind::<Text, _>(self.site)
                    .bind::<Text, _>(json!(run).to_string())
                    .load(self.connection)?;
            for Refusal { ordinal, refusal } in refusals {
                let index = written + usize::try_from(ordinal - 1).unwrap_or(0);
                self.refused.extend(place(index).refused(self.batch, self.changes, refusal));
            }
            written += run.len();
        }
        Ok(())
    }
}

fn instant(instant: Timestamp) -> String {
    InstantText::new(Moment(instant)).as_str().to_owned()
}

fn events(batch: &Batch) -> Vec<Value> {
    let published = batch.liveness.transitions_published;
    let event = batch.transitions.iter().enumerate().map(|(index, event)| {
        json!([
            event.machine_id.as_str(),
            event.status.as_str(),
            event.previous_status.map(|status| status.as_str()),
            event.reason.as_str(),
            instant(event.occurred_at),
            event.last_seen_at.map(instant),
            index >= published,
        ])
    });
    event.collect()
}

fn machines(changes: &[MachineChange<'_>]) -> Vec<Value> {
    let machine = changes.iter().map(|change| {
        json!([
            change.machine_id,
            change.status.as_str(),
            instant(change.status_since),
            change.first_seen_at.map(instant),
            change.last_seen_at.map(instant),
        ])
    });
    machine.collect()
}

fn marks(batch: &Batch) -> Vec<Value> {
    let events = batch.liveness.published.iter();
    events
        .map(|event| json!([event.machine_id.as_str(), instant(event.occurred_at), event.status.as_str()]))
        .collect()
}

fn outages(batch: &Batch) -> Vec<Value> {
    let outages = batch.liveness.outages.iter();
    outages
        .map(|outage| json!([instant(outage.began_at), outage.ended_at.map(instant), outage.reason.as_str()]))
        .collect()
}

fn sightings(batch: &Batch) -> Vec<Value> {
    let sightings = batch.sightings.iter();
    sightings.map(|(machine_id, seen_at)| json!([machine_id.as_str(), instant(*seen_at)])).collect()
}
