//! What liveness keeps beside events and machines: the outbox, our own outages, the recent past.

use super::fixture::{Fixture, at, batch_of, changes, machine, nothing, transition};
use crate::domain::{LinkOutage, MachineStatus, OutageReason, Seq, Timestamp, Transition, TransitionReason};
use crate::store::{
    self, Batch, EventKey, LivenessPast, LivenessRows, PastWanted, SiteHistory, StoreOptions,
};

const EVERYTHING: PastWanted = PastWanted { changes_since: Timestamp::from_micros(0), rows_max: 100 };

fn key(of: &Transition) -> EventKey {
    EventKey { machine_id: of.machine_id.clone(), occurred_at: of.occurred_at, status: of.status }
}

pub fn events_are_pending_until_they_are_marked_and_come_back_in_order(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let sent = vec![
        transition("b", TransitionReason::FirstSeen, 0, None),
        transition("a", TransitionReason::FirstSeen, 30_000_000, None),
        // The wall clock was set back between the two: order is that of recording, not of time.
        transition("b", TransitionReason::Silence, 20_000_000, Some(MachineStatus::Online)),
        transition("a", TransitionReason::LastWill, 30_000_001, Some(MachineStatus::Online)),
    ];
    let mut first = changes(journal, 0, sent.clone());
    first.liveness.transitions_published = 1;
    store.commit(&first).unwrap();
    let unseq = |of: &Transition| Transition { seq: Seq::ZERO, ..of.clone() };
    let pending: Vec<Transition> = sent[1..].iter().map(unseq).collect();
    assert_eq!(store.liveness_past(EVERYTHING).unwrap().unpublished, pending);

    let mut marking = nothing(journal, Seq::ZERO);
    let nobody = EventKey { machine_id: machine("nobody"), ..key(&sent[1]) };
    let other_status = EventKey { status: MachineStatus::Online, ..key(&sent[2]) };
    marking.liveness.published = vec![key(&sent[1]), nobody, other_status, key(&sent[3])];
    for _ in 0..2 {
        store.commit(&marking).unwrap();
        assert_eq!(store.liveness_past(EVERYTHING).unwrap().unpublished, pending[1..2]);
    }
    // An event that is recorded again does not become pending again.
    store.commit(&changes(journal, 0, sent)).unwrap();
    let past = store.liveness_past(EVERYTHING).unwrap();
    assert_eq!(past.unpublished, pending[1..2]);
    let changed: Vec<_> = past.recent_changes.iter().map(|(id, when)| (id.as_str(), *when)).collect();
    assert_eq!(changed, [("b", at(0)), ("a", at(30_000_000)), ("b", at(20_000_000)), ("a", at(30_000_001))]);
    let wanted = PastWanted { changes_since: at(30_000_000), rows_max: 1 };
    let changed = store.liveness_past(wanted).unwrap().recent_changes;
    assert_eq!(changed, [(machine("a"), at(30_000_001))], "the newest, if there are too many");
}

pub fn outages_are_recorded_once_and_stay_closed(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let past = store.liveness_past(EVERYTHING).unwrap();
    assert_eq!((past.newest_outage, past.seen_until), (None, None));
    let outage = |began, ended: Option<i64>, reason| LinkOutage {
        began_at: at(began),
        ended_at: ended.map(at),
        reason,
    };
    let mut commit = |outages: Vec<LinkOutage>, seen_until: Option<i64>| {
        let liveness = LivenessRows { outages, seen_until: seen_until.map(at), ..LivenessRows::default() };
        store.commit(&Batch { liveness, ..nothing(journal, Seq::ZERO) }).unwrap();
        let past = store.liveness_past(EVERYTHING).unwrap();
        (past.newest_outage, past.seen_until)
    };
    let open = outage(100, None, OutageReason::Hold);
    assert_eq!(commit(vec![open], None), (Some(open), None));
    let closed = outage(100, Some(200), OutageReason::Hold);
    assert_eq!(commit(vec![closed], Some(200)), (Some(closed), Some(at(200))));
    // A replay: open again, closed at another time, seen at another time.
    assert_eq!(commit(vec![open], Some(150)), (Some(closed), Some(at(150))), "the clock may be set back");
    assert_eq!(commit(vec![outage(100, Some(300), OutageReason::LinkDown)], None).0, Some(closed));
    let (first, second) =
        (outage(400, Some(500), OutageReason::Start), outage(600, None, OutageReason::Stopped));
    assert_eq!(commit(vec![first, second], None), (Some(second), Some(at(150))));
    let mut raw = fixture.raw();
    assert_eq!(
        raw.rows(&["site", "reason"], "link_outage ORDER BY began_at"),
        ["halle-7|hold", "halle-7|start", "halle-7|stopped"]
    );
}

