//! The order in which events are read, and the index for it.

use super::fixture::{Fixture, SITE, at, changes, machine, transition};
use super::history_clauses::{history, plan};
use crate::domain::{MachineStatus, Timestamp, TransitionReason};
use crate::store::history::sql;
use crate::store::{EventCursor, Events, EventsQuery, History, PastWanted, StoredEvent};

/// All events of a test, in order of time.
fn by_time() -> Events {
    Events::Within { from: at(0), before: EventCursor::before(at(1_000)) }
}

/// Returns all pages, joined.
fn all(reader: &mut dyn History, mut query: EventsQuery) -> Vec<StoredEvent> {
    let mut joined = Vec::new();
    loop {
        let page = reader.events(&query).unwrap();
        let Some(last) = page.last() else { return joined };
        query.which.advance(last.key);
        joined.extend(page);
    }
}

/// Proves HIS-2.
pub fn pages_of_events_join_and_can_be_of_one_machine(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let transitions = (0..12).map(|number| {
        let id = format!("press-{}", number % 3);
        let reason = if number < 3 { TransitionReason::FirstSeen } else { TransitionReason::Message };
        // Three machines at each instant.
        transition(&id, reason, number / 3, Some(MachineStatus::Offline))
    });
    store.commit(&changes(journal, 0, transitions.collect())).unwrap();
    let mut reader = history(fixture);
    for (machine_id, which) in
        [(None, by_time()), (Some("press-1"), by_time()), (None, Events::ALL), (Some("press-1"), Events::ALL)]
    {
        let joined = all(&mut *reader, EventsQuery { machine_id: machine_id.map(machine), which, limit: 5 });
        assert_eq!(joined.len(), if machine_id.is_some() { 4 } else { 12 });
        assert!(joined.iter().rev().is_sorted_by_key(|event| event.key));
        assert!(machine_id.is_none_or(|id| joined.iter().all(|event| event.machine_id.as_str() == id)));
    }
}

pub fn events_come_in_order_of_recording_and_those_of_a_range_in_order_of_time(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    // The clock is ahead from the third to the fourth.
    for (nth, when) in [10, 20, 130, 140, 50, 60].into_iter().enumerate() {
        let reason = if nth == 0 { TransitionReason::FirstSeen } else { TransitionReason::Message };
        for id in ["press-1", "press-2"] {
            store.commit(&changes(journal, 0, vec![transition(id, reason, when, None)])).unwrap();
        }
    }
    let mut reader = history(fixture);
    let mut times = |machine_id, which| -> Vec<i64> {
        let events = all(&mut *reader, EventsQuery { machine_id, which, limit: 2 });
        events.iter().map(|event| event.key.at.as_micros() - at(0).as_micros()).collect()
    };
    let press = || Some(machine("press-1"));
    assert_eq!(times(press(), Events::ALL), [60, 50, 140, 130, 20, 10]);
    assert_eq!(times(press(), by_time()), [140, 130, 60, 50, 20, 10]);
    assert_eq!(times(None, Events::ALL), [60, 60, 50, 50, 140, 140, 130, 130, 20, 20, 10, 10]);
    let some = Events::Within { from: at(20), before: EventCursor::before(at(130)) };
    assert_eq!(times(press(), some), [60, 50, 20]);

    let in_order = |changes: Vec<(crate::domain::MachineId, Timestamp)>| -> Vec<i64> {
        let of_one = changes.into_iter().filter(|(id, _)| id.as_str() == "press-1");
        of_one.map(|(_, when)| when.as_micros() - at(0).as_micros()).collect()
    };
    let past = store.liveness_past(PastWanted { changes_since: at(15), rows_max: 100 }).unwrap();
    assert_eq!(in_order(past.recent_changes), [20, 130, 140, 50, 60]);
    let history = store.history(at(15)).unwrap();
    let listed = history.events.into_iter().map(|event| (event.machine_id, event.occurred_at));
    assert_eq!(in_order(listed.collect()), [20, 130, 140, 50, 60]);
}

/// Inserts 100,000 events of 100 machines, one a second; most of another site.
fn fill(fixture: &Fixture) {
    let sql = fixture.either(
        "INSERT INTO machine_event (site, machine_id, status, previous_status, reason, occurred_at)
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
         SELECT CASE i % 20 WHEN 0 THEN ':site' ELSE 'another' END, printf('press-%03d', i / 20 % 100), 'online', 'offline', 'message',
             strftime('%Y-%m-%d %H:%M:%S.000000+00:00', 1767225600 + i, 'unixepoch') FROM n;
         ANALYZE",
        "INSERT INTO machine_event (site, machine_id, status, previous_status, reason, occurred_at)
         SELECT CASE i % 20 WHEN 0 THEN ':site' ELSE 'another' END, 'press-' || to_char(i / 20 % 100, 'FM000'), 'online', 'offline',
             'message', to_timestamp(1767225600 + i) FROM generate_series(0, 99999) i;
         ANALYZE",
    );
    fixture.raw().execute(&sql.replace(":site", SITE));
}

pub fn events_are_read_by_index_only(fixture: &Fixture) {
    let (_store, _journal) = fixture.with_journal();
    fill(fixture);
    let mut raw = fixture.raw();
    let site = format!("'{SITE}'");
    let press = "'press-042'";
    let day = ["'2026-01-01 00:00:00.000000+00:00'", "'2026-01-02 00:00:00.000000+00:00'"];
    let mut plan = |sql: String, literals: &[&str]| plan(&mut raw, fixture, &sql, literals);
    let plans = [
        (vec!["machine_event_by_time"], plan(sql::events_within(false, 100), &[&site, day[0], day[1], "0"])),
        (
            vec!["machine_event_identity", "sqlite_autoindex_machine_event_1", "machine_event_by_time"],
            plan(sql::events_within(true, 100), &[&site, day[0], day[1], "0", press]),
        ),
        (vec!["machine_event_by_id"], plan(sql::events_recorded(false, 100), &[&site, "90000"])),
        (vec!["machine_event_of_machine"], plan(sql::events_recorded(true, 100), &[&site, "90000", press])),
    ];
    for (indexes, plan) in plans {
        assert!(indexes.iter().any(|index| plan.contains(index)), "none of {indexes:?}:\n{plan}");
        assert!(!plan.contains("Seq Scan") && !plan.contains("SCAN e"), "{plan}");
    }
    let mut reader = history(fixture);
    let query = EventsQuery { machine_id: Some(machine("press-042")), which: Events::ALL, limit: 10 };
    assert_eq!(reader.events(&query).unwrap().len(), 10);
}
