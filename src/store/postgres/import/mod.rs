//! Taking over from the reference worker: its rows become readings, and a view takes the place of its table.
//!
//! ```text
//! state   the row of `reference_import`: how far an import is
//! rows    a batch of old rows becomes readings
//! view    what the application of that worker reads and deletes from
//! ```
//!
//! The order is what lets the application go on reading, and a crash at any point do no harm:
//!
//! 1. [`ImportState::begin`] notes the import, and reserves the old ids in our own table.
//! 2. [`Import::settle`] waits for an instant without writers: rows up to the newest id are there for good.
//! 3. [`Import::step`] stores a batch, with its rollups and how far the import is, in one transaction. Repeated until all
//!    settled rows are done. Nobody waits for it: the application reads the old table.
//! 4. [`Import::index`] builds the index that orders the text of times. It blocks nobody.
//! 5. [`Import::take_over`] locks the old table, stores what came last, renames the table and creates the view, in one
//!    transaction. The application waits for as long as that takes, and then reads the view.
//!
//! Invariants
//! - **IMP-1** A row of the old table becomes one reading, or is in `reference_unreadable` with its reason, or Andon had it
//!   already, whenever the process was killed and however often the import ran.
//! - **IMP-2** At any instant the name `machine_telemetry` leads to all rows: to the old table, or to the view.
//! - **IMP-3** A deletion through the view takes the rows out of their rollups, in its own transaction.

mod rows;
mod state;
mod view;

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use self::rows::OldTable;
pub use self::rows::{ImportedReading, OldRow, ReadRow};
pub use self::state::{ImportState, UnreadableOldRow};
use super::{Database, FlagRow, reference, sqlstate};
use crate::store::reference::{ReferenceTable, TABLE};
use crate::store::rollup::exact;
use crate::store::{DatabaseUrl, SchemaName, Store, StoreError, StoreOptions};

/// What the old table is called after the import.
pub const KEPT_TABLE: &str = "machine_telemetry_before_andon";
/// Rows of one transaction.
const BATCH_ROWS: i64 = 5_000;
/// Rows that may be left for the transaction that takes over: the application waits for it.
const LAST_ROWS_MAX: i64 = 5_000;
/// How long the application's statements may queue behind our wait for the old table.
const TAKE_OVER_LOCK_MS: u32 = 2_000;
/// SQLSTATE of a lock that was not granted in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// An import of one site, on a connection of its own. Every call blocks.
pub struct Import {
    database: Database,
    schema: SchemaName,
    state: ImportState,
    old: OldTable,
}

/// What there is to import.
pub enum Found {
    /// A table; the import may have begun already.
    Table(Box<Import>),
    /// The import was completed before.
    Done(Box<Import>),
    /// Neither a table of the reference worker nor an import.
    Nothing,
}

/// How an attempt to take over ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver {
    /// The view stands.
    Done,
    /// Other statements held the table all the while: try again.
    Busy,
    /// So many rows came in that they are better stored before: settle and step again.
    Behind,
}

#[derive(QueryableByName)]
struct Rights {
    #[diesel(sql_type = Bool)]
    owns: bool,
    #[diesel(sql_type = Bool)]
    may_create: bool,
    #[diesel(sql_type = Bool)]
    is_taken: bool,
}

#[derive(QueryableByName)]
struct Newest {
    #[diesel(sql_type = Nullable<BigInt>)]
    id: Option<i64>,
}

/// Quotes a name for SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text for SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn failed(source: diesel::result::Error) -> StoreError {
    StoreError::Import { source: source.into() }
}

fn refused<T>(reason: String) -> Result<T, StoreError> {
    Err(StoreError::ImportRefused { reason })
}

impl Import {
    /// Connects, migrates our own tables, and looks for the old one or for an import that was begun.
    ///
    /// # Errors
    /// [`StoreError::ImportRefused`] if this database, or this role, cannot do it.
    pub fn find(options: &StoreOptions) -> Result<Found, StoreError> {
        let (DatabaseUrl::Postgres(url), Some(schema)) = (&options.url, &options.schema) else {
            return refused(
                "store.url must name the PostgreSQL database of the reference worker, and store.schema a schema for Andon's own \
                 tables, such as \"andon\""
                    .to_owned(),
            );
        };
        let mut database = Database::open(url, options)?;
        database.migrate()?;
        let connection = &mut database.connection;
        let found = reference::find(connection, Some(schema)).map_err(failed)?.filter(|found| !found.is_view);
        let state = ImportState::load(connection, &options.site).map_err(failed)?;
        match (found, state) {
            (None, None) => Ok(Found::Nothing),
            (None, Some(state)) => Self::done(database, schema, state),
            (Some(found), state) => Self::begun(database, schema, &found, state),
        }
    }

