//! Rows that a person changed: they hide no other row, and each is named once.

use super::fixture::{Fixture, at, batch_of, changes, machine, transition};
use super::history_clauses::{buckets, latest, readings};
use crate::domain::{JournalId, LinkOutage, MachineId, OutageReason, Timestamp, TransitionReason};
use crate::store::history::open_history;
use crate::store::{
    Batch, BucketsQuery, Events, EventsQuery, LatestReading, LivenessRows, Order, PastWanted, ReadingCursor,
    ReadingsQuery, StoreOptions, TrendsQuery,
};

const EVER: PastWanted = PastWanted { changes_since: Timestamp::from_micros(i64::MIN), rows_max: 100 };

/// Commits readings, an event, an outage and a proven link of one machine.
fn a_healthy_site(fixture: &Fixture) -> JournalId {
    let (mut store, journal) = fixture.with_journal();
    store.commit(&batch_of(journal, 0, 3)).unwrap();
    let outage = LinkOutage { began_at: at(5), ended_at: Some(at(6)), reason: OutageReason::LinkDown };
    let liveness = LivenessRows { outages: vec![outage], seen_until: Some(at(7)), ..LivenessRows::default() };
    let change = transition("press-1", TransitionReason::FirstSeen, 0, None);
    store.commit(&Batch { liveness, ..changes(journal, 3, vec![change]) }).unwrap();
    journal
}

/// Spoils a row of every table that Andon reads.
fn spoil(fixture: &Fixture) {
    let id_too_long = "x".repeat(101);
    let (bad_time, when) =
        (fixture.either("'yesterday'", "'infinity'"), "'2026-01-05 06:40:00.000000+00:00'");
    let machine = "INSERT INTO machine (site, machine_id, status, status_since) VALUES ('halle-7',";
    let event = "INSERT INTO machine_event (site, machine_id, status, reason, occurred_at, publish_pending) VALUES ('halle-7',";
    let mut raw = fixture.raw();
    for statement in [
        format!("{machine} 'word', 'broken', {when})"),
        format!("{machine} '{id_too_long}', 'online', {when})"),
        format!("{machine} 'time', 'online', {bad_time})"),
        format!("{event} 'word', 'online', 'because', {when}, {})", fixture.either("1", "true")),
        format!("{event} '{id_too_long}', 'online', 'message', {when}, {})", fixture.either("1", "true")),
        format!("{event} 'press-1', 'online', 'message', {bad_time}, {})", fixture.either("0", "false")),
        format!("INSERT INTO link_outage (site, began_at, reason) VALUES ('halle-7', {when}, 'sunspots')"),
        format!("UPDATE link_sight SET seen_until = {bad_time}"),
        format!("UPDATE machine_telemetry SET received_at = {bad_time} WHERE digest = 2"),
    ] {
        raw.execute(&statement);
    }
    if fixture.is_sqlite() {
        // Between the two others, as text goes.
        raw.execute(
            "UPDATE machine_telemetry SET recorded_at = '2026-01-05 06:39:59.002001?' WHERE digest = 2",
        );
    } else {
        raw.execute(
            "ALTER TABLE machine ALTER status DROP NOT NULL; ALTER TABLE ingest_checkpoint ALTER site DROP NOT NULL;
             INSERT INTO machine (site, machine_id) VALUES ('halle-7', 'null');
             INSERT INTO ingest_checkpoint (journal_id, updated_at) VALUES ('theirs', now())",
        );
    }
}

fn named(options: &StoreOptions) -> Vec<String> {
    let mut named: Vec<String> = options
        .unreadable
        .take_unnamed()
        .into_iter()
        .map(|row| format!("{} {} {}", row.table, row.key, row.what).replace(&"x".repeat(101), "xxx"))
        .collect();
    named.sort();
    named
}

