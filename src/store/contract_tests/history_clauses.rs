//! What the board and the API read: pages, statistics, and their query plans.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::fixture::{Fixture, Raw, SITE, at, batch, changes, machine, reading, transition};
use crate::domain::{JournalId, MachineId, TransitionReason};
use crate::store::history::sql;
use crate::store::{
    Bucket, BucketsQuery, DatabaseUrl, EXTRA_LISTED_BYTES_MAX, History, LatestReading, Order, ReadingCursor,
    ReadingRow, ReadingsQuery, Store, StoredReading, collected, open_history,
};

pub(super) fn history(fixture: &Fixture) -> Box<dyn History> {
    open_history(&fixture.options()).unwrap()
}

pub(super) fn readings(reader: &mut dyn History, query: &ReadingsQuery) -> Vec<StoredReading> {
    collected(|each| reader.readings(query, each)).unwrap()
}

pub(super) fn buckets(reader: &mut dyn History, query: &BucketsQuery) -> Vec<Bucket> {
    collected(|each| reader.buckets(query, each)).unwrap()
}

pub(super) fn latest(reader: &mut dyn History) -> Vec<(MachineId, LatestReading)> {
    collected(|each| reader.latest(each)).unwrap()
}

/// Returns a reading with that `extra`, a second later for each `seq`.
fn with_extra(seq: u64, extra: Option<&str>) -> ReadingRow {
    let mut row = reading(seq);
    row.reading.recorded_at = at(i64::try_from(seq).unwrap() * 1_000_000);
    row.reading.extra = extra.map(str::to_owned);
    row
}

fn all(machine_id: &str, order: Order, limit: u32) -> ReadingsQuery {
    ReadingsQuery {
        machine_id: machine(machine_id),
        from: ReadingCursor::before(at(i64::MIN / 2)),
        to: ReadingCursor::before(at(i64::MAX / 4)),
        order,
        limit,
    }
}

/// Proves HIS-1.
pub fn history_cannot_write(fixture: &Fixture) {
    let (_store, _journal) = fixture.with_journal();
    let mut reader = history(fixture);
    assert_eq!(reader.machines().unwrap(), []);
    assert_eq!(latest(&mut *reader), []);
    assert_eq!(reader.latest_of(&machine("press-1")).unwrap(), None);
    // The connection itself refuses, not only our code.
    let refused = crate::store::history::try_to_write(&fixture.options());
    assert!(refused.is_err_and(|error| error.contains("read-only") || error.contains("readonly")));
}

pub fn history_of_a_database_that_is_not_there_is_an_error_and_creates_nothing(fixture: &Fixture) {
    let mut options = fixture.options();
    let missing = if fixture.is_sqlite() {
        format!("{}-missing", fixture.url)
    } else {
        format!("{}x", fixture.url.split('?').next().unwrap())
    };
    options.url = DatabaseUrl::parse(&missing).unwrap();
    assert!(open_history(&options).is_err());
    assert!(options.url.sqlite_path().is_none_or(|path| !path.exists()));
}

/// Stores a reading in the part of the range that a reader in `order` has passed.
fn insert_behind(store: &mut dyn Store, journal: JournalId, round: u64, order: Order) {
    let mut row = reading(100 + round);
    row.reading.recorded_at = match order {
        Order::Ascending => at(-1),
        Order::Descending => at(100),
    };
    store.commit(&batch(journal, 20 + round, vec![row])).unwrap();
}

/// Proves HIS-2.
pub fn pages_of_readings_join_also_within_a_microsecond(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut rows: Vec<ReadingRow> = (1..=20).map(reading).collect();
    rows.iter_mut().for_each(|row| {
        row.reading.recorded_at = at(i64::try_from(row.seq.0 / 5).unwrap());
        row.reading.digest = row.seq.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    });
    store.commit(&batch(journal, 0, rows)).unwrap();
    let mut reader = history(fixture);
    for (round, order) in [Order::Ascending, Order::Descending].into_iter().enumerate() {
        let whole: Vec<_> =
            readings(&mut *reader, &all("press-1", order, 100)).iter().map(|row| row.key).collect();
        assert_eq!(whole.len(), 20 + round);
        let mut query = all("press-1", order, 3);
        let mut joined = Vec::new();
        loop {
            let page = readings(&mut *reader, &query);
            let Some(last) = page.last() else { break };
            if joined.is_empty() {
                insert_behind(&mut *store, journal, round as u64, order);
            }
            match order {
                Order::Ascending => query.from = last.key.successor(),
                Order::Descending => query.to = last.key,
            }
            joined.extend(page.iter().map(|row| row.key));
        }
        assert_eq!(joined, whole);
        let sorted = match order {
            Order::Ascending => whole.is_sorted(),
            Order::Descending => whole.iter().rev().is_sorted(),
        };
        assert!(sorted);
    }
    let from = ReadingCursor::before(at(1));
    let to = ReadingCursor::before(at(2));
    let between =
        readings(&mut *reader, &ReadingsQuery { from, to, ..all("press-1", Order::Ascending, 100) });
    assert!(between.iter().all(|row| row.key.at == at(1)), "from counts, to does not");
    assert_eq!(between.len(), 5);
}

