//! What only an SQLite file can do.

use std::time::Duration;

use super::fixture::{Fixture, assert_transient, at, batch_of, prune_all};
use crate::domain::Seq;
use crate::store::{self, DatabaseUrl, SpaceReleased, Store, StoreError, StoreOptions};

#[test]
fn a_file_locked_by_another_process_is_waited_for_and_then_transient() {
    let fixture = Fixture::sqlite();
    let (_, journal) = fixture.with_journal();
    let options = StoreOptions { lock_timeout: Duration::from_millis(50), ..fixture.options() };
    let mut store = store::open(&options).unwrap();
    let mut other = fixture.raw();
    other.execute("BEGIN IMMEDIATE");
    assert_transient(store.commit(&batch_of(journal, 0, 1)));
    other.execute("COMMIT");
    assert_eq!(store.commit(&batch_of(journal, 0, 1)).unwrap().stored, 1);
}

/// Proves STO-4.
#[test]
fn a_trigger_that_ends_the_transaction_costs_its_row_only() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute(
        "CREATE TRIGGER t BEFORE INSERT ON machine_telemetry WHEN NEW.digest IN (3, 5)
         BEGIN SELECT RAISE(ROLLBACK, 'out'); END",
    );
    let outcome = store.commit(&batch_of(journal, 0, 8)).unwrap();
    assert_eq!((outcome.stored, outcome.duplicate, outcome.rejected), (6, 0, 2));
    assert_eq!(outcome.poisoned.iter().map(|row| row.seq.0).collect::<Vec<_>>(), [3, 5]);
    let checkpoint = store.checkpoint(journal).unwrap().unwrap();
    assert_eq!(
        (checkpoint.ledger.committed_seq, checkpoint.ledger.stored, checkpoint.ledger.rejected),
        (Seq(8), 6, 2)
    );
}

/// Proves STO-1.
#[test]
fn a_full_file_fails_the_batch_and_stores_nothing() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    let pages = fixture.raw().rows(&["page_count"], "pragma_page_count")[0].clone();
    drop(store);
    let path = fixture.url.strip_prefix("sqlite://").unwrap();
    let mut limited = store::sqlite::Database::open(path.as_ref(), &fixture.options()).unwrap();
    limited.limit_pages(pages.parse().unwrap());
    assert_transient(store::Store::commit(&mut limited, &batch_of(journal, 0, 4_096)));
    drop(limited);
    store = fixture.open();
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().ledger.committed_seq, Seq::ZERO);
    assert_eq!(fixture.raw().count("machine_telemetry"), 0);
    assert_eq!(fixture.raw().count("rejected_message"), 0);
}

#[test]
fn commits_are_synced_and_readers_do_not_block_them() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    assert_eq!(fixture.raw().rows(&["journal_mode"], "pragma_journal_mode"), ["wal"]);
    let mut reader = fixture.raw();
    reader.execute("BEGIN");
    assert_eq!(reader.count("machine_telemetry"), 0);
    store.commit(&batch_of(journal, 0, 1)).unwrap();
    assert_eq!(reader.count("machine_telemetry"), 0, "a reader sees the state at its begin");
    assert!(store.facts().warnings.is_empty(), "{:?}", store.facts());
}

#[test]
fn a_directory_that_cannot_be_created_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let url = DatabaseUrl::Sqlite(directory.path().join("file/data/andon.db"));
    let error =
        store::open(&StoreOptions { url, ..Fixture::sqlite().options() }).err().expect("it cannot be opened");
    assert!(matches!(error, StoreError::CreateDirectory { .. }), "{error:?}");
    assert!(error.is_transient());
}

fn back_up(fixture: &Fixture, file: &std::path::Path) -> Result<u64, StoreError> {
    let path = fixture.url.strip_prefix("sqlite://").unwrap();
    store::Backup::prepare(path.as_ref(), file, &fixture.options())?.make(&|_| {})
}

fn why(result: Result<u64, StoreError>) -> String {
    std::error::Error::source(&result.unwrap_err()).unwrap().to_string()
}