pub fn unreadable_rows_are_skipped_and_named_once(fixture: &Fixture) {
    let journal = a_healthy_site(fixture);
    spoil(fixture);
    let options = fixture.options();
    let mut store = crate::store::open(&options).unwrap();
    for _ in 0..2 {
        let ids: Vec<_> = store.machines().unwrap().into_iter().map(|row| row.machine_id).collect();
        assert_eq!(ids, [machine("press-1")]);
        let past = store.liveness_past(EVER).unwrap();
        let changes: Vec<_> = past.recent_changes.iter().map(|(id, _)| id.as_str()).collect();
        // A change is only a machine and a time.
        assert_eq!(changes, ["press-1", "word"]);
        assert_eq!(
            past.unpublished.iter().map(|event| event.machine_id.as_str()).collect::<Vec<_>>(),
            ["press-1"]
        );
        assert_eq!(past.newest_outage.unwrap().began_at, at(5), "the newest readable one");
        assert_eq!(past.seen_until, None);
        assert_eq!(store.checkpoints().unwrap().len(), 1);
        assert_eq!(store.status().unwrap().checkpoints[0].journal_id, journal.to_string());
        assert_eq!(store.history(at(-1)).unwrap().events.len(), 1);
        assert!(store.readings_between(at(0), at(1_000_000)).unwrap().contains(&(machine("press-1"), 3)));
    }
    let long = "machine id has 101 characters, at most 100 are allowed";
    let at_40 = "2026-01-05T06:40:00.000000Z";
    let bad_time = fixture
        .either("\"yesterday\", which is not an instant in UTC", "an instant outside the years 1 to 9999");
    let mut expected = vec![
        "machine \"word\" status is the unknown word \"broken\"".to_owned(),
        format!("machine \"xxx\" {long}"),
        format!("machine \"time\" status_since is {bad_time}"),
        format!("machine_event \"word\" at {at_40} reason is the unknown word \"because\""),
        format!("machine_event \"xxx\" at {at_40} {long}"),
        format!("machine_event \"press-1\" at {bad_time} occurred_at is {bad_time}"),
        format!("link_outage that began at {at_40} reason is the unknown word \"sunspots\""),
        format!("link_sight of site \"halle-7\" seen_until is {bad_time}"),
    ];
    if !fixture.is_sqlite() {
        expected.push("machine \"null\" status is NULL".to_owned());
        expected.push("ingest_checkpoint \"theirs\" site is NULL".to_owned());
    }
    expected.sort();
    assert_eq!(named(&options), expected);
    assert_eq!(store.commit(&batch_of(journal, 3, 2)).unwrap().stored, 2, "storing works");

    history_skips_them(&options);
}

fn history_skips_them(options: &StoreOptions) {
    let mut history = open_history(options).unwrap();
    assert_eq!(history.machines().unwrap().len(), 1);
    let of_press = |(id, _): &&(MachineId, LatestReading)| *id == machine("press-1");
    assert_eq!(latest(&mut *history).iter().filter(of_press).count(), 1);
    let mut query = ReadingsQuery {
        machine_id: machine("press-1"),
        from: ReadingCursor::before(Timestamp::from_micros(i64::MIN)),
        to: ReadingCursor::before(Timestamp::from_micros(i64::MAX)),
        order: Order::Ascending,
        limit: 3,
    };
    let mut seqs = |query: &ReadingsQuery| -> Vec<i64> {
        readings(&mut *history, query).iter().map(|reading| reading.key.digest).collect()
    };
    assert_eq!(seqs(&query), [1, 3, 4], "the skipped row costs the page no row");
    query.order = Order::Descending;
    assert_eq!(seqs(&query), [5, 4, 3]);
    query.limit = 9;
    assert_eq!(seqs(&query), [5, 4, 3, 1]);

    let events = history.events(&EventsQuery { machine_id: None, which: Events::ALL, limit: 2 }).unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.machine_id.as_str()).collect();
    assert_eq!(ids, ["word", "press-1"], "an unknown reason may be one of a later version");
    assert_eq!(history.outages(at(-1), at(1_000_000_000)).unwrap().len(), 1);
    let by_second = BucketsQuery {
        machine_id: machine("press-1"),
        from: at(0),
        to: at(1_000_000),
        bucket_seconds: Some(1),
        extra: None,
    };
    let found = buckets(&mut *history, &by_second);
    let counted: u64 = found.iter().map(|bucket| bucket.count).sum();
    assert!(counted >= 4, "{counted}");
    let trends = TrendsQuery {
        machine_ids: vec![machine("press-1")],
        from: at(0),
        to: at(1_000_000),
        step_seconds: 60,
    };
    assert_eq!(history.trends(&trends).unwrap().len(), 1);
    drop(history);
    let named = named(options);
    assert!(named.iter().any(|row| row.starts_with("machine_telemetry \"press-1\" at ")), "{named:?}");
}
