//! Events, machines and sightings.

use super::fixture::{Fixture, at, changes, machine, nothing, transition};
use crate::domain::{MachineStatus, Seq, TransitionReason};
use crate::store::MachineRow;

const EVENT: [&str; 6] = ["machine_id", "status", "previous_status", "reason", "occurred_at", "last_seen_at"];

pub fn transitions_make_events_and_machines_once(fixture: &Fixture) {
    use MachineStatus::{Offline, Online};
    let (mut store, journal) = fixture.with_journal();
    let sent = changes(
        journal,
        0,
        vec![
            transition("press-1", TransitionReason::FirstSeen, 0, None),
            transition("ghost", TransitionReason::NeverSeen, 7, None),
            transition("press-1", TransitionReason::Silence, 15_000_000, Some(Online)),
            transition("press-1", TransitionReason::Message, 60_000_000, Some(Offline)),
        ],
    );
    for _ in 0..2 {
        store.commit(&sent).unwrap();
        let mut raw = fixture.raw();
        assert_eq!(
            raw.rows(&EVENT, "machine_event ORDER BY id"),
            [
                "press-1|online|-|first_seen|2026-01-05 06:39:59.000001+00:00|2026-01-05 06:39:59.000001+00:00",
                "ghost|offline|-|never_seen|2026-01-05 06:39:59.000008+00:00|-",
                "press-1|offline|online|silence|2026-01-05 06:40:14.000001+00:00|2026-01-05 06:39:59.000001+00:00",
                "press-1|online|offline|message|2026-01-05 06:40:59.000001+00:00|2026-01-05 06:40:59.000001+00:00",
            ]
        );
        let ghost = MachineRow {
            machine_id: machine("ghost"),
            status: Offline,
            status_since: Some(at(7)),
            reason: Some(TransitionReason::NeverSeen),
            first_seen_at: None,
            last_seen_at: None,
        };
        let press = MachineRow {
            machine_id: machine("press-1"),
            status: Online,
            status_since: Some(at(60_000_000)),
            reason: Some(TransitionReason::Message),
            first_seen_at: Some(at(0)),
            last_seen_at: Some(at(60_000_000)),
        };
        assert_eq!(store.machines().unwrap(), [ghost, press]);
    }
    assert_eq!(store.checkpoint(journal).unwrap().unwrap().ledger.committed_seq, Seq::ZERO);

    // The ghost sends its first message.
    store
        .commit(&changes(
            journal,
            0,
            vec![transition("ghost", TransitionReason::FirstSeen, 99, Some(Offline))],
        ))
        .unwrap();
    let ghost = &store.machines().unwrap()[0];
    assert_eq!((ghost.status, ghost.first_seen_at, ghost.last_seen_at), (Online, Some(at(99)), Some(at(99))));
}

pub fn the_last_status_wins_whatever_its_time(fixture: &Fixture) {
    use MachineStatus::{Offline, Online};
    let (mut store, journal) = fixture.with_journal();
    // The clock is set back between the second and the third.
    let history = [
        transition("m", TransitionReason::FirstSeen, 60_000_000, None),
        transition("m", TransitionReason::Silence, 80_000_000, Some(Online)),
        transition("m", TransitionReason::Message, 10_000_000, Some(Offline)),
        transition("m", TransitionReason::Silence, 30_000_000, Some(Online)),
    ];
    for batch_size in 1..=4 {
        let mut own = history.clone();
        own.iter_mut().for_each(|each| each.machine_id = machine(&format!("m{batch_size}")));
        for run in own.chunks(batch_size) {
            store.commit(&changes(journal, 0, run.to_vec())).unwrap();
        }
        // An abandoned writer may send any first part of it late.
        for length in 1..=4 {
            store.commit(&changes(journal, 0, own[..length].to_vec())).unwrap();
        }
    }
    let machines = store.machines().unwrap();
    assert_eq!(machines.len(), 4);
    for row in machines {
        assert_eq!((row.status, row.status_since), (Offline, Some(at(30_000_000))), "{row:?}");
        assert_eq!(
            (row.first_seen_at, row.last_seen_at),
            (Some(at(60_000_000)), Some(at(15_000_000))),
            "{row:?}"
        );
    }
    assert_eq!(fixture.raw().count("machine_event"), 4 * 4);
}

pub fn sightings_update_known_machines_even_when_the_clock_goes_back(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let mut first = changes(
        journal,
        0,
        vec![
            transition("a", TransitionReason::FirstSeen, 10, None),
            transition("ghost", TransitionReason::NeverSeen, 10, None),
        ],
    );
    // Created in the same batch.
    first.sightings = vec![(machine("a"), at(900)), (machine("nobody"), at(1))];
    store.commit(&first).unwrap();
    let last_seen = |rows: Vec<MachineRow>| rows.into_iter().map(|row| row.last_seen_at).collect::<Vec<_>>();
    assert_eq!(last_seen(store.machines().unwrap()), [Some(at(900)), None]);

    let mut second = nothing(journal, Seq::ZERO);
    second.sightings = vec![(machine("a"), at(899)), (machine("ghost"), at(5))];
    store.commit(&second).unwrap();
    assert_eq!(last_seen(store.machines().unwrap()), [Some(at(899)), Some(at(5))]);
}
