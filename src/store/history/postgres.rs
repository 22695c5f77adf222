//! Reading a PostgreSQL database in a session that cannot write.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::bucket_page::{self, InstantColumn};
use super::queries::history_queries;
use super::rows::{
    BucketColumns, EventColumns, LatestColumns, MachineIdColumn, ReadingColumns, TrendColumns, pass_on,
};
use super::sql::{self, Dialect};
use super::{
    Bucket, BucketsQuery, EachRow, Events, EventsQuery, History, LatestReading, ReadingsQuery, RunningQuery,
    StoredEvent, StoredReading, TrendPoint, TrendsQuery, outages, rolled,
};
use crate::database_url::PostgresUrl;
use crate::domain::{LinkOutage, MachineId, Timestamp};
use crate::store::postgres::{connection_parameters, search_path};
use crate::store::schema::{Instant, SqlInstant};
use crate::store::unreadable::UnreadableRows;
use crate::store::{MachineRow, StoreError, StoreOptions, machines, without_nul};

pub(super) const DIALECT: Dialect = Dialect {
    epoch_seconds: "CAST(floor(date_part('epoch', t.recorded_at)) AS bigint)",
    // Casting a numeric that is too large or too small for a double fails the query.
    extra_number: "CASE WHEN jsonb_typeof(r.extra -> $5) <> 'number' THEN NULL \
         WHEN abs(CAST(r.extra -> $5 AS numeric)) BETWEEN 1e-300 AND 1e150 \
         THEN CAST(CAST(r.extra -> $5 AS numeric) AS double precision) \
         WHEN abs(CAST(r.extra -> $5 AS numeric)) < 1e-300 THEN CAST(0 AS double precision) END",
    no_number: "CAST(NULL AS double precision)",
    clamped: |instant| format!("least(greatest($4, {instant}), $5)"),
    bucket_end: "b.bucket_start + interval '300 seconds'",
    has_lateral: true,
    texts: "json_array_elements_text(CAST($2 AS json)) AS w(value)",
};

/// A connection that cannot write.
pub struct PostgresHistory {
    pub(super) connection: PgConnection,
    statement_timeout: Duration,
    site: String,
    unreadable: UnreadableRows,
}

impl PostgresHistory {
    /// Always passes: a connection to a server ends with its database.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    fn check_identity(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Connects and makes the session read-only.
    pub fn open(url: &PostgresUrl, options: &StoreOptions) -> Result<Self, StoreError> {
        let target = url.place();
        let failed = |message: String| StoreError::Connect { target: target.clone(), source: message.into() };
        let mut connection = PgConnection::establish(&url.with_defaults(&connection_parameters(options)))
            .map_err(|error| failed(url.redact(&error.to_string())))?;
        let statement_timeout = options.statement_timeout.as_millis();
        let lock_timeout = options.lock_timeout.as_millis();
        // Compiling a query to machine code takes some 50 ms, ten times as long as most of ours run.
        let configured = connection.batch_execute(&format!(
            "SET default_transaction_read_only = on;
             SET jit = off;
             SET statement_timeout = {statement_timeout};
             SET lock_timeout = {lock_timeout};
             SET TIME ZONE 'UTC';
             SET client_min_messages = warning;
             {}",
            search_path(options.schema.as_ref())
        ));
        configured.map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            connection,
            statement_timeout: options.statement_timeout,
            site: options.site.clone(),
            unreadable: options.unreadable.clone(),
        })
    }

    /// Begins a query. Call it before each statement.
    fn begin_query(&self) -> RunningQuery {
        RunningQuery::new(self.statement_timeout)
    }
}

history_queries!(PostgresHistory, postgres, PgRowByRowLoadingMode, sql::latest_on_postgres, DIALECT);
