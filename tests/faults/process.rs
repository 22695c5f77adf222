//! Strikes the process: killed at random instants and at the worst ones, and stopped in order.

use std::time::Duration;

use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::poll::wait_until;

faults![
    without_a_fault_everything_is_stored_once,
    kill_9_at_random_instants_loses_and_doubles_nothing_in_sqlite,
    kill_9_at_random_instants_loses_and_doubles_nothing_in_postgres,
    kill_9_between_append_and_acknowledgement_loses_and_doubles_nothing,
    kill_9_before_the_commit_loses_and_doubles_nothing,
    kill_9_after_the_commit_loses_and_doubles_nothing,
    kill_9_during_the_recovery_loses_and_doubles_nothing,
    a_stop_under_load_is_clean_and_loses_nothing,
];

const MESSAGES: u64 = 2_000;

/// The baseline: no fault.
/// Proves SYS-4.
pub fn without_a_fault_everything_is_stored_once(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    plant.open();
    plant.publish(MESSAGES * run.scale);
    plant.fault_is_over();
    let report = plant.finish();
    assert!(report.verdict.each_once || !run.mutation.is_empty(), "{:#?}", report.verdict);
    report
}

fn kill_9_at_random_instants(mut plant: Plant, run: &mut FaultRun) -> Report {
    plant.open();
    let load = plant.load(MESSAGES * run.scale);
    let mut kills = 0;
    while kills < 2 || (!load.is_over() && kills < 6 * run.scale) {
        // Each run stores something first, so that the kill hits it at work.
        let before = plant.stored();
        if load.is_over() {
            plant.publish(50);
        }
        wait_until("progress before the next kill", || plant.stored() > before || load.is_over());
        run.rng.pause(Duration::from_millis(150));
        plant.kill();
        plant.start();
        kills += 1;
    }
    load.join();
    assert!(kills >= 2, "killed {kills} times only");
    plant.fault_is_over();
    plant.finish()
}

/// Proves SYS-1, SYS-3, SYS-4, SYS-5.
fn kill_9_at_random_instants_loses_and_doubles_nothing_in_sqlite(run: &mut FaultRun) -> Report {
    kill_9_at_random_instants(Plant::sqlite(run), run)
}

/// Proves SYS-1, SYS-3, SYS-4, SYS-5.
fn kill_9_at_random_instants_loses_and_doubles_nothing_in_postgres(run: &mut FaultRun) -> Report {
    kill_9_at_random_instants(Plant::postgres(run), run)
}

/// Holds Andon at `failpoint`, after a random number of passes, kills it there, and starts it again.
fn kill_9_at(failpoint: &str, passes_max: u64, run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    plant.open();
    plant.publish(50);
    plant.wait_until_stored(50);
    for _ in 0..2 * run.scale {
        plant.kill();
        let passes = 1 + run.rng.below(passes_max);
        plant.start_with(&format!("{failpoint}={passes}*off->return(hold)"));
        // It may be held before it logs the connection: a persistent session delivers at once. One commit may do for
        // all that has been published.
        wait_until("Andon to be held", || {
            plant.publish(50);
            std::thread::sleep(Duration::from_millis(20));
            plant.andon().log().contains("held at")
        });
        plant.kill();
        plant.start();
    }
    plant.fault_is_over();
    plant.finish()
}

/// Proves SYS-1.
pub fn kill_9_between_append_and_acknowledgement_loses_and_doubles_nothing(run: &mut FaultRun) -> Report {
    kill_9_at("mqtt::before_ack", 300, run)
}

/// Proves SYS-3.
pub fn kill_9_before_the_commit_loses_and_doubles_nothing(run: &mut FaultRun) -> Report {
    kill_9_at("writer::before_commit", 4, run)
}

/// Proves SYS-3.
fn kill_9_after_the_commit_loses_and_doubles_nothing(run: &mut FaultRun) -> Report {
    kill_9_at("writer::after_commit", 4, run)
}

/// Killed repeatedly while it reads the journal back, before it has caught up.
fn kill_9_during_the_recovery_loses_and_doubles_nothing(run: &mut FaultRun) -> Report {
    let mut plant = Plant::postgres(run);
    plant.open();
    plant.server().stop();
    plant.publish(MESSAGES * run.scale);
    plant.kill();
    for _ in 0..4 {
        // The database is away: everything is still in the journal when the next start recovers it.
        plant.start();
        run.rng.pause(Duration::from_millis(60));
        plant.kill();
    }
    plant.server().restart();
    for _ in 0..3 {
        plant.start();
        run.rng.pause(Duration::from_millis(300));
        plant.kill();
    }
    plant.start();
    plant.fault_is_over();
    plant.finish()
}

fn a_stop_under_load_is_clean_and_loses_nothing(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run);
    plant.open();
    let load = plant.load(MESSAGES * run.scale);
    for _ in 0..3 {
        let before = plant.stored();
        wait_until("progress before the next stop", || plant.stored() > before || load.is_over());
        run.rng.pause(Duration::from_millis(100));
        plant.stop();
        plant.start();
    }
    load.join();
    plant.fault_is_over();
    plant.finish()
}
