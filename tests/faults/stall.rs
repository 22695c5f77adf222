//! Strikes with a disk that stalls: under the journal, during a stop, an exit and a start, and under the database.
//!
//! A stalled disk is no bug of the process: no actor counts as hung, nothing restarts, and a stop still ends within its limit.

use std::time::{Duration, Instant};

use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::http::Client;
use crate::support::poll::wait_until;

faults![
    an_append_that_hangs_restarts_nothing_and_loses_nothing,
    a_sync_that_hangs_restarts_nothing_and_loses_nothing,
    a_sync_that_the_parser_waits_for_restarts_nothing_and_loses_nothing,
    a_stop_while_an_append_hangs_ends_within_ten_seconds_and_loses_nothing,
    a_stop_while_a_sync_hangs_ends_within_ten_seconds_and_loses_nothing,
    an_exit_that_is_decided_does_not_wait_for_the_disk,
    a_stop_while_the_start_hangs_ends_within_ten_seconds,
    a_database_that_hangs_on_its_disk_restarts_nothing_and_loses_nothing,
    a_stop_while_the_database_hangs_is_clean_and_loses_nothing,
];

/// Several times `hang_after`, and long enough for the broker to end the silent connection.
const STALL: Duration = Duration::from_secs(12);
const FOR_EVER: &str = "sleep(600000)";
const STOP_MAX: Duration = Duration::from_secs(10);

fn plant(run: &FaultRun) -> Plant {
    Plant::sqlite(run).set(&["supervisor.hang_after=1s", "supervisor.restarts_max=0", "mqtt.keep_alive=5s"])
}

/// Returns a failpoint that stalls for [`STALL`] after `passes` passes.
fn once(failpoint: &str, passes: u64) -> String {
    format!("{failpoint}={passes}*off->1*sleep({})->off", STALL.as_millis())
}

fn nothing_was_restarted(plant: &mut Plant) {
    let log = plant.andon().log();
    for words in ["will be restarted", "abandoning", "child restarted", "does not help"] {
        assert!(!log.contains(words), "{words}:\n{log}");
    }
}

fn a_stall_of_the_journal(failpoint: &str, run: &mut FaultRun, mut plant: Plant) -> Report {
    plant.open();
    plant.publish(100);
    plant.stop();
    plant.start_with(&once(failpoint, run.rng.below(4)));
    let client = Client::new(&plant.andon().wait_for_http());
    let load = plant.load(600 * run.scale);
    let says = |path: &str| client.get(path).body.contains("disk stalled for ");
    publish_until(&mut plant, |_| says("/readyz") && says("/livez") && says("/api/v1/status"));
    assert_eq!(client.get("/readyz").status, 503);
    assert_eq!(client.get("/livez").status, 200, "a restart mends no disk");
    assert_eq!(client.json("/api/v1/status")["journal"]["state"], "stalled");
    plant.andon().wait_for_log("the disk does not respond");
    plant.andon().wait_for_log("the disk responds again");
    load.join();
    plant.fault_is_over();
    wait_until("ready again", || client.get("/readyz").status == 200);
    nothing_was_restarted(&mut plant);
    plant.finish()
}

fn an_append_that_hangs_restarts_nothing_and_loses_nothing(run: &mut FaultRun) -> Report {
    let plant = plant(run);
    a_stall_of_the_journal("journal::write", run, plant)
}

fn a_sync_that_hangs_restarts_nothing_and_loses_nothing(run: &mut FaultRun) -> Report {
    let sync = *run.rng.pick(&["journal.sync=background", "journal.sync=before_ack"]);
    let plant = plant(run).set(&[sync]);
    a_stall_of_the_journal("journal::sync", run, plant)
}

fn a_sync_that_the_parser_waits_for_restarts_nothing_and_loses_nothing(run: &mut FaultRun) -> Report {
    let plant = plant(run).set(&["journal.sync=os"]);
    a_stall_of_the_journal("journal::sync", run, plant)
}

