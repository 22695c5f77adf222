//! Databases for a test, a raw connection to their tables, and rows to store.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use tempfile::TempDir;
use uuid::Uuid;

use crate::domain::{
    JournalHistory, JournalId, MachineId, MachineStatus, OpenId, Qos, Reading, RejectReason, Rejection, Seq,
    TimeSource, Timestamp, Transition, TransitionReason,
};
use crate::store::{
    self, Batch, DatabaseUrl, Progress, PruneBounds, PruneLimits, PruneTable, ReadingRow, RejectionRow,
    SchemaName, Store, StoreError, StoreOptions, UnreadableRows,
};

/// 2026-01-05T06:39:59.000001Z
pub const T0: i64 = 1_767_595_199_000_001;
pub const SITE: &str = "halle-7";

pub fn at(offset_micros: i64) -> Timestamp {
    Timestamp::from_micros(T0 + offset_micros)
}

/// An empty database for one test.
pub struct Fixture {
    pub url: String,
    pub schema: Option<SchemaName>,
    _directory: Option<TempDir>,
}

impl Fixture {
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/new/data/andon.db", directory.path().display());
        Self { url, schema: None, _directory: Some(directory) }
    }

    pub fn postgres(url: String) -> Self {
        Self::of(url)
    }

    /// The database at a URL, which this fixture does not own.
    pub fn of(url: String) -> Self {
        Self { url, schema: None, _directory: None }
    }

    /// The same database, with the tables in a schema of their own.
    pub fn in_schema(self, name: &str) -> Self {
        Self { schema: Some(SchemaName::parse(name).unwrap()), ..self }
    }

    pub fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite")
    }

    /// Returns one of two texts, by the database.
    pub fn either<'a>(&self, sqlite: &'a str, postgres: &'a str) -> &'a str {
        if self.is_sqlite() { sqlite } else { postgres }
    }

    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            url: DatabaseUrl::parse(&self.url).unwrap(),
            schema: self.schema.clone(),
            site: SITE.to_owned(),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(20),
            lock_timeout: Duration::from_secs(10),
            timescale: false,
            unreadable: UnreadableRows::default(),
            progress: Progress::default(),
        }
    }

    pub fn open(&self) -> Box<dyn Store> {
        store::open(&self.options()).unwrap()
    }

    pub fn migrated(&self) -> Box<dyn Store> {
        let mut store = self.open();
        store.migrate().unwrap();
        store
    }

    /// Returns a migrated store and a journal at zero.
    pub fn with_journal(&self) -> (Box<dyn Store>, JournalId) {
        let mut store = self.migrated();
        let journal = JournalId(Uuid::new_v4());
        store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
        (store, journal)
    }

    pub fn raw(&self) -> Raw {
        if self.is_sqlite() {
            let path = self.url.strip_prefix("sqlite://").unwrap();
            std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
            let mut connection = SqliteConnection::establish(path).unwrap();
            connection.batch_execute("PRAGMA busy_timeout = 60000").unwrap();
            Raw::Sqlite(connection)
        } else {
            let mut connection = PgConnection::establish(&self.url).unwrap();
            if let Some(schema) = &self.schema {
                connection.batch_execute(&format!("SET search_path = {}", schema.quoted())).unwrap();
            }
            Raw::Postgres(connection)
        }
    }

    /// Makes the database refuse every reading with temperature 666, with the message of a trigger.
    pub fn refuse_666(&self) {
        self.raw().execute(self.either(
            "CREATE TRIGGER no_devils BEFORE INSERT ON machine_telemetry WHEN NEW.temperature = 666
             BEGIN SELECT RAISE(ABORT, 'der Teufel misst nicht'); END",
            "CREATE FUNCTION no_devils() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.temperature = 666 THEN RAISE EXCEPTION 'der Teufel misst nicht'; END IF;
                 RETURN NEW; END $$;
             CREATE TRIGGER no_devils BEFORE INSERT ON machine_telemetry FOR EACH ROW EXECUTE FUNCTION no_devils()",
        ));
    }
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct SqliteStep {
    #[diesel(sql_type = Text)]
    detail: String,
}