pub fn statistics_count_only_values_that_are_numbers(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let extras = [
        r#"{"p":1,"a\"b'c":7}"#,
        r#"{"p":2.5}"#,
        r#"{"p":"3"}"#,
        r#"{"p":null}"#,
        r#"{"p":true}"#,
        r#"{"p":[9]}"#,
        r#"{"p":1e999}"#,
        r#"{"p":1e-999}"#,
        r#"{"q":9}"#,
    ];
    let mut rows: Vec<_> = (1..).zip(extras).map(|(seq, extra)| with_extra(seq, Some(extra))).collect();
    rows.push(with_extra(10, None));
    rows[0].reading.temperature = Some(1e300);
    rows[1].reading.temperature = Some(-1e300);
    rows[2].reading.temperature = None;
    store.commit(&batch(journal, 0, rows)).unwrap();
    let mut reader = history(fixture);
    let mut query = BucketsQuery {
        machine_id: machine("press-1"),
        from: at(0),
        to: at(3_600_000_000),
        bucket_seconds: None,
        extra: Some("p".to_owned()),
    };
    let found = buckets(&mut *reader, &query);
    let [whole] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((whole.count, whole.start_seconds), (10, 0));
    let pressure = whole.extra.unwrap();
    assert_eq!((pressure.min, pressure.max, pressure.count), (0.0, 2.5, 3), "1, 2.5 and almost 0");
    let temperature = whole.temperature.unwrap();
    assert_eq!(
        (temperature.mean, temperature.count),
        (21.5, 7),
        "what would overflow a sum is no measurement"
    );
    assert!(whole.humidity.is_none());
    query.extra = Some("a\"b'c".to_owned());
    assert_eq!(buckets(&mut *reader, &query)[0].extra.unwrap().mean, 7.0);
    query.bucket_seconds = Some(4);
    let found = buckets(&mut *reader, &query);
    assert!(found.iter().all(|bucket| bucket.start_seconds % 4 == 0));
    assert_eq!(found.iter().map(|bucket| bucket.count).sum::<u64>(), 10);
    assert!(found.is_sorted_by_key(|bucket| bucket.start_seconds));
    query.to = query.from;
    assert_eq!(buckets(&mut *reader, &query), []);
}

pub fn the_newest_reading_is_the_newest_by_its_own_time(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut old = reading(3);
    old.reading.recorded_at = at(-60_000_000);
    old.reading.temperature = Some(-1.0);
    store.commit(&batch(journal, 0, vec![reading(1), reading(2), old])).unwrap();
    let first_seen = transition("press-1", TransitionReason::FirstSeen, 1, None);
    store.commit(&changes(journal, 3, vec![first_seen])).unwrap();
    let mut reader = history(fixture);
    let newest = reader.latest_of(&machine("press-1")).unwrap().unwrap();
    assert_eq!((newest.recorded_at, newest.temperature), (at(2_000), Some(21.5)));
    assert_eq!(latest(&mut *reader), [(machine("press-1"), newest)]);
}

