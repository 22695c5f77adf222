//! Every table that grows has a bound: events, outages, rejected messages and the audit log.

use super::fixture::{
    Fixture, at, changes, nothing, prune_in_steps, readings_before, rejection, rows_bounds, transition,
};
use crate::domain::{
    JournalHistory, JournalId, LinkOutage, MachineStatus, OutageReason, Seq, Timestamp, TransitionReason,
};
use crate::store::{
    AuditEvent, Batch, LivenessRows, PruneBounds, PruneLimits, PruneTable, RejectionRow, Store, StoreOptions,
    open,
};

const MINUTE: i64 = 60_000_000;

/// Opens the same database for another site, with a journal of its own.
fn other_site(fixture: &Fixture) -> (Box<dyn Store>, JournalId) {
    let mut store = open(&StoreOptions { site: "halle-8".to_owned(), ..fixture.options() }).unwrap();
    let journal = JournalId(uuid::Uuid::new_v4());
    store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    (store, journal)
}

fn deleted(steps: &[(PruneTable, u64)], wanted: PruneTable) -> Vec<u64> {
    steps.iter().filter(|(table, _)| *table == wanted).map(|(_, rows)| *rows).collect()
}

/// Records changes of `machine_id` in these minutes: offline and online by turns.
fn record_changes(store: &mut dyn Store, journal: JournalId, machine_id: &str, minutes: &[i64]) {
    let turn = |n: usize| match n {
        0 => (TransitionReason::FirstSeen, None),
        n if n % 2 == 1 => (TransitionReason::Silence, Some(MachineStatus::Online)),
        _ => (TransitionReason::Message, Some(MachineStatus::Offline)),
    };
    let all = minutes.iter().enumerate().map(|(n, minute)| {
        let (reason, previous) = turn(n);
        transition(machine_id, reason, minute * MINUTE, previous)
    });
    store.commit(&changes(journal, 0, all.collect())).unwrap();
}

/// Proves RET-2.
pub fn events_past_retention_go_but_the_newest_of_each_machine_stays(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    record_changes(&mut *store, journal, "busy", &[0, 1, 2, 3, 50]);
    record_changes(&mut *store, journal, "quiet", &[0, 1, 2]);
    // The clock went back: the newest event is not the latest one.
    record_changes(&mut *store, journal, "odd", &[40, 1]);
    let (mut other, others_journal) = other_site(fixture);
    record_changes(&mut *other, others_journal, "busy", &[0, 1, 2]);

    let limits = PruneLimits { events: Some(at(10 * MINUTE)), ..PruneLimits::default() };
    let steps = prune_in_steps(&mut *store, &limits, rows_bounds(3));
    assert_eq!(deleted(&steps, PruneTable::Events).iter().sum::<u64>(), 4 + 2, "{steps:?}");
    assert!(steps.iter().all(|(_, rows)| *rows <= 3), "{steps:?}");
    let mut raw = fixture.raw();
    let left = |raw: &mut super::fixture::Raw, site: &str| {
        raw.rows(
            &["machine_id", "status"],
            &format!("machine_event WHERE site = '{site}' ORDER BY machine_id, id"),
        )
    };
    assert_eq!(left(&mut raw, "halle-7"), ["busy|online", "odd|online", "odd|offline", "quiet|online"]);
    assert_eq!(left(&mut raw, "halle-8").len(), 3, "another site has its own retention");
    assert_eq!(deleted(&prune_in_steps(&mut *store, &limits, rows_bounds(3)), PruneTable::Events), [0]);
    // Each machine still has the reason of its status.
    assert!(store.machines().unwrap().iter().all(|machine| machine.reason.is_some()));
}

