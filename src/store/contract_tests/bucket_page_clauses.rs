//! Pages of short buckets over a long range.

use super::fixture::{Fixture, machine};
use super::history_clauses::buckets as buckets_of;
use crate::domain::Timestamp;
use crate::store::{BucketsQuery, open_history};

/// 20 readings a minute.
pub fn pages_of_buckets_join_and_have_a_bounded_number_of_readings(fixture: &Fixture) {
    let (_store, _journal) = fixture.with_journal();
    super::history_clauses::fill(fixture, 2, 1_000);
    let second = |seconds: i64| Timestamp::from_micros((1_767_225_600 + seconds) * 1_000_000);
    let all = BucketsQuery {
        machine_id: machine("press-001"),
        from: second(30),
        to: second(2_500),
        bucket_seconds: Some(60),
        extra: Some("pressure".to_owned()),
    };
    let mut history = open_history(&fixture.options()).unwrap();
    for (readings_max, pages, first_end) in
        [(100, 9, 300), (109, 9, 300), (110, 9, 360), (5, 42, 60), (823, 2, 2_460)]
    {
        let (mut found, mut ends) = (Vec::new(), Vec::new());
        let mut page = all.clone();
        while page.from < all.to {
            page.to =
                history.bucket_page_end(&BucketsQuery { to: all.to, ..page.clone() }, readings_max).unwrap();
            let buckets = buckets_of(&mut *history, &page);
            let readings: u64 = buckets.iter().map(|bucket| bucket.count).sum();
            assert!(
                readings <= u64::from(readings_max) || buckets.len() == 1,
                "{readings} of {readings_max}"
            );
            found.extend(buckets);
            ends.push(page.to);
            page.from = page.to;
        }
        assert_eq!((ends.len(), ends[0]), (pages, second(first_end)), "{readings_max}");
        assert_eq!(found, buckets_of(&mut *history, &all), "{readings_max}");
    }
    for undivided in [Some(300), None] {
        let query = BucketsQuery { bucket_seconds: undivided, ..all.clone() };
        assert_eq!(
            history.bucket_page_end(&query, 5).unwrap(),
            all.to,
            "whole buckets answer: {undivided:?}"
        );
    }
    assert_eq!(history.bucket_page_end(&all, 824).unwrap(), all.to, "as many as there are");
}