/// Returns a JSON object of exactly that many bytes on either database.
fn extra_of(bytes: usize) -> String {
    let frame = r#"{"blob": ""}"#.len();
    format!(r#"{{"blob": "{}"}}"#, "ü".repeat((bytes - frame) / 2) + &"x".repeat((bytes - frame) % 2))
}

pub fn a_list_has_the_size_of_a_large_extra_and_one_machine_has_its_text(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let sizes = [("at-most", EXTRA_LISTED_BYTES_MAX), ("large", EXTRA_LISTED_BYTES_MAX + 1), ("none", 0)];
    let rows: Vec<ReadingRow> = (1..)
        .zip(sizes)
        .map(|(seq, (id, bytes))| {
            let mut row = with_extra(seq, (bytes > 0).then(|| extra_of(bytes)).as_deref());
            row.reading.machine_id = machine(id);
            row
        })
        .collect();
    store.commit(&batch(journal, 0, rows)).unwrap();
    let seen = |id: &str| transition(id, TransitionReason::FirstSeen, 1, None);
    store.commit(&changes(journal, 3, sizes.map(|(id, _)| seen(id)).into())).unwrap();
    let mut reader = history(fixture);
    let mut listed = latest(&mut *reader);
    listed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let extras: Vec<_> = listed.into_iter().map(|(id, latest)| (id.to_string(), latest.extra)).collect();
    let expected = [
        ("at-most".to_owned(), Some(extra_of(EXTRA_LISTED_BYTES_MAX))),
        ("large".to_owned(), Some(r#"{"_bytes":16385}"#.to_owned())),
        ("none".to_owned(), None),
    ];
    assert_eq!(extras, expected);
    let whole = reader.latest_of(&machine("large")).unwrap().unwrap();
    assert_eq!(whole.extra, Some(extra_of(EXTRA_LISTED_BYTES_MAX + 1)));
}

pub fn reading_stops_early_and_the_connection_stays_usable(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch(journal, 0, (1..=20).map(|seq| with_extra(seq, None)).collect())).unwrap();
    let mut reader = history(fixture);
    let mut found = Vec::new();
    let mut three = |row: StoredReading| {
        found.push(row.key);
        if found.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    reader.readings(&all("press-1", Order::Ascending, 100), &mut three).unwrap();
    let whole = readings(&mut *reader, &all("press-1", Order::Ascending, 100));
    assert_eq!(found, whole.iter().take(3).map(|row| row.key).collect::<Vec<_>>());
    assert_eq!(whole.len(), 20);
}

pub fn machines_that_have_readings_are_found_one_after_the_other(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let ids = ["a", "a,b", "a-b", "b", "ä ö"];
    let mut rows: Vec<ReadingRow> = (1..=40).map(reading).collect();
    for (row, id) in rows.iter_mut().zip(ids.iter().cycle()) {
        row.reading.machine_id = machine(id);
    }
    store.commit(&batch(journal, 0, rows)).unwrap();
    let mut reader = history(fixture);
    let (mut found, mut last) = (Vec::new(), String::new());
    while let Some(id) = reader.machine_with_readings(&last).unwrap() {
        assert!(found.len() < ids.len(), "{id} after {found:?}");
        last.clone_from(&id);
        found.push(id);
    }
    // Each database has an order of its own.
    found.sort_unstable();
    assert_eq!(found, ids);
}

/// Inserts `each` rows of each machine, one every three seconds.
pub(super) fn fill(fixture: &Fixture, machines: u32, each: u32) {
    let sql = fixture.either(
        "INSERT INTO machine_telemetry (site, machine_id, temperature, humidity, vibration, extra, source_topic,
             recorded_at, time_source, received_at, digest)
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :each * :machines - 1)
         SELECT ':site', printf('press-%03d', i % :machines), i % 90, 40.5, 0.1, '{\"pressure\":' || (i % 7) || '}', 't',
             strftime('%Y-%m-%d %H:%M:%S.000000+00:00', 1767225600 + i / :machines * 3, 'unixepoch'), 'device',
             '2026-01-01 00:00:00.000000+00:00', i FROM n;
         INSERT INTO machine SELECT ':site', machine_id, 'online', NULL, NULL, NULL
         FROM (SELECT DISTINCT machine_id FROM machine_telemetry);
         ANALYZE",
        "INSERT INTO machine_telemetry (site, machine_id, temperature, humidity, vibration, extra, source_topic,
             recorded_at, time_source, received_at, digest)
         SELECT ':site', 'press-' || to_char(i % :machines, 'FM000'), i % 90, 40.5, 0.1,
             jsonb_build_object('pressure', i % 7), 't', to_timestamp(1767225600 + i / :machines * 3), 'device', now(), i
         FROM generate_series(0, :each * :machines - 1) i;
         INSERT INTO machine SELECT ':site', machine_id, 'online', NULL, NULL, NULL
         FROM (SELECT DISTINCT machine_id FROM machine_telemetry) m;
         ANALYZE",
    );
    let sql = sql.replace(":each", &each.to_string()).replace(":machines", &machines.to_string());
    fixture.raw().execute(&sql.replace(":site", SITE));
    // These readings have no rollups.
    fixture.raw().execute("DELETE FROM machine_rollup_exact");
}

