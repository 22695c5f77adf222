//! PostgreSQL 13 and later: a batch is a few large statements, its columns bound as binary arrays.
//!
//! A link that dies is noticed by TCP (keep-alives, `tcp_user_timeout`), a statement or a lock that takes too
//! long by the server. A server that is frozen while its kernel still answers blocks the caller: libpq has no
//! timeout for that. Such a thread can be given up; whatever it does when it wakes is caught by STO-2.

mod commit;
mod readings;
mod reprocess;
pub(super) mod rollups;
mod runs;
mod sqlstate;
mod statements;
mod status_rows;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use self::runs::RunSize;
use super::claim::claim;
use super::clock;
use super::fleet;
use super::liveness_rows;
use super::migrate::{MigrateFailure, migration_status, run_pending};
use super::prune::{self, PruneBounds, PruneCursor, Pruned};
use super::reads::{self, COUNTED_ROWS_MAX, COUNTED_TABLES};
use super::rejected::{self, RejectedCount, RejectedFilter, RejectedPage, RejectedRow, Retry, RetryOutcome};
use super::rollup::exact;
use super::unreadable::UnreadableRows;
use super::{
    Batch, Checkpoint, Claim, CommitOutcome, LivenessPast, MachineRow, MigrationReport, MigrationStatus,
    PastWanted, SiteHistory, Store, StoreError, StoreFacts, StoreOptions, StoreStatus, TableCount,
    from_bigint,
};
use crate::database_url::PostgresUrl;
use crate::domain::{ClockRecord, JournalHistory, JournalId, MachineId, Timestamp};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Oldest server that is tested, as `server_version_num`.
const SERVER_VERSION_MIN: i32 = 130_000;
/// Key of the advisory lock that migrators take: "andon" in ASCII.
const MIGRATION_LOCK: i64 = 0x61_6e_64_6f_6e;

/// The PostgreSQL database of one site.
pub struct PostgresStore {
    connection: PgConnection,
    site: String,
    unreadable: UnreadableRows,
    run_size: RunSize,
    facts: StoreFacts,
}

/// Settings of the server that matter to us.
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

impl PostgresStore {
    /// Connects and sets the session up.
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
        let facts = StoreFacts { backend: "postgresql", version: settings.version, target, warnings };
        options.progress.watch(&mut connection);
        let run_size = RunSize::new(options.statement_timeout);
        let (site, unreadable) = (options.site.clone(), options.unreadable.clone());
        Ok(Self { connection, site, unreadable, run_size, facts })
    }
}

/// What the URL gets unless it says otherwise. A dead peer is noticed within half a minute.
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
    // Compiling a statement to machine code takes some 50 ms; none of ours runs for long enough to gain that back.
    connection.batch_execute(&format!(
        "SET statement_timeout = {statement_timeout};
         SET jit = off;
         SET lock_timeout = {lock_timeout};
         SET idle_in_transaction_session_timeout = {statement_timeout};
         SET default_transaction_isolation = 'read committed';
         SET TIME ZONE 'UTC';
         SET client_min_messages = warning;"
    ))
}

fn read_settings(connection: &mut PgConnection) -> QueryResult<Settings> {
    sql_query(
        "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS version_num, \
         current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync",
    )
    .get_result(connection)
}

fn migrations_are_recorded(connection: &mut PgConnection) -> QueryResult<bool> {
    let query = sql_query("SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS value");
    Ok(query.get_result::<FlagRow>(connection)?.value)
}

