//! `store.timescale`: readings in a hypertable of TimescaleDB, where the extension is installed.
//!
//! Only a table without readings becomes one: to convert another takes hours and locks it, which is for a person
//! to decide. Chunks of a week, compressed once they are a month old; [`partitions`](super::partitions) drops them.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;

use super::FlagRow;
use super::partitions::{Layout, layout};
use crate::store::Hypertable;

const IS_INSTALLED: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb') AS value";
const HAS_READINGS: &str = "SELECT EXISTS (SELECT 1 FROM machine_telemetry) AS value";

const CREATE: &str =
    "SELECT create_hypertable('machine_telemetry', 'recorded_at', chunk_time_interval => interval '7 days')";
/// `received_at` is in the order so that the smallest and the largest of each compressed batch are kept: the proof
/// that a chunk may go reads them alone.
const COMPRESS: &str = "ALTER TABLE machine_telemetry SET (timescaledb.compress, \
         timescaledb.compress_segmentby = 'site, machine_id', \
         timescaledb.compress_orderby = 'recorded_at, digest, received_at'); \
     SELECT add_compression_policy('machine_telemetry', interval '30 days', if_not_exists => true)";

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

/// Lets this session change compressed rows, if the extension is there.
pub fn configure(connection: &mut PgConnection) -> QueryResult<()> {
    if is(connection, IS_INSTALLED)? { connection.batch_execute(NO_DECOMPRESSION_LIMIT) } else { Ok(()) }
}

/// Makes the table of readings a hypertable if it is empty. `None`: it is one already.
pub fn create(connection: &mut PgConnection) -> QueryResult<Option<Hypertable>> {
    let not_made = |why: &str| Ok(Some(Hypertable::NotMade(why.to_owned())));
    match layout(connection)? {
        Layout::Chunks => return Ok(None),
        Layout::Partitions => return not_made(PARTITIONED),
        Layout::Plain => {}
    }
    if !is(connection, IS_INSTALLED)? {
        return not_made(NOT_INSTALLED);
    }
    if is(connection, HAS_READINGS)? {
        return not_made(NOT_EMPTY);
    }
    let made = connection.transaction(|connection| connection.batch_execute(CREATE));
    if let Err(error) = made {
        return not_made(&format!("machine_telemetry could not be made a hypertable: {error}"));
    }
    // An edition without compression is as good for everything else.
    let compressed = connection.transaction(|connection| connection.batch_execute(COMPRESS));
    let how = match compressed {
        Ok(()) => "compressed once they are 30 days old".to_owned(),
        Err(error) => format!("not compressed: {error}"),
    };
    Ok(Some(Hypertable::Made(format!("machine_telemetry is a hypertable now, with chunks of 7 days, {how}"))))
}
