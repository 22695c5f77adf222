//! What liveness keeps in the database beside the events: our own outages, up to when the link is known to
//! have worked, and which events still have to reach the broker. Liveness reads it back when it starts.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::both_databases::for_both_databases;
use super::schema::{Instant, SqlInstant};
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use super::{ForgetChange, ForgetRequest, bigint};
use crate::domain::{
    LinkOutage, MachineId, MachineStatus, OutageReason, Seq, Timestamp, Transition, TransitionReason,
};

/// Names one event of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventKey {
    /// The machine.
    pub machine_id: MachineId,
    /// When it changed.
    pub occurred_at: Timestamp,
    /// Its new status.
    pub status: MachineStatus,
}

/// What liveness adds to a batch beside transitions and sightings. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LivenessRows {
    /// How many of the batch's transitions, from the first, reached the broker already. The others are marked
    /// as pending.
    pub transitions_published: usize,
    /// Events, recorded earlier or in this batch, that have reached the broker since.
    pub published: Vec<EventKey>,
    /// What changes about requests to forget machines. Their rows go before the transitions are recorded.
    pub forgets: Vec<ForgetChange>,
    /// Our own outages that began or ended, oldest first.
    pub outages: Vec<LinkOutage>,
    /// At this instant the link is proven to have worked, or to have been in a recorded outage.
    pub seen_until: Option<Timestamp>,
}

impl LivenessRows {
    /// Returns whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.published.is_empty()
            && self.forgets.is_empty()
            && self.outages.is_empty()
            && self.seen_until.is_none()
    }
}

/// What the database knows of the past, beside the machines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LivenessPast {
    /// When machines recently changed their status, in that order.
    pub recent_changes: Vec<(MachineId, Timestamp)>,
    /// Events that may not have reached the broker, in the order of their recording. Their `seq` is 0.
    pub unpublished: Vec<Transition>,
    /// Requests to forget machines that are not done.
    pub forgets: Vec<ForgetRequest>,
    /// Our newest outage.
    pub newest_outage: Option<LinkOutage>,
    /// The newest instant at which the link is known to have worked.
    pub seen_until: Option<Timestamp>,
}

/// How much of the past to load as [`LivenessPast`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastWanted {
    /// Changes from this instant on.
    pub changes_since: Timestamp,
    /// Bound on changes, and on unpublished events; of more, the newest.
    pub rows_max: usize,
}

#[derive(QueryableByName)]
struct ChangeRow {
    #[diesel(sql_type = Text)]
    machine_id: Column<String>,
    #[diesel(sql_type = Instant)]
    occurred_at: Column<SqlInstant>,
}

#[derive(QueryableByName)]
pub(super) struct EventRow {
    #[diesel(sql_type = Text)]
    machine_id: Column<String>,
    #[diesel(sql_type = Text)]
    status: Column<String>,
    #[diesel(sql_type = Nullable<Text>)]
    previous_status: Column<Option<String>>,
    #[diesel(sql_type = Text)]
    reason: Column<String>,
    #[diesel(sql_type = Instant)]
    occurred_at: Column<SqlInstant>,
    #[diesel(sql_type = Nullable<Instant>)]
    last_seen_at: Column<Option<SqlInstant>>,
}

/// The columns of [`EventRow`].
pub(super) const EVENT_COLUMNS: &str =
    "machine_id, status, previous_status, reason, occurred_at, last_seen_at";

#[derive(QueryableByName)]
pub(super) struct OutageRow {
    #[diesel(sql_type = Instant)]
    began_at: Column<SqlInstant>,
    #[diesel(sql_type = Nullable<Instant>)]
    ended_at: Column<Option<SqlInstant>>,
    #[diesel(sql_type = Text)]
    reason: Column<String>,
}

#[derive(QueryableByName)]
struct SeenUntilRow {
    #[diesel(sql_type = Instant)]
    seen_until: Column<SqlInstant>,
}

/// Names a row of `machine_event` that cannot be read.
pub(super) fn unreadable_event(
    machine_id: &Column<String>,
    occurred_at: &Column<SqlInstant>,
) -> impl FnOnce(String) -> UnreadableRow + use<> {
    let key = format!("{machine_id} at {occurred_at}");
    move |what| UnreadableRow { table: "machine_event", key, what }
}

impl ChangeRow {
    fn change(self) -> Result<(MachineId, Timestamp), UnreadableRow> {
        let unreadable = unreadable_event(&self.machine_id, &self.occurred_at);
        let read = || Ok((self.machine_id.machine_id()?, self.occurred_at.get("occurred_at")?.0));
        read().map_err(unreadable)
    }
}

impl EventRow {
    pub(super) fn transition(self) -> Result<Transition, UnreadableRow> {
        let unreadable = unreadable_event(&self.machine_id, &self.occurred_at);
        let read = || {
            Ok(Transition {
                machine_id: self.machine_id.machine_id()?,
                status: self.status.parsed("status", MachineStatus::from_word)?,
                previous_status: self.previous_status.parsed("previous_status", MachineStatus::from_word)?,
                reason: self.reason.parsed("reason", TransitionReason::from_word)?,
                occurred_at: self.occurred_at.get("occurred_at")?.0,
                last_seen_at: self.last_seen_at.get("last_seen_at")?.map(|instant| instant.0),
                seq: Seq::ZERO,
            })
        };
        read().map_err(unreadable)
    }
}