/// Proves RET-2.
pub fn outages_past_retention_go_but_the_newest_stays(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let outage = |begins: i64, ends: Option<i64>| LinkOutage {
        began_at: at(begins * MINUTE),
        ended_at: ends.map(|ends| at(ends * MINUTE)),
        reason: OutageReason::LinkDown,
    };
    let commit = |store: &mut dyn Store, outages: Vec<LinkOutage>| {
        let liveness = LivenessRows { outages, ..LivenessRows::default() };
        store.commit(&Batch { liveness, ..nothing(journal, Seq::ZERO) }).unwrap();
    };
    let prune = |store: &mut dyn Store, minute: i64| {
        let limits = PruneLimits { events: Some(at(minute * MINUTE)), ..PruneLimits::default() };
        deleted(&prune_in_steps(store, &limits, rows_bounds(2)), PruneTable::Outages).iter().sum::<u64>()
    };
    commit(
        &mut *store,
        vec![outage(0, Some(1)), outage(2, Some(3)), outage(4, Some(5)), outage(6, Some(20))],
    );
    assert_eq!(prune(&mut *store, 10), 3, "one that ended later stays");
    commit(&mut *store, vec![outage(30, None)]);
    assert_eq!(prune(&mut *store, 60), 1, "the one that lasts stays");
    assert_eq!(fixture.raw().rows(&["began_at"], "link_outage").len(), 1);
}

fn reject(store: &mut dyn Store, journal: JournalId, after: u64, sizes: &[usize]) {
    let rows = sizes.iter().zip(after + 1..).map(|(bytes, seq)| {
        let received_at = at(i64::try_from(seq).unwrap() * MINUTE);
        let mut row = RejectionRow { received_at, ..rejection(seq) };
        row.rejection.payload = vec![b'x'; *bytes];
        row
    });
    let (messages, rejections) = (sizes.len() as u64, rows.collect());
    let sent = Batch { upto: Seq(after + messages), messages, rejections, ..nothing(journal, Seq(after)) };
    store.commit(&sent).unwrap();
}

fn seqs(fixture: &Fixture, site: &str) -> Vec<String> {
    fixture.raw().rows(&["seq"], &format!("rejected_message WHERE site = '{site}' ORDER BY id"))
}

/// Proves RET-3.
pub fn rejected_messages_go_by_age_in_steps_of_bounded_bytes(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    reject(&mut *store, journal, 0, &[600, 600, 10, 10, 600, 2_000, 10, 10]);
    let (mut other, others_journal) = other_site(fixture);
    reject(&mut *other, others_journal, 0, &[600, 600]);
    let limits = PruneLimits { rejected: Some(at(7 * MINUTE)), ..PruneLimits::default() };
    let bounds = PruneBounds { bytes_max: 1_000, ..rows_bounds(100) };
    assert_eq!(store.prune(&limits, None, bounds).unwrap().rows, 1, "by bytes, and at least one row");
    assert_eq!(seqs(fixture, "halle-7")[0], "2", "the oldest go first");
    let steps = prune_in_steps(&mut *store, &limits, bounds);
    assert_eq!(deleted(&steps, PruneTable::Rejected), [3, 1, 1]);
    assert_eq!(seqs(fixture, "halle-7"), ["7", "8"]);
    assert_eq!(seqs(fixture, "halle-8"), ["1", "2"]);
    let ledger = store.checkpoint(journal).unwrap().unwrap().ledger;
    assert_eq!((ledger.messages, ledger.rejected), (8, 8), "the ledger counts what was, not what is kept");
}

pub fn the_oldest_rejected_messages_go_once_a_site_has_too_many_bytes(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let (mut other, others_journal) = other_site(fixture);
    let limits = PruneLimits { rejected_bytes_max: Some(6_400), ..PruneLimits::default() };
    let prune = |store: &mut dyn Store| {
        deleted(&prune_in_steps(store, &limits, rows_bounds(7)), PruneTable::Rejected)
    };
    reject(&mut *other, others_journal, 0, &[1_000; 20]);
    reject(&mut *store, journal, 0, &[100; 64]);
    assert_eq!(prune(&mut *store).iter().sum::<u64>(), 0, "exactly as many as it may have");
    reject(&mut *store, journal, 64, &[100; 10]);
    let steps = prune(&mut *store);
    assert!(steps.iter().all(|rows| *rows <= 7), "{steps:?}");
    // A 64th of the room is free again.
    assert_eq!(steps.iter().sum::<u64>(), 11);
    let kept: Vec<String> = (12..=74).map(|seq: u64| seq.to_string()).collect();
    assert_eq!(seqs(fixture, "halle-7"), kept, "the newest are kept");
    assert_eq!(seqs(fixture, "halle-8").len(), 20, "another site has its own bound");
    // Within the bound: what was counted is not counted again, and a row that is gone changes nothing.
    assert_eq!(prune(&mut *store).iter().sum::<u64>(), 0);
    let start = store.prune(&limits, None, rows_bounds(7)).unwrap();
    assert_eq!((start.examined, start.next), (0, None), "nothing was added");
    fixture.raw().execute("DELETE FROM rejected_message WHERE seq = 74");
    reject(&mut *store, journal, 74, &[100; 2]);
    assert_eq!(prune(&mut *store).iter().sum::<u64>(), 0);
    reject(&mut *store, journal, 76, &[100]);
    assert_eq!(prune(&mut *store).iter().sum::<u64>(), 2);
    // One message larger than the bound does not stay either.
    reject(&mut *store, journal, 77, &[10_000]);
    assert_eq!(prune(&mut *store).iter().sum::<u64>(), 64);
}

