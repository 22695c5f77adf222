//! An SQLite file that is moved while Andon has it open.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use super::fixture::{Fixture, assert_transient, batch_of};
use crate::domain::Seq;
use crate::store::sqlite::Database;
use crate::store::{self, StoreError};

fn path(fixture: &Fixture) -> PathBuf {
    fixture.url.strip_prefix("sqlite://").expect("an SQLite file").into()
}

/// Returns why the database cannot be opened.
fn refusal(fixture: &Fixture) -> String {
    let error = store::open(&fixture.options()).err().expect("it cannot be opened");
    error.source().expect("a cause").to_string()
}

/// Proves FILE-1.
#[test]
fn a_commit_succeeds_only_if_the_file_is_at_its_path_before_and_after() {
    let fixture = Fixture::sqlite();
    let (mut store, journal) = fixture.with_journal();
    let (path, away) = (path(&fixture), path(&fixture).with_extension("away"));
    fs::rename(&path, &away).unwrap();
    let error = assert_transient(store.commit(&batch_of(journal, 0, 1)));
    assert!(matches!(error, StoreError::FileMoved { .. }), "{error:?}");
    drop(store);
    fs::rename(&away, &path).unwrap();

    let mut database = Database::open(&path, &fixture.options()).unwrap();
    let moved = database.checked(|_| {
        fs::rename(&path, &away).unwrap();
        Ok(())
    });
    assert!(matches!(moved, Err(StoreError::FileMoved { .. })), "{moved:?}");
    drop(database);
    fs::rename(&away, &path).unwrap();
    let mut store = fixture.open();
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().ledger.committed_seq, Seq::ZERO);
    assert_eq!(store.commit(&batch_of(journal, 0, 1)).unwrap().stored, 1);
}

/// Proves FILE-2.
#[test]
fn a_path_is_opened_only_once_its_former_file_is_closed() {
    let fixture = Fixture::sqlite();
    let store = fixture.migrated();
    fs::rename(path(&fixture), path(&fixture).with_extension("away")).unwrap();
    assert!(refusal(&fixture).contains("still has the former file open"));
    drop(store);
    assert!(store::open(&fixture.options()).is_ok());
}

/// Proves FILE-3.
#[test]
fn a_missing_file_is_created_only_in_the_directory_in_which_it_was() {
    let fixture = Fixture::sqlite();
    drop(fixture.migrated());
    let directory = path(&fixture).parent().unwrap().to_owned();
    let away = directory.with_extension("away");
    fs::rename(&directory, &away).unwrap();
    fs::create_dir(&directory).unwrap();
    assert!(refusal(&fixture).contains("its directory are gone"));
    fs::remove_dir(&directory).unwrap();
    fs::rename(&away, &directory).unwrap();
    assert!(fixture.open().migration_status().unwrap().pending.is_empty());
    fs::remove_file(path(&fixture)).unwrap();
    assert!(!fixture.open().migration_status().unwrap().pending.is_empty(), "a new file");
}
