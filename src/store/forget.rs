//! Machines to forget: what `andon machines forget` asks for, and how far the service is with it.
//!
//! A request deletes the machine's row at once and leaves a mark. The service honours it in the order of its own
//! changes: in the batch behind everything that it had seen of the machine before, it deletes the row once more (a
//! change that was on its way may have made it again), and the mark becomes *removed*. The mark goes once
//! the broker has cleared the retained status. So a request outlives the service, the broker and a crash of
//! either.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text};

use super::both_databases::for_both_databases;
use super::schema::{Instant, SqlInstant};
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use crate::domain::{MachineId, Timestamp};

/// Most requests that are read at a time; further ones follow when these are done.
const REQUESTS_MAX: i64 = 10_000;

/// A request to forget a machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForgetRequest {
    /// The machine.
    pub machine_id: MachineId,
    /// When it was asked for: tells a request from a later one of the same machine.
    pub requested_at: Timestamp,
    /// Its row is deleted for good; only the retained status may be left.
    pub removed: bool,
}

/// What a batch changes about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgetChange {
    /// The machine.
    pub machine_id: MachineId,
    /// Names the request.
    pub requested_at: Timestamp,
    /// Delete the machine's row, before the batch's changes of status are recorded.
    pub removes: bool,
    /// The retained status is cleared: the request is done.
    pub cleared: bool,
}

#[derive(QueryableByName)]
struct RequestRow {
    #[diesel(sql_type = Text)]
    machine_id: Column<String>,
    #[diesel(sql_type = Instant)]
    requested_at: Column<SqlInstant>,
    #[diesel(sql_type = Bool)]
    removed: Column<bool>,
}

impl RequestRow {
    fn request(self) -> Result<ForgetRequest, UnreadableRow> {
        let key = self.machine_id.to_string();
        let read = || {
            Ok(ForgetRequest {
                machine_id: self.machine_id.machine_id()?,
                requested_at: self.requested_at.get("requested_at")?.0,
                removed: self.removed.get("removed")?,
            })
        };
        read().map_err(|what| UnreadableRow { table: "machine_forget", key, what })
    }
}

for_both_databases! {
    []

    /// Asks for each of `machines` to be forgotten, and deletes its row. Returns those that have none; nothing is asked
    /// of them. Call it inside a transaction.
    pub fn request(
        connection: &mut Connection,
        site: &str,
        machines: &[MachineId],
        at: Timestamp,
    ) -> QueryResult<Vec<MachineId>> {
        let mut unknown = Vec::new();
        for machine_id in machines {
            if delete_row(connection, site, machine_id)? == 0 {
                unknown.push(machine_id.clone());
                continue;
            }
            sql_query(
                "INSERT INTO machine_forget (site, machine_id, requested_at, removed) VALUES ($1, $2, $3, false) \
                 ON CONFLICT (site, machine_id) DO UPDATE SET requested_at = excluded.requested_at, removed = false",
            )
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id.as_str())
            .bind::<Instant, _>(SqlInstant(at))
            .execute(connection)?;
        }
        Ok(unknown)
    }

    /// Returns the requests of the site that are not done.
    pub fn load(
        connection: &mut Connection,
        site: &str,
        unreadable: &UnreadableRows,
    ) -> QueryResult<Vec<ForgetRequest>> {
        let rows: Vec<RequestRow> = sql_query(
            "SELECT machine_id, requested_at, removed FROM machine_forget WHERE site = $1 \
             ORDER BY requested_at, machine_id LIMIT $2",
        )
        .bind::<Text, _>(site)
        .bind::<BigInt, _>(REQUESTS_MAX)
        .load(connection)?;
        Ok(unreadable.skip(rows.into_iter().map(RequestRow::request)))
    }

    /// Writes one change. A later request of the same machine stays as it is.
    pub fn write(connection: &mut Connection, site: &str, change: &ForgetChange) -> QueryResult<usize> {
        if change.removes {
            delete_row(connection, site, &change.machine_id)?;
        }
        let statement = if change.cleared {
            "DELETE FROM machine_forget WHERE site = $1 AND machine_id = $2 AND requested_at = $3"
        } else {
            "UPDATE machine_forget SET removed = true WHERE site = $1 AND machine_id = $2 AND requested_at = $3"
        };
        sql_query(statement)
            .bind::<Text, _>(site)
            .bind::<Text, _>(change.machine_id.as_str())
            .bind::<Instant, _>(SqlInstant(change.requested_at))
            .execute(connection)
    }

    fn delete_row(connection: &mut Connection, site: &str, machine_id: &MachineId) -> QueryResult<usize> {
        sql_query("DELETE FROM machine WHERE site = $1 AND machine_id = $2")
            .bind::<Text, _>(site)
            .bind::<Text, _>(machine_id.as_str())
            .execute(connection)
    }
}