pub fn age_and_bytes_of_rejected_messages_are_bounded_in_one_run(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    reject(&mut *store, journal, 0, &[100; 30]);
    let limits = PruneLimits {
        rejected: Some(at(11 * MINUTE)),
        rejected_bytes_max: Some(1_000),
        ..PruneLimits::default()
    };
    let steps = prune_in_steps(&mut *store, &limits, rows_bounds(4));
    assert_eq!(deleted(&steps, PruneTable::Rejected).iter().sum::<u64>(), 21);
    assert_eq!(seqs(fixture, "halle-7")[0], "22");
}

fn audit_event(minute: i64) -> AuditEvent {
    AuditEvent {
        at: at(minute * MINUTE),
        actor: "anna".to_owned(),
        source: "10.0.0.7".to_owned(),
        action: "login".to_owned(),
        target: None,
        outcome: "refused\0".to_owned(),
        detail: Some("wrong token".to_owned()),
    }
}

pub fn audit_events_are_recorded_and_go_by_age(fixture: &Fixture) {
    let mut store = fixture.migrated();
    let (mut other, _) = other_site(fixture);
    (0..5).for_each(|minute| store.record_audit(&audit_event(minute)).unwrap());
    other.record_audit(&audit_event(0)).unwrap();
    let columns = ["site", "at", "actor", "source", "action", "target", "outcome", "detail"];
    let first = &fixture.raw().rows(&columns, "audit_event WHERE site = 'halle-7' ORDER BY id")[0];
    assert_eq!(
        first,
        "halle-7|2026-01-05 06:39:59.000001+00:00|anna|10.0.0.7|login|-|refused\u{FFFD}|wrong token"
    );
    let limits = PruneLimits { audit: Some(at(3 * MINUTE)), ..PruneLimits::default() };
    let steps = prune_in_steps(&mut *store, &limits, rows_bounds(2));
    assert_eq!(steps, [(PruneTable::Audit, 2), (PruneTable::Audit, 1)]);
    assert_eq!(fixture.raw().count("audit_event WHERE site = 'halle-7'"), 2);
    assert_eq!(fixture.raw().count("audit_event WHERE site = 'halle-8'"), 1);
}

pub fn a_run_without_limits_deletes_nothing(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    record_changes(&mut *store, journal, "m", &[0, 1]);
    reject(&mut *store, journal, 0, &[100; 3]);
    let steps = prune_in_steps(&mut *store, &PruneLimits::default(), rows_bounds(100));
    assert_eq!(steps, [(PruneTable::Readings, 0)]);
    let future = readings_before(Timestamp::from_micros(i64::MAX));
    prune_in_steps(&mut *store, &future, rows_bounds(100));
    assert_eq!((fixture.raw().count("rejected_message"), fixture.raw().count("machine_event")), (3, 2));
}

/// As the version before left it: without audit log and index, with rejected messages.
pub fn rejected_messages_of_the_version_before_are_bounded_too(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    fixture.raw().execute(
        "DROP TABLE audit_event; DROP INDEX rejected_message_by_time;
         DELETE FROM __diesel_schema_migrations WHERE version = '20261130010000'",
    );
    reject(&mut *store, journal, 0, &[100; 30]);
    let mut store = fixture.open();
    assert_eq!(store.migrate().unwrap().applied, ["2026-11-30-010000_retention"]);
    let limits = PruneLimits { rejected_bytes_max: Some(1_000), ..PruneLimits::default() };
    prune_in_steps(&mut *store, &limits, rows_bounds(100));
    assert_eq!(seqs(fixture, "halle-7").len(), 9);
    store.record_audit(&audit_event(0)).unwrap();
}
