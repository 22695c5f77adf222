//! Readings past retention are pruned in steps of bounded work.

use std::time::Duration;

use super::fixture::{Fixture, at, batch_of, machine, prune_all, reading, readings_before, rows_bounds};
use crate::domain::Qos;
use crate::store::PruneBounds;

pub fn pruning_deletes_the_oldest_of_the_site_in_bounded_steps(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = batch_of(journal, 0, 90);
    for (n, row) in sent.readings.iter_mut().enumerate() {
        row.reading.machine_id = machine(["a", "b", "c"][n % 3]);
        row.qos = Qos::AtMostOnce;
    }
    store.commit(&sent).unwrap();
    // Records 1 to 59 are older than record 60.
    let before = reading(60).reading.recorded_at;
    assert_eq!(prune_all(&mut *store, before, 25), [25, 25, 9]);
    assert_eq!(prune_all(&mut *store, before, 25), [0]);
    let mut raw = fixture.raw();
    assert_eq!(raw.count("machine_telemetry"), 31);
    assert_eq!(raw.count("machine_telemetry WHERE digest < 60"), 0);
}

/// Proves RET-1.
pub fn a_reading_is_pruned_only_once_its_receipt_is_past_retention_too(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = batch_of(journal, 0, 30);
    // The clock of the device is years behind: all of its readings are received now.
    for row in sent.readings.iter_mut().filter(|row| row.seq.0 % 3 == 0) {
        row.received_at = at(9_000_000_000);
    }
    store.commit(&sent).unwrap();
    assert_eq!(prune_all(&mut *store, at(1_000_000_000), 4).iter().sum::<u64>(), 20);
    assert_eq!(fixture.raw().count("machine_telemetry WHERE digest % 3 = 0"), 10);
    assert_eq!(prune_all(&mut *store, at(9_000_000_001), 4).iter().sum::<u64>(), 10);
}

/// Proves RET-3.
pub fn a_pruning_step_examines_a_bounded_number_of_machines_and_rows(fixture: &Fixture) {
    drop(fixture.migrated());
    let columns = "site, machine_id, source_topic, recorded_at, time_source, received_at, created_at, digest";
    let time = "'2026-01-05 06:40:00.000000+00:00'";
    let machine_id = fixture.either("printf('m-%06d', n)", "'m-' || lpad(n::text, 6, '0')");
    let numbers = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000)";
    fixture.raw().execute(&format!(
        "{numbers} INSERT INTO machine_telemetry ({columns}) SELECT 'halle-7', {machine_id}, 't', {time}, 'device', {time}, {time}, n FROM c"
    ));
    let mut store = fixture.open();
    let bounds = rows_bounds(400);
    let nothing = store.prune(&readings_before(at(0)), None, bounds).unwrap();
    assert_eq!((nothing.machines, nothing.examined, nothing.rows), (1_000, 0, 0));
    let second = store.prune(&readings_before(at(0)), nothing.next.as_ref(), bounds).unwrap();
    assert_eq!((second.machines, second.examined), (1_000, 0), "it continues after the first thousand");
    let some = store.prune(&readings_before(at(1_000_000_000)), second.next.as_ref(), bounds).unwrap();
    assert_eq!((some.machines, some.examined, some.rows), (400, 400, 400));
    let more = store.prune(&readings_before(at(1_000_000_000)), some.next.as_ref(), bounds).unwrap();
    assert_eq!((more.examined, more.rows), (400, 400));
    assert_eq!(fixture.raw().rows(&["min(machine_id)"], "machine_telemetry"), ["m-000001"]);
    assert_eq!(fixture.raw().count("machine_telemetry"), 99_200);
    // The database is far away: the first query uses up the time.
    let hurried = PruneBounds { time_max: Duration::ZERO, ..bounds };
    let first = store.prune(&readings_before(at(1_000_000_000)), more.next.as_ref(), hurried).unwrap();
    let second = store.prune(&readings_before(at(1_000_000_000)), first.next.as_ref(), hurried).unwrap();
    assert_eq!(((first.machines, first.rows), (second.machines, second.rows)), ((1, 1), (1, 1)));
}
