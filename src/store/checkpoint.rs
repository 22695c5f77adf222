//! A journal's row in `ingest_checkpoint`: its position, its ledger, and which process may move it.

use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::batch::{Batch, CommitOutcome};
use super::both_databases::for_both_databases;
use super::error::CommitStep;
use super::failure::{AtStep, CommitFailure};
use super::schema::SqlInstant;
use super::statement::cached_statement;
use super::unreadable::{Column, UnreadableRow, UnreadableRows};
use super::{StoreError, bigint, from_bigint};
use crate::domain::{JournalHistory, Ledger, OpenId, Seq, Timestamp};

/// A journal's row of `ingest_checkpoint`: its position and its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The journal's id as text.
    pub journal_id: String,
    /// The site that the journal was first used for.
    pub site: String,
    /// Its position and counts.
    pub ledger: Ledger,
    /// When the row was last written, by the database's clock.
    pub updated_at: Timestamp,
    /// The opening of the journal that claimed it; `None` if Andon 0.1.0 wrote the row.
    pub open_id: Option<String>,
}

impl Checkpoint {
    /// Returns whether `open_id` holds the claim.
    #[must_use]
    pub fn is_claimed_by(&self, open_id: OpenId) -> bool {
        self.open_id.as_deref() == Some(open_id.to_string().as_str())
    }
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This process may move the position.
    Granted(Checkpoint),
    /// Another history of the journal wrote the position. The row is unchanged.
    Foreign(Checkpoint),
}

/// A number of a [`Checkpoint`].
type Number = Column<i64>;
/// The columns of a [`Checkpoint`], in the order of the table.
type CheckpointColumns = (
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

/// Reads a row of `ingest_checkpoint`. `updated_at` is for people only: an unreadable one becomes 1970.
fn checkpoint(columns: CheckpointColumns) -> Result<Checkpoint, UnreadableRow> {
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
            ledger: Ledger {
                committed_seq: Seq(number(committed_seq, "committed_seq")?),
                messages: number(messages, "messages")?,
                stored: number(stored, "stored")?,
                duplicate: number(duplicate, "duplicate")?,
                rejected: number(rejected, "rejected")?,
                control: number(control, "control")?,
            },
            updated_at: updated_at.get("updated_at").map_or(Timestamp::from_micros(0), |instant| instant.0),
            open_id: open_id.get("open_id")?,
        })
    };
    read().map_err(|what| UnreadableRow { table: "ingest_checkpoint", key, what })
}

/// The types of a ledger's columns.
pub(super) type LedgerTypes = (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt);
/// The columns of a [`Ledger`], in the order of its fields.
pub(super) type LedgerColumns = (i64, i64, i64, i64, i64, i64);

