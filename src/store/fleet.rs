//! What a person wants to know of the machines of a site: how much they send, and their history.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::from_bigint;
use super::liveness_rows::{EVENT_COLUMNS, EventRow, OutageRow};
use super::schema::{Instant, SqlInstant};
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use crate::domain::{LinkOutage, MachineId, Timestamp, Transition};

/// What happened on a site from some moment on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SiteHistory {
    /// Events, in the order in which they happened. Their `seq` is 0.
    pub events: Vec<Transition>,
    /// Our own outages that lasted beyond that moment or are not over, in order of time.
    pub outages: Vec<LinkOutage>,
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

/// The same statements on both: each parameter is bound once and in order, so that SQLite takes `$1` as PostgreSQL does.
macro_rules! queries_for {
    ($name:ident, $connection:ty) => {
        pub(super) mod $name {
            use super::*;

            /// Readings of each machine that were recorded from `from` on and before `to`.
            pub fn count_readings(
                connection: &mut $connection,
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
                Ok(unreadable.pass_over(rows.into_iter().map(CountRow::count)))
            }

            /// Events and outages from `from` on.
            pub fn load_history(
                connection: &mut $connection,
                site: &str,
                from: Timestamp,
                unreadable: &UnreadableRows,
            ) -> QueryResult<SiteHistory> {
                let events: Vec<EventRow> = sql_query(format!(
                    "SELECT {EVENT_COLUMNS} FROM machine_event WHERE site = $1 AND occurred_at >= $2 \
                     ORDER BY id"
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
                    events: unreadable.pass_over(events.into_iter().map(EventRow::transition)),
                    outages: unreadable.pass_over(outages.into_iter().map(OutageRow::outage)),
                })
            }
        }
    };
}

queries_for!(sqlite, SqliteConnection);
queries_for!(postgres, PgConnection);
