//! A child with a fault of its own choosing, and a supervisor that runs such children.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::{Supervisor, *};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Panic,
    Error,
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    Handle,
    Stop,
}

/// Longer than any test waits.
pub(super) const FOR_EVER: Duration = Duration::from_secs(120);
/// Longer than a healthy thread waits for its turn on a busy computer; only for tests in which something hangs.
/// A panic may take longer: with `RUST_BACKTRACE` set, it first looks up its backtrace in the whole test
/// binary.
pub(super) const HANG_AFTER: Duration = Duration::from_secs(3);
/// Longer than a few hangs take; only a failing test waits this long.
const WAIT_MAX: Duration = Duration::from_secs(60);

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
pub(super) struct ProbePlan {
    pub(super) name: &'static str,
    pub(super) strategy: Strategy,
    pub(super) fault: Option<(Fault, Place)>,
    pub(super) faulty_generations: u64,
    pub(super) escalates: bool,
}

impl ProbePlan {
    pub(super) fn sound(name: &'static str, strategy: Strategy) -> Self {
        Self { name, strategy, fault: None, faulty_generations: 0, escalates: true }
    }

    pub(super) fn faulty(
        name: &'static str,
        strategy: Strategy,
        fault: (Fault, Place),
        faulty_generations: u64,
    ) -> Self {
        Self { name, strategy, fault: Some(fault), faulty_generations, escalates: true }
    }

    pub(super) fn hangs(&self) -> bool {
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
pub(super) struct Running {
    pub(super) statuses: Arc<ActorsCell>,
    pub(super) starts: Vec<Arc<AtomicU64>>,
    pub(super) supervisor: Addr<Supervisor>,
    pub(super) exit: std::sync::mpsc::Receiver<i32>,
}

/// The disk answers.
pub(super) fn disk_answers() -> Environment {
    Environment { disk_busy_for: Box::new(|| Duration::ZERO), on_stop: Box::new(|_| {}) }
}

impl Running {
    pub(super) fn new(plans: &[ProbePlan], restarts_max: u32) -> Self {
        Self::with_outside(plans, restarts_max, disk_answers())
    }

    pub(super) fn with_outside(plans: &[ProbePlan], restarts_max: u32, outside: Environment) -> Self {
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

    pub(super) fn status(&self, name: &str) -> ActorStatus {
        let all = self.statuses.snapshot();
        all.into_iter().find(|actor| actor.name == name).expect("every child has a status")
    }

    /// Waits until the child runs in the wanted generation.
    pub(super) fn wait_for(&self, name: &str, generation: u64) -> ActorStatus {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let status = self.status(name);
            if status.generation == generation && status.phase == ActorPhase::Running {
                return status;
            }
            assert!(Instant::now() < deadline, "{name} did not reach generation {generation}: {status:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn shut_down(&self) -> i32 {
        self.supervisor.do_send(Shutdown { exit_code: 0 });
        self.exit_code()
    }

    pub(super) fn exit_code(&self) -> i32 {
        self.exit.recv_timeout(WAIT_MAX).expect("the system ends")
    }
}

pub(super) fn run_system(
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
