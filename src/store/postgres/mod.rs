//! PostgreSQL 13 and later: a batch is a few large statements, its columns bound as binary arrays.
//!
//! TCP notices a link that dies (keep-alives, `tcp_user_timeout`); the server cancels a statement or a lock
//! that takes too long. A server that is frozen while its kernel still answers blocks the caller: libpq has
//! no timeout for that. The caller may abandon that thread; STO-2 stops whatever it does when it wakes.

mod commit;
pub(super) mod copy;
mod hypertable;
pub(super) mod import;
mod partition_functions;
mod partitions;
pub(super) mod prune;
mod readings;
mod reference;
pub(super) mod reprocess;
pub(super) mod retained;
mod rollups;
mod runs;
mod schema;
pub(super) mod sqlstate;
mod statements;
mod status_rows;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use self::copy::CopyPacing;
use self::runs::RunSize;
use super::failure::CommitFailure;
use super::migrate::{Hypertable, MigrateFailure};
use super::partitions::PartsTended;
use super::prune::CountedBytes;
use super::retention::PruneLimits;
use super::table_counts::{COUNTED_ROWS_MAX, CountedTable};
use super::unreadable::UnreadableRows;
use super::{
    Batch, CommitOutcome, SchemaName, StoreError, StoreFacts, StoreOptions, TableCount, from_bigint,
};
use crate::database_url::PostgresUrl;
use crate::domain::Timestamp;
pub(super) use schema::search_path;

pub(super) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Oldest server that is tested, as `server_version_num`.
const SERVER_VERSION_MIN: i32 = 130_000;
/// Key of the advisory lock that migrators take: "andon" in ASCII.
const MIGRATION_LOCK: i64 = 0x61_6e_64_6f_6e;

/// The PostgreSQL database of one site.
pub struct Database {
    pub(super) connection: PgConnection,
    pub(super) site: String,
    pub(super) unreadable: UnreadableRows,
    timescale: bool,
    /// Why another role cannot work with partitions, for a person.
    layout_trouble: Option<String>,
    /// The last count of the rejected messages' bytes.
    pub(super) counted_bytes: Option<CountedBytes>,
    run_size: RunSize,
    copy_pacing: CopyPacing,
    pub(super) facts: StoreFacts,
}

/// What an operation works with.
pub(super) struct Session<'a> {
    pub connection: &'a mut PgConnection,
    pub site: &'a str,
    pub unreadable: &'a UnreadableRows,
    run_size: &'a mut RunSize,
    copy_pacing: &'a mut CopyPacing,
}

/// Settings of the server that Andon checks.
#[derive(QueryableByName)]
struct Settings {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Integer)]
    version_num: i32,
    #[diesel(sql_type = Text)]
    encoding: String,
    #[diesel(sql_type = Text)]
    fsync: String,
}

