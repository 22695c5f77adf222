//! Migrations.

use std::sync::Barrier;

use super::fixture::Fixture;
use crate::store::ErrorClass;

pub fn concurrent_migrators_apply_each_migration_once(fixture: &Fixture) {
    // As between two versions: the table of migrations exists, and some are pending.
    fixture.raw().execute(
        "CREATE TABLE __diesel_schema_migrations (
             version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    );
    let before = fixture.open().migration_status().unwrap();
    assert!(before.applied.is_empty() && !before.pending.is_empty(), "{before:?}");
    let start = Barrier::new(4);
    let reports: Vec<_> = std::thread::scope(|scope| {
        let migrate = || {
            let mut store = fixture.open();
            start.wait();
            store.migrate().unwrap().applied
        };
        let migrators: Vec<_> = (0..4).map(|_| scope.spawn(migrate)).collect();
        migrators.into_iter().map(|migrator| migrator.join().unwrap()).collect()
    });
    assert_eq!(reports.concat(), before.pending, "{reports:?}");
    let after = fixture.open().migration_status().unwrap();
    assert_eq!((after.applied, after.pending, after.unknown), (before.pending, vec![], vec![]));
}

/// Proves STO-5.
pub fn a_database_of_a_newer_binary_is_not_touched(fixture: &Fixture) {
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231235959')";
    let mut store = fixture.migrated();
    fixture.raw().execute(newer);
    assert_eq!(store.migration_status().unwrap().unknown, ["20991231235959"]);
    // As if one of our migrations were pending, too.
    fixture.raw().execute("DELETE FROM __diesel_schema_migrations WHERE version < '2099'");
    let error = store.migrate().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Configuration, "{error:?}");
    assert!(error.to_string().contains("20991231235959"), "{error}");
    assert_eq!(fixture.raw().count("__diesel_schema_migrations"), 1);
}
