//! Embedded migrations: forward only, all pending ones in one transaction, by one process at a time.

use diesel::backend::Backend;
use diesel::migration::{MigrationSource, MigrationVersion};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_migrations::MigrationHarness;

use super::both_databases::for_both_databases;
use super::{Cause, StoreError};

/// What [`Store::migrate`](super::Store::migrate) did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigrationReport {
    /// The migrations that were applied, in order.
    pub applied: Vec<String>,
    /// Whether the readings are in a hypertable now, if `store.timescale` asks for one and there was none.
    pub hypertable: Option<Hypertable>,
}

/// What became of the wish for a hypertable, in a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hypertable {
    /// It was made.
    Made(String),
    /// The readings stay where they are: why, and what to do.
    NotMade(String),
}

/// Which migrations a database has, and which this binary knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigrationStatus {
    /// Applied and known, oldest first.
    pub applied: Vec<String>,
    /// Known and not applied, oldest first.
    pub pending: Vec<String>,
    /// Applied by a newer binary.
    pub unknown: Vec<String>,
}

impl MigrationStatus {
    /// Compares the applied versions with the migrations of `source`.
    fn new<DB: Backend>(
        source: &impl MigrationSource<DB>,
        applied: &[MigrationVersion<'_>],
    ) -> Result<Self, Cause> {
        let mut status = Self::default();
        let mut known = source.migrations()?;
        known.sort_by(|one, other| one.name().version().cmp(&other.name().version()));
        for migration in &known {
            let names = if applied.contains(&migration.name().version()) {
                &mut status.applied
            } else {
                &mut status.pending
            };
            names.push(migration.name().to_string());
        }
        let unknown = applied.iter().filter(|&version| !known.iter().any(|m| m.name().version() == *version));
        status.unknown = unknown.map(ToString::to_string).collect();
        status.unknown.sort();
        Ok(status)
    }
}

/// Returns the state of the migrations without creating the table that records them.
pub fn migration_status<C, DB>(
    connection: &mut C,
    source: &impl MigrationSource<DB>,
    applied: impl FnOnce(&mut C) -> QueryResult<Vec<MigrationVersion<'static>>>,
) -> Result<MigrationStatus, StoreError>
where
    DB: Backend,
    C: Connection<Backend = DB>,
{
    let applied = applied(connection).map_err(Cause::from);
    let status = applied.and_then(|applied| MigrationStatus::new(source, &applied));
    status.map_err(|source| StoreError::Migrate { source })
}

#[derive(QueryableByName)]
struct VersionRow {
    #[diesel(sql_type = Text)]
    version: String,
}

for_both_databases! {
    []

    /// Returns the applied migrations. diesel's own function creates their table first, which a role that only writes may
    /// not, also where it is there.
    pub fn applied(connection: &mut Connection) -> QueryResult<Vec<MigrationVersion<'static>>> {
        if !database::migrations_are_recorded(connection)? {
            return Ok(Vec::new());
        }
        let rows: Vec<VersionRow> =
            sql_query("SELECT version FROM __diesel_schema_migrations").load(connection)?;
        Ok(rows.into_iter().map(|row| MigrationVersion::from(row.version)).collect())
    }
}

/// Applies the pending migrations. Call it in a transaction that keeps every other migrator out.
pub fn run_pending<C, DB>(
    connection: &mut C,
    source: &impl MigrationSource<DB>,
) -> Result<MigrationReport, MigrateFailure>
where
    DB: Backend,
    C: Connection<Backend = DB> + MigrationHarness<DB>,
{
    let applied = connection.applied_migrations()?;
    let status = MigrationStatus::new(source, &applied)?;
    if !status.unknown.is_empty() {
        return Err(MigrateFailure::Newer(status.unknown));
    }
    for migration in connection.pending_migrations(Borrowed(source))? {
        connection.run_migration(&migration)?;
    }
    Ok(MigrationReport { applied: status.pending, hypertable: None })
}

/// A source by reference: `pending_migrations` takes its source by value.
struct Borrowed<'a, S>(&'a S);

impl<DB: Backend, S: MigrationSource<DB>> MigrationSource<DB> for Borrowed<'_, S> {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn diesel::migration::Migration<DB>>>> {
        self.0.migrations()
    }
}

/// Why the transaction of the migrations is rolled back.
#[derive(Debug)]
pub enum MigrateFailure {
    /// A newer binary migrated the database.
    Newer(Vec<String>),
    /// Another program's table is in the way; what to do.
    Reference(String),
    /// The tables are another role's.
    NotOwner { owner: String, role: String },
    /// The schema of the tables could not be created.
    Schema { schema: String, source: Cause },
    /// A statement failed.
    Failed(Cause),
}

impl From<diesel::result::Error> for MigrateFailure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Cause> for MigrateFailure {
    fn from(cause: Cause) -> Self {
        Self::Failed(cause)
    }
}

impl From<MigrateFailure> for StoreError {
    fn from(failure: MigrateFailure) -> Self {
        match failure {
            MigrateFailure::Newer(versions) => Self::NewerSchema { versions },
            MigrateFailure::Reference(sentence) => Self::ReferenceTable { sentence },
            MigrateFailure::Schema { schema, source } => Self::CreateSchema { schema, source },
            MigrateFailure::NotOwner { owner, role } => Self::NotOwner { owner, role },
            MigrateFailure::Failed(source) => Self::Migrate { source },
        }
    }
}
