//! `store.schema`: the contract holds beside tables of other programs that have the same names.

use super::fixture::{Fixture, batch_of};
use super::postgres_server::Postgres;
use super::{
    claim_clauses, clock_clauses, commit_clauses, event_clauses, history_clauses, liveness_clauses,
    machine_clauses, migration_clauses, prune_clauses, refused_clauses, rejected_clauses, retained_clauses,
    rollup_clauses, rollup_exact_clauses, rollup_prune_clauses, trend_clauses,
};
use crate::store::{self, ErrorClass, SchemaName, StoreError, StoreOptions};

/// The tables of another program, each with one of our names and none of our columns.
const DECOYS: [&str; 14] = [
    "machine_telemetry",
    "machine",
    "machine_event",
    "rejected_message",
    "ingest_checkpoint",
    "journal_gap",
    "machine_rollup",
    "machine_rollup_extra",
    "machine_rollup_exact",
    "link_outage",
    "link_sight",
    "retained_seen",
    "clock_record",
    "__diesel_schema_migrations",
];

/// Makes each clause a test in a schema of our own, with decoys where the role's own search path leads.
macro_rules! contract_in_a_schema {
    ($($module:ident { $($clause:ident,)+ })+) => {
        $($(
            #[test]
            fn $clause() {
                let server = Postgres::start();
                let fixture = beside_decoys(&server);
                $module::$clause(&fixture);
                assert_decoys_are_empty(&fixture);
            }
        )+)+
    };
}

contract_in_a_schema! {
    claim_clauses { only_one_of_concurrent_claims_is_granted, }
    clock_clauses { the_newer_record_of_the_trusted_time_stays, }
    commit_clauses {
        readings_are_stored_to_the_last_bit_and_microsecond,
        fifty_refused_rows_of_thousands_are_set_aside,
        the_ledger_holds_over_batches_of_every_kind,
    }
    event_clauses { pages_of_events_join_and_can_be_of_one_machine, }
    history_clauses {
        history_cannot_write,
        pages_of_readings_join_also_within_a_microsecond,
        the_newest_reading_is_the_newest_by_its_own_time,
    }
    liveness_clauses { outages_of_a_range_are_those_that_overlap_it, }
    machine_clauses { transitions_make_events_and_machines_once, }
    migration_clauses { a_database_of_a_newer_binary_is_not_touched, }
    prune_clauses { pruning_deletes_the_oldest_of_the_site_in_bounded_steps, }
    refused_clauses { a_refused_row_of_any_kind_is_reported_and_the_rest_is_recorded, }
    rejected_clauses { a_retried_element_moves_in_the_ledger_and_loses_its_row, }
    retained_clauses { a_retained_message_without_time_is_stored_once_however_often_it_comes, }
    rollup_clauses { rollups_equal_the_readings_whatever_happens, }
    rollup_exact_clauses { a_database_of_version_1_keeps_the_instant_it_had, }
    rollup_prune_clauses { rollups_past_retention_are_pruned_in_bounded_steps, }
    trend_clauses { one_query_returns_the_trends_of_many_machines, }
}

/// `table` is a word of SQL: it works only in quotes.
fn beside_decoys(server: &Postgres) -> Fixture {
    let url = server.create_database("plant");
    for decoy in DECOYS {
        server.psql("plant", &format!("CREATE TABLE {decoy} (nothing_of_ours integer)"));
    }
    let fixture = Fixture::postgres(url).in_schema("table");
    fixture.open().migrate().unwrap();
    fixture
}

fn assert_decoys_are_empty(fixture: &Fixture) {
    let mut raw = fixture.raw();
    for decoy in DECOYS {
        assert_eq!(raw.count(&format!("public.{decoy}")), 0, "{decoy}");
        assert_eq!(
            raw.rows(
                &["count(*)"],
                &format!("pg_attribute WHERE attrelid = 'public.{decoy}'::regclass AND attnum > 0")
            ),
            ["1"]
        );
    }
}

#[test]
fn concurrent_migrators_create_the_schema_once() {
    let server = Postgres::start();
    let fixture = Fixture::postgres(server.create_database("plant")).in_schema("andon");
    let start = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut store = fixture.open();
                start.wait();
                store.migrate().unwrap();
            });
        }
    });
    let (mut store, journal) = fixture.with_journal();
    assert_eq!(store.commit(&batch_of(journal, 0, 3)).unwrap().stored, 3);
    assert_eq!(store.facts().place(), format!("{}, schema andon", store.facts().target));
    let telemetry =
        store.status().unwrap().tables.into_iter().find(|table| table.table == "machine_telemetry");
    assert_eq!(telemetry.unwrap().rows, 3);
    let elsewhere = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v') AND n.nspname = 'public'";
    assert_eq!(fixture.raw().count(elsewhere), 0, "nothing of ours is outside the schema");
}

#[test]
fn a_role_that_may_not_create_the_schema_is_told_what_to_do_and_uses_one_that_is_there() {
    let server = Postgres::start();
    server.create_database("plant");
    server.psql("plant", "CREATE ROLE writer LOGIN; CREATE SCHEMA given AUTHORIZATION writer");
    let url = server.database_url("plant").replace("postgres@", "writer@");
    let refused = Fixture::postgres(url.clone()).in_schema("andon").open().migrate().unwrap_err();
    assert!(matches!(refused, StoreError::CreateSchema { .. }), "{refused:?}");
    assert_eq!(refused.class(), ErrorClass::Transient, "an administrator may create it");
    assert!(refused.to_string().contains("CREATE SCHEMA andon AUTHORIZATION"), "{refused}");
    Fixture::postgres(url).in_schema("given").migrated();
}

#[test]
fn two_schemas_of_one_database_know_nothing_of_each_other() {
    let server = Postgres::start();
    let url = server.create_database("plant");
    let one = Fixture::postgres(url.clone()).in_schema("one");
    let other = Fixture::postgres(url).in_schema("other");
    let (mut store, journal) = one.with_journal();
    store.commit(&batch_of(journal, 0, 5)).unwrap();
    let mut second = other.migrated();
    assert!(second.checkpoint(journal).unwrap().is_none());
    assert_eq!(other.raw().count("machine_telemetry"), 0);
    let without = StoreOptions { schema: None, ..one.options() };
    let status = store::open(&without).unwrap().migration_status().unwrap();
    assert!(status.applied.is_empty(), "the role's own search path leads elsewhere: {status:?}");
    let public = StoreOptions { schema: Some(SchemaName::parse("public").unwrap()), ..one.options() };
    store::open(&public).unwrap().migrate().unwrap();
}