    /// The old table has another name, or is gone.
    fn done(database: Database, schema: &SchemaName, state: ImportState) -> Result<Found, StoreError> {
        let Some(kept) = &state.kept_as else {
            return refused(format!(
                "{}.{TABLE} was being imported and is gone; bring it back, or delete the site's row in {schema}.reference_import",
                state.source
            ));
        };
        let table = format!("{}.{}", quoted(&state.source), quoted(kept));
        Ok(Found::Done(Box::new(Self::new(database, schema, state, table)?)))
    }

    /// The old table is there.
    fn begun(
        mut database: Database,
        schema: &SchemaName,
        found: &ReferenceTable,
        state: Option<ImportState>,
    ) -> Result<Found, StoreError> {
        let is_other = |state: &&ImportState| state.kept_as.is_some() || state.source != found.schema;
        if let Some(other) = state.as_ref().filter(is_other) {
            return refused(format!(
                "{} is not the table that this site imported (that was {}.{TABLE}); rename it, or delete the site's row in \
                 {schema}.reference_import to import this one, too",
                found.name(),
                other.source
            ));
        }
        let connection = &mut database.connection;
        check_rights(connection, &found.schema)?;
        let table = format!("{}.{}", quoted(&found.schema), quoted(TABLE));
        check_ids(connection, &found.name(), &table)?;
        let state = match state {
            Some(state) => state,
            None => begin(connection, &database.site, schema, &found.schema, &table).map_err(failed)?,
        };
        Ok(Found::Table(Box::new(Self::new(database, schema, state, table)?)))
    }

    fn new(
        mut database: Database,
        schema: &SchemaName,
        state: ImportState,
        table: String,
    ) -> Result<Self, StoreError> {
        let old = OldTable::new(&mut database.connection, table).map_err(failed)?;
        Ok(Self { database, schema: schema.clone(), state, old })
    }

    /// Returns how far the import is.
    #[must_use]
    pub fn state(&self) -> &ImportState {
        &self.state
    }

