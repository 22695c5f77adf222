//! What the database knows of a site's machines: their status, how many readings they sent, and their
//! history.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::both_databases::for_both_databases;
use super::from_bigint;
use super::liveness_rows::{EVENT_COLUMNS, EventRow, OutageRow};
use super::schema::{Instant, SqlInstant};
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use crate::domain::{LinkOutage, MachineId, MachineStatus, Timestamp, Transition, TransitionReason};

/// A row of `machine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineRow {
    /// Which machine of the site.
    pub machine_id: MachineId,
    /// Its status.
    pub status: MachineStatus,
    /// Since when.
    pub status_since: Option<Timestamp>,
    /// Why, if the event of that change is in the database.
    pub reason: Option<TransitionReason>,
    /// Its first message; `None` if it never sent one.
    pub first_seen_at: Option<Timestamp>,
    /// Its newest message; `None` if it never sent one.
    pub last_seen_at: Option<Timestamp>,
}

/// The events and outages of a site from an instant on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SiteHistory {
    /// Events, in the order in which they happened. Their `seq` is 0.
    pub events: Vec<Transition>,
    /// Our own outages that ended after that instant or still last, in order of time.
    pub outages: Vec<LinkOutage>,
}

/// The columns of a [`MachineRow`].
type MachineColumns =
    (Column<String>, Column<String>, MaybeInstant, MaybeInstant, MaybeInstant, Column<Option<String>>);
type MaybeInstant = Column<Option<SqlInstant>>;

/// Reads a row of `machine`.
fn machine_row(columns: MachineColumns) -> Result<MachineRow, UnreadableRow> {
    let (id, status, status_since, first_seen_at, last_seen_at, reason) = columns;
    let key = id.to_string();
    let instant =
        |column: MaybeInstant, name| column.get(name).map(|instant| instant.map(|instant| instant.0));
    let read = || {
        Ok(MachineRow {
            machine_id: id.machine_id()?,
            status: status.parsed("status", MachineStatus::from_word)?,
            status_since: instant(status_since, "status_since")?,
            // The reason is the event's. Reading the events names one that is unknown.
            reason: reason.parsed("reason", TransitionReason::from_word).unwrap_or_default(),
            first_seen_at: instant(first_seen_at, "first_seen_at")?,
            last_seen_at: instant(last_seen_at, "last_seen_at")?,
        })
    };
    read().map_err(|what| UnreadableRow { table: "machine", key, what })
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = Text)]
    machine_id: Column<String>,
    #[diesel(sql_type = BigInt)]
    readings: i64,
}

impl CountRow {
    fn count(self) -> Result<(MachineId, u64), UnreadableRow> {
        let key = self.machine_id.to_string();
        let machine_id =
            self.machine_id.machine_id().map_err(|what| UnreadableRow { table: "machine", key, what })?;
        Ok((machine_id, from_bigint(self.readings)))
    }
}

for_both_databases! {
    []

    use crate::store::schema::{machine, machine_event};

    /// Loads every machine of a site, with the reason of its newest change.
    pub fn load(
        connection: &mut Connection,
        site: &str,
        unreadable: &UnreadableRows,
    ) -> QueryResult<Vec<MachineRow>> {
        let its_event = machine_event::site
            .eq(machine::site)
            .and(machine_event::machine_id.eq(machine::machine_id))
            .and(machine_event::occurred_at.nullable().eq(machine::status_since))
            .and(machine_event::status.eq(machine::status));
        let query = machine::table
            .left_join(machine_event::table.on(its_event))
            .filter(machine::site.eq(site))
            .order(machine::machine_id)
            .select((
                machine::machine_id,
                machine::status,
                machine::status_since,
                machine::first_seen_at,
                machine::last_seen_at,
                machine_event::reason.nullable(),
            ));
        let rows = query.load::<MachineColumns>(connection)?;
        Ok(unreadable.skip(rows.into_iter().map(machine_row)))
    }

    /// Counts the readings of each machine that were recorded from `from` on and before `to`.
    pub fn count_readings(
        connection: &mut Connection,
        site: &str,
        from: Timestamp,
        to: Timestamp,
        unreadable: &UnreadableRows,
    ) -> QueryResult<Vec<(MachineId, u64)>> {
        let rows: Vec<CountRow> = sql_query(
            "SELECT m.machine_id, (SELECT count(*) FROM machine_telemetry t WHERE t.site = m.site \
             AND t.machine_id = m.machine_id AND t.recorded_at >= $1 AND t.recorded_at < $2) AS readings \
             FROM machine m WHERE m.site = $3",
        )
        .bind::<Instant, _>(SqlInstant(from))
        .bind::<Instant, _>(SqlInstant(to))
        .bind::<Text, _>(site)
        .load(connection)?;
        Ok(unreadable.skip(rows.into_iter().map(CountRow::count)))
    }

    /// Loads events and outages from `from` on.
    pub fn load_history(
        connection: &mut Connection,
        site: &str,
        from: Timestamp,
        unreadable: &UnreadableRows,
    ) -> QueryResult<SiteHistory> {
        let events: Vec<EventRow> = sql_query(format!(
            "SELECT {EVENT_COLUMNS} FROM machine_event WHERE site = $1 AND occurred_at >= $2 ORDER BY id"
        ))
        .bind::<Text, _>(site)
        .bind::<Instant, _>(SqlInstant(from))
        .load(connection)?;
        let outages: Vec<OutageRow> = sql_query(
            "SELECT began_at, ended_at, reason FROM link_outage WHERE site = $1 \
             AND (ended_at IS NULL OR ended_at >= $2) ORDER BY began_at",
        )
        .bind::<Text, _>(site)
        .bind::<Instant, _>(SqlInstant(from))
        .load(connection)?;
        Ok(SiteHistory {
            events: unreadable.skip(events.into_iter().map(EventRow::transition)),
            outages: unreadable.skip(outages.into_iter().map(OutageRow::outage)),
        })
    }
}
