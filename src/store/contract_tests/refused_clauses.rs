//! Rows beside the readings that the database refuses for what they hold.

use super::fixture::{Fixture, T0, at, batch_of, changes, machine, transition};
use crate::domain::{
    LinkOutage, MachineStatus, OutageReason, RefusedKind, Seq, Timestamp, Transition, TransitionReason,
};
use crate::store::{Batch, CommitOutcome, EventKey, LivenessRows, Store};

/// Makes the database refuse to insert or update a row of `table` for which `condition` holds.
fn refuse(fixture: &Fixture, table: &str, condition: &str, raise: &str) {
    let sqlite: String = ["INSERT", "UPDATE"]
        .map(|verb| {
            format!(
                "CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table} WHEN {condition}
                 BEGIN SELECT RAISE({raise}, 'nicht mit mir'); END;"
            )
        })
        .concat();
    let postgres = format!(
        "CREATE FUNCTION {table}_no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF {condition} THEN RAISE EXCEPTION 'nicht mit mir'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER {table}_no BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_no()"
    );
    fixture.raw().execute(fixture.either(&sqlite, &postgres));
}

fn key(of: &Transition) -> EventKey {
    EventKey { machine_id: of.machine_id.clone(), occurred_at: of.occurred_at, status: of.status }
}

/// Commits a row of every kind, for a machine that is refused and for one that is not.
fn every_kind(store: &mut dyn Store, fixture: &Fixture, raise: &str) -> CommitOutcome {
    let journal = crate::domain::JournalId(uuid::Uuid::new_v4());
    store.claim(&crate::domain::JournalHistory::of_new_journal(journal)).unwrap();
    let known = vec![
        transition("old-1", TransitionReason::FirstSeen, 0, None),
        transition("cursed-0", TransitionReason::FirstSeen, 0, None),
    ];
    store.commit(&changes(journal, 0, known.clone())).unwrap();
    refuse(fixture, "machine_event", "NEW.machine_id LIKE 'cursed%'", raise);
    refuse(fixture, "machine", "NEW.machine_id LIKE 'cursed%'", raise);
    refuse(fixture, "link_outage", "NEW.reason = 'hold'", raise);
    let seen = fixture.either("'2026-01-05 06:39:59.000078+00:00'", "'2026-01-05 06:39:59.000078+00'");
    refuse(fixture, "link_sight", &format!("NEW.seen_until = {seen}"), raise);

    let mut sent = batch_of(journal, 0, 5);
    sent.transitions = vec![
        transition("cursed-1", TransitionReason::FirstSeen, 5, None),
        transition("new-1", TransitionReason::FirstSeen, 6, None),
        transition("cursed-1", TransitionReason::Silence, 20_000_000, Some(MachineStatus::Online)),
    ];
    let outage = |began, reason| LinkOutage { began_at: at(began), ended_at: Some(at(began + 1)), reason };
    sent.liveness = LivenessRows {
        published: known.iter().rev().map(key).collect(),
        outages: vec![outage(10, OutageReason::Hold), outage(20, OutageReason::LinkDown)],
        seen_until: Some(at(77)),
        ..LivenessRows::default()
    };
    sent.sightings = vec![(machine("cursed-0"), at(500)), (machine("old-1"), at(600))];
    let outcome = store.commit(&sent).unwrap();
    assert_eq!(
        outcome.ledger,
        store.checkpoint(journal).unwrap().unwrap().ledger,
        "the commit returns the ledger of the database"
    );
    outcome
}

/// Proves STO-4.
pub fn a_refused_row_of_any_kind_is_reported_and_the_rest_is_recorded(fixture: &Fixture) {
    let mut store = fixture.migrated();
    // Ends the transaction with the statement; PostgreSQL has nothing like it.
    let raise = fixture.either("ROLLBACK", "");
    let outcome = every_kind(&mut *store, fixture, raise);
    let ledger = outcome.ledger;
    assert_eq!((ledger.committed_seq, ledger.messages, ledger.stored, ledger.rejected), (Seq(5), 5, 5, 0));
    let (mut reported, mut messages) = (Vec::new(), Vec::new());
    for row in outcome.refused {
        let machine_id = row.machine_id.map_or("-".to_owned(), |id| id.as_str().to_owned());
        let at = row.at.map(|at| at.as_micros() - T0);
        reported.push((row.kind, machine_id, row.status.map(|status| status.as_str()), at));
        messages.push(row.detail);
    }
    let row = |kind, machine_id: &str, status, at| (kind, machine_id.to_owned(), status, Some(at));
    let expected = [
        row(RefusedKind::Event, "cursed-1", Some("online"), 5),
        row(RefusedKind::Event, "cursed-1", Some("offline"), 20_000_000),
        row(RefusedKind::Machine, "cursed-1", Some("offline"), 20_000_000),
        row(RefusedKind::Mark, "cursed-0", Some("online"), 0),
        row(RefusedKind::Outage, "-", None, 10),
        row(RefusedKind::Sight, "-", None, 77),
        row(RefusedKind::Sighting, "cursed-0", None, 500),
    ];
    assert_eq!(reported, expected);
    assert!(messages.iter().all(|message| message.contains("nicht mit mir")), "{messages:?}");

    let mut raw = fixture.raw();
    let events = raw.rows(&["machine_id", "status"], "machine_event ORDER BY machine_id");
    assert_eq!(events, ["cursed-0|online", "new-1|online", "old-1|online"]);
    let pending = raw.rows(&["machine_id"], "machine_event WHERE publish_pending ORDER BY machine_id");
    assert_eq!(pending, ["cursed-0", "new-1"], "the other one is marked as published");
    assert_eq!(
        raw.rows(&["machine_id", "last_seen_at"], "machine ORDER BY machine_id"),
        [
            "cursed-0|2026-01-05 06:39:59.000001+00:00",
            "new-1|2026-01-05 06:39:59.000007+00:00",
            "old-1|2026-01-05 06:39:59.000601+00:00"
        ]
    );
    assert_eq!(raw.rows(&["reason"], "link_outage"), ["link_down"]);
    assert_eq!(raw.count("link_sight"), 0);
}

/// Proves STO-4.
pub fn one_refused_change_among_thousands_costs_only_itself(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    fixture.refuse_666();
    refuse(fixture, "machine_event", "NEW.machine_id = 'm-2000'", "ABORT");
    let change = |number: u32| {
        transition(&format!("m-{number}"), TransitionReason::FirstSeen, i64::from(number), None)
    };
    // A refused reading as well: both parts are written with savepoints.
    let mut sent = Batch { transitions: (0..3_000).map(change).collect(), ..batch_of(journal, 0, 3) };
    sent.readings[1].reading.temperature = Some(666.0);
    sent.liveness.transitions_published = 2_500;
    let outcome = store.commit(&sent).unwrap();
    assert_eq!((outcome.stored, outcome.rejected, outcome.refused.len()), (2, 1, 1));
    assert_eq!(outcome.refused[0].machine_id, Some(machine("m-2000")));
    assert_eq!(outcome.refused[0].at, Some(Timestamp::from_micros(T0 + 2_000)));
    let mut raw = fixture.raw();
    assert_eq!((raw.count("machine_event"), raw.count("machine")), (2_999, 3_000));
    assert_eq!(raw.count("machine_event WHERE publish_pending"), 500);
    let next = store.commit(&batch_of(journal, 3, 1)).unwrap();
    assert_eq!((next.stored, next.ledger.committed_seq), (1, Seq(4)), "the store works on");
}
