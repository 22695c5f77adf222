//! The matrix {panic, error, hang} × {start, handle, stop}, strategies, intensity and escalation, with real
//! actors on real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::{Supervisor, *};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Panic,
    Error,
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Handle,
    Stop,
}

/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_secs(120);
/// Longer than a healthy thread waits for its turn on a busy computer; only for tests in which something hangs.
/// A panic may take longer: with `RUST_BACKTRACE` set, it first looks up its backtrace in the whole test
/// binary.
const HANG_AFTER: Duration = Duration::from_secs(3);
/// Longer than a few hangs take; only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// An actor with one fault at one place, in its first `faulty_generations` incarnations.
struct Probe {
    fault: Option<(Fault, Place)>,
    exit_guard: ExitGuard,
    starts: Arc<AtomicU64>,
}

impl Probe {
    fn misbehave(&mut self, place: Place, context: &mut Context<Self>) {
        match self.fault {
            Some((Fault::Panic, here)) if here == place => panic!("probe panics at {place:?}"),
            Some((Fault::Error, here)) if here == place => {
                self.exit_guard.fail(format!("probe fails at {place:?}"));
                context.stop();
            }
            Some((Fault::Hang, here)) if here == place => thread::sleep(FOR_EVER),
            _ => {}
        }
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.starts.fetch_add(1, Ordering::SeqCst);
        self.misbehave(Place::Start, context);
    }
}

impl Handler<Heartbeat> for Probe {
    type Result = ();

    fn handle(&mut self, _: Heartbeat, context: &mut Context<Self>) {
        self.misbehave(Place::Handle, context);
    }
}

impl Handler<StopChild> for Probe {
    type Result = ();

    fn handle(&mut self, _: StopChild, context: &mut Context<Self>) {
        self.misbehave(Place::Stop, context);
        self.exit_guard.finish();
        context.stop();
    }
}

#[derive(Clone)]
struct ProbePlan {
    name: &'static str,
    strategy: Strategy,
    fault: Option<(Fault, Place)>,
    faulty_generations: u64,
    escalates: bool,
}

impl ProbePlan {
    fn sound(name: &'static str, strategy: Strategy) -> Self {
        Self { name, strategy, fault: None, faulty_generations: 0, escalates: true }
    }

    fn faulty(
        name: &'static str,
        strategy: Strategy,
        fault: (Fault, Place),
        faulty_generations: u64,
    ) -> Self {
        Self { name, strategy, fault: Some(fault), faulty_generations, escalates: true }
    }

    fn hangs(&self) -> bool {
        self.fault.is_some_and(|(fault, _)| fault == Fault::Hang)
    }
}

fn probe_spec(plan: ProbePlan, hang_after: Duration, starts: Arc<AtomicU64>) -> ChildSpec {
    ChildSpec {
        name: plan.name,
        strategy: plan.strategy,
        escalates: plan.escalates,
        stop_within: hang_after,
        start: Box::new(move |context| {
            let faulty = context.generation <= plan.faulty_generations;
            let fault = plan.fault.filter(|_| faulty);
            let starts = Arc::clone(&starts);
            context.spawn(8, move |exit_guard| Probe { fault, exit_guard, starts }).0
        }),
    }
}

/// A supervisor running on a thread of its own, as in the program.
struct Running {
    statuses: Arc<ActorsCell>,
    starts: Vec<Arc<AtomicU64>>,
    supervisor: Addr<Supervisor>,
    exit: std::sync::mpsc::Receiver<i32>,
}

/// The disk answers.
fn disk_answers() -> Environment {
    Environment { disk_busy_for: Box::new(|| Duration::ZERO), on_stop: Box::new(|_| {}) }
}

impl Running {
    fn new(plans: &[ProbePlan], restarts_max: u32) -> Self {
        Self::with_outside(plans, restarts_max, disk_answers())
    }

    fn with_outside(plans: &[ProbePlan], restarts_max: u32, outside: Environment) -> Self {
        let statuses = Arc::new(ActorsCell::default());
        let starts: Vec<_> = plans.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
        let hang_after = if plans.iter().any(ProbePlan::hangs) { HANG_AFTER } else { FOR_EVER };
        let specs: Vec<_> = plans
            .iter()
            .zip(&starts)
            .map(|(plan, starts)| probe_spec(plan.clone(), hang_after, Arc::clone(starts)))
            .collect();
        let options = SupervisorOptions {
            restarts_max,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(20),
            hang_after,
        };
        let (address_out, address_in) = channel();
        let (exit_out, exit) = channel();
        let for_system = Arc::clone(&statuses);
        thread::spawn(move || run_system(specs, options, outside, for_system, &address_out, &exit_out));
        let supervisor = address_in.recv_timeout(Duration::from_secs(10)).expect("the supervisor starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        while statuses.snapshot().len() < starts.len() {
            assert!(Instant::now() < deadline, "not every child was started");
            thread::sleep(Duration::from_millis(1));
        }
        Self { statuses, starts, supervisor, exit }
    }

    fn status(&self, name: &str) -> ActorStatus {
        let all = self.statuses.snapshot();
        all.into_iter().find(|actor| actor.name == name).expect("every child has a status")
    }

    /// Waits until the child runs in the wanted generation.
    fn wait_for(&self, name: &str, generation: u64) -> ActorStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(name);
            if status.generation == generation && status.phase == ActorPhase::Running {
                return status;
            }
            assert!(Instant::now() < deadline, "{name} did not reach generation {generation}: {status:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn shut_down(&self) -> i32 {
        self.supervisor.do_send(Shutdown { exit_code: 0 });
        self.exit_code()
    }

    fn exit_code(&self) -> i32 {
        self.exit.recv_timeout(PATIENCE).expect("the system ends")
    }
}

fn run_system(
    specs: Vec<ChildSpec>,
    options: SupervisorOptions,
    outside: Environment,
    statuses: Arc<ActorsCell>,
    address_out: &Sender<Addr<Supervisor>>,
    exit_out: &Sender<i32>,
) {
    let system = System::new();
    system.block_on(async {
        let logger = Logger::root(slog::Discard, o!());
        let supervisor = Supervisor::new(specs, options, outside, statuses, &logger).start();
        address_out.send(supervisor).expect("the test waits for the address");
    });
    let code = system.run_with_code().expect("the system runs");
    // The test may have ended without waiting for it.
    let _test_ended = exit_out.send(code);
}

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

/// Proves SUP-2.
#[test]
fn children_stop_in_the_reverse_order_of_their_start() {
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
