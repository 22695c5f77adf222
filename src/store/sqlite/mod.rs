//! SQLite: one file in WAL mode, written through statements that are prepared once.
//!
//! A transaction costs one sync of the write-ahead log. `synchronous = FULL`, because the journal deletes
//! segments once their rows are committed: a commit must survive a power cut. `BEGIN IMMEDIATE` takes the one
//! write lock first, so that a transaction waits for another process at one place only, for at most
//! `lock_timeout`.
//!
//! The file may be removed, renamed or replaced while it is open: see [`file_identity`].

mod backup;
mod commit;
pub(super) mod file_identity;
pub(super) mod prune;
mod readings;
mod refusal;
pub(super) mod reprocess;
pub(super) mod retained;
mod rollups;
pub(super) mod space;
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
use super::failure::CommitFailure;
use super::instant_text::InstantText;
use super::migrate::{Hypertable, MigrateFailure};
use super::partitions::PartsTended;
use super::prune::CountedBytes;
use super::retention::PruneLimits;
use super::schema::{Instant, SqlInstant};
use super::table_counts::{COUNTED_ROWS_MAX, CountedTable};
use super::unreadable::UnreadableRows;
use super::{
    Batch, CommitOutcome, SchemaName, StoreError, StoreFacts, StoreOptions, TableCount, from_bigint,
};
use crate::database_url::sqlite_place;
use crate::domain::Timestamp;

pub use self::backup::Backup;

pub(super) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Page cache; the hot part is the right edge of each machine's run in the unique index.
const CACHE_KIB: u32 = 4 * 1024;
/// A commit that leaves the log longer than this copies it into the file; in pages of 4 KiB.
const WAL_CHECKPOINT_PAGES: u32 = 4_000;
/// A log that grew beyond this, because a reader held it, is cut back after the next checkpoint.
const WAL_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// The SQLite database of one site.
pub struct Database {
    pub(super) connection: SqliteConnection,
    identity: Arc<FileIdentity>,
    pub(super) site: String,
    pub(super) unreadable: UnreadableRows,
    /// The last count of the rejected messages' bytes.
    pub(super) counted_bytes: Option<CountedBytes>,
    pub(super) facts: StoreFacts,
}

/// What an operation works with.
pub(super) struct Session<'a> {
    pub connection: &'a mut SqliteConnection,
    pub site: &'a str,
    pub unreadable: &'a UnreadableRows,
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

impl Database {
    /// Opens the file, creating it and its directories if they are missing.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let target = sqlite_place(path);
        let failed = |source| StoreError::Connect { target: target.clone(), source };
        file_identity::check_directory(path).map_err(failed)?;
        create_directory(path)?;
        let open = || {
            // "./" keeps SQLite from reading a relative path as a URI or as one of its special names.
            let file = if path.is_absolute() { path.to_path_buf() } else { Path::new(".").join(path) };
            let mut connection = SqliteConnection::establish(&file.to_string_lossy())?;
            configure(&mut connection, options)?;
            let description = describe(&mut connection)?;
            Ok((connection, description))
        };
        let ((mut connection, (version, journal_mode)), identity) =
            FileIdentity::open(path, open).map_err(failed)?;

        let mut warnings = Vec::new();
        if journal_mode != "wal" {
            warnings.push(format!(
                "SQLite cannot use its write-ahead log here (journal mode is {journal_mode}): commits are slower, and \
                 readers block the writer"
            ));
        }
        let facts =
            StoreFacts { backend: "sqlite", version, target, schema: None, reference: None, warnings };
        options.progress.watch(&mut connection);
        let (site, unreadable) = (options.site.clone(), options.unreadable.clone());
        Ok(Self { connection, identity, site, unreadable, counted_bytes: None, facts })
    }

    /// Runs `operation`. It succeeds only if the file was at its path before and after (FILE-1).
    pub(super) fn checked<T>(
        &mut self,
        operation: impl FnOnce(Session<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_file()?;
        let session =
            Session { connection: &mut self.connection, site: &self.site, unreadable: &self.unreadable };
        let done = operation(session)?;
        self.check_file()?;
        Ok(done)
    }

    /// Checks that the file is at its path. If it has moved, copies the log into it, wherever it is: the file
    /// is whole then, and no other file is read with its log.
    fn check_file(&mut self) -> Result<(), StoreError> {
        self.identity.check().inspect_err(|_| {
            // The journal still holds what cannot be copied; the log is kept beside the file.
            let _ = self.connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)");
            self.identity.set_logs_aside();
        })
    }
}

impl Database {
    /// A file needs no layout of its own.
    #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "PostgreSQL asks the server")]
    pub(super) fn lay_out(&mut self) -> QueryResult<Option<Hypertable>> {
        Ok(None)
    }

