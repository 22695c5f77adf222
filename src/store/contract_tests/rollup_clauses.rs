//! Rollups of five minutes: whatever happens to the readings, statistics equal those of the stored readings.
//!
//! The oracle computes every statistic in Rust from the readings in the database.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fixture::{
    Fixture, SITE, batch, machine, nothing, prune_all, reading, readings_before, rejection, rows_bounds,
};
use super::history_clauses::{buckets, readings};
use crate::domain::{JournalId, Seq, Timestamp};
use crate::store::history::{rolled, sql};
use crate::store::{
    Aggregate, Batch, Bucket, BucketsQuery, History, Order, PruneBounds, ReadingCursor, ReadingRow,
    ReadingsQuery, RejectedFilter, RejectedPage, Retry, Store, StoreError, StoreOptions, collected,
    open_history,
};

/// 2026-01-05T06:00:00Z
pub(super) const START: i64 = 1_767_592_800_000_000;
pub(super) const SECOND: i64 = 1_000_000;
pub(super) const HOUR: i64 = 3_600 * SECOND;
const MACHINES: [&str; 3] = ["m-1", "m-2", "m-3"];

/// Numbers that look random and are the same in every run (splitmix64).
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((bits ^ (bits >> 31)) >> 1).unwrap() % sides
    }

    fn instant(&mut self) -> Timestamp {
        // Often at the edge of a bucket or a microsecond beside it.
        let edge = self.roll(24) * 300 * SECOND + self.roll(3) - 1;
        let anywhere = self.roll(2 * HOUR);
        Timestamp::from_micros(START + if self.roll(3) == 0 { edge } else { anywhere })
    }

    fn extra(&mut self) -> Option<String> {
        let (p, q) = (self.roll(1000), self.roll(50));
        match self.roll(8) {
            0 => None,
            1 => Some(r#"{"p":"7","q":null}"#.to_owned()),
            2 => Some(format!(r#"{{"p":{p}.25,"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}}"#)),
            3 => Some(format!(r#"{{"p":-{p}.5,"q":1e200}}"#)),
            _ => Some(format!(r#"{{"p":{p},"q":{q}.5}}"#)),
        }
    }

    pub(super) fn row(&mut self, seq: u64) -> ReadingRow {
        let mut row = reading(seq);
        row.reading.machine_id = machine(MACHINES[usize::try_from(self.roll(3)).unwrap()]);
        row.reading.recorded_at = self.instant();
        // Some were received much later: they stay when others of their time are pruned.
        let late = if self.roll(6) == 0 { 24 * HOUR } else { 0 };
        row.received_at = Timestamp::from_micros(row.reading.recorded_at.as_micros() + late);
        row.reading.temperature = Some(self.roll(4000) as f64 / 16.0 - 100.0);
        row.reading.humidity = (self.roll(3) > 0).then(|| self.roll(100) as f64);
        row.reading.vibration = (self.roll(9) == 0).then_some(if self.roll(2) == 0 { 1e151 } else { 1e149 });
        row.reading.extra = self.extra();
        row
    }
}

fn rows_of(history: &mut dyn History, machine_id: &str) -> Vec<crate::store::StoredReading> {
    let all = ReadingsQuery {
        machine_id: machine(machine_id),
        from: ReadingCursor::before(Timestamp::from_micros(0)),
        to: ReadingCursor::before(Timestamp::from_micros(i64::MAX / 4)),
        order: Order::Ascending,
        limit: 1_000_000,
    };
    readings(history, &all)
}

fn aggregate(values: &[Option<f64>]) -> Option<Aggregate> {
    let values: Vec<f64> = values.iter().flatten().copied().filter(|value| value.abs() <= 1e150).collect();
    let [first, ..] = values.as_slice() else { return None };
    Some(Aggregate {
        min: values.iter().copied().fold(*first, f64::min),
        mean: values.iter().sum::<f64>() / values.len() as f64,
        max: values.iter().copied().fold(*first, f64::max),
        count: values.len() as u64,
    })
}

/// Returns the right answer to `query`.
fn expected(history: &mut dyn History, query: &BucketsQuery) -> Vec<Bucket> {
    let mut groups: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    if query.bucket_seconds.is_none() {
        groups.insert(0, Vec::new());
    }
    for row in rows_of(history, query.machine_id.as_str()) {
        if row.key.at >= query.from && row.key.at < query.to {
            let seconds = row.key.at.as_micros() / SECOND;
            let start =
                query.bucket_seconds.map_or(0, |length| seconds / i64::from(length) * i64::from(length));
            groups.entry(start).or_default().push(row.reading);
        }
    }
    let number = |extra: Option<&str>, field: &str| {
        let fields: serde_json::Value = serde_json::from_str(extra?).unwrap();
        fields[field].is_number().then(|| fields[field].to_string().parse().unwrap())
    };
    let bucket = |(start_seconds, rows): (i64, Vec<crate::store::LatestReading>)| {
        let of = |value: &dyn Fn(&crate::store::LatestReading) -> Option<f64>| {
            aggregate(&rows.iter().map(value).collect::<Vec<_>>())
        };
        Bucket {
            start_seconds,
            count: rows.len() as u64,
            temperature: of(&|row| row.temperature),
            humidity: of(&|row| row.humidity),
            vibration: of(&|row| row.vibration),
            extra: query.extra.as_deref().and_then(|field| of(&|row| number(row.extra.as_deref(), field))),
        }
    };
    groups.into_iter().map(bucket).collect()
}

/// Compares count, minimum and maximum exactly, and the mean except for rounding.
fn assert_alike(found: &[Bucket], expected: &[Bucket], about: &str) {
    let split = |bucket: &Bucket| {
        let all = [bucket.temperature, bucket.humidity, bucket.vibration, bucket.extra];
        let exact = all.map(|found| found.map(|found| (found.min, found.max, found.count)));
        (exact, all.map(|found| found.map_or(0.0, |found| found.mean)), bucket.start_seconds, bucket.count)
    };
    assert_eq!(found.len(), expected.len(), "{about}");
    for (found, expected) in found.iter().map(split).zip(expected.iter().map(split)) {
        assert_eq!((found.0, found.2, found.3), (expected.0, expected.2, expected.3), "{about}");
        for (mean, expected) in found.1.into_iter().zip(expected.1) {
            assert!(
                (mean - expected).abs() <= expected.abs() * 1e-9 + 1e-9,
                "{mean}, not {expected}: {about}"
            );
        }
    }
}

pub(super) fn check(fixture: &Fixture, dice: &mut Dice, about: &str) {
    let mut history = open_history(&fixture.options()).unwrap();
    for _ in 0..4 {
        let (one, other) = (dice.instant(), dice.instant());
        let lengths = [None, Some(300), Some(1_800), Some(86_400)];
        let query = BucketsQuery {
            machine_id: machine(MACHINES[usize::try_from(dice.roll(3)).unwrap()]),
            from: one.min(other),
            to: one.max(other),
            bucket_seconds: lengths[usize::try_from(dice.roll(4)).unwrap()],
            extra: [None, Some("p"), Some("q")][usize::try_from(dice.roll(3)).unwrap()].map(str::to_owned),
        };
        let found = buckets(&mut *history, &query);
        assert_alike(&found, &expected(&mut *history, &query), &format!("{about}: {query:?}"));
    }
}

/// Proves ROL-1.
pub fn rollups_equal_the_readings_whatever_happens(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut dice = Dice(20_261_125);
    let mut sent: Vec<ReadingRow> = Vec::new();
    let mut after = 0;
    for round in 0..40 {
        let what = dice.roll(10);
        // Of the first half hour.
        let old = Timestamp::from_micros(START + dice.roll(HOUR / 2));
        match what {
            0 => {
                prune_all(&mut *store, old, 20);
            }
            1 => {
                // A run that ends halfway.
                let bounds = PruneBounds { machines_max: 2, ..rows_bounds(3) };
                store.prune(&readings_before(old), None, bounds).unwrap();
            }
            2 => retry_some(&mut *store, journal, &mut after, &mut dice),
            _ => {
                // New ones, some twice, and some that were sent earlier.
                let mut rows: Vec<_> = (1..=30).map(|n| dice.row(after + n)).collect();
                let again = rows[usize::try_from(dice.roll(30)).unwrap()].clone();
                rows.extend(std::iter::repeat_n(again, 2));
                rows.extend(sent.iter().take(usize::try_from(dice.roll(5)).unwrap()).cloned());
                let batch = batch(journal, after, rows.clone());
                store.commit(&batch).unwrap();
                assert!(store.commit(&batch).is_err(), "a repeated batch is stale");
                store = fixture.open();
                after += rows.len() as u64;
                sent.extend(rows);
            }
        }
        check(fixture, &mut dice, &format!("round {round}, {what}"));
    }
    // Rollups answer: without the readings, statistics of whole buckets are the same.
    let whole = BucketsQuery {
        machine_id: machine("m-1"),
        from: Timestamp::from_micros(START + HOUR / 2),
        to: Timestamp::from_micros(START + 2 * HOUR),
        bucket_seconds: Some(1_800),
        extra: None,
    };
    let mut history = open_history(&fixture.options()).unwrap();
    let before = buckets(&mut *history, &whole);
    fixture.raw().execute("DELETE FROM machine_telemetry");
    assert_eq!(buckets(&mut *history, &whole), before);
    assert!(before.iter().map(|bucket| bucket.count).sum::<u64>() > 20, "{before:?}");
}

fn retry_some(store: &mut dyn Store, journal: JournalId, after: &mut u64, dice: &mut Dice) {
    *after += 1;
    let rejected = Batch {
        upto: Seq(*after),
        messages: 1,
        rejections: vec![rejection(*after)],
        ..nothing(journal, Seq(*after - 1))
    };
    store.commit(&rejected).unwrap();
    let row =
        store.rejected(&RejectedFilter::default(), RejectedPage::Before(i64::MAX), 1, 0).unwrap().remove(0);
    let one = dice.row(1_000_000 + *after);
    let readings = vec![one.clone(), dice.row(2_000_000 + *after), one];
    let retry = Retry { id: row.id, journal_id: row.journal_id, readings, rejections: Vec::new() };
    store.retry(&retry).unwrap();
}

/// Proves ROL-1.
pub fn refused_rows_are_in_no_bucket(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    fixture.refuse_666();
    let mut rows: Vec<_> = (1..=5).map(reading).collect();
    rows[2].reading.temperature = Some(666.0);
    rows.push(rows[0].clone());
    let outcome = store.commit(&batch(journal, 0, rows)).unwrap();
    assert_eq!((outcome.stored, outcome.duplicate, outcome.rejected), (4, 1, 1));
    let columns = ["machine_id", "readings", "temperature_count", "temperature_sum", "humidity_count"];
    assert_eq!(
        fixture.raw().rows(&columns, "machine_rollup"),
        ["press-1|4|4|86.0|0".replace("86.0", fixture.either("86.0", "86"))]
    );
}

pub fn a_query_that_takes_too_long_is_cancelled(fixture: &Fixture) {
    let (_store, _journal) = fixture.with_journal();
    super::history_clauses::fill(fixture, 1, 300_000);
    let within = |limit| StoreOptions { statement_timeout: limit, ..fixture.options() };
    let limited = within(Duration::from_millis(200));
    let mut history = open_history(&limited).unwrap();
    let query = BucketsQuery {
        machine_id: machine("press-000"),
        from: Timestamp::from_micros(0),
        to: Timestamp::from_micros(i64::MAX / 4),
        bucket_seconds: Some(1),
        extra: Some("pressure".to_owned()),
    };
    let error = collected(|each| history.buckets(&query, each)).expect_err("it takes longer");
    assert!(matches!(error, StoreError::HistoryTooSlow { .. }), "{error:?}");
    assert!(error.to_string().contains("within 0.2 s"), "{error}");
    // A quick query succeeds. A busy machine may delay one of them as long, but not all.
    let newest = (0..10).find_map(|_| history.latest_of(&machine("press-000")).ok());
    assert!(newest.flatten().is_some());
    let patient = within(Duration::from_secs(600));
    assert_eq!(buckets(&mut *open_history(&patient).unwrap(), &query).len(), 300_000);
}

/// The plan for a table of 100 machines.
pub fn statistics_of_long_ranges_are_read_by_index_only(fixture: &Fixture) {
    let (_store, _journal) = fixture.with_journal();
    super::history_clauses::fill(fixture, 100, 300);
    let mut raw = fixture.raw();
    // As many rows as the readings have buckets; their content does not change the plan.
    let start = fixture
        .either("substr(recorded_at, 1, 16) || ':00.000000+00:00'", "date_trunc('minute', recorded_at)");
    let seen = format!("SELECT DISTINCT site, machine_id, {start} AS bucket_start");
    raw.execute(&format!(
        "INSERT INTO machine_rollup SELECT b.*, 1, 0, NULL, NULL, 0, 0, NULL, NULL, 0, 0, NULL, NULL, 0, 0 \
             FROM ({seen} FROM machine_telemetry) b;
         INSERT INTO machine_rollup_extra SELECT b.*, 'pressure', 1, 0, 0, 0 FROM ({seen} FROM machine_telemetry) b;
         INSERT INTO machine_rollup_exact VALUES ('{SITE}', '0001-01-01 00:00:00.000000+00:00')"
    ));
    raw.execute("ANALYZE");
    let (site, day) = (format!("'{SITE}'"), |day: u8| format!("'2026-01-{day:02} 00:00:00.000000+00:00'"));
    let at = [day(1), day(2), day(3), day(4)];
    for with_extra in [false, true] {
        let sql = rolled::buckets(&sql::dialect(fixture.is_sqlite()), Some(3_600), with_extra);
        let literals = [&site, "'press-042'", &at[0], &at[1], &at[2], &at[3], "'pressure'"];
        let plan = super::history_clauses::plan(&mut raw, fixture, &sql, &literals);
        eprintln!("{plan}");
        for table in ["machine_telemetry", "machine_rollup", "machine_rollup_extra"] {
            assert!(!plan.contains(&format!("Seq Scan on {table} ")), "{plan}");
        }
        for scan in ["SCAN t\n", "SCAN machine_rollup\n", "SCAN e\n"] {
            assert!(!plan.contains(scan), "{scan} in\n{plan}");
        }
        let by_key = fixture
            .either("USING PRIMARY KEY (site=? AND machine_id=? AND bucket_start>?", "machine_rollup_pkey");
        assert!(plan.contains(by_key), "{plan}");
    }
}
