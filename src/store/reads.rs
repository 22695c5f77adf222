//! Reading back what both databases hold alike.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::schema::Moment;
use super::{Cause, Checkpoint, MachineRow, from_bigint};
use crate::domain::{Ledger, MachineId, MachineStatus, Seq, TransitionReason};

/// The columns of a [`Checkpoint`], in the order of the table.
pub type CheckpointColumns = (String, String, i64, i64, i64, i64, i64, i64, Moment);

/// A row of `ingest_checkpoint`.
pub fn checkpoint(columns: CheckpointColumns) -> Checkpoint {
    let (journal_id, site, committed_seq, messages, stored, duplicate, rejected, control, updated_at) =
        columns;
    Checkpoint {
        journal_id,
        site,
        committed_seq: Seq(from_bigint(committed_seq)),
        messages: from_bigint(messages),
        stored: from_bigint(stored),
        duplicate: from_bigint(duplicate),
        rejected: from_bigint(rejected),
        control: from_bigint(control),
        updated_at: updated_at.0,
    }
}

/// The types of a ledger's columns.
pub type LedgerTypes = (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt);
/// The columns of a [`Ledger`], in the order of its fields.
pub type LedgerColumns = (i64, i64, i64, i64, i64, i64);

/// The counts of a row of `ingest_checkpoint`.
pub fn ledger(columns: LedgerColumns) -> Ledger {
    let (committed_seq, messages, stored, duplicate, rejected, control) = columns;
    Ledger {
        committed_seq: Seq(from_bigint(committed_seq)),
        messages: from_bigint(messages),
        stored: from_bigint(stored),
        duplicate: from_bigint(duplicate),
        rejected: from_bigint(rejected),
        control: from_bigint(control),
    }
}

/// The columns of a [`MachineRow`].
pub type MachineColumns = (String, String, Option<Moment>, Option<Moment>, Option<Moment>, Option<String>);

/// A row of `machine`; fails on an id or a status that Andon never writes.
pub fn machine_row(columns: MachineColumns) -> Result<MachineRow, Cause> {
    let (id, word, status_since, first_seen_at, last_seen_at, reason) = columns;
    let machine_id = MachineId::parse(&id)?;
    let status = MachineStatus::from_word(&word)
        .ok_or_else(|| format!("machine {id} has the unknown status {word:?}"))?;
    let [status_since, first_seen_at, last_seen_at] =
        [status_since, first_seen_at, last_seen_at].map(|moment| moment.map(|moment| moment.0));
    let reason = reason.as_deref().and_then(TransitionReason::from_word);
    Ok(MachineRow { machine_id, status, status_since, reason, first_seen_at, last_seen_at })
}

/// Queries in diesel's own language, which needs the connection's concrete type.
macro_rules! queries_for {
    ($name:ident, $connection:ty) => {
        /// The shared queries on this connection.
        pub mod $name {
            use super::super::schema::{ingest_checkpoint, machine, machine_event};
            use super::*;

            /// One journal's checkpoint.
            pub fn load_checkpoint(
                connection: &mut $connection,
                journal: &str,
            ) -> QueryResult<Option<Checkpoint>> {
                let row = ingest_checkpoint::table
                    .find(journal)
                    .first::<CheckpointColumns>(connection)
                    .optional()?;
                Ok(row.map(checkpoint))
            }

            /// Every journal's checkpoint.
            pub fn load_checkpoints(connection: &mut $connection) -> QueryResult<Vec<Checkpoint>> {
                let query = ingest_checkpoint::table.order(ingest_checkpoint::journal_id);
                Ok(query.load::<CheckpointColumns>(connection)?.into_iter().map(checkpoint).collect())
            }

            /// Only the position of one journal.
            pub fn load_position(connection: &mut $connection, journal: &str) -> QueryResult<Option<Seq>> {
                let query = ingest_checkpoint::table.find(journal).select(ingest_checkpoint::committed_seq);
                Ok(query.first::<i64>(connection).optional()?.map(|seq| Seq(from_bigint(seq))))
            }

            /// Every machine of a site.
            pub fn load_machines(connection: &mut $connection, site: &str) -> Result<Vec<MachineRow>, Cause> {
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
                query.load::<MachineColumns>(connection)?.into_iter().map(machine_row).collect()
            }
        }
    };
}

queries_for!(sqlite, SqliteConnection);
queries_for!(postgres, PgConnection);

/// Tables whose rows are counted, each with whether its rows are numbered by `id`.
pub const COUNTED_TABLES: [(&str, bool); 9] = [
    ("machine_telemetry", true),
    ("machine", false),
    ("machine_event", true),
    ("rejected_message", true),
    ("ingest_checkpoint", false),
    ("journal_gap", true),
    ("link_outage", true),
    ("machine_rollup", false),
    ("machine_rollup_extra", false),
];

/// Up to this many rows are counted exactly; beyond, a table with ids is estimated.
pub const COUNTED_ROWS_MAX: i64 = 100_000;