impl OutageRow {
    pub(super) fn outage(self) -> Result<LinkOutage, UnreadableRow> {
        let key = format!("that began at {}", self.began_at);
        let read = || {
            Ok(LinkOutage {
                began_at: self.began_at.get("began_at")?.0,
                ended_at: self.ended_at.get("ended_at")?.map(|instant| instant.0),
                reason: self.reason.parsed("reason", OutageReason::from_word)?,
            })
        };
        read().map_err(|what| UnreadableRow { table: "link_outage", key, what })
    }
}

impl SeenUntilRow {
    fn seen_until(self, site: &str) -> Result<Timestamp, UnreadableRow> {
        let unreadable = |what| UnreadableRow { table: "link_sight", key: format!("of site {site:?}"), what };
        Ok(self.seen_until.get("seen_until").map_err(unreadable)?.0)
    }
}

/// How many outages to load to find the newest readable one.
const NEWEST_OUTAGES: u32 = 20;

const RECENT_CHANGES: &str = "SELECT machine_id, occurred_at FROM (SELECT id, machine_id, occurred_at FROM machine_event \
     WHERE site = $1 AND occurred_at >= $2 ORDER BY occurred_at DESC LIMIT $3) AS recent ORDER BY id";

fn unpublished_events() -> String {
    format!(
        "SELECT {EVENT_COLUMNS} FROM machine_event WHERE site = $1 AND publish_pending ORDER BY id DESC LIMIT $2"
    )
}

fn newest_outages() -> String {
    format!(
        "SELECT began_at, ended_at, reason FROM link_outage WHERE site = $1 ORDER BY began_at DESC LIMIT {NEWEST_OUTAGES}"
    )
}

for_both_databases! {
    [forget]

    /// Writes one outage. An outage that has ended stays ended.
    pub fn write_outage(
        connection: &mut Connection,
        site: &str,
        outage: &LinkOutage,
    ) -> QueryResult<usize> {
        sql_query(
            "INSERT INTO link_outage (site, began_at, ended_at, reason) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (site, began_at) DO UPDATE SET \
             ended_at = coalesce(link_outage.ended_at, excluded.ended_at)",
        )
        .bind::<Text, _>(site)
        .bind::<Instant, _>(SqlInstant(outage.began_at))
        .bind::<Nullable<Instant>, _>(outage.ended_at.map(SqlInstant))
        .bind::<Text, _>(outage.reason.as_str())
        .execute(connection)
    }

    /// Writes up to when the link is known to have worked.
    pub fn write_seen_until(
        connection: &mut Connection,
        site: &str,
        seen_until: Timestamp,
    ) -> QueryResult<usize> {
        sql_query(
            "INSERT INTO link_sight (site, seen_until) VALUES ($1, $2) \
             ON CONFLICT (site) DO UPDATE SET seen_until = excluded.seen_until",
        )
        .bind::<Text, _>(site)
        .bind::<Instant, _>(SqlInstant(seen_until))
        .execute(connection)
    }

    /// Loads what liveness starts from.
    pub fn load_past(
        connection: &mut Connection,
        site: &str,
        wanted: PastWanted,
        unreadable: &UnreadableRows,
    ) -> QueryResult<LivenessPast> {
        let rows_max = bigint(wanted.rows_max as u64);
        let changes: Vec<ChangeRow> = sql_query(RECENT_CHANGES)
        .bind::<Text, _>(site)
        .bind::<Instant, _>(SqlInstant(wanted.changes_since))
        .bind::<BigInt, _>(rows_max)
        .load(connection)?;
        let unpublished: Vec<EventRow> = sql_query(unpublished_events())
        .bind::<Text, _>(site)
        .bind::<BigInt, _>(rows_max)
        .load(connection)?;
        let outages: Vec<OutageRow> = sql_query(newest_outages()).bind::<Text, _>(site).load(connection)?;
        let seen_until: Vec<SeenUntilRow> = sql_query("SELECT seen_until FROM link_sight WHERE site = $1")
            .bind::<Text, _>(site)
            .load(connection)?;
        let changes = changes.into_iter().map(ChangeRow::change);
        let unpublished = unpublished.into_iter().rev().map(EventRow::transition);
        let outages = unreadable.skip(outages.into_iter().map(OutageRow::outage));
        let seen_until = seen_until.into_iter().map(|row| row.seen_until(site));
        Ok(LivenessPast {
            recent_changes: unreadable.skip(changes),
            unpublished: unreadable.skip(unpublished),
            forgets: forget::load(connection, site, unreadable)?,
            newest_outage: outages.first().copied(),
            seen_until: unreadable.skip(seen_until).first().copied(),
        })
    }
}
