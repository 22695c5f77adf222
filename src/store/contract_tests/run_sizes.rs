//! On PostgreSQL rows written one by one leave the same tables as rows written at once.
//!
//! The same batches are committed both ways; then every table beside the readings is compared.

use super::fixture::{Fixture, SITE, at, batch_of, changes, machine, transition};
use crate::domain::{
    JournalHistory, JournalId, LinkOutage, MachineStatus, OutageReason, Transition, TransitionReason,
};
use crate::store::{Batch, CommitOutcome, EventKey, LivenessRows};

/// The tables compared: every row as JSON, without its id, which failed attempts use up.
const TABLES: [&str; 4] = [
    "machine_event e ORDER BY e.id",
    "machine e ORDER BY e.machine_id",
    "link_outage e ORDER BY e.began_at",
    "link_sight e",
];

/// Makes the database refuse statements with more than one event: the rows go in one by one, and none is
/// refused.
fn refuse_many_at_once(fixture: &Fixture) {
    fixture.raw().execute(
        "CREATE FUNCTION many() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT count(*) FROM added) > 1 THEN RAISE EXCEPTION 'one at a time'; END IF; RETURN NULL; END $$;
         CREATE TRIGGER many AFTER INSERT ON machine_event REFERENCING NEW TABLE AS added
             FOR EACH STATEMENT EXECUTE FUNCTION many()",
    );
}

fn key(of: &Transition) -> EventKey {
    EventKey { machine_id: of.machine_id.clone(), occurred_at: of.occurred_at, status: of.status }
}

fn outage(began: i64, ended: Option<i64>, reason: OutageReason) -> LinkOutage {
    LinkOutage { began_at: at(began), ended_at: ended.map(at), reason }
}

/// New machines, an outage that lasts, one that ended, and one mark.
fn first(journal: JournalId) -> Batch {
    let transitions = vec![
        transition("a", TransitionReason::FirstSeen, 1_000, None),
        transition("b", TransitionReason::NeverSeen, 2_000, None),
        transition("c", TransitionReason::FirstSeen, 3_000, None),
        transition("a", TransitionReason::Silence, 20_000_000, Some(MachineStatus::Online)),
    ];
    let liveness = LivenessRows {
        transitions_published: 1,
        published: vec![key(&transitions[2])],
        forgets: Vec::new(),
        outages: vec![
            outage(10, None, OutageReason::LinkDown),
            outage(20, Some(21), OutageReason::Hold),
            outage(30, None, OutageReason::Stopped),
        ],
        seen_until: Some(at(40)),
    };
    let sightings =
        vec![(machine("c"), at(5_000)), (machine("a"), at(20_000_001)), (machine("nobody"), at(9))];
    Batch { transitions, liveness, sightings, ..batch_of(journal, 0, 2) }
}

/// Rows of every kind that the database has already, older ones and newer ones.
fn second(journal: JournalId) -> Batch {
    let before = first(journal);
    let mut transitions = vec![
        before.transitions[0].clone(),
        transition("a", TransitionReason::Message, 15_000_000, Some(MachineStatus::Offline)),
        transition("b", TransitionReason::FirstSeen, 30_000_000, Some(MachineStatus::Offline)),
        transition("c", TransitionReason::Silence, 30_000_000, Some(MachineStatus::Online)),
        transition("c", TransitionReason::FirstSeen, 500, None),
    ];
    transitions[3].last_seen_at = None;
    let liveness = LivenessRows {
        transitions_published: 2,
        published: vec![key(&before.transitions[1]), key(&transitions[2]), key(&before.transitions[2])],
        forgets: Vec::new(),
        outages: vec![
            outage(10, Some(50), OutageReason::Start),
            outage(20, Some(60), OutageReason::Hold),
            outage(30, None, OutageReason::Stopped),
        ],
        seen_until: Some(at(70)),
    };
    let sightings = vec![
        (machine("a"), at(40_000_000)),
        (machine("a"), at(39_000_000)),
        (machine("b"), at(30_000_001)),
        (machine("c"), at(600)),
    ];
    Batch { transitions, liveness, sightings, ..changes(journal, 2, Vec::new()) }
}

fn committed(fixture: &Fixture, journal: JournalId) -> Vec<CommitOutcome> {
    let mut store = fixture.open();
    store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
    [first(journal), second(journal)].iter().map(|batch| store.commit(batch).unwrap()).collect()
}

pub fn rows_written_one_by_one_equal_rows_written_at_once(at_once: &Fixture, one_by_one: &Fixture) {
    let journal = JournalId(uuid::Uuid::new_v4());
    drop((at_once.migrated(), one_by_one.migrated()));
    refuse_many_at_once(one_by_one);
    assert_eq!(committed(at_once, journal), committed(one_by_one, journal), "none is refused");
    for table in TABLES {
        let rows = |fixture: &Fixture| fixture.raw().rows(&["(to_jsonb(e) - 'id')"], table);
        let (expected, found) = (rows(at_once), rows(one_by_one));
        assert!(!expected.is_empty() && expected[0].contains(SITE), "{table}: {expected:?}");
        assert_eq!(found, expected, "{table}");
    }
}
