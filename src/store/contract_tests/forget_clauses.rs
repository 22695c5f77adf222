//! Machines that are to be forgotten.

use super::fixture::{Fixture, at, changes, machine, nothing, transition};
use crate::domain::{MachineStatus, Seq, Timestamp, TransitionReason};
use crate::store::{ForgetChange, ForgetRequest, PastWanted, Store};

fn request(name: &str, at_micros: i64, removed: bool) -> ForgetRequest {
    ForgetRequest { machine_id: machine(name), requested_at: at(at_micros), removed }
}

fn change(name: &str, at_micros: i64, removes: bool, cleared: bool) -> ForgetChange {
    ForgetChange { machine_id: machine(name), requested_at: at(at_micros), removes, cleared }
}

fn names(store: &mut dyn Store) -> Vec<String> {
    store.machines().unwrap().into_iter().map(|row| row.machine_id.to_string()).collect()
}

pub fn a_request_deletes_the_row_and_stays_until_the_status_is_cleared(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let first = |name: &str| transition(name, TransitionReason::FirstSeen, 0, None);
    store.commit(&changes(journal, 0, vec![first("a"), first("b")])).unwrap();
    let unknown = store.request_forget(&[machine("a"), machine("typo")], at(10)).unwrap();
    assert_eq!((unknown, names(&mut *store)), (vec![machine("typo")], vec!["b".to_owned()]));
    assert_eq!(store.forget_requests().unwrap(), [request("a", 10, false)]);
    let wanted = PastWanted { changes_since: Timestamp::from_micros(0), rows_max: 9 };
    assert_eq!(store.liveness_past(wanted).unwrap().forgets, [request("a", 10, false)]);

    // A change that was on its way makes the row again; the service deletes it behind that, and before what comes next.
    let silence = transition("a", TransitionReason::Silence, 20, Some(MachineStatus::Online));
    store.commit(&changes(journal, 0, vec![silence])).unwrap();
    assert_eq!(names(&mut *store), ["a", "b"]);
    let mut removing = nothing(journal, Seq::ZERO);
    removing.liveness.forgets = vec![change("a", 10, true, false)];
    for _ in 0..2 {
        store.commit(&removing).unwrap();
        assert_eq!(
            (names(&mut *store), store.forget_requests().unwrap()),
            (vec!["b".to_owned()], vec![request("a", 10, true)])
        );
    }
    let mut back = changes(journal, 0, vec![transition("a", TransitionReason::FirstSeen, 30, None)]);
    back.liveness.forgets = vec![change("a", 10, true, true)];
    store.commit(&back).unwrap();
    assert_eq!(
        (names(&mut *store), store.forget_requests().unwrap()),
        (vec!["a".to_owned(), "b".to_owned()], vec![])
    );
    let mut raw = fixture.raw();
    assert_eq!(raw.count("machine_event WHERE machine_id = 'a'"), 3, "its events stay");
}

pub fn a_later_request_of_the_same_machine_is_not_done_by_an_earlier_change(fixture: &Fixture) {
    let (mut store, journal) = fixture.with_journal();
    let first = transition("a", TransitionReason::FirstSeen, 0, None);
    store.commit(&changes(journal, 0, vec![first.clone()])).unwrap();
    store.request_forget(&[machine("a")], at(10)).unwrap();
    store.commit(&changes(journal, 0, vec![transition("a", TransitionReason::FirstSeen, 15, None)])).unwrap();
    store.request_forget(&[machine("a")], at(20)).unwrap();
    let mut done = nothing(journal, Seq::ZERO);
    done.liveness.forgets = vec![change("a", 10, true, false), change("a", 10, false, true)];
    store.commit(&done).unwrap();
    assert_eq!(store.forget_requests().unwrap(), [request("a", 20, false)]);
}
