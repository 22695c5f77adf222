//! What `andon db copy` brings from an SQLite file into PostgreSQL, and what it leaves alone.

use diesel::RunQueryDsl;
use diesel::sql_query;

use super::copied_readings::of_every_kind;
use super::fixture::{Fixture, Raw, at, batch, batch_of, nothing, reading, rejection, transition};
use super::postgres_server::Postgres;
use crate::domain::{JournalHistory, JournalId, Seq, TransitionReason};
use crate::store::{
    Batch, Copied, CopyWatch, DatabaseUrl, GapRow, RejectionRow, Store, StoreError, StoreOptions,
    copy as copy_database,
};

/// The columns of a reading that both databases print alike.
const READINGS: [&str; 7] =
    ["site", "machine_id", "source_topic", "recorded_at", "received_at", "created_at", "digest"];
/// What finds readings by the columns that they print differently.
const FOUND_BY: [&str; 5] = [
    "temperature = 0.625",
    "temperature = 1.7976931348623157e308",
    "humidity = 5e-324",
    "vibration IS NULL",
    "extra IS NULL",
];

struct Unwatched;

impl CopyWatch for Unwatched {
    fn begins(&mut self, _: &str, _: u64, _: u64) {}
    fn advances(&mut self, _: u64) {}
}

/// A file and a server to copy it into.
struct Move {
    file: Fixture,
    target: Fixture,
    _server: Postgres,
}

impl Move {
    fn new() -> Self {
        let server = Postgres::start();
        let target = Fixture::postgres(server.url());
        Self { file: Fixture::sqlite(), target, _server: server }
    }

    fn copy(&self) -> Result<Copied, StoreError> {
        let (from, to) = (DatabaseUrl::parse(&self.file.url), DatabaseUrl::parse(&self.target.url));
        let (Ok(DatabaseUrl::Sqlite(path)), Ok(DatabaseUrl::Postgres(url))) = (from, to) else {
            unreachable!()
        };
        copy_database(&path, &url, &self.file.options(), &mut Unwatched)
    }

    /// Copies, and compares the readings by themselves.
    fn copy_all(&self) -> Copied {
        let copied = self.copy().unwrap();
        assert_eq!(copied.left, Vec::<String>::new());
        self.assert_same(&READINGS, "machine_telemetry");
        for condition in FOUND_BY {
            let counts = [&self.file, &self.target]
                .map(|fixture| fixture.raw().count(&format!("machine_telemetry WHERE {condition}")));
            assert_eq!(counts[0], counts[1], "{condition}");
        }
        self.assert_same(
            &["journal_id", "committed_seq", "messages", "stored", "duplicate", "rejected", "open_id"],
            "ingest_checkpoint",
        );
        self.assert_same(&["site", "machine_id", "readings", "temperature_count"], "machine_rollup");
        self.assert_same(
            &["site", "machine_id", "status", "reason", "occurred_at", "last_seen_at"],
            "machine_event",
        );
        copied
    }

    fn assert_same(&self, columns: &[&str], table: &str) {
        let sorted = |raw: &mut Raw| {
            let mut rows = raw.rows(columns, table);
            rows.sort_unstable();
            rows
        };
        let (ours, theirs) = (sorted(&mut self.file.raw()), sorted(&mut self.target.raw()));
        assert!(ours == theirs, "{table}: {} rows, {} in the target", ours.len(), theirs.len());
    }

