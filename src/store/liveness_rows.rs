//! What liveness keeps in the database beside the events: our own outages, how far sight is proven, and which events
//! still have to reach the broker. Written alike on both databases, and read back when liveness begins.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::bigint;
use super::schema::{Instant, SqlInstant};
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use crate::domain::{
    LinkOutage, MachineId, MachineStatus, OutageReason, Seq, Timestamp, Transition, TransitionReason,
};

/// Names one event of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventKey {
    /// Whose.
    pub machine_id: MachineId,
    /// When.
    pub occurred_at: Timestamp,
    /// What it became.
    pub status: MachineStatus,
}

/// The part of a batch that only liveness knows, beside the transitions. Idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LivenessRows {
    /// So many of the batch's transitions, from the first, need no publishing any more; the others are marked as pending.
    pub transitions_published: usize,
    /// Events, recorded earlier or with this batch, that are pending no more.
    pub published: Vec<EventKey>,
    /// Our own outages, oldest first: begun, ended, or both.
    pub outages: Vec<LinkOutage>,
    /// The link is proven to have been up at this moment, or in an outage that is recorded.
    pub seen_until: Option<Timestamp>,
}

impl LivenessRows {
    /// Whether there is anything to write but the mark of transitions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.published.is_empty() && self.outages.is_empty() && self.seen_until.is_none()
    }
}

/// What the database knows of liveness's past, beside the machines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LivenessPast {
    /// When machines changed their status lately, in the order in which they did.
    pub recent_changes: Vec<(MachineId, Timestamp)>,
    /// Events that may not have reached the broker, in the order in which they were recorded. Their `seq` is 0.
    pub unpublished: Vec<Transition>,
    /// The newest outage of ours.
    pub newest_outage: Option<LinkOutage>,
    /// The newest moment at which the link was known to be up.
    pub seen_until: Option<Timestamp>,
}

/// What [`LivenessPast`] is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastWanted {
    /// Changes from here on.
    pub changes_since: Timestamp,
    /// At most so many changes, and so many unpublished events; of more, the newest.
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
struct SightRow {
    #[diesel(sql_type = Instant)]
    seen_until: Column<SqlInstant>,
}

/// A row of `machine_event` that cannot be read.
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
                status: self.status.word("status", MachineStatus::from_word)?,
                previous_status: self.previous_status.word("previous_status", MachineStatus::from_word)?,
                reason: self.reason.word("reason", TransitionReason::from_word)?,
                occurred_at: self.occurred_at.get("occurred_at")?.0,
                last_seen_at: self.last_seen_at.get("last_seen_at")?.map(|moment| moment.0),
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
                ended_at: self.ended_at.get("ended_at")?.map(|moment| moment.0),
                reason: self.reason.word("reason", OutageReason::from_word)?,
            })
        };
        read().map_err(|what| UnreadableRow { table: "link_outage", key, what })
    }
}

impl SightRow {
    fn seen_until(self, site: &str) -> Result<Timestamp, UnreadableRow> {
        let unreadable = |what| UnreadableRow { table: "link_sight", key: format!("of site {site:?}"), what };
        Ok(self.seen_until.get("seen_until").map_err(unreadable)?.0)
    }
}

/// Outages among which the newest one that can be read is looked for.
const NEWEST_OUTAGES: u32 = 20;

/// The same statements on both: each parameter is bound once and in order, so that SQLite takes `$1` as PostgreSQL does.
macro_rules! statements_for {
    ($name:ident, $connection:ty) => {
        pub(super) mod $name {
            use super::*;

            /// One outage; one that is closed stays so.
            pub fn write_outage(
                connection: &mut $connection,
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

            /// The proof of sight.
            pub fn write_sight(
                connection: &mut $connection,
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

            /// What liveness begins from.
            pub fn load_past(
                connection: &mut $connection,
                site: &str,
                wanted: PastWanted,
                unreadable: &UnreadableRows,
            ) -> QueryResult<LivenessPast> {
                let rows_max = bigint(wanted.rows_max as u64);
                let changes: Vec<ChangeRow> = sql_query(
                    "SELECT machine_id, occurred_at FROM (SELECT id, machine_id, occurred_at FROM machine_event \
                     WHERE site = $1 AND occurred_at >= $2 ORDER BY occurred_at DESC LIMIT $3) AS recent ORDER BY id",
                )
                .bind::<Text, _>(site)
                .bind::<Instant, _>(SqlInstant(wanted.changes_since))
                .bind::<BigInt, _>(rows_max)
                .load(connection)?;
                let unpublished: Vec<EventRow> = sql_query(format!(
                    "SELECT {EVENT_COLUMNS} FROM machine_event WHERE site = $1 AND publish_pending \
                     ORDER BY id DESC LIMIT $2"
                ))
                .bind::<Text, _>(site)
                .bind::<BigInt, _>(rows_max)
                .load(connection)?;
                let outages: Vec<OutageRow> = sql_query(format!(
                    "SELECT began_at, ended_at, reason FROM link_outage WHERE site = $1 \
                     ORDER BY began_at DESC LIMIT {NEWEST_OUTAGES}"
                ))
                .bind::<Text, _>(site)
                .load(connection)?;
                let sight: Vec<SightRow> = sql_query("SELECT seen_until FROM link_sight WHERE site = $1")
                    .bind::<Text, _>(site)
                    .load(connection)?;
                let changes = changes.into_iter().map(ChangeRow::change);
                let unpublished = unpublished.into_iter().rev().map(EventRow::transition);
                let outages = unreadable.pass_over(outages.into_iter().map(OutageRow::outage));
                let sight = sight.into_iter().map(|row| row.seen_until(site));
                Ok(LivenessPast {
                    recent_changes: unreadable.pass_over(changes),
                    unpublished: unreadable.pass_over(unpublished),
                    newest_outage: outages.first().copied(),
                    seen_until: unreadable.pass_over(sight).first().copied(),
                })
            }
        }
    };
}

statements_for!(sqlite, SqliteConnection);
statements_for!(postgres, PgConnection);
