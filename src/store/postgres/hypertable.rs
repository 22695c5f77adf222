//! `store.timescale`: readings in a hypertable of TimescaleDB, where the extension is installed.
//!
//! Only a table without readings becomes one: to convert another takes hours and locks it, which is for a person
//! to decide. Chunks of a week, compressed once they are a month old; [`partitions`](super::partitions) drops them.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;

use super::FlagRow;
use super::partitions::{Layout, NameRow, layout};
use crate::store::Hypertable;

/// Schema of the extension, quoted.
const EXTENSION_SCHEMA: &str = "SELECT quote_ident(n.nspname) AS value FROM pg_extension e \
     JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'";
const HAS_READINGS: &str = "SELECT EXISTS (SELECT 1 FROM machine_telemetry) AS value";

/// `:extension` is its schema: the search path of a session with `store.schema` does not lead there.
const CREATE: &str = "SELECT :extension.create_hypertable('machine_telemetry', 'recorded_at', chunk_time_interval => interval '7 days')";
/// `received_at` is in the order so that the smallest and the largest of each compressed batch are kept: the proof
/// that a chunk may go reads them alone.
const COMPRESS: &str = "ALTER TABLE machine_telemetry SET (timescaledb.compress, \
         timescaledb.compress_segmentby = 'site, machine_id', \
         timescaledb.compress_orderby = 'recorded_at, digest, received_at'); \
     SELECT :extension.add_compression_policy('machine_telemetry', interval '30 days', if_not_exists => true)";

/// Else a statement that touches many compressed rows fails with SQLSTATE 53400.
const NO_DECOMPRESSION_LIMIT: &str = "SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0";

const NOT_INSTALLED: &str = "store.timescale is true, but this database has no extension timescaledb: the readings stay in a plain table. As \
     a superuser run CREATE EXTENSION timescaledb there, then andon db migrate";
const NOT_EMPTY: &str = "store.timescale is true, but machine_telemetry already holds readings and stays a plain table. To convert it, stop \
     Andon and run, in psql: SELECT create_hypertable('machine_telemetry', 'recorded_at', chunk_time_interval => \
     interval '7 days', migrate_data => true); it locks the table and copies every reading. docs/operations.md has the rest";
const PARTITIONED: &str =
    "store.timescale is true, but machine_telemetry has native partitions: they stay as they are";

/// Asks the database a question with yes or no as its answer.
pub(super) fn is(connection: &mut PgConnection, question: &str) -> QueryResult<bool> {
    sql_query(question).get_result::<FlagRow>(connection).map(|row| row.value)
}

/// Returns the schema that holds the functions of the extension; `None` if it is not installed.
pub(super) fn extension_schema(connection: &mut PgConnection) -> QueryResult<Option<String>> {
    sql_query(EXTENSION_SCHEMA)
        .get_result::<NameRow>(connection)
        .optional()
        .map(|row| row.map(|row| row.value))
}

/// Lets this session change compressed rows, if the extension is there.
pub fn configure(connection: &mut PgConnection) -> QueryResult<()> {
    match extension_schema(connection)? {
        Some(_) => connection.batch_execute(NO_DECOMPRESSION_LIMIT),
        None => Ok(()),
    }
}

/// Makes the table of readings a hypertable if it is empty. `None`: it is one already.
pub fn create(connection: &mut PgConnection) -> QueryResult<Option<Hypertable>> {
    let not_made = |why: &str| Ok(Some(Hypertable::NotMade(why.to_owned())));
    match layout(connection)? {
        Layout::Chunks => return Ok(None),
        Layout::Partitions => return not_made(PARTITIONED),
        Layout::Plain => {}
    }
    let Some(extension) = extension_schema(connection)? else { return not_made(NOT_INSTALLED) };
    let [create, compress] = [CREATE, COMPRESS].map(|sql| sql.replace(":extension", &extension));
    if is(connection, HAS_READINGS)? {
        return not_made(NOT_EMPTY);
    }
    let made = connection.transaction(|connection| connection.batch_execute(&create));
    if let Err(error) = made {
        return not_made(&format!("machine_telemetry could not be made a hypertable: {error}"));
    }
    // An edition without compression is as good for everything else.
    let compressed = connection.transaction(|connection| connection.batch_execute(&compress));
    let how = match compressed {
        Ok(()) => "compressed once they are 30 days old".to_owned(),
        Err(error) => format!("not compressed: {error}"),
    };
    Ok(Some(Hypertable::Made(format!("machine_telemetry is a hypertable now, with chunks of 7 days, {how}"))))
}