    fn refused(&self) -> String {
        match self.copy() {
            Err(StoreError::Unsupported { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn a_bit_of_everything(store: &mut dyn Store, journal: JournalId) {
    let change = transition("press-1", TransitionReason::FirstSeen, 1_000, None);
    let gap = GapRow { from: Seq(301), to: Seq(310), reason: "restored".to_owned(), at: at(9) };
    let rejections = vec![rejection(7)];
    let elements =
        Batch { rejections, transitions: vec![change], ..batch(journal, 0, of_every_kind(0, 300)) };
    store.commit(&elements).unwrap();
    store.commit(&Batch { upto: Seq(310), gaps: vec![gap], ..nothing(journal, Seq(300)) }).unwrap();
}

/// Proves CPY-1.
#[test]
fn a_copy_holds_the_same_rows_and_goes_on_where_the_last_one_ended() {
    let plant = Move::new();
    let (mut store, journal) = plant.file.with_journal();
    a_bit_of_everything(&mut *store, journal);
    let copied = plant.copy_all();
    assert_eq!(copied.readings_copied, plant.file.raw().count("machine_telemetry"));
    assert!(copied.positions.contains(&format!("{journal} 310")), "{}", copied.positions);
    assert_eq!(plant.copy_all().readings_copied, 0, "nothing is new");

    store.commit(&batch_of(journal, 310, 9_000)).unwrap();
    let next = plant.copy_all();
    assert_eq!(next.readings_copied, 9_000);
    assert_eq!(plant.target.raw().count("rejected_message"), 1);
    assert_eq!(plant.target.raw().count("journal_gap"), 1);

    // The journal goes on in the target from the position that was copied.
    let mut moved = plant.target.open();
    moved.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    assert_eq!(moved.commit(&batch_of(journal, 9_310, 5)).unwrap().stored, 5);
}

/// Proves CPY-1.
#[test]
fn what_retention_deletes_from_the_file_goes_from_the_target_and_numbers_that_are_given_again_are_copied() {
    let plant = Move::new();
    let (mut store, journal) = plant.file.with_journal();
    store.commit(&batch_of(journal, 0, 500)).unwrap();
    plant.copy_all();
    plant.file.raw().execute("DELETE FROM machine_telemetry WHERE digest % 3 = 0");
    plant.copy_all();
    plant.file.raw().execute("DELETE FROM machine_telemetry; DELETE FROM machine_rollup");
    store.commit(&batch_of(journal, 500, 700)).unwrap();
    plant.copy_all();
    plant.file.raw().execute("UPDATE machine_telemetry SET temperature = 1.25 WHERE digest = 800");
    plant.copy_all();
}

/// Memory is bounded by bytes, too: these readings are several pages.
#[test]
fn readings_with_large_extras_are_copied_in_several_pages() {
    let plant = Move::new();
    let (mut store, journal) = plant.file.with_journal();
    let large = format!(r#"{{"text": "{}"}}"#, "x".repeat(200_000));
    let mut rows: Vec<_> = (1..=60).map(reading).collect();
    rows.iter_mut().for_each(|row| row.reading.extra = Some(large.clone()));
    let mut refused = rejection(61);
    refused.rejection.payload = vec![0x41; 64 * 1024];
    let rejections = (0..80).map(|element| RejectionRow { element, ..refused.clone() }).collect();
    store.commit(&batch(journal, 0, rows)).unwrap();
    store.commit(&Batch { rejections, upto: Seq(61), messages: 1, ..nothing(journal, Seq(60)) }).unwrap();
    assert_eq!(plant.copy_all().readings_copied, 60);
    assert_eq!(plant.target.raw().count("rejected_message WHERE length(payload) = 65536"), 80);
    plant.file.raw().execute("DELETE FROM machine_telemetry WHERE digest = 30");
    plant.copy_all();
}

/// Makes a literal of SQLite that a column of this type of PostgreSQL can hold.
fn literal(column: &str, data_type: &str) -> &'static str {
    match (column, data_type) {
        ("site", _) => "'halle-7'",
        (_, "text") => "'ü'",
        (_, "timestamp with time zone") => "'2026-01-05 06:39:59.000001+00:00'",
        (_, "boolean") => "1",
        (_, "double precision") => "0.1",
        (_, "bigint" | "integer" | "smallint") => "7",
        (_, "bytea") => "x'00ff'",
        (_, "jsonb") => r#"'{"a": 1}'"#,
        _ => panic!("{column} has a type that is new: {data_type}; teach `src/store/transfer/row.rs`"),
    }
}

/// A new table or column needs nothing: this fails if it does.
///
/// Proves CPY-3.
#[test]
fn every_table_and_every_column_of_the_schema_is_copied() {
    let plant = Move::new();
    drop((plant.file.migrated(), plant.target.migrated()));
    let (mut file, mut target) = (plant.file.raw(), plant.target.raw());
    let tables = file.rows(
        &["name"],
        "sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name <> '__diesel_schema_migrations' ORDER BY name",
    );
    assert!(tables.len() >= 13, "{tables:?}");
    for table in &tables {
        let columns = target.rows(
            &["column_name", "data_type"],
            &format!("information_schema.columns WHERE table_name = '{table}' AND is_identity = 'NO' ORDER BY ordinal_position"),
        );
        let columns: Vec<_> = columns.iter().filter_map(|column| column.split_once('|')).collect();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = columns.iter().map(|(name, data_type)| literal(name, data_type)).collect();
        file.execute(&format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", ")));
    }
    let copied = plant.copy().unwrap();
    let mut names: Vec<_> = copied.tables.iter().map(|(name, sum)| (name.clone(), sum.rows)).collect();
    names.sort_unstable();
    assert_eq!(names, tables.iter().map(|name| (name.clone(), 1)).collect::<Vec<_>>());
    for table in &tables {
        let nulls =
            "array_to_string(ARRAY(SELECT key FROM jsonb_each_text(to_jsonb(t)) WHERE value IS NULL), ',')";
        let missing = target.rows(&[nulls], &format!("{table} AS t"));
        assert_eq!(missing, [""], "columns of {table} that are NULL in the target");
    }
}

/// Proves CPY-2.
#[test]
fn a_target_that_a_service_has_used_since_is_left_alone() {
    let plant = Move::new();
    let (mut store, journal) = plant.file.with_journal();
    store.commit(&batch_of(journal, 0, 10)).unwrap();
    plant.copy_all();
    let mut moved = plant.target.open();
    moved.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    moved.commit(&batch_of(journal, 10, 10)).unwrap();
    assert!(plant.refused().contains("has stored readings of halle-7"), "{}", plant.refused());
    assert_eq!(plant.target.raw().count("machine_telemetry"), 20);
}

/// Proves CPY-2.
#[test]
fn rows_of_the_same_site_from_elsewhere_end_the_copy_and_those_of_other_sites_stay() {
    let plant = Move::new();
    let (mut store, journal) = plant.file.with_journal();
    a_bit_of_everything(&mut *store, journal);
    let other_site = StoreOptions { site: "halle-8".to_owned(), ..plant.target.options() };
    let mut other = crate::store::open(&other_site).unwrap();
    other.migrate().unwrap();
    let of_other = JournalId(uuid::Uuid::new_v4());
    other.claim(&JournalHistory::of_new_journal(of_other)).unwrap();
    other.commit(&Batch { rejections: vec![rejection(1)], ..batch_of(of_other, 0, 40) }).unwrap();

    plant.copy().unwrap();
    plant.copy().unwrap();
    let mut target = plant.target.raw();
    assert_eq!(target.count("machine_telemetry WHERE site = 'halle-8'"), 40);
    assert_eq!(target.count("rejected_message WHERE site = 'halle-8'"), 1);
    assert_eq!(
        target.count("machine_telemetry WHERE site = 'halle-7'"),
        plant.file.raw().count("machine_telemetry")
    );

    target.execute("DROP TABLE db_copy");
    assert!(plant.refused().contains("that no copy has brought"), "{}", plant.refused());
}

#[test]
fn rows_that_the_target_refuses_are_named_and_copied_once_the_cause_is_gone() {
    let plant = Move::new();
    let (mut store, journal) = plant.file.with_journal();
    store.commit(&batch_of(journal, 0, 600)).unwrap();
    store
        .commit(&Batch {
            rejections: vec![rejection(601)],
            upto: Seq(601),
            messages: 1,
            ..nothing(journal, Seq(600))
        })
        .unwrap();
    plant.target.migrated();
    plant.target.raw().execute(
        "ALTER TABLE machine_telemetry ADD CONSTRAINT no_beast CHECK (digest NOT IN (66, 566));
         ALTER TABLE rejected_message ADD CONSTRAINT no_reason CHECK (reason <> 'invalid_json')",
    );
    plant.file.raw().execute("UPDATE machine_telemetry SET received_at = 'yesterday' WHERE digest = 300");
    for _ in 0..2 {
        let left = plant.copy().unwrap().left;
        assert_eq!(left.len(), 4, "{left:#?}");
        assert!(
            left.iter().any(|row| row.starts_with("machine_telemetry 300: received_at is ")),
            "{left:#?}"
        );
        assert_eq!(left.iter().filter(|row| row.contains("no_beast")).count(), 2, "{left:#?}");
        assert_eq!(plant.target.raw().count("machine_telemetry"), 597);
    }
    plant.target.raw().execute(
        "ALTER TABLE machine_telemetry DROP CONSTRAINT no_beast; ALTER TABLE rejected_message DROP CONSTRAINT no_reason",
    );
    let received = at(300_000).to_string().replace('T', " ").replace('Z', "+00:00");
    plant
        .file
        .raw()
        .execute(&format!("UPDATE machine_telemetry SET received_at = '{received}' WHERE digest = 300"));
    plant.copy_all();
}

#[test]
fn only_one_copy_at_a_time_writes_into_a_target() {
    let plant = Move::new();
    let (mut store, journal) = plant.file.with_journal();
    store.commit(&batch_of(journal, 0, 3)).unwrap();
    let Raw::Postgres(mut other) = plant.target.raw() else { unreachable!() };
    let lock = 0x61_6e_63_6f_70_79_i64;
    sql_query("SELECT pg_advisory_lock($1)")
        .bind::<diesel::sql_types::BigInt, _>(lock)
        .execute(&mut other)
        .unwrap();
    assert!(plant.refused().contains("another `andon db copy`"), "{}", plant.refused());
    drop(other);
}

/// Proves CPY-3.
#[test]
fn a_table_that_the_target_lacks_is_named_and_one_with_other_columns_ends_the_copy() {
    let plant = Move::new();
    let (mut store, journal) = plant.file.with_journal();
    store.commit(&batch_of(journal, 0, 3)).unwrap();
    plant.file.raw().execute("CREATE TABLE mine (site text, x int)");
    let left = plant.copy().unwrap().left;
    assert_eq!(left, ["table mine: it is not Andon's, and the target has none of that name"]);
    plant.file.raw().execute("DROP TABLE mine; ALTER TABLE machine ADD COLUMN mine text");
    assert!(plant.refused().contains("only the source has the column machine.mine"), "{}", plant.refused());
    plant.target.raw().execute("ALTER TABLE machine ADD COLUMN mine text");
    plant.copy_all();
}
