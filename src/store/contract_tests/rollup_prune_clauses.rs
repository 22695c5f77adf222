//! Rollups past retention are pruned with the readings, in steps of bounded work.

use super::fixture::{Fixture, at, batch, machine, prune_in_steps, reading, readings_before, rows_bounds};
use super::rollup_clauses::{Dice, START, check};
use crate::domain::{JournalHistory, JournalId, Timestamp};
use crate::store::{PruneTable, ReadingRow, Store, StoreOptions, open};

const BUCKET: i64 = 300_000_000;

fn commit(store: &mut dyn Store, rows: Vec<ReadingRow>) {
    let journal = JournalId(uuid::Uuid::new_v4());
    store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    store.commit(&batch(journal, 0, rows)).unwrap();
}

fn row(seq: u64, machine_id: &str, recorded: i64) -> ReadingRow {
    let mut row = reading(seq);
    row.reading.machine_id = machine(machine_id);
    row.reading.recorded_at = Timestamp::from_micros(recorded);
    row.received_at = row.reading.recorded_at;
    row.reading.extra = Some(r#"{"a":1,"b":2}"#.to_owned());
    row
}

/// Proves ROL-2.
pub fn rollups_past_retention_are_pruned_in_bounded_steps(fixture: &Fixture) {
    let mut store = fixture.migrated();
    let mut other = open(&StoreOptions { site: "halle-8".to_owned(), ..fixture.options() }).unwrap();
    // Eight buckets each; all of m-2 are past.
    let rows = |site: u64| {
        let of = |machine_id: &'static str, from: i64, seq: u64| {
            (from..from + 8).zip(seq..).map(move |(n, seq)| row(seq, machine_id, START + n * BUCKET + 7))
        };
        of("m-1", 4, site).chain(of("m-2", 0, site + 10)).collect::<Vec<_>>()
    };
    commit(&mut *store, rows(100));
    commit(&mut *other, rows(200));
    // In the middle of the tenth bucket.
    let before = Timestamp::from_micros(START + 9 * BUCKET + BUCKET / 2);
    let steps = prune_in_steps(&mut *store, &readings_before(before), rows_bounds(3));
    assert!(steps.iter().all(|(_, rows)| *rows <= 3), "{steps:?}");
    let deleted =
        |wanted| steps.iter().filter(|(table, _)| *table == wanted).map(|(_, rows)| rows).sum::<u64>();
    assert_eq!(
        [PruneTable::Readings, PruneTable::Rollups, PruneTable::ExtraRollups].map(deleted),
        [14, 13, 26],
        "the bucket of that instant stays until all of it is past"
    );
    let mut raw = fixture.raw();
    for (table, left) in [("machine_telemetry", 2), ("machine_rollup", 3), ("machine_rollup_extra", 6)] {
        assert_eq!(
            raw.count(&format!("{table} WHERE site = 'halle-7' AND machine_id = 'm-1'")),
            left,
            "{table}"
        );
        assert_eq!(
            raw.count(&format!("{table} WHERE site = 'halle-7' AND machine_id = 'm-2'")),
            0,
            "{table}"
        );
        assert!(raw.count(&format!("{table} WHERE site = 'halle-8'")) >= 16, "{table}");
    }
    let mut dice = Dice(5);
    (0..5).for_each(|_| check(fixture, &mut dice, "after deleting"));
    // A late reading inserts a bucket again. No chart reads it, and the next run deletes it.
    commit(&mut *store, vec![row(300, "m-2", START + 7)]);
    (0..5).for_each(|_| check(fixture, &mut dice, "a late reading"));
    assert_eq!(
        prune_in_steps(&mut *store, &readings_before(before), rows_bounds(3))
            .iter()
            .map(|(_, rows)| rows)
            .sum::<u64>(),
        4
    );
    assert_eq!(
        prune_in_steps(&mut *store, &readings_before(before), rows_bounds(3))
            .iter()
            .map(|(_, rows)| rows)
            .sum::<u64>(),
        0
    );
}

pub fn a_pruning_step_deletes_a_bounded_number_of_rollups(fixture: &Fixture) {
    let (mut store, _journal) = fixture.with_journal();
    let machine_id = fixture.either("printf('m-%06d', n)", "'m-' || lpad(n::text, 6, '0')");
    let (site, start) = ("'halle-7'", "'2026-01-05 06:00:00.000000+00:00'");
    fixture.raw().execute(&format!(
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000) \
         INSERT INTO machine_rollup SELECT {site}, {machine_id}, {start}, 1, 0, NULL, NULL, 0, 0, NULL, NULL, 0, 0, NULL, NULL, 0, 0 FROM c"
    ));
    let bounds = rows_bounds(400);
    let readings = store.prune(&readings_before(at(0)), None, bounds).unwrap();
    assert_eq!((readings.table, readings.machines), (PruneTable::Readings, 0));
    // Before the buckets: nothing is old.
    let nothing =
        store.prune(&readings_before(Timestamp::from_micros(START)), readings.next.as_ref(), bounds).unwrap();
    assert_eq!((nothing.table, nothing.machines, nothing.rows), (PruneTable::Rollups, 1_000, 0));
    let (mut next, mut steps) = (readings.next, Vec::new());
    while let Some(from) = next.take().filter(|_| steps.len() < 7) {
        let step = store.prune(&readings_before(at(0)), Some(&from), bounds).unwrap();
        assert!(step.machines <= 1_000);
        steps.push(step.rows);
        next = step.next;
    }
    // A full step repeats its machines: two of them leave 200 of the first thousand.
    assert_eq!(steps, [400; 7]);
    assert_eq!(fixture.raw().count("machine_rollup"), 20_000 - 7 * 400);
}
