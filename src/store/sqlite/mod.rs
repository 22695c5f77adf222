//! SQLite: one file in WAL mode, written row by row through statements that are prepared once.
//!
//! A transaction costs one sync of the write-ahead log (`synchronous = FULL`: segments of the journal are
//! deleted once their rows are committed, so a commit must survive a power cut). `BEGIN IMMEDIATE` takes the
//! one write lock first, so that waiting for another process happens at one place only, bounded by
//! `lock_timeout`.
//!
//! The file may be removed, renamed or replaced while it is open: see [`file_identity`].

mod commit;
pub(super) mod file_identity;
mod refusal;
mod reprocess;
pub(super) mod rollups;
mod statements;
mod status_rows;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use self::file_identity::FileIdentity;
use super::claim::claim;
use super::clock;
use super::fleet;
use super::instant_text::InstantText;
use super::liveness_rows;
use super::migrate::{MigrateFailure, migration_status, run_pending};
use super::prune::{self, PruneBounds, PruneCursor, Pruned};
use super::reads::{self, COUNTED_ROWS_MAX, COUNTED_TABLES};
use super::rejected::{self, RejectedCount, RejectedFilter, RejectedPage, RejectedRow, Retry, RetryOutcome};
use super::rollup::exact;
use super::schema::{Instant, SqlInstant};
use super::unreadable::UnreadableRows;
use super::{
    Batch, Checkpoint, Claim, CommitOutcome, LivenessPast, MachineRow, MigrationReport, MigrationStatus,
    PastWanted, SiteHistory, Store, StoreError, StoreFacts, StoreOptions, StoreStatus, TableCount,
    from_bigint,
};
use crate::database_url::sqlite_place;
use crate::domain::{ClockRecord, JournalHistory, JournalId, MachineId, Timestamp};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Page cache; the hot part is the right edge of each machine's run in the unique index.
const CACHE_KIB: u32 = 8 * 1024;
/// The log is copied into the file whenever a commit leaves it longer than this, in pages of 4 KiB.
const WAL_CHECKPOINT_PAGES: u32 = 4_000;
/// A log that grew beyond this (a reader held it) is cut back after the next checkpoint.
const WAL_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// The SQLite database of one site.
pub struct SqliteStore {
    connection: SqliteConnection,
    place: Arc<FileIdentity>,
    site: String,
    unreadable: UnreadableRows,
    facts: StoreFacts,
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl SqliteStore {
    /// Opens the file, creating it and its directories if they are missing.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let target = sqlite_place(path);
        let failed = |source| StoreError::Connect { target: target.clone(), source };
        file_identity::check_directory(path).map_err(failed)?;
        create_directory(path)?;
        let open = || {
            // "./" keeps SQLite from reading a relative path as a URI or as a name of its own.
            let file = if path.is_absolute() { path.to_path_buf() } else { Path::new(".").join(path) };
            let mut connection = SqliteConnection::establish(&file.to_string_lossy())?;
            configure(&mut connection, options)?;
            let description = describe(&mut connection)?;
            Ok((connection, description))
        };
        let ((mut connection, (version, journal_mode)), place) =
            FileIdentity::open(path, open).map_err(failed)?;

        let mut warnings = Vec::new();
        if journal_mode != "wal" {
            warnings.push(format!(
                "SQLite cannot use its write-ahead log here (journal mode is {journal_mode}): commits are slower, and \
                 readers block the writer"
            ));
        }
        let facts = StoreFacts { backend: "sqlite", version, target, warnings };
        options.progress.watch(&mut connection);
        let (site, unreadable) = (options.site.clone(), options.unreadable.clone());
        Ok(Self { connection, place, site, unreadable, facts })
    }

    /// Runs `operation`, and takes its success for one only if the file is at its path before and after it (FILE-1).
    fn in_place<T>(
        &mut self,
        operation: impl FnOnce(&mut SqliteConnection, &str) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_place()?;
        let done = operation(&mut self.connection, &self.site)?;
        self.check_place()?;
        Ok(done)
    }

    /// If the file has moved, what is in its log goes into it: so it is whole wherever it is, and its log is no other file's.
    fn check_place(&mut self) -> Result<(), StoreError> {
        self.place.check().inspect_err(|_| {
            // What it cannot copy is kept beside the file; the journal has it, too.
            let _ = self.connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)");
            self.place.put_logs_aside();
        })
    }
}

