//! Deleting what is past retention, in steps of bounded work: table by table, each from its oldest rows on.
//!
//! A step examines a bounded number of rows of one table, from where the step before it ended, and deletes
//! what it found. Finding takes no lock; only the deletion writes. So each step is correct by itself, even if
//! the run never ends.
//!
//! Invariants
//! - **RET-1** A reading goes only once both its `recorded_at` and its `received_at` are past retention; a partition
//!   only if that holds for all of its rows.
//! - **RET-2** A machine's newest event and the newest outage stay.
//! - **RET-3** A step examines and deletes a bounded number of rows and bytes, of its own site only.
//!
//! ```text
//! readings         readings and rollups, machine by machine
//! events           machine_event: a machine's newest event stays
//! aged             tables whose rows are only old or not: retained_seen, link_outage, audit_event
//! rejected_bytes   rejected_message: old rows, and the oldest beyond a number of payload bytes
//! pace             how many rows a step may delete, from how long the last one took
//! ```

pub(super) mod aged;
pub(super) mod events;
mod pace;
pub(super) mod readings;
pub(super) mod rejected_bytes;

use std::time;

use diesel::prelude::*;

use super::both_databases::for_both_databases;
use super::retention::PruneLimits;
use super::schema::SqlInstant;
use crate::domain::{Timestamp, word_enum};

pub use pace::PrunePace;
pub(super) use rejected_bytes::CountedBytes;

word_enum! {
    /// What a step deletes from, in the order of a run. The word is its name in the database.
    pub enum PruneTable {
        /// `machine_telemetry`.
        Readings = "machine_telemetry",
        /// `machine_rollup`.
        Rollups = "machine_rollup",
        /// `machine_rollup_extra`.
        ExtraRollups = "machine_rollup_extra",
        /// `retained_seen`.
        RetainedSeen = "retained_seen",
        /// `machine_event`.
        Events = "machine_event",
        /// `link_outage`.
        Outages = "link_outage",
        /// `rejected_message`.
        Rejected = "rejected_message",
        /// `audit_event`.
        Audit = "audit_event",
    }
}

/// Where the next step of a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneCursor {
    table: PruneTable,
    place: Place,
}

/// How far a run has come in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is examined yet, or the rows examined so far are gone.
    Start,
    /// Machines before this one are done.
    Machine {
        machine_id: String,
        /// Readings of that machine up to this key are done; `None`: all of them.
        key: Option<(Timestamp, i64)>,
    },
    /// Rows up to this one are done.
    Row(RowKey),
    /// Old rows are gone; the bytes of the others are to be counted.
    Bytes,
    /// The rows from this one to the newest have so many payload bytes; the newest id was `newest` then.
    Counted { from: RowKey, bytes: u64, newest: i64 },
    /// The rows up to this one go, because all together have too many bytes.
    Surplus(RowKey),
}

/// A row's time and id: the order in which rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    at: Timestamp,
    id: i64,
}

impl RowKey {
    const FIRST: Self = Self { at: Timestamp::from_micros(i64::MIN), id: i64::MIN };
    const LAST: Self = Self { at: Timestamp::from_micros(i64::MAX), id: i64::MAX };

    /// Comes before every row of `at`.
    const fn before(at: Timestamp) -> Self {
        Self { at, id: i64::MIN }
    }
}

impl PruneCursor {
    pub(super) const fn start_of(table: PruneTable) -> Self {
        Self { table, place: Place::Start }
    }

    /// Returns what the next step deletes from.
    #[must_use]
    pub const fn table(&self) -> PruneTable {
        self.table
    }

    const fn at(table: PruneTable, place: Place) -> Self {
        Self { table, place }
    }
}

/// How much one step may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneBounds {
    /// Machines examined.
    pub machines_max: u32,
    /// Rows examined, deleted or not.
    pub rows_max: u32,
    /// Payload bytes of rejected messages deleted, but at least one row.
    pub bytes_max: u64,
    /// After this long the step looks for the readings of no further machine: each is a query, and the
    /// database may be far away.
    pub time_max: time::Duration,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// What it deleted from.
    pub table: PruneTable,
    /// Rows deleted.
    pub rows: u64,
    /// All of them were from before this instant.
    pub before: Option<Timestamp>,
    /// They were not old, but beyond the site's payload bytes.
    pub is_surplus: bool,
    /// Machines examined.
    pub machines: u64,
    /// Rows examined.
    pub examined: u64,
    /// Where the next step begins; `None`: the run is over.
    pub next: Option<PruneCursor>,
}

impl Pruned {
    const fn nothing(table: PruneTable, before: Option<Timestamp>) -> Self {
        Self { table, rows: 0, before, is_surplus: false, machines: 0, examined: 0, next: None }
    }
}

/// The key of a reading to delete.
pub(super) struct OldKey {
    pub machine_id: String,
    pub recorded_at: SqlInstant,
    pub digest: i64,
}

for_both_databases! {
    [aged, events, readings, rejected_bytes]

    /// See [`Store::prune`](crate::store::Store::prune).
    pub fn step(
        connection: &mut Connection,
        site: &str,
        limits: &PruneLimits,
        from: Option<&PruneCursor>,
        bounds: PruneBounds,
        counted: &mut Option<CountedBytes>,
    ) -> QueryResult<Pruned> {
        let Some(from) = from.cloned().or_else(|| limits.start_after(None)) else {
            return Ok(Pruned::nothing(PruneTable::Readings, None));
        };
        let (table, before) = (from.table, limits.before(from.table));
        let mut step = match (table, before) {
            (PruneTable::Rejected, _) => {
                rejected_bytes::prune(connection, site, limits, &from.place, bounds, counted)?
            }
            // Its limit was taken away since the step before.
            (_, None) => Pruned::nothing(table, None),
            (PruneTable::Readings, Some(before)) => {
                readings::prune(connection, site, before, &from.place, bounds)?
            }
            (PruneTable::Rollups | PruneTable::ExtraRollups, Some(before)) => {
                readings::prune_rollups(connection, site, before, &from, bounds)?
            }
            (PruneTable::Events, Some(before)) => {
                events::prune(connection, site, before, &from.place, bounds)?
            }
            (PruneTable::RetainedSeen | PruneTable::Outages | PruneTable::Audit, Some(before)) => {
                aged::prune(connection, site, before, table, bounds)?
            }
        };
        step.next = step.next.or_else(|| limits.start_after(Some(table)));
        Ok(step)
    }
}