fn count_rows(connection: &mut PgConnection, table: &'static str) -> QueryResult<TableCount> {
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

impl Store for PostgresStore {
    fn facts(&self) -> &StoreFacts {
        &self.facts
    }

    fn migrate(&mut self) -> Result<MigrationReport, StoreError> {
        let status = self.migration_status()?;
        if status.pending.is_empty() && status.unknown.is_empty() {
            return Ok(MigrationReport { applied: Vec::new() });
        }
        let report = self.connection.transaction::<_, MigrateFailure, _>(|connection| {
            sql_query("SELECT pg_advisory_xact_lock($1)")
                .bind::<BigInt, _>(MIGRATION_LOCK)
                .execute(connection)?;
            // A migration of a large table may well take longer than any statement of the service may.
            connection.batch_execute("SET LOCAL statement_timeout = 0")?;
            run_pending(connection, &MIGRATIONS)
        });
        Ok(report?)
    }

    fn migration_status(&mut self) -> Result<MigrationStatus, StoreError> {
        migration_status(&mut self.connection, &MIGRATIONS, migrations_are_recorded)
    }

    fn claim(&mut self, history: &JournalHistory) -> Result<Claim, StoreError> {
        let (connection, site, unreadable) = (&mut self.connection, self.site.as_str(), &self.unreadable);
        let id = history.journal_id.to_string();
        let found = sql_query(
            "INSERT INTO ingest_checkpoint (journal_id, site, updated_at, open_id) VALUES ($1, $2, now(), $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind::<Text, _>(&id)
        .bind::<Text, _>(site)
        .bind::<Text, _>(history.own.to_string())
        .execute(connection)
        .and_then(|_| exact::postgres::begin(connection, site, unreadable))
        .and_then(|()| reads::postgres::load_checkpoint(connection, &id))
        .and_then(|row| row.ok_or(diesel::result::Error::NotFound));
        claim(history, found, |found, own| reads::postgres::take_over(connection, found, site, own))
    }

    fn checkpoint(&mut self, journal: JournalId) -> Result<Option<Checkpoint>, StoreError> {
        reads::postgres::load_checkpoint(&mut self.connection, &journal.to_string())
            .map_err(|source| StoreError::ReadCheckpoint { journal_id: journal, source: source.into() })
    }

    fn checkpoints(&mut self) -> Result<Vec<Checkpoint>, StoreError> {
        reads::postgres::load_checkpoints(&mut self.connection, &self.unreadable)
            .map_err(|source| StoreError::ReadStatus { source: source.into() })
    }

    fn machines(&mut self) -> Result<Vec<MachineRow>, StoreError> {
        reads::postgres::load_machines(&mut self.connection, &self.site, &self.unreadable)
            .map_err(|source| StoreError::ReadMachines { source: source.into() })
    }

    fn liveness_past(&mut self, wanted: PastWanted) -> Result<LivenessPast, StoreError> {
        liveness_rows::postgres::load_past(&mut self.connection, &self.site, wanted, &self.unreadable)
            .map_err(|source| StoreError::ReadMachines { source: source.into() })
    }

    fn readings_between(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(MachineId, u64)>, StoreError> {
        fleet::postgres::count_readings(&mut self.connection, &self.site, from, to, &self.unreadable)
            .map_err(|source| StoreError::ReadMachines { source: source.into() })
    }

    fn history(&mut self, from: Timestamp) -> Result<SiteHistory, StoreError> {
        fleet::postgres::load_history(&mut self.connection, &self.site, from, &self.unreadable)
            .map_err(|source| StoreError::ReadMachines { source: source.into() })
    }

    fn commit(&mut self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        commit::commit(&mut self.connection, &self.site, batch, &mut self.run_size)
            .map_err(|failure| failure.into_store_error(batch))
    }

    fn rejected(
        &mut self,
        filter: &RejectedFilter,
        page: RejectedPage,
        rows_max: u32,
        payload_bytes: u32,
    ) -> Result<Vec<RejectedRow>, StoreError> {
        rejected::postgres::load_rejected(
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
        rejected::postgres::count_rejected(&mut self.connection, &self.site, filter)
            .map_err(|source| StoreError::ReadRejected { source: source.into() })
    }

    fn retry(&mut self, retry: &Retry) -> Result<RetryOutcome, StoreError> {
        reprocess::retry(&mut self.connection, &self.site, retry)
            .map_err(|source| StoreError::Retry { id: retry.id, source })
    }

    fn prune(
        &mut self,
        before: Timestamp,
        from: Option<&PruneCursor>,
        bounds: PruneBounds,
    ) -> Result<Pruned, StoreError> {
        prune::postgres::step(&mut self.connection, &self.site, before, from, bounds)
            .map_err(|source| StoreError::Prune { source: source.into() })
    }

    fn exchange_clock(&mut self, ours: Option<ClockRecord>) -> Result<Option<ClockRecord>, StoreError> {
        let (connection, site, unreadable) = (&mut self.connection, self.site.as_str(), &self.unreadable);
        let exchanged = connection
            .transaction(|connection| clock::postgres::exchange(connection, site, ours, unreadable));
        exchanged.map_err(|source: diesel::result::Error| StoreError::ExchangeClock { source: source.into() })
    }

    fn status(&mut self) -> Result<StoreStatus, StoreError> {
        let (connection, unreadable) = (&mut self.connection, &self.unreadable);
        let status = connection.transaction(|connection| {
            let tables = COUNTED_TABLES.iter().map(|&(table, _)| count_rows(connection, table));
            let tables = tables.collect::<QueryResult<Vec<_>>>()?;
            Ok(StoreStatus {
                tables,
                checkpoints: reads::postgres::load_checkpoints(connection, unreadable)?,
            })
        });
        status.map_err(|source: diesel::result::Error| StoreError::ReadStatus { source: source.into() })
    }
}