    /// Nothing can go wrong there.
    #[allow(clippy::unused_self, reason = "PostgreSQL asks the server")]
    pub(super) const fn layout_trouble(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
impl Database {
    /// Lets the file grow to `pages` at most, as if the disk were full then.
    pub fn limit_pages(&mut self, pages: u32) {
        self.connection.batch_execute(&format!("PRAGMA max_page_count = {pages}")).expect("the limit is set");
    }
}

/// Returns the path as a URI for a connection that cannot write, with every special character escaped.
pub(super) fn read_only_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let escaped =
        percent_encoding::percent_encode(absolute.as_os_str().as_bytes(), percent_encoding::NON_ALPHANUMERIC);
    format!("file:{}?mode=ro", escaped.to_string().replace("%2F", "/"))
}

/// An SQLite file has no partitions.
#[allow(clippy::unnecessary_wraps, reason = "PostgreSQL asks the server")]
pub(super) fn tend_partitions(
    _connection: &mut SqliteConnection,
    _site: &str,
    limits: &PruneLimits,
    _now: Timestamp,
) -> QueryResult<PartsTended> {
    Ok(PartsTended::unchanged(limits))
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

/// Configures the connection. `auto_vacuum` has an effect on a new file only, and must come before its first page.
fn configure(connection: &mut SqliteConnection, options: &StoreOptions) -> QueryResult<()> {
    let lock_timeout = options.lock_timeout.as_millis();
    connection.batch_execute(&format!("PRAGMA busy_timeout = {lock_timeout}"))?;
    let pages = sql_query("SELECT page_count AS value FROM pragma_page_count");
    if pages.get_result::<NumberRow>(connection)?.value == 0 {
        // On a file with pages it would change nothing, and take the write lock for that.
        connection.batch_execute("PRAGMA auto_vacuum = INCREMENTAL")?;
    }
    connection.batch_execute(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA wal_autocheckpoint = {WAL_CHECKPOINT_PAGES};
         PRAGMA journal_size_limit = {WAL_BYTES_MAX};"
    ))
}

/// Returns the library's version and the journal mode in effect. Reads from the file, so that the log and the
/// shared memory are open.
fn describe(connection: &mut SqliteConnection) -> QueryResult<(String, String)> {
    sql_query("SELECT count(*) AS value FROM sqlite_master").get_result::<NumberRow>(connection)?;
    let version = sql_query("SELECT sqlite_version() AS value").get_result::<TextRow>(connection)?;
    let mode = sql_query("SELECT journal_mode AS value FROM pragma_journal_mode")
        .get_result::<TextRow>(connection)?;
    Ok((version.value, mode.value))
}

pub(super) fn migrations_are_recorded(connection: &mut SqliteConnection) -> QueryResult<bool> {
    let count =
        sql_query("SELECT count(*) AS value FROM sqlite_master WHERE name = '__diesel_schema_migrations'");
    Ok(count.get_result::<NumberRow>(connection)?.value > 0)
}

/// Does nothing: the write lock of the transaction keeps other migrators out, and there are no schemas.
#[allow(clippy::unnecessary_wraps, reason = "PostgreSQL does more")]
pub(super) fn begin_migrations(
    _connection: &mut SqliteConnection,
    _schema: Option<&SchemaName>,
) -> Result<(), MigrateFailure> {
    Ok(())
}

/// Runs `work` in a transaction that holds the write lock from the start.
pub(super) fn write<T, E: From<diesel::result::Error>>(
    connection: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, E>,
) -> Result<T, E> {
    connection.immediate_transaction(work)
}

/// Inserts the row of a journal that is not known yet.
pub(super) fn insert_checkpoint(
    connection: &mut SqliteConnection,
    journal_id: &str,
    site: &str,
    open_id: &str,
) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO ingest_checkpoint (journal_id, site, updated_at, open_id) VALUES (?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(journal_id)
    .bind::<Text, _>(site)
    .bind::<Instant, _>(now())
    .bind::<Text, _>(open_id)
    .execute(connection)
}

/// Stores `batch` (STO-1 to STO-4).
pub(super) fn commit(session: Session<'_>, batch: &Batch) -> Result<CommitOutcome, CommitFailure> {
    commit::commit(session.connection, session.site, batch)
}

/// Counts the rows of a table; a large one is estimated by its ids.
pub(super) fn count_rows(
    connection: &mut SqliteConnection,
    CountedTable { name: table, has_id }: CountedTable,
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

/// Returns the time for `created_at` and `updated_at`.
fn now() -> InstantText {
    InstantText::new(SqlInstant(crate::clock::wall_now()))
}