#[test]
fn a_backup_is_a_database_of_its_own_and_replaces_no_file() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch_of(journal, 0, 500)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("it's a backup?.db");
    let bytes = back_up(&fixture, &file).unwrap();
    assert_eq!(bytes, file.metadata().unwrap().len());
    store.commit(&batch_of(journal, 500, 500)).unwrap();
    assert!(why(back_up(&fixture, &file)).contains("there is a file of that name"));

    std::fs::rename(&file, directory.path().join("andon.db")).unwrap();
    let restored = Fixture::of(format!("sqlite://{}/andon.db", directory.path().display()));
    let checkpoint = restored.open().checkpoint(journal).unwrap().unwrap();
    assert_eq!((checkpoint.ledger.committed_seq, restored.raw().count("machine_telemetry")), (Seq(500), 500));
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left");
}

/// Proves BAK-1.
#[test]
fn a_damaged_database_makes_no_backup() {
    use std::os::unix::fs::FileExt;
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch_of(journal, 0, 4_000)).unwrap();
    fixture.raw().execute("PRAGMA wal_checkpoint(TRUNCATE)");
    drop(store);
    let path = fixture.url.strip_prefix("sqlite://").unwrap();
    let database = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let pages = database.metadata().unwrap().len() / 4_096;
    // The last pages belong to the readings and their index.
    (pages - 20..pages).for_each(|page| database.write_all_at(&[0x5a; 2_000], page * 4_096).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let said = why(back_up(&fixture, &directory.path().join("backup.db")));
    assert!(said.contains("malformed") || said.contains("damaged"), "{said}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

/// Stores 40,000 readings with large extras, and deletes all but the last few.
fn filled_and_emptied(fixture: &Fixture) -> Box<dyn Store> {
    let (mut store, _) = fixture.with_journal();
    fixture.raw().execute(
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 40000)
         INSERT INTO machine_telemetry (site, machine_id, extra, source_topic, recorded_at, time_source, received_at, digest)
         SELECT 'halle-7', 'm', printf('{\"a\":\"%0500d\"}', n), 't', '2026-01-05 06:40:00.000000+00:00', 'device',
             '2026-01-05 06:40:00.000000+00:00', n FROM c",
    );
    assert_eq!(prune_all(&mut *store, at(10_000_000_000), 5_000).iter().sum::<u64>(), 40_000);
    store
}

fn file_bytes(fixture: &Fixture) -> u64 {
    fixture.raw().execute("PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::metadata(fixture.url.strip_prefix("sqlite://").unwrap()).unwrap().len()
}

#[test]
fn a_new_file_gives_free_space_back_in_bounded_steps_and_keeps_some() {
    let fixture = Fixture::sqlite();
    let mut store = filled_and_emptied(&fixture);
    let full = file_bytes(&fixture);
    assert!(full > 20 << 20, "{full}");
    let first = store.release_space(100).unwrap();
    assert!(first.is_more && (100..=102).contains(&(first.bytes / 4_096)), "{first:?}");
    let mut steps = 1;
    while store.release_space(500).unwrap().is_more {
        steps += 1;
    }
    assert!(steps > 5, "{steps}");
    let left = file_bytes(&fixture);
    assert!((4 << 20..8 << 20).contains(&left), "room for new rows stays: {left}");
    let file = store.status().unwrap().file.unwrap();
    assert!(file.is_released && file.bytes == left && file.free_bytes >= 4 << 20, "{file:?}");
    assert_eq!(store.release_space(500).unwrap(), SpaceReleased::default());
    assert_eq!(fixture.raw().rows(&["integrity_check"], "pragma_integrity_check"), ["ok"]);
}

#[test]
fn an_old_file_keeps_its_space_until_it_is_vacuumed_once() {
    let fixture = Fixture::sqlite();
    // As Andon 0.1.0 made it.
    fixture.raw().execute("PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = WAL; CREATE TABLE t (a)");
    let mut store = filled_and_emptied(&fixture);
    let full = file_bytes(&fixture);
    assert_eq!(store.release_space(500).unwrap(), SpaceReleased::default());
    assert!(!store.status().unwrap().file.unwrap().is_released);
    drop(store);
    // What docs/operations.md says.
    fixture.raw().execute("PRAGMA auto_vacuum = INCREMENTAL; VACUUM");
    let mut store = fixture.open();
    assert!(store.status().unwrap().file.unwrap().is_released);
    assert!(file_bytes(&fixture) < full / 10);
}