#[derive(QueryableByName)]
struct FlagRow {
    #[diesel(sql_type = Bool)]
    value: bool,
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl Database {
    /// Connects and configures the session.
    pub fn open(url: &PostgresUrl, options: &StoreOptions) -> Result<Self, StoreError> {
        let target = url.place();
        let failed = |message: String| StoreError::Connect { target: target.clone(), source: message.into() };
        let mut connection = PgConnection::establish(&url.with_defaults(&connection_parameters(options)))
            .map_err(|error| failed(url.redact(&error.to_string())))?;
        configure(&mut connection, options).map_err(|error| failed(error.to_string()))?;
        let settings = read_settings(&mut connection).map_err(|error| failed(error.to_string()))?;

        let unsupported = |reason| Err(StoreError::Unsupported { target: target.clone(), reason });
        if settings.version_num < SERVER_VERSION_MIN {
            return unsupported(format!("PostgreSQL 13 or later is needed, this is {}", settings.version));
        }
        if settings.encoding != "UTF8" {
            return unsupported(format!(
                "the encoding of the database must be UTF8, it is {}; create it with ENCODING 'UTF8' TEMPLATE template0",
                settings.encoding
            ));
        }
        let mut warnings = Vec::new();
        if settings.fsync == "off" {
            warnings.push("fsync is off in PostgreSQL: a power cut can destroy the database".to_owned());
        }
        let schema = options.schema.clone();
        let reference =
            reference::find(&mut connection, schema.as_ref()).map_err(|error| failed(error.to_string()))?;
        let facts = StoreFacts {
            backend: "postgresql",
            version: settings.version,
            target,
            schema,
            reference,
            warnings,
        };
        options.progress.watch(&mut connection);
        let run_size = RunSize::new(options.statement_timeout);
        let (site, unreadable) = (options.site.clone(), options.unreadable.clone());
        let copy_pacing = CopyPacing::default();
        let timescale = options.timescale;
        Ok(Self {
            connection,
            site,
            unreadable,
            timescale,
            layout_trouble: None,
            counted_bytes: None,
            run_size,
            copy_pacing,
            facts,
        })
    }

    /// Makes the readings a hypertable, if that is wanted and possible, and lets a role that only writes work with
    /// partitions. Returns what a person should know.
    pub(super) fn lay_out(&mut self) -> QueryResult<Option<Hypertable>> {
        self.layout_trouble = partition_functions::install(&mut self.connection)?;
        if self.timescale { hypertable::create(&mut self.connection) } else { Ok(None) }
    }

    /// Returns what [`Self::lay_out`] could not do, for a person.
    pub(super) fn layout_trouble(&self) -> Option<String> {
        self.layout_trouble.clone()
    }

    /// Runs `operation`. Unlike an SQLite file, a server needs no check around it: its connection ends with
    /// its database.
    pub(super) fn checked<T>(
        &mut self,
        operation: impl FnOnce(Session<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        operation(Session {
            connection: &mut self.connection,
            site: &self.site,
            unreadable: &self.unreadable,
            run_size: &mut self.run_size,
            copy_pacing: &mut self.copy_pacing,
        })
    }
}

/// Returns the parameters that a URL gets unless it sets them. With these a dead peer is noticed within half
/// a minute.
pub(super) fn connection_parameters(options: &StoreOptions) -> [(&'static str, String); 7] {
    let connect_seconds = options.connect_timeout.as_millis().div_ceil(1_000).max(2);
    [
        ("application_name", "andon".to_owned()),
        ("connect_timeout", connect_seconds.to_string()),
        ("keepalives", "1".to_owned()),
        ("keepalives_idle", "10".to_owned()),
        ("keepalives_interval", "5".to_owned()),
        ("keepalives_count", "4".to_owned()),
        ("tcp_user_timeout", "30000".to_owned()),
    ]
}

fn configure(connection: &mut PgConnection, options: &StoreOptions) -> QueryResult<()> {
    let statement_timeout = options.statement_timeout.as_millis();
    let lock_timeout = options.lock_timeout.as_millis();
    // Compiling a statement to machine code takes some 50 ms. None of ours runs long enough to gain that
    // back.
    connection.batch_execute(&format!(
        "SET statement_timeout = {statement_timeout};
         SET jit = off;
         SET lock_timeout = {lock_timeout};
         SET idle_in_transaction_session_timeout = {statement_timeout};
         SET default_transaction_isolation = 'read committed';
         SET TIME ZONE 'UTC';
         SET client_min_messages = warning;
         {}",
        search_path(options.schema.as_ref())
    ))?;
    hypertable::configure(connection)
}

fn read_settings(connection: &mut PgConnection) -> QueryResult<Settings> {
    sql_query(
        "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS version_num, \
         current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync",
    )
    .get_result(connection)
}

pub(super) fn migrations_are_recorded(connection: &mut PgConnection) -> QueryResult<bool> {
    let query = sql_query("SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS value");
    Ok(query.get_result::<FlagRow>(connection)?.value)
}

/// Keeps other migrators out until the end of the transaction, and prepares the place of the tables.
pub(super) fn begin_migrations(
    connection: &mut PgConnection,
    schema: Option<&SchemaName>,
) -> Result<(), MigrateFailure> {
    sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(MIGRATION_LOCK).execute(connection)?;
    // A migration of a large table may take longer than a statement of the service may.
    connection.batch_execute("SET LOCAL statement_timeout = 0")?;
    let found = reference::find(connection, schema)?.filter(|found| found.is_in_the_way);
    if let Some(sentence) = found.and_then(|found| found.sentence()) {
        return Err(MigrateFailure::Reference(sentence));
    }
    schema::create_schema(connection, schema)?;
    check_ownership(connection)
}

/// Who would have to migrate.
#[derive(QueryableByName)]
struct Owner {
    #[diesel(sql_type = Text)]
    owner: String,
    #[diesel(sql_type = Text)]
    role: String,
}

/// Refuses if the tables are another role's, or there are none and this one may not create them.
fn check_ownership(connection: &mut PgConnection) -> Result<(), MigrateFailure> {
    let owner: Option<Owner> = sql_query(
        "SELECT pg_get_userbyid(c.relowner)::text AS owner, current_user::text AS role FROM pg_class c \
         WHERE c.oid = to_regclass('ingest_checkpoint') AND NOT pg_has_role(c.relowner, 'USAGE') \
         UNION ALL SELECT pg_get_userbyid(n.nspowner)::text, current_user::text FROM pg_namespace n \
         WHERE n.nspname = current_schema() AND to_regclass('ingest_checkpoint') IS NULL \
         AND NOT has_schema_privilege(n.oid, 'CREATE')",
    )
    .get_result(connection)
    .optional()?;
    owner.map_or(Ok(()), |Owner { owner, role }| Err(MigrateFailure::NotOwner { owner, role }))
}

/// Runs `work` in a transaction.
pub(super) fn write<T, E: From<diesel::result::Error>>(
    connection: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E> {
    connection.transaction(work)
}

/// Inserts the row of a journal that is not known yet.
pub(super) fn insert_checkpoint(
    connection: &mut PgConnection,
    journal_id: &str,
    site: &str,
    open_id: &str,
) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO ingest_checkpoint (journal_id, site, updated_at, open_id) VALUES ($1, $2, now(), $3) \
         ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(journal_id)
    .bind::<Text, _>(site)
    .bind::<Text, _>(open_id)
    .execute(connection)
}

/// Creates the next partitions of the readings, and drops those past retention, where there are any.
pub(super) fn tend_partitions(
    connection: &mut PgConnection,
    site: &str,
    limits: &PruneLimits,
    now: Timestamp,
) -> QueryResult<PartsTended> {
    partitions::tend(connection, site, limits, now)
}

/// What SQLite does for its file a server does by itself.
pub(super) mod space {
    use super::{PgConnection, QueryResult};
    use crate::store::space::{FileSpace, SpaceReleased};

    #[allow(clippy::unnecessary_wraps, reason = "SQLite asks the file")]
    pub fn file_space(_connection: &mut PgConnection) -> QueryResult<Option<FileSpace>> {
        Ok(None)
    }

    #[allow(clippy::unnecessary_wraps, reason = "SQLite writes the file")]
    pub fn release(_connection: &mut PgConnection, _pages_max: u32) -> QueryResult<SpaceReleased> {
        Ok(SpaceReleased::default())
    }
}

/// Stores `batch` (STO-1 to STO-4).
pub(super) fn commit(session: Session<'_>, batch: &Batch) -> Result<CommitOutcome, CommitFailure> {
    commit::commit(session, batch)
}

/// Counts the rows of a table; a large one is estimated by the server's statistics.
pub(super) fn count_rows(connection: &mut PgConnection, table: CountedTable) -> QueryResult<TableCount> {
    let table = table.name;
    let counted =
        sql_query(format!("SELECT count(*) AS value FROM (SELECT 1 FROM {table} LIMIT $1) AS counted"))
            .bind::<BigInt, _>(COUNTED_ROWS_MAX)
            .get_result::<NumberRow>(connection)?
            .value;
    if counted < COUNTED_ROWS_MAX {
        return Ok(TableCount { table, rows: from_bigint(counted), exact: true });
    }
    let estimate = sql_query("SELECT reltuples::bigint AS value FROM pg_class WHERE oid = $1::regclass")
        .bind::<Text, _>(table)
        .get_result::<NumberRow>(connection)?
        .value;
    Ok(TableCount { table, rows: from_bigint(estimate.max(counted)), exact: false })
}