/// Returns the plan, with literals in place of parameters.
pub(super) fn plan(raw: &mut Raw, fixture: &Fixture, sql: &str, literals: &[&str]) -> String {
    let filled = (1..)
        .zip(literals)
        .fold(sql.to_owned(), |sql, (number, literal)| sql.replace(&format!("${number}"), literal));
    raw.plan(&format!("{} {filled}", fixture.either("EXPLAIN QUERY PLAN", "EXPLAIN")))
}

pub fn a_million_rows_are_read_by_index_only(fixture: &Fixture) {
    let (_store, _journal) = fixture.with_journal();
    fill(fixture, 100, 10_000);
    let mut raw = fixture.raw();
    let site = format!("'{SITE}'");
    let day = ["'2026-01-01 00:00:00.000000+00:00'", "'2026-01-02 00:00:00.000000+00:00'"];
    let (postgres, latest) = (!fixture.is_sqlite(), fixture.is_sqlite().then(sql::latest_on_sqlite));
    let latest = latest.unwrap_or_else(sql::latest_on_postgres);
    let dialect = sql::dialect(fixture.is_sqlite());
    let press = "'press-042'";
    let key = [day[0], "0", day[1], "0", "100"];
    let plans = [
        ("latest", plan(&mut raw, fixture, &latest, &[&site])),
        ("next machine", plan(&mut raw, fixture, sql::MACHINE_WITH_READINGS, &[&site, press])),
        ("latest of one", plan(&mut raw, fixture, &sql::latest_of(), &[&site, press])),
        (
            "page",
            plan(
                &mut raw,
                fixture,
                &sql::readings(Order::Descending),
                &[&[site.as_str(), press], &key[..]].concat(),
            ),
        ),
        (
            "buckets",
            plan(
                &mut raw,
                fixture,
                &sql::buckets(&dialect, Some(60), false),
                &[&site, press, day[0], day[1]],
            ),
        ),
    ];
    for (name, plan) in plans {
        eprintln!("{name}:\n{plan}");
        // Only small tables may be scanned.
        let scans = if postgres { "Seq Scan on machine_telemetry" } else { "SCAN t" };
        assert!(!plan.contains(scans) && !plan.contains("SCAN n\n"), "{name} scans:\n{plan}");
        let by_index = if postgres { "Index" } else { " INDEX " };
        assert!(plan.contains(by_index), "{name} uses no index:\n{plan}");
    }
    time_the_queries(fixture);
}

/// Prints timings for people. A loaded machine must not fail the test.
fn time_the_queries(fixture: &Fixture) {
    let mut reader = history(fixture);
    let start = crate::domain::Timestamp::from_micros(1_767_225_600_000_000);
    let query = BucketsQuery {
        machine_id: machine("press-042"),
        from: start,
        to: start.plus(Duration::from_secs(8 * 3_600)),
        bucket_seconds: Some(60),
        extra: None,
    };
    let page = all("press-042", Order::Descending, 100);
    for round in ["cold", "warm"] {
        let mut timed = |name: &str, work: &mut dyn FnMut(&mut dyn History) -> usize| {
            let begun = Instant::now();
            let rows = work(&mut *reader);
            eprintln!("{round} {name}: {rows} rows in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
            rows
        };
        assert_eq!(timed("newest readings of 100 machines", &mut |reader| latest(reader).len()), 100);
        assert_eq!(timed("page of 100 readings", &mut |reader| readings(reader, &page).len()), 100);
        let by_minute =
            timed("8 hours (9,600 rows) by the minute", &mut |reader| buckets(reader, &query).len());
        assert_eq!(by_minute, 480);
        let with_extra = BucketsQuery { extra: Some("pressure".to_owned()), ..query.clone() };
        timed("the same with a field of extra", &mut |reader| buckets(reader, &with_extra).len());
        let whole = BucketsQuery { bucket_seconds: None, ..query.clone() };
        timed("statistics of 8 hours", &mut |reader| buckets(reader, &whole).len());
    }
}
