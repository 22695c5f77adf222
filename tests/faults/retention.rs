//! Strikes with retention: it deletes expired rows of many machines while messages come in, and no message is lost.

use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::database::Database;
use crate::support::poll::wait_until;

faults![
    retention_under_load_with_many_machine_ids_deletes_only_expired_rows_in_sqlite,
    retention_under_load_with_many_machine_ids_deletes_only_expired_rows_in_postgres,
];

/// Machines with a reading that is past retention.
const MACHINES: u64 = 6_000;
const MESSAGES: u64 = 2_000;
const TABLES: [&str; 3] = ["machine_telemetry", "machine_rollup", "machine_rollup_extra"];

/// Stores one reading of 2023 for each machine, with its rollups.
fn put_old_rows(plant: &Plant, machines: u64) {
    let mut database = Database::open(&plant.url).unwrap();
    let (id, instant) = match database {
        Database::Sqlite(_) => ("printf('gone-%07d', i)", "'2023-01-01 00:00:00.000000+00:00'"),
        Database::Postgres(_) => {
            ("'gone-' || lpad(i::text, 7, '0')", "timestamptz '2023-01-01 00:00:00+00:00'")
        }
    };
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {machines})");
    for (columns, values) in [
        (
            "machine_telemetry (site, machine_id, source_topic, recorded_at, time_source, received_at, created_at, digest)",
            format!("'test', {id}, 'x', {instant}, 'device', {instant}, {instant}, i"),
        ),
        (
            "machine_rollup",
            format!("'test', {id}, {instant}, 1, 0, NULL, NULL, 0, 0, NULL, NULL, 0, 0, NULL, NULL, 0, 0"),
        ),
        ("machine_rollup_extra", format!("'test', {id}, {instant}, 'pressure', 1, 2, 2, 2")),
    ] {
        database.execute(&format!("{numbers} INSERT INTO {columns} SELECT {values} FROM n"));
    }
}

fn old_rows(plant: &Plant) -> i64 {
    let mut database = Database::open(&plant.url).unwrap();
    TABLES
        .map(|table| {
            database.number(&format!("SELECT count(*) AS value FROM {table} WHERE machine_id LIKE 'gone-%'"))
        })
        .into_iter()
        .sum()
}

fn retention_under_load(mut plant: Plant, run: &mut FaultRun) -> Report {
    plant = plant.set(&["store.retention=730d"]);
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(plant.sent.numbered);
    for _ in 0..run.scale {
        plant.stop();
        put_old_rows(&plant, MACHINES);
        let load = plant.load(MESSAGES);
        // Every start begins a run.
        plant.open();
        let is_killed = run.rng.below(2) == 0;
        if is_killed {
            wait_until("a run halfway", || old_rows(&plant) < (TABLES.len() as u64 * MACHINES) as i64);
            plant.kill();
            plant.open();
        }
        wait_until("old rows to be deleted", || old_rows(&plant) == 0);
        let says = |plant: &mut Plant, table: &str| {
            let is_it = |line: &str| line.contains("deleted rows past retention") && line.contains(table);
            plant.andon().log().lines().any(is_it)
        };
        // A killed process may have deleted all of a table without logging it.
        for table in TABLES.into_iter().filter(|_| !is_killed) {
            wait_until(&format!("the log to name {table}"), || says(&mut plant, table));
        }
        load.join();
    }
    let mut database = Database::open(&plant.url).unwrap();
    let moved = "SELECT count(*) AS value FROM machine_rollup_exact WHERE site = 'test' AND exact_from > '2023-01-02 00:00:00'";
    assert_eq!(database.number(moved), 1, "rollups are exact from the end of the deleted range");
    plant.fault_is_over();
    plant.finish()
}

fn retention_under_load_with_many_machine_ids_deletes_only_expired_rows_in_sqlite(
    run: &mut FaultRun,
) -> Report {
    retention_under_load(Plant::sqlite(run), run)
}

fn retention_under_load_with_many_machine_ids_deletes_only_expired_rows_in_postgres(
    run: &mut FaultRun,
) -> Report {
    retention_under_load(Plant::postgres(run), run)
}