#[cfg(test)]
impl SqliteStore {
    /// Lets the file grow to `pages` at most, as if the disk were full then.
    pub fn limit_pages(&mut self, pages: u32) {
        self.connection.batch_execute(&format!("PRAGMA max_page_count = {pages}")).expect("the limit is set");
    }
}

/// Creates the directory of `path` with its parents, durably.
fn create_directory(path: &Path) -> Result<(), StoreError> {
    let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) else {
        return Ok(());
    };
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .collect();
    let created = std::fs::create_dir_all(directory).and_then(|()| {
        missing.iter().try_for_each(|created| {
            let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        })
    });
    created
        .map_err(|source| StoreError::CreateDirectory { directory: directory.display().to_string(), source })
}

fn configure(connection: &mut SqliteConnection, options: &StoreOptions) -> QueryResult<()> {
    let lock_timeout = options.lock_timeout.as_millis();
    connection.batch_execute(&format!(
        "PRAGMA busy_timeout = {lock_timeout};
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA wal_autocheckpoint = {WAL_CHECKPOINT_PAGES};
         PRAGMA journal_size_limit = {WAL_BYTES_MAX};"
    ))
}

/// The library's version and the journal mode in effect. Reads from the file, so that all that belongs to it is open.
fn describe(connection: &mut SqliteConnection) -> QueryResult<(String, String)> {
    sql_query("SELECT count(*) AS value FROM sqlite_master").get_result::<NumberRow>(connection)?;
    let version = sql_query("SELECT sqlite_version() AS value").get_result::<TextRow>(connection)?;
    let mode = sql_query("SELECT journal_mode AS value FROM pragma_journal_mode")
        .get_result::<TextRow>(connection)?;
    Ok((version.value, mode.value))
}

fn migrations_are_recorded(connection: &mut SqliteConnection) -> QueryResult<bool> {
    let count =
        sql_query("SELECT count(*) AS value FROM sqlite_master WHERE name = '__diesel_schema_migrations'");
    Ok(count.get_result::<NumberRow>(connection)?.value > 0)
}

fn count_rows(
    connection: &mut SqliteConnection,
    table: &'static str,
    has_id: bool,
) -> QueryResult<TableCount> {
    let counted = sql_query(format!("SELECT count(*) AS value FROM (SELECT 1 FROM {table} LIMIT ?)"))
        .bind::<BigInt, _>(COUNTED_ROWS_MAX)
        .get_result::<NumberRow>(connection)?
        .value;
    let exact = counted < COUNTED_ROWS_MAX;
    let query = match (exact, has_id) {
        (true, _) => return Ok(TableCount { table, rows: from_bigint(counted), exact }),
        (false, true) => format!("SELECT max(id) - min(id) + 1 AS value FROM {table}"),
        (false, false) => format!("SELECT count(*) AS value FROM {table}"),
    };
    let rows = sql_query(query).get_result::<NumberRow>(connection)?.value;
    Ok(TableCount { table, rows: from_bigint(rows), exact: !has_id })
}

/// The database's clock, for `created_at` and `updated_at`.
fn now() -> InstantText {
    InstantText::new(SqlInstant(crate::clock::wall_now()))
}

impl Store for SqliteStore {
    fn facts(&self) -> &StoreFacts {
        &self.facts
    }

    fn migrate(&mut self) -> Result<MigrationReport, StoreError> {
        let status = self.migration_status()?;
        if status.pending.is_empty() && status.unknown.is_empty() {
            return Ok(MigrationReport { applied: Vec::new() });
        }
        let report = self
            .connection
            .immediate_transaction::<_, MigrateFailure, _>(|connection| run_pending(connection, &MIGRATIONS));
        Ok(report?)
    }

    fn migration_status(&mut self) -> Result<MigrationStatus, StoreError> {
        migration_status(&mut self.connection, &MIGRATIONS, migrations_are_recorded)
    }

    fn claim(&mut self, history: &JournalHistory) -> Result<Claim, StoreError> {
        let id = history.journal_id.to_string();
        let unreadable = self.unreadable.clone();
        self.in_place(|connection, site| {
            let found = sql_query(
                "INSERT INTO ingest_checkpoint (journal_id, site, updated_at, open_id) VALUES (?, ?, ?, ?) \
                 ON CONFLICT DO NOTHING",
            )
            .bind::<Text, _>(&id)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(now())
            .bind::<Text, _>(history.own.to_string())
            .execute(connection)
            .and_then(|_| exact::sqlite::begin(connection, site, &unreadable))
            .and_then(|()| reads::sqlite::load_checkpoint(connection, &id))
            .and_then(|row| row.ok_or(diesel::result::Error::NotFound));
            claim(history, found, |found, own| reads::sqlite::take_over(connection, found, site, own))
        })
    }

