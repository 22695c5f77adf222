//! Trends: the small charts of the board.

use super::fixture::{Fixture, at, batch, machine, reading};
use crate::domain::Timestamp;
use crate::store::{TrendsQuery, open_history};

pub fn one_query_returns_the_trends_of_many_machines(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let start = at(0).as_micros().div_euclid(30_000_000) * 30_000_000;
    let row = |seq: u64, id: &str, offset_seconds: i64, temperature: Option<f64>| {
        let mut row = reading(seq);
        row.reading.machine_id = machine(id);
        row.reading.recorded_at = Timestamp::from_micros(start + offset_seconds * 1_000_000);
        row.reading.temperature = temperature;
        row.reading.digest = seq;
        row
    };
    let rows = vec![
        row(1, "a", 0, Some(1.0)),
        row(2, "a", 29, Some(2.0)),
        row(3, "a", 30, Some(1e300)),
        row(4, "a", -1, Some(7.0)),
        row(5, "b\"]'/ü", 60, Some(5.0)),
        row(6, "c", 0, Some(6.0)),
        row(7, "a", 90, Some(8.0)),
    ];
    store.commit(&batch(journal, 0, rows)).unwrap();

    let mut history = open_history(&fixture.options()).unwrap();
    let query = TrendsQuery {
        machine_ids: vec![machine("b\"]'/ü"), machine("a"), machine("nobody")],
        from: Timestamp::from_micros(start),
        to: Timestamp::from_micros(start + 90_000_000),
        step_seconds: 30,
    };
    let points = history.trends(&query).unwrap();
    let mut found: Vec<_> = points
        .iter()
        .map(|point| (point.machine_id.as_str(), point.start_seconds - start / 1_000_000, point.temperature))
        .collect();
    // Databases may sort texts differently; the points of one machine are together and in order.
    found.sort_by_key(|(id, ..)| *id);
    // A value beyond any measurement counts for no mean.
    assert_eq!(found, [("a", 0, Some(1.5)), ("a", 30, None), ("b\"]'/ü", 60, Some(5.0))]);
    assert!(points.chunk_by(|one, next| one.machine_id == next.machine_id).count() == 2);
}