pub fn readings_events_and_outages_of_a_range_are_those_of_the_site(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut sent = batch_of(journal, 0, 9);
    sent.transitions = vec![
        transition("press-1", TransitionReason::FirstSeen, 0, None),
        transition("ghost", TransitionReason::NeverSeen, 500, None),
        transition("press-1", TransitionReason::Silence, 20_000_000, Some(MachineStatus::Online)),
    ];
    let outage = |began, ended: Option<i64>| LinkOutage {
        began_at: at(began),
        ended_at: ended.map(at),
        reason: OutageReason::LinkDown,
    };
    sent.liveness.outages = vec![outage(1, Some(400)), outage(450, Some(500)), outage(600, None)];
    store.commit(&sent).unwrap();
    // Readings are a thousand microseconds apart; the end of the range is exclusive.
    let counted = store.readings_between(at(2_000), at(5_000)).unwrap();
    let mut counted: Vec<_> = counted.iter().map(|(id, count)| (id.as_str(), *count)).collect();
    counted.sort_unstable();
    assert_eq!(counted, [("ghost", 0), ("press-1", 3)]);
    let history = store.history(at(500)).unwrap();
    let reasons: Vec<_> = history.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, [TransitionReason::NeverSeen, TransitionReason::Silence]);
    assert_eq!(history.outages, [outage(450, Some(500)), outage(600, None)]);

    let other = StoreOptions { site: "halle-8".to_owned(), ..fixture.options() };
    let mut elsewhere = store::open(&other).unwrap();
    assert_eq!(elsewhere.history(at(0)).unwrap(), SiteHistory::default());
    assert_eq!(elsewhere.liveness_past(EVERYTHING).unwrap(), LivenessPast::default());
    assert_eq!(elsewhere.readings_between(at(0), at(5_000)).unwrap(), []);
}

pub fn outages_of_a_range_are_those_that_overlap_it(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let outage = |began, ended: Option<i64>| LinkOutage {
        began_at: at(began),
        ended_at: ended.map(at),
        reason: OutageReason::Start,
    };
    let all = [outage(1, Some(400)), outage(450, Some(500)), outage(600, None)];
    let liveness = LivenessRows { outages: all.to_vec(), ..LivenessRows::default() };
    store.commit(&Batch { liveness, ..nothing(journal, Seq::ZERO) }).unwrap();
    let mut reader = store::open_history(&fixture.options()).unwrap();
    let mut between = |from, to| reader.outages(at(from), at(to)).unwrap();
    assert_eq!(between(0, 1_000), all);
    assert_eq!(between(399, 450), all[..1], "it overlaps the range; the next one only touches it");
    assert_eq!(between(400, 600), all[1..2]);
    assert_eq!(between(500, 600), []);
    assert_eq!(between(900, 1_000), all[2..], "it still lasts");
    let other = StoreOptions { site: "halle-8".to_owned(), ..fixture.options() };
    assert_eq!(store::open_history(&other).unwrap().outages(at(0), at(1_000)).unwrap(), []);
}