    /// Returns about how many rows there are to read.
    ///
    /// # Errors
    /// [`StoreError::Import`], as for every method here.
    pub fn rows_about(&mut self) -> Result<u64, StoreError> {
        let counted = sql_query(format!(
            "SELECT greatest(c.reltuples::bigint, (SELECT count(*) FROM (SELECT 1 FROM {} LIMIT 200000) AS counted)) AS id \
             FROM pg_class c WHERE c.oid = {}::regclass",
            self.old.table,
            literal(&self.old.table)
        ));
        let row = counted.get_result::<Newest>(&mut self.database.connection).map_err(failed)?;
        Ok(row.id.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0))
    }

    /// Waits for an instant without writers on the old table. Returns the newest id then: no older row comes any more.
    ///
    /// # Errors
    /// See [`Self::rows_about`].
    pub fn settle(&mut self) -> Result<Option<i64>, StoreError> {
        let table = &self.old.table;
        self.database
            .connection
            .transaction(|connection| {
                connection.batch_execute(&format!("LOCK TABLE {table} IN SHARE MODE"))?;
                newest_id(connection, table)
            })
            .map_err(failed)
    }

    /// Stores a batch of the rows up to `upto`, which [`Self::settle`] returned. Returns `false` once all are done.
    ///
    /// # Errors
    /// See [`Self::rows_about`].
    pub fn step(&mut self, upto: i64, read: ReadRow<'_>) -> Result<bool, StoreError> {
        let (site, old) = (&self.database.site, &self.old);
        let stepped = self.database.connection.transaction(|connection| {
            let mut state = ImportState::lock(connection, site)?;
            let more = rows::store(connection, site, old, &mut state, upto, read)?;
            Ok((state, more))
        });
        let (state, more) = stepped.map_err(failed)?;
        self.state = state;
        Ok(more)
    }

    /// Builds the index that orders the text of times, unless it is there. Blocks nobody.
    ///
    /// # Errors
    /// See [`Self::rows_about`].
    pub fn index(&mut self) -> Result<(), StoreError> {
        view::index(&mut self.database.connection).map_err(failed)
    }

    /// Puts the view in the place of the old table, in one transaction.
    ///
    /// # Errors
    /// See [`Self::rows_about`].
    pub fn take_over(&mut self, read: ReadRow<'_>) -> Result<TakeOver, StoreError> {
        let (site, old, schema) = (&self.database.site, &self.old, &self.schema);
        let done = self.database.connection.transaction(|connection| {
            connection.batch_execute(&format!(
                "SET LOCAL lock_timeout = {TAKE_OVER_LOCK_MS}; SET LOCAL statement_timeout = 0; \
                 LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
                old.table
            ))?;
            let mut state = ImportState::lock(connection, site)?;
            let upto = newest_id(connection, &old.table)?.unwrap_or(i64::MIN);
            if rows::left(connection, old, &state, LAST_ROWS_MAX)? >= LAST_ROWS_MAX {
                return Ok(None);
            }
            while rows::store(connection, site, old, &mut state, upto, read)? {}
            view::put_in_place(connection, site, schema, &state.source, KEPT_TABLE)?;
            state.complete(connection, site, KEPT_TABLE)?;
            Ok(Some(state))
        });
        match done {
            Ok(Some(state)) => {
                self.state = state;
                Ok(TakeOver::Done)
            }
            Ok(None) => Ok(TakeOver::Behind),
            Err(error) if sqlstate::is(&error, LOCK_NOT_AVAILABLE) => Ok(TakeOver::Busy),
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads the unreadable rows again, after a completed import: somebody may have corrected them. Returns how many are
    /// readings now.
    ///
    /// # Errors
    /// See [`Self::rows_about`].
    pub fn read_again(&mut self, read: ReadRow<'_>) -> Result<u64, StoreError> {
        let (site, old) = (&self.database.site, &self.old);
        if !old.exists {
            return Ok(0);
        }
        let before = self.state.unreadable;
        let again = self.database.connection.transaction(|connection| {
            let mut state = ImportState::lock(connection, site)?;
            rows::store_corrected(connection, site, old, &mut state, read)?;
            Ok(state)
        });
        self.state = again.map_err(failed)?;
        Ok(before.saturating_sub(self.state.unreadable))
    }

    /// Returns the first unreadable rows.
    ///
    /// # Errors
    /// See [`Self::rows_about`].
    pub fn unreadable(&mut self, rows_max: u32) -> Result<Vec<UnreadableOldRow>, StoreError> {
        state::unreadable(&mut self.database.connection, &self.database.site, rows_max).map_err(failed)
    }

    /// Returns what else refers to the old table, and stays with it: views and foreign keys.
    ///
    /// # Errors
    /// See [`Self::rows_about`].
    pub fn dependents(&mut self) -> Result<Vec<String>, StoreError> {
        view::dependents(&mut self.database.connection, &self.old.table).map_err(failed)
    }
}

fn newest_id(connection: &mut PgConnection, table: &str) -> QueryResult<Option<i64>> {
    Ok(sql_query(format!("SELECT max(id)::bigint AS id FROM {table}")).get_result::<Newest>(connection)?.id)
}

/// Notes the import and reserves the ids, with the objects of [`view`] that need no lock on the old table.
fn begin(
    connection: &mut PgConnection,
    site: &str,
    schema: &SchemaName,
    source: &str,
    table: &str,
) -> QueryResult<ImportState> {
    connection.transaction(|connection| {
        state::create_tables(connection)?;
        view::create_functions(connection, schema)?;
        exact::postgres::ensure(connection, site, &crate::store::UnreadableRows::default())?;
        let newest = newest_id(connection, table)?.unwrap_or(0);
        ImportState::begin(connection, site, source, newest)
    })
}

fn check_rights(connection: &mut PgConnection, source: &str) -> Result<(), StoreError> {
    let rights = sql_query(
        "SELECT pg_has_role(c.relowner, 'USAGE') AS owns, has_schema_privilege(n.oid, 'CREATE') AS may_create, \
             EXISTS (SELECT 1 FROM pg_class k WHERE k.relnamespace = n.oid AND k.relname = $3) AS is_taken \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind::<Text, _>(source)
    .bind::<Text, _>(TABLE)
    .bind::<Text, _>(KEPT_TABLE)
    .get_result::<Rights>(connection)
    .map_err(failed)?;
    let reason = match rights {
        Rights { owns: false, .. } => {
            format!(
                "the role in store.url does not own {source}.{TABLE}, and only its owner may rename it; use its owner"
            )
        }
        Rights { may_create: false, .. } => {
            format!(
                "the role in store.url may not create a view in the schema {source}; `GRANT CREATE ON SCHEMA {source} TO …`"
            )
        }
        Rights { is_taken: true, .. } => {
            format!("{source}.{KEPT_TABLE} exists already, and the old table is to get that name; rename it")
        }
        _ => return Ok(()),
    };
    refused(reason)
}

/// Refuses a table with rows that no id tells apart.
fn check_ids(connection: &mut PgConnection, name: &str, table: &str) -> Result<(), StoreError> {
    let without = sql_query(format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE id IS NULL) AS value"));
    if without.get_result::<FlagRow>(connection).map_err(failed)?.value {
        let reason = format!("{name} has rows without an id; give each one, or delete them");
        return refused(reason);
    }
    Ok(())
}
