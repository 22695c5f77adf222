//! Strikes each actor: it panics, fails or hangs when it starts, when it stops, and repeatedly up to escalation.
//! (`actors_under_fault.rs` strikes it while it works.)

use super::plant::Plant;
use super::{FaultRun, Report, faults};

faults![
    actors_that_panic_at_their_start_heal,
    actors_that_fail_at_their_start_heal,
    actors_that_hang_at_their_start_heal,
    actors_that_panic_while_stopping_lose_nothing,
    actors_that_fail_while_stopping_lose_nothing,
    actors_that_hang_while_stopping_lose_nothing,
    actors_that_panic_again_and_again_end_with_exit_code_4_and_everything_durable,
    actors_that_fail_again_and_again_end_with_exit_code_4_and_everything_durable,
    actors_that_hang_again_and_again_end_with_exit_code_4_and_everything_durable,
];

const ACTORS: [&str; 4] = ["mqtt", "parser", "writer", "liveness"];
const PANIC: &str = "panic";
const FAIL: &str = "return(on purpose)";
/// Longer than `hang_after` and any wait of a test.
const HANG: &str = "sleep(600000)";

fn plant(run: &FaultRun) -> Plant {
    Plant::sqlite(run).set(&["supervisor.hang_after=2s", "supervisor.restarts_max=50"])
}

/// Returns failpoints that make each actor do `action` at `stage`, once.
fn once(actors: &[&str], stage: &str, action: &str) -> String {
    let points = actors.iter().map(|actor| format!("{actor}::{stage}=1*{action}->off"));
    points.collect::<Vec<String>>().join(";")
}

fn at_their_start(action: &str, run: &mut FaultRun) -> Report {
    let mut plant = plant(run);
    // A writer that ends takes the parser with it, so the parser gets a start of its own.
    for actors in [&["mqtt", "writer", "liveness"][..], &["parser"]] {
        plant.open_with(&once(actors, "start", action));
        plant.publish(200 * run.scale);
        let log = plant.andon().log();
        for actor in actors {
            let ended = format!("child: {actor},");
            let says =
                |line: &str| line.contains("child ended and will be restarted") && line.contains(&ended);
            assert!(log.lines().any(says), "{actor} did not end:\n{log}");
        }
        plant.stop();
    }
    plant.start();
    plant.fault_is_over();
    plant.finish()
}

fn actors_that_panic_at_their_start_heal(run: &mut FaultRun) -> Report {
    at_their_start(PANIC, run)
}

fn actors_that_fail_at_their_start_heal(run: &mut FaultRun) -> Report {
    at_their_start(FAIL, run)
}

fn actors_that_hang_at_their_start_heal(run: &mut FaultRun) -> Report {
    at_their_start(HANG, run)
}

/// The service manager kills after ten seconds, so the process must end by itself whatever its actors do.
fn while_stopping(action: &str, run: &mut FaultRun) -> Report {
    let mut plant = plant(run);
    plant.open_with(&once(&ACTORS, "stop", action));
    let load = plant.load(800 * run.scale);
    plant.wait_until_stored(100);
    plant.stop();
    plant.start();
    load.join();
    plant.fault_is_over();
    plant.finish()
}

fn actors_that_panic_while_stopping_lose_nothing(run: &mut FaultRun) -> Report {
    while_stopping(PANIC, run)
}

fn actors_that_fail_while_stopping_lose_nothing(run: &mut FaultRun) -> Report {
    while_stopping(FAIL, run)
}

fn actors_that_hang_while_stopping_lose_nothing(run: &mut FaultRun) -> Report {
    while_stopping(HANG, run)
}

/// One actor after the other does `action` until the supervisor escalates.
fn up_to_escalation(action: &str, run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&["supervisor.restarts_max=3", "supervisor.hang_after=1s"]);
    plant.open();
    plant.publish(100);
    plant.stop();
    for actor in ACTORS {
        let passes = 2 + run.rng.below(6);
        plant.start_with(&format!("{actor}::handle={passes}*off->{action}"));
        // It may end before it is connected; the session keeps what is published.
        plant.publish(200 * run.scale);
        plant.expect_exit(4);
    }
    plant.start();
    plant.fault_is_over();
    plant.finish()
}

fn actors_that_panic_again_and_again_end_with_exit_code_4_and_everything_durable(
    run: &mut FaultRun,
) -> Report {
    up_to_escalation(PANIC, run)
}

fn actors_that_fail_again_and_again_end_with_exit_code_4_and_everything_durable(
    run: &mut FaultRun,
) -> Report {
    up_to_escalation(FAIL, run)
}

fn actors_that_hang_again_and_again_end_with_exit_code_4_and_everything_durable(
    run: &mut FaultRun,
) -> Report {
    up_to_escalation(HANG, run)
}
