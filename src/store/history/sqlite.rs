//! Reading an SQLite file that another connection writes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::{DefaultLoadingMode, SimpleConnection};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::bucket_page::{self, InstantColumn};
use super::deadline::Deadline;
use super::queries::history_queries;
use super::rows::{
    BucketColumns, EventColumns, LatestColumns, MachineIdColumn, ReadingColumns, TrendColumns, pass_on,
};
use super::sql::{self, Dialect};
use super::{
    Bucket, BucketsQuery, EachRow, Events, EventsQuery, History, LatestReading, ReadingsQuery, RunningQuery,
    StoredEvent, StoredReading, TrendPoint, TrendsQuery, outages, rolled,
};
use crate::database_url::sqlite_place;
use crate::domain::{LinkOutage, MachineId, Timestamp};
use crate::store::schema::{Instant, SqlInstant};
use crate::store::sqlite::file_identity::FileIdentity;
use crate::store::sqlite::read_only_uri;
use crate::store::unreadable::UnreadableRows;
use crate::store::{MachineRow, StoreError, StoreOptions, machines, without_nul};

pub(super) const DIALECT: Dialect = Dialect {
    // Without the fraction: unixepoch rounds to milliseconds, up into the next second.
    epoch_seconds: "unixepoch(substr(t.recorded_at, 1, 19))",
    extra_number: "(SELECT CASE WHEN j.type IN ('integer', 'real') THEN CAST(j.value AS REAL) END \
         FROM json_each(CASE WHEN json_valid(r.extra) THEN r.extra END) j WHERE j.key = $5)",
    no_number: "CAST(NULL AS REAL)",
    clamped: |instant| format!("min(max($4, {instant}), $5)"),
    bucket_end: "strftime('%Y-%m-%d %H:%M:%S.000000+00:00', substr(b.bucket_start, 1, 19), '+300 seconds')",
    has_lateral: false,
    texts: "json_each($2) AS w",
};

/// Page cache of the connection.
const CACHE_KIB: u32 = 4 * 1024;

/// A connection that cannot write.
pub struct SqliteHistory {
    pub(super) connection: SqliteConnection,
    identity: Arc<FileIdentity>,
    // Dropped after the connection.
    deadline: Deadline,
    statement_timeout: Duration,
    site: String,
    unreadable: UnreadableRows,
}

impl SqliteHistory {
    /// Opens the file, which must exist.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let target = sqlite_place(path);
        let failed = |source| StoreError::Connect { target: target.clone(), source };
        let deadline = Deadline::new();
        let lock_timeout = options.lock_timeout.as_millis();
        let open = || {
            let mut connection = deadline.guard(|| SqliteConnection::establish(&read_only_uri(path)))?;
            // Reads, so that the log and the shared memory are open, too.
            connection.batch_execute(&format!(
                "PRAGMA busy_timeout = {lock_timeout}; PRAGMA query_only = true; PRAGMA cache_size = -{CACHE_KIB}; \
                 SELECT count(*) FROM sqlite_master;"
            ))?;
            Ok(connection)
        };
        let (connection, identity) = FileIdentity::open(path, open).map_err(failed)?;
        let (statement_timeout, site) = (options.statement_timeout, options.site.clone());
        let unreadable = options.unreadable.clone();
        Ok(Self { connection, identity, deadline, statement_timeout, site, unreadable })
    }

    fn check_identity(&self) -> Result<(), StoreError> {
        self.identity.check()
    }

    /// Begins a query. Call it before each statement.
    fn begin_query(&self) -> RunningQuery {
        self.deadline.set(self.statement_timeout);
        RunningQuery::new(self.statement_timeout)
    }
}

history_queries!(SqliteHistory, sqlite, DefaultLoadingMode, sql::latest_on_sqlite, DIALECT);