/// Asserts that the process exits with `code` within ten seconds of `decided`.
fn ends_in_time(plant: &mut Plant, decided: Instant, code: i32) {
    plant.expect_exit(code);
    let took = decided.elapsed();
    assert!(took <= STOP_MAX, "it took {took:?}");
}

/// Publishes until the failpoint has been passed often enough: one sync may do for a whole load.
fn publish_until(plant: &mut Plant, stalls: impl Fn(&mut Plant) -> bool) {
    wait_until("the disk to stall", || {
        plant.publish(10);
        std::thread::sleep(Duration::from_millis(100));
        stalls(plant)
    });
}

fn a_stop_while(failpoint: &str, run: &mut FaultRun) -> Report {
    let mut plant = plant(run);
    plant.open();
    plant.publish(100);
    plant.stop();
    plant.start_with(&format!("{failpoint}={}*off->{FOR_EVER}", run.rng.below(4)));
    let load = plant.load(400 * run.scale);
    publish_until(&mut plant, |plant| plant.andon().log().contains("the disk does not respond"));
    let asked = Instant::now();
    plant.andon().signal("TERM");
    ends_in_time(&mut plant, asked, 1);
    plant.start();
    load.join();
    plant.fault_is_over();
    plant.finish()
}

fn a_stop_while_an_append_hangs_ends_within_ten_seconds_and_loses_nothing(run: &mut FaultRun) -> Report {
    a_stop_while("journal::write", run)
}

fn a_stop_while_a_sync_hangs_ends_within_ten_seconds_and_loses_nothing(run: &mut FaultRun) -> Report {
    a_stop_while("journal::sync", run)
}

/// The parser panics while the disk hangs: exit code 4 is decided, but an orderly stop is impossible.
fn an_exit_that_is_decided_does_not_wait_for_the_disk(run: &mut FaultRun) -> Report {
    let mut plant = plant(run);
    plant.open();
    plant.publish(100);
    plant.stop();
    plant.start_with(&format!("journal::sync={FOR_EVER};parser::handle=40*off->panic"));
    let load = plant.load(400 * run.scale);
    plant.andon().wait_for_log("restarting does not help");
    ends_in_time(&mut plant, Instant::now(), 1);
    plant.start();
    load.join();
    plant.fault_is_over();
    plant.finish()
}

fn a_stop_while_the_start_hangs_ends_within_ten_seconds(run: &mut FaultRun) -> Report {
    let mut plant = plant(run);
    plant.open();
    plant.publish(200 * run.scale);
    plant.stop();
    plant.start_with(&format!("app::opening={FOR_EVER}"));
    plant.andon().wait_for_log("opening the journal");
    let asked = Instant::now();
    plant.andon().signal("TERM");
    ends_in_time(&mut plant, asked, 1);
    plant.start();
    plant.fault_is_over();
    plant.finish()
}

fn a_database_that_hangs_on_its_disk_restarts_nothing_and_loses_nothing(run: &mut FaultRun) -> Report {
    let point = *run.rng.pick(&["writer::before_commit", "writer::after_commit"]);
    // The database either answers in time or is abandoned.
    let timeout = *run.rng.pick(&["store.statement_timeout=1s", "store.statement_timeout=30s"]);
    let mut plant = plant(run).set(&[timeout, "store.connect_timeout=2s"]);
    plant.open_with(&once(point, 2));
    plant.publish(400 * run.scale);
    plant.fault_is_over();
    plant.wait_until_stored(400 * run.scale);
    nothing_was_restarted(&mut plant);
    plant.finish()
}

fn a_stop_while_the_database_hangs_is_clean_and_loses_nothing(run: &mut FaultRun) -> Report {
    let mut plant = plant(run);
    plant.open();
    plant.publish(100);
    plant.stop();
    plant.start_with(&format!("writer::before_commit=1*off->{FOR_EVER}"));
    plant.andon().wait_until_connected();
    plant.publish(400 * run.scale);
    let asked = Instant::now();
    plant.andon().signal("TERM");
    ends_in_time(&mut plant, asked, 0);
    plant.start();
    plant.fault_is_over();
    plant.finish()
}
