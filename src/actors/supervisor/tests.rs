//! The matrix {panic, error, hang} × {start, handle, stop}, with real actors on real threads.

mod probe;
mod restarts;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;

use self::probe::{Fault, HANG_AFTER, Place, ProbePlan, Running, disk_answers, run_system};
use super::{Supervisor, *};

fn expected_words(fault: Fault) -> &'static str {
    match fault {
        Fault::Panic => "panicked: probe panics",
        Fault::Error => "failed: probe fails",
        Fault::Hang => "hung: no heartbeat",
    }
}

fn a_fault_while_running_restarts_the_child(fault: Fault, place: Place) {
    crate::logging::remember_panics();
    let plan = ProbePlan::faulty("probe", Strategy::OneForOne, (fault, place), 2);
    let other = ProbePlan::sound("other", Strategy::OneForOne);
    let running = Running::new(&[plan, other], 5);
    let status = running.wait_for("probe", 3);
    assert_eq!(status.restarts, 2);
    let last_exit = status.last_exit.expect("a reason");
    assert!(last_exit.starts_with(expected_words(fault)), "{last_exit}");
    assert_eq!(running.status("other").generation, 1, "one_for_one leaves the others alone");
    assert_eq!(running.shut_down(), 0);
}

#[test]
fn a_panic_at_the_start_restarts_the_child() {
    a_fault_while_running_restarts_the_child(Fault::Panic, Place::Start);
}

#[test]
fn a_panic_in_a_handler_restarts_the_child() {
    a_fault_while_running_restarts_the_child(Fault::Panic, Place::Handle);
}

#[test]
fn an_error_at_the_start_restarts_the_child() {
    a_fault_while_running_restarts_the_child(Fault::Error, Place::Start);
}

#[test]
fn an_error_in_a_handler_restarts_the_child() {
    a_fault_while_running_restarts_the_child(Fault::Error, Place::Handle);
}

#[test]
fn a_hang_at_the_start_restarts_the_child() {
    a_fault_while_running_restarts_the_child(Fault::Hang, Place::Start);
}

/// Proves SUP-5.
#[test]
fn a_hang_in_a_handler_restarts_the_child() {
    a_fault_while_running_restarts_the_child(Fault::Hang, Place::Handle);
}

/// Proves SUP-7.
#[test]
fn no_child_counts_as_hung_while_the_disk_stalls() {
    let busy_ms = Arc::new(AtomicU64::new(60_000));
    let (stopped_out, stopped) = channel();
    let clock = Arc::clone(&busy_ms);
    let outside = Environment {
        disk_busy_for: Box::new(move || Duration::from_millis(clock.load(Ordering::SeqCst))),
        on_stop: Box::new(move |exit_code| stopped_out.send(exit_code).expect("the test listens")),
    };
    let plan = ProbePlan::faulty("probe", Strategy::OneForOne, (Fault::Hang, Place::Handle), 1);
    let running = Running::with_outside(&[plan], 0, outside);
    let stalled_until = Instant::now() + HANG_AFTER * 2;
    while Instant::now() < stalled_until {
        assert_eq!(running.status("probe").generation, 1);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(stopped.try_recv().is_err());
    // Once the disk answers, a child that does not is hung.
    busy_ms.store(1, Ordering::SeqCst);
    assert_eq!(running.exit_code(), EXIT_GAVE_UP);
    assert_eq!(stopped.try_iter().collect::<Vec<_>>(), [EXIT_GAVE_UP], "called once, at the decision");
}

fn a_fault_while_stopping_does_not_keep_the_process(fault: Fault) {
    crate::logging::remember_panics();
    let plans = [
        ProbePlan::sound("downstream", Strategy::OneForOne),
        ProbePlan::faulty("probe", Strategy::OneForOne, (fault, Place::Stop), 9),
    ];
    let running = Running::new(&plans, 5);
    running.wait_for("probe", 1);
    assert_eq!(running.shut_down(), 0);
    assert!(running.status("probe").last_exit.expect("a reason").starts_with(expected_words(fault)));
    assert_eq!(running.status("downstream").last_exit.as_deref(), Some("stopped"));
}

#[test]
fn a_panic_while_stopping_does_not_keep_the_process() {
    a_fault_while_stopping_does_not_keep_the_process(Fault::Panic);
}

#[test]
fn an_error_while_stopping_does_not_keep_the_process() {
    a_fault_while_stopping_does_not_keep_the_process(Fault::Error);
}

#[test]
fn a_hang_while_stopping_does_not_keep_the_process() {
    a_fault_while_stopping_does_not_keep_the_process(Fault::Hang);
}

/// Sends its name when it is asked to stop.
struct Noting(ExitGuard, &'static str, Sender<&'static str>);

impl Actor for Noting {
    type Context = Context<Self>;
}

impl Handler<Heartbeat> for Noting {
    type Result = ();

    fn handle(&mut self, _: Heartbeat, _: &mut Context<Self>) {}
}

impl Handler<StopChild> for Noting {
    type Result = ();

    fn handle(&mut self, _: StopChild, context: &mut Context<Self>) {
        self.2.send(self.1).expect("the test listens");
        self.0.finish();
        context.stop();
    }
}

/// Proves SUP-2.
#[test]
fn children_stop_in_the_reverse_order_of_their_start() {
    let (out, order) = channel();
    let specs = ["writer", "parser", "mqtt"]
        .map(|name| {
            let out = out.clone();
            ChildSpec {
                name,
                strategy: Strategy::OneForOne,
                escalates: true,
                stop_within: Duration::from_secs(5),
                start: Box::new(move |context| {
                    let out = out.clone();
                    context.spawn(8, move |exit_guard| Noting(exit_guard, name, out)).0
                }),
            }
        })
        .into_iter()
        .collect();
    let options = SupervisorOptions {
        restarts_max: 1,
        period: Duration::from_secs(1),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
        hang_after: Duration::from_secs(5),
    };
    let (address_out, address_in) = channel();
    let (exit_out, exit) = channel();
    thread::spawn(move || {
        run_system(specs, options, disk_answers(), Arc::default(), &address_out, &exit_out)
    });
    let supervisor = address_in.recv_timeout(Duration::from_secs(10)).expect("the supervisor starts");
    supervisor.do_send(Shutdown { exit_code: 0 });
    assert_eq!(exit.recv_timeout(Duration::from_secs(20)), Ok(0));
    assert_eq!(order.try_iter().collect::<Vec<_>>(), ["mqtt", "parser", "writer"]);
}