#[derive(QueryableByName)]
struct PostgresStep {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// A connection beside the store.
pub enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Raw {
    pub fn execute(&mut self, sql: &str) {
        match self {
            Self::Sqlite(connection) => connection.batch_execute(sql).unwrap(),
            Self::Postgres(connection) => connection.batch_execute(sql).unwrap(),
        }
    }

    /// Returns `expressions` of a table's rows, each row joined to `a|b|c` with NULL as `-`; instants as
    /// SQLite writes them.
    pub fn rows(&mut self, expressions: &[&str], from: &str) -> Vec<String> {
        let columns: Vec<String> = expressions.iter().map(|expression| self.as_text(expression)).collect();
        let sql = format!("SELECT {} AS value FROM {from}", columns.join(" || '|' || "));
        let rows: Vec<TextRow> = match self {
            Self::Sqlite(connection) => sql_query(&sql).load(connection).unwrap(),
            Self::Postgres(connection) => sql_query(&sql).load(connection).unwrap(),
        };
        rows.into_iter().map(|row| row.value).collect()
    }

    /// Returns the answer of `EXPLAIN`, a line per step.
    pub fn plan(&mut self, explain: &str) -> String {
        match self {
            Self::Sqlite(connection) => {
                let steps: Vec<SqliteStep> = sql_query(explain).load(connection).unwrap();
                steps.into_iter().map(|step| step.detail + "\n").collect()
            }
            Self::Postgres(connection) => {
                let steps: Vec<PostgresStep> = sql_query(explain).load(connection).unwrap();
                steps.into_iter().map(|step| step.line + "\n").collect()
            }
        }
    }

    pub fn count(&mut self, from: &str) -> u64 {
        self.rows(&["count(*)"], from)[0].parse().unwrap()
    }

    fn as_text(&self, expression: &str) -> String {
        let is_instant = expression.ends_with("_at") || expression.ends_with("_since") || expression == "at";
        match self {
            Self::Postgres(_) if is_instant => {
                format!(
                    "coalesce(to_char({expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US\"+00:00\"'), '-')"
                )
            }
            _ => format!("coalesce(cast({expression} AS text), '-')"),
        }
    }
}

pub fn machine(id: &str) -> MachineId {
    MachineId::parse(id).unwrap()
}

/// Returns the reading of record `seq`, which differs from that of any other record.
pub fn reading(seq: u64) -> ReadingRow {
    let received_at = at(i64::try_from(seq).unwrap() * 1_000);
    ReadingRow {
        seq: Seq(seq),
        element: 0,
        received_at,
        topic: Arc::from("factory/machine/press-1/telemetry"),
        qos: Qos::AtLeastOnce,
        retained: false,
        clock_unset: false,
        reading: Reading {
            machine_id: machine("press-1"),
            temperature: Some(21.5),
            humidity: None,
            vibration: Some(0.25),
            extra: None,
            recorded_at: received_at,
            time_source: TimeSource::Device,
            digest: seq,
        },
        payload: format!("payload {seq}").into_bytes(),
    }
}

/// Returns an empty batch.
pub fn nothing(journal: JournalId, after: Seq) -> Batch {
    Batch::new(journal, OpenId(journal.0), after)
}

/// Returns a batch of `readings`, one a message, after `after`.
pub fn batch(journal: JournalId, after: u64, readings: Vec<ReadingRow>) -> Batch {
    let messages = readings.len() as u64;
    Batch { upto: Seq(after + messages), messages, readings, ..nothing(journal, Seq(after)) }
}

/// Returns a batch of the readings of records `after + 1` to `after + count`.
pub fn batch_of(journal: JournalId, after: u64, count: u64) -> Batch {
    batch(journal, after, (after + 1..=after + count).map(reading).collect())
}

pub fn rejection(seq: u64) -> RejectionRow {
    RejectionRow {
        seq: Seq(seq),
        element: 3,
        received_at: at(5),
        topic: Arc::from("factory/machine/press-1/telemetry"),
        qos: Qos::ExactlyOnce,
        retained: true,
        clock_unset: false,
        rejection: Rejection {
            reason: RejectReason::InvalidJson,
            detail: "expected value at line 1".to_owned(),
            payload: vec![0, 159, 255],
        },
    }
}

pub fn transition(
    id: &str,
    reason: TransitionReason,
    occurred: i64,
    previous_status: Option<MachineStatus>,
) -> Transition {
    let is_online = matches!(reason, TransitionReason::FirstSeen | TransitionReason::Message);
    Transition {
        machine_id: machine(id),
        status: if is_online { MachineStatus::Online } else { MachineStatus::Offline },
        previous_status,
        reason,
        occurred_at: at(occurred),
        last_seen_at: match reason {
            TransitionReason::NeverSeen => None,
            TransitionReason::Silence => Some(at(occurred - 15_000_000)),
            _ => Some(at(occurred)),
        },
        seq: Seq(1),
    }
}

/// Returns a batch that only changes statuses.
pub fn changes(journal: JournalId, at: u64, transitions: Vec<Transition>) -> Batch {
    Batch { transitions, ..nothing(journal, Seq(at)) }
}

pub fn assert_stale(result: Result<impl std::fmt::Debug, StoreError>, wanted: u64, stands_at: Option<u64>) {
    match result {
        Err(StoreError::StalePosition { expected, found, .. }) => {
            assert_eq!((expected, found), (Seq(wanted), stands_at.map(Seq)));
        }
        other => panic!("not stale: {other:?}"),
    }
}

pub fn assert_transient(result: Result<impl std::fmt::Debug, StoreError>) -> StoreError {
    match result {
        Err(error) if error.is_transient() => error,
        other => panic!("not transient: {other:?}"),
    }
}

/// Limits only the readings, and their rollups.
pub fn readings_before(before: Timestamp) -> PruneLimits {
    PruneLimits::readings_before(before)
}

/// Bounds of a step that deletes `rows_max` rows.
pub fn rows_bounds(rows_max: u32) -> PruneBounds {
    PruneBounds { machines_max: 1_000, rows_max, bytes_max: u64::MAX, time_max: Duration::MAX }
}

/// Prunes to the end in steps of `rows_max` rows. Returns how many readings each step deleted.
pub fn prune_all(store: &mut dyn Store, before: Timestamp, rows_max: u32) -> Vec<u64> {
    let steps = prune_in_steps(store, &readings_before(before), rows_bounds(rows_max));
    steps.into_iter().filter(|(table, _)| *table == PruneTable::Readings).map(|(_, rows)| rows).collect()
}

/// Prunes to the end. Returns table and deleted rows of each step.
pub fn prune_in_steps(
    store: &mut dyn Store,
    limits: &PruneLimits,
    bounds: PruneBounds,
) -> Vec<(PruneTable, u64)> {
    let (mut steps, mut from) = (Vec::new(), None);
    loop {
        let step = store.prune(limits, from.as_ref(), bounds).unwrap();
        steps.push((step.table, step.rows));
        from = step.next;
        if from.is_none() {
            return steps;
        }
    }
}