/// Reads the counts of a row of `ingest_checkpoint`.
pub(super) fn ledger(columns: LedgerColumns) -> Ledger {
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

/// Takes the claim over, if nothing moved or claimed the position since it was read.
const TAKE_OVER: &str = "UPDATE ingest_checkpoint SET open_id = $1, site = $2 WHERE journal_id = $3 \
     AND committed_seq = $4 AND open_id IS NOT DISTINCT FROM $5";

for_both_databases! {
    [exact]

    use crate::store::schema::ingest_checkpoint;

    cached_statement! {
        /// Corrects the counters for readings that were not stored after all.
        CorrectCounters on Backend, Connection:
        "UPDATE ingest_checkpoint SET stored = stored - " [not_stored: BigInt = i64]
        ", duplicate = duplicate + " [duplicate: BigInt = i64]
        ", rejected = rejected + " [poisoned: BigInt = i64]
        " WHERE journal_id = " [journal_id: Text = &'a str]
    }

    /// Loads one journal's checkpoint. An unreadable one is an error: without its position a journal cannot
    /// go on.
    pub fn load(connection: &mut Connection, journal: &str) -> QueryResult<Option<Checkpoint>> {
        let row = ingest_checkpoint::table.find(journal).first::<CheckpointColumns>(connection).optional()?;
        row.map(checkpoint).transpose().map_err(|row| Error::DeserializationError(row.into()))
    }

    /// Loads every journal's checkpoint.
    pub fn load_all(connection: &mut Connection, unreadable: &UnreadableRows) -> QueryResult<Vec<Checkpoint>> {
        let query = ingest_checkpoint::table.order(ingest_checkpoint::journal_id);
        let rows = query.load::<CheckpointColumns>(connection)?;
        Ok(unreadable.skip(rows.into_iter().map(checkpoint)))
    }

    /// See [`Store::claim`](crate::store::Store::claim). What makes a position credible: `domain/history.rs`.
    pub fn claim(
        connection: &mut Connection,
        site: &str,
        history: &JournalHistory,
        unreadable: &UnreadableRows,
    ) -> Result<Claim, StoreError> {
        let journal_id = history.journal_id;
        let (id, own) = (journal_id.to_string(), history.own.to_string());
        let failed = |source: Error| StoreError::ReadCheckpoint { journal_id, source: source.into() };
        let found = database::insert_checkpoint(connection, &id, site, &own)
            .and_then(|_| exact::ensure(connection, site, unreadable))
            .and_then(|()| load(connection, &id))
            .and_then(|row| row.ok_or(Error::NotFound))
            .map_err(failed)?;
        // A text that is no id of ours becomes the nil id, which no history knows.
        let open_id = found.open_id.as_deref().map(|text| OpenId(text.parse().unwrap_or_default()));
        if !history.believes(found.ledger.committed_seq, open_id) {
            return Ok(Claim::Foreign(found));
        }
        if take_over(connection, &found, site, &own).map_err(failed)? {
            return Ok(Claim::Granted(Checkpoint { open_id: Some(own), ..found }));
        }
        let (expected, found) = (found.ledger.committed_seq, Some(found.ledger.committed_seq));
        Err(StoreError::StalePosition { journal_id, expected, found })
    }

    fn take_over(connection: &mut Connection, found: &Checkpoint, site: &str, own: &str) -> QueryResult<bool> {
        let taken = diesel::sql_query(TAKE_OVER)
            .bind::<Text, _>(own)
            .bind::<Text, _>(site)
            .bind::<Text, _>(&found.journal_id)
            .bind::<BigInt, _>(bigint(found.ledger.committed_seq.0))
            .bind::<Nullable<Text>, _>(found.open_id.as_deref());
        Ok(taken.execute(connection)? == 1)
    }

    /// Returns why the position of `batch` did not move.
    pub fn stale(connection: &mut Connection, batch: &Batch) -> Result<CommitFailure, CommitFailure> {
        let found = load(connection, &batch.journal_id.to_string()).at(CommitStep::Position)?;
        Ok(CommitFailure::Stale(found.map(|found| found.ledger.committed_seq)))
    }

    /// Moves the duplicates and refused readings of a commit out of `stored`, where moving the position
    /// counted them.
    pub fn correct_counters(
        connection: &mut Connection,
        journal_id: &str,
        outcome: &CommitOutcome,
    ) -> QueryResult<()> {
        let poisoned = outcome.poisoned.len() as u64;
        if outcome.duplicate + poisoned == 0 {
            return Ok(());
        }
        let correct = CorrectCounters {
            not_stored: bigint(outcome.duplicate + poisoned),
            duplicate: bigint(outcome.duplicate),
            poisoned: bigint(poisoned),
            journal_id,
        };
        connection.execute_returning_count(&correct).map(drop)
    }

    /// Moves one element from `rejected` to what a retry made of it. Returns `false` if the journal has no
    /// ledger.
    pub fn move_in_ledger(
        connection: &mut Connection,
        journal_id: &str,
        stored: u64,
        duplicate: u64,
        rejected: u64,
    ) -> QueryResult<bool> {
        use ingest_checkpoint as row;
        let moved = diesel::update(row::table.find(journal_id)).set((
            row::stored.eq(row::stored + bigint(stored)),
            row::duplicate.eq(row::duplicate + bigint(duplicate)),
            row::rejected.eq(row::rejected + bigint(rejected) - 1_i64),
        ));
        Ok(moved.execute(connection)? == 1)
    }
}
