//! Strategies, generations, and restarts up to the limit and past it.

use super::*;

#[test]
fn rest_for_one_restarts_the_later_children_of_the_group() {
    for fault in [Fault::Panic, Fault::Error, Fault::Hang] {
        crate::logging::remember_panics();
        let group = Strategy::RestForOne { group: 1 };
        let plans = [
            ProbePlan::faulty("writer", group, (fault, Place::Handle), 1),
            ProbePlan::sound("between", Strategy::OneForOne),
            ProbePlan::sound("parser", group),
        ];
        let running = Running::new(&plans, 5);
        running.wait_for("writer", 2);
        let parser = running.wait_for("parser", 2);
        assert_eq!(parser.last_exit.as_deref(), Some("stopped"), "it was asked to stop");
        assert_eq!(parser.restarts, 0, "the restart is the writer's");
        assert_eq!(running.status("between").generation, 1);
        assert_eq!(running.shut_down(), 0);
    }
}

#[test]
fn a_later_child_of_the_group_does_not_restart_the_earlier_one() {
    crate::logging::remember_panics();
    let group = Strategy::RestForOne { group: 1 };
    let plans = [
        ProbePlan::sound("writer", group),
        ProbePlan::faulty("parser", group, (Fault::Panic, Place::Handle), 1),
    ];
    let running = Running::new(&plans, 5);
    running.wait_for("parser", 2);
    assert_eq!(running.status("writer").generation, 1);
    assert_eq!(running.shut_down(), 0);
}

/// Proves SUP-5.
#[test]
fn a_child_that_hangs_when_its_group_restarts_is_replaced() {
    crate::logging::remember_panics();
    let group = Strategy::RestForOne { group: 1 };
    let plans = [
        ProbePlan::faulty("writer", group, (Fault::Panic, Place::Handle), 1),
        ProbePlan::faulty("parser", group, (Fault::Hang, Place::Stop), 1),
    ];
    let running = Running::new(&plans, 5);
    running.wait_for("parser", 2);
    assert_eq!(running.starts[1].load(Ordering::SeqCst), 2);
    assert_eq!(running.shut_down(), 0);
}

/// Proves SUP-4.
#[test]
fn restarts_up_to_the_limit_heal_and_one_past_it_escalates() {
    crate::logging::remember_panics();
    let healing = |fault| ProbePlan::faulty("probe", Strategy::OneForOne, (fault, Place::Handle), 3);
    let heals = |fault| {
        let running = Running::new(&[healing(fault)], 3);
        running.wait_for("probe", 4);
        assert_eq!(running.shut_down(), 0);
    };
    let escalates = |fault| {
        let running = Running::new(&[ProbePlan::sound("other", Strategy::OneForOne), healing(fault)], 2);
        assert_eq!(running.exit_code(), EXIT_GAVE_UP);
        assert_eq!(running.status("other").last_exit.as_deref(), Some("stopped"), "the others stop in order");
    };
    // Side by side, for a hang takes its time.
    thread::scope(|scope| {
        for fault in [Fault::Panic, Fault::Error, Fault::Hang] {
            scope.spawn(move || heals(fault));
            scope.spawn(move || escalates(fault));
        }
    });
}

/// Proves SUP-1.
#[test]
fn the_late_exit_of_an_older_generation_changes_nothing() {
    crate::logging::remember_panics();
    let plan = ProbePlan::faulty("probe", Strategy::OneForOne, (Fault::Panic, Place::Handle), 1);
    let running = Running::new(&[plan], 1);
    running.wait_for("probe", 2);
    let late = ChildExited { child: 0, generation: 1, reason: ExitReason::Failed("late".to_owned()) };
    running.supervisor.do_send(late);
    assert_eq!(running.shut_down(), 0, "counted, it would exceed the limit");
    let status = running.status("probe");
    assert_eq!((status.generation, status.restarts, status.last_exit.as_deref()), (2, 1, Some("stopped")));
}

/// Proves SUP-6.
#[test]
fn a_child_that_does_not_escalate_is_restarted_past_the_limit_and_uses_up_none_of_it() {
    crate::logging::remember_panics();
    let fault = (Fault::Panic, Place::Handle);
    let shown = ProbePlan { escalates: false, ..ProbePlan::faulty("shown", Strategy::OneForOne, fault, 5) };
    let stored = ProbePlan::faulty("stored", Strategy::OneForOne, fault, 2);
    let running = Running::new(&[shown, stored], 2);
    running.wait_for("shown", 6);
    running.wait_for("stored", 3);
    assert_eq!(running.shut_down(), 0);
}