    fn checkpoint(&mut self, journal: JournalId) -> Result<Option<Checkpoint>, StoreError> {
        self.in_place(|connection, _| {
            reads::sqlite::load_checkpoint(connection, &journal.to_string())
                .map_err(|source| StoreError::ReadCheckpoint { journal_id: journal, source: source.into() })
        })
    }

    fn checkpoints(&mut self) -> Result<Vec<Checkpoint>, StoreError> {
        reads::sqlite::load_checkpoints(&mut self.connection, &self.unreadable)
            .map_err(|source| StoreError::ReadStatus { source: source.into() })
    }

    fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError> {
        reads::sqlite::load_machines(&mut self.connection, &self.site, &self.unreadable)
            .map_err(|source| StoreError::ReadMachines { source: source.into() })
    }

    fn liveness_past(&mut self, wanted: PastWanted) -> Result<LivenessPast, StoreError> {
        liveness_rows::sqlite::load_past(&mut self.connection, &self.site, wanted, &self.unreadable)
            .map_err(|source| StoreError::ReadMachines { source: source.into() })
    }

    fn readings_between(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(MachineId, u64)>, StoreError> {
        fleet::sqlite::count_readings(&mut self.connection, &self.site, from, to, &self.unreadable)
            .map_err(|source| StoreError::ReadMachines { source: source.into() })
    }

    fn history(&mut self, from: Timestamp) -> Result<SiteHistory, StoreError> {
        fleet::sqlite::load_history(&mut self.connection, &self.site, from, &self.unreadable)
            .map_err(|source| StoreError::ReadMachines { source: source.into() })
    }

    fn commit(&mut self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        self.in_place(|connection, site| {
            commit::commit(connection, site, batch).map_err(|failure| failure.into_store_error(batch))
        })
    }

    fn rejected(
        &mut self,
        filter: &RejectedFilter,
        page: RejectedPage,
        rows_max: u32,
        payload_bytes: u32,
    ) -> Result<Vec<RejectedRow>, StoreError> {
        rejected::sqlite::load_rejected(
            &mut self.connection,
            &self.site,
            filter,
            page,
            rows_max,
            payload_bytes,
        )
        .map_err(|source| StoreError::ReadRejected { source: source.into() })
    }

    fn rejected_counts(&mut self, filter: &RejectedFilter) -> Result<Vec<RejectedCount>, StoreError> {
        rejected::sqlite::count_rejected(&mut self.connection, &self.site, filter)
            .map_err(|source| StoreError::ReadRejected { source: source.into() })
    }

    fn retry(&mut self, retry: &Retry) -> Result<RetryOutcome, StoreError> {
        self.in_place(|connection, site| {
            reprocess::retry(connection, site, retry)
                .map_err(|source| StoreError::Retry { id: retry.id, source })
        })
    }

    fn prune(
        &mut self,
        before: Timestamp,
        from: Option<&PruneCursor>,
        bounds: PruneBounds,
    ) -> Result<Pruned, StoreError> {
        prune::sqlite::step(&mut self.connection, &self.site, before, from, bounds)
            .map_err(|source| StoreError::Prune { source: source.into() })
    }

    fn exchange_clock(&mut self, ours: Option<ClockRecord>) -> Result<Option<ClockRecord>, StoreError> {
        let (connection, site, unreadable) = (&mut self.connection, self.site.as_str(), &self.unreadable);
        let exchanged = connection
            .immediate_transaction(|connection| clock::sqlite::exchange(connection, site, ours, unreadable));
        exchanged.map_err(|source: diesel::result::Error| StoreError::ExchangeClock { source: source.into() })
    }

    fn status(&mut self) -> Result<StoreStatus, StoreError> {
        let (connection, unreadable) = (&mut self.connection, &self.unreadable);
        let status = connection.transaction(|connection| {
            let tables = COUNTED_TABLES.iter().map(|&(table, has_id)| count_rows(connection, table, has_id));
            let tables = tables.collect::<QueryResult<Vec<_>>>()?;
            Ok(StoreStatus { tables, checkpoints: reads::sqlite::load_checkpoints(connection, unreadable)? })
        });
        status.map_err(|source: diesel::result::Error| StoreError::ReadStatus { source: source.into() })
    }
}
