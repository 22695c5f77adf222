//! Reading back what both databases hold alike.

use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::schema::SqlInstant;
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use super::{Checkpoint, MachineRow, bigint, from_bigint};
use crate::domain::{Ledger, MachineStatus, Seq, Timestamp, TransitionReason};

/// A number of a [`Checkpoint`].
type Number = Column<i64>;
/// The columns of a [`Checkpoint`], in the order of the table.
pub type CheckpointColumns = (
    Column<String>,
    Column<String>,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Column<SqlInstant>,
    Column<Option<String>>,
);

/// A row of `ingest_checkpoint`. When it was updated is shown, no more: nothing fails for it.
pub fn checkpoint(columns: CheckpointColumns) -> Result<Checkpoint, UnreadableRow> {
    let (
        journal_id,
        site,
        committed_seq,
        messages,
        stored,
        duplicate,
        rejected,
        control,
        updated_at,
        open_id,
    ) = columns;
    let key = journal_id.to_string();
    let number = |column: Number, name| column.get(name).map(from_bigint);
    let read = || {
        Ok(Checkpoint {
            journal_id: journal_id.get("journal_id")?,
            site: site.get("site")?,
            committed_seq: Seq(number(committed_seq, "committed_seq")?),
            messages: number(messages, "messages")?,
            stored: number(stored, "stored")?,
            duplicate: number(duplicate, "duplicate")?,
            rejected: number(rejected, "rejected")?,
            control: number(control, "control")?,
            updated_at: updated_at.get("updated_at").map_or(Timestamp::from_micros(0), |moment| moment.0),
            open_id: open_id.get("open_id")?,
        })
    };
    read().map_err(|what| UnreadableRow { table: "ingest_checkpoint", key, what })
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
pub type MachineColumns = (Column<String>, Column<String>, Instant, Instant, Instant, Column<Option<String>>);
type Instant = Column<Option<SqlInstant>>;

/// A row of `machine`.
pub fn machine_row(columns: MachineColumns) -> Result<MachineRow, UnreadableRow> {
    let (id, status, status_since, first_seen_at, last_seen_at, reason) = columns;
    let key = id.to_string();
    let instant = |column: Instant, name| column.get(name).map(|moment| moment.map(|moment| moment.0));
    let read = || {
        Ok(MachineRow {
            machine_id: id.machine_id()?,
            status: status.word("status", MachineStatus::from_word)?,
            status_since: instant(status_since, "status_since")?,
            // The event's; a word that it should not have is named where events are read.
            reason: reason.word("reason", TransitionReason::from_word).unwrap_or_default(),
            first_seen_at: instant(first_seen_at, "first_seen_at")?,
            last_seen_at: instant(last_seen_at, "last_seen_at")?,
        })
    };
    read().map_err(|what| UnreadableRow { table: "machine", key, what })
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
                // Without its own position a journal cannot go on.
                row.map(checkpoint).transpose().map_err(|row| Error::DeserializationError(row.into()))
            }

            /// Every journal's checkpoint.
            pub fn load_checkpoints(
                connection: &mut $connection,
                unreadable: &UnreadableRows,
            ) -> QueryResult<Vec<Checkpoint>> {
                let query = ingest_checkpoint::table.order(ingest_checkpoint::journal_id);
                let rows = query.load::<CheckpointColumns>(connection)?;
                Ok(unreadable.pass_over(rows.into_iter().map(checkpoint)))
            }

            /// Writes the position in the name of the process that has the journal open, unless somebody else moves it meanwhile.
            pub fn take_over(
                connection: &mut $connection,
                found: &Checkpoint,
                site: &str,
                own: &str,
            ) -> QueryResult<bool> {
                let taken = diesel::sql_query(
                    "UPDATE ingest_checkpoint SET open_id = $1, site = $2 WHERE journal_id = $3 AND committed_seq = $4 \
                     AND open_id IS NOT DISTINCT FROM $5",
                )
                .bind::<Text, _>(own)
                .bind::<Text, _>(site)
                .bind::<Text, _>(&found.journal_id)
                .bind::<BigInt, _>(bigint(found.committed_seq.0))
                .bind::<Nullable<Text>, _>(found.open_id.as_deref());
                Ok(taken.execute(connection)? == 1)
            }

            /// Every machine of a site.
            pub fn load_machines(
                connection: &mut $connection,
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
                Ok(unreadable.pass_over(rows.into_iter().map(machine_row)))
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
