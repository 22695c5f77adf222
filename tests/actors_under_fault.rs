//! Makes every actor panic, fail and hang in the real process: it recovers, and nothing is lost.

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;

const TOPIC: &str = "factory/machine/{machine}/telemetry";
/// Longer than `hang_after`, and longer than the test waits.
const HANG: &str = "sleep(120000)";

/// Arms a failpoint, publishes, and expects a restart of `child` and every row.
fn the_pipeline_heals(failpoint: &str, child: &str, reason: &str) {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("supervisor.hang_after=4s").set("supervisor.backoff_min=20ms");
    let mut andon = site.run_with(failpoint);
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 5, 0..400, 1);
    // On a loaded computer another child may count as hung, too.
    let ended = |line: &str| {
        line.contains("child ended and will be restarted")
            && line.contains(&format!("child: {child},"))
            && line.contains(reason)
    };
    let mut published = 400;
    wait_until("the child's end", || {
        let has_ended = andon.log().lines().any(ended);
        if !has_ended {
            // A few large batches may pass the point less often than it takes: more of them bring it on.
            publisher::publish_numbered(broker.port(), TOPIC, 5, published..published + 5, 1);
            published += 5;
        }
        has_ended
    });
    publisher::publish_numbered(broker.port(), TOPIC, 5, published..published + 400, 1);
    let all = i64::try_from(published).unwrap() + 400;
    wait_until("every row", || rows_stored(&site.sqlite_url()) == all);
    assert!(andon.stop().success());
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    assert_eq!(database.number("SELECT messages - stored - duplicate AS value FROM ingest_checkpoint"), 0);
    let first_seen = "SELECT count(*) AS value FROM machine_event WHERE reason = 'first_seen'";
    assert_eq!(database.number(first_seen), 5, "one event for each change, in spite of restarts");
}

macro_rules! fault_matrix {
    ($($name:ident: $point:literal, $child:literal;)*) => {$(
        mod $name {
            #[test]
            fn a_panic_heals() {
                super::the_pipeline_heals(concat!($point, "=3*off->1*panic->off"), $child, "panicked");
            }

            #[test]
            fn an_error_heals() {
                super::the_pipeline_heals(concat!($point, "=3*off->1*return(on purpose)->off"), $child, "failed");
            }

            #[test]
            fn a_hang_heals() {
                let armed = format!(concat!($point, "=3*off->1*{}->off"), super::HANG);
                super::the_pipeline_heals(&armed, $child, "hung");
            }
        }
    )*};
}

fault_matrix! {
    mqtt: "mqtt::handle", "mqtt";
    parser: "parser::parse", "parser";
    writer: "writer::handle", "writer";
    liveness: "liveness::observe", "liveness";
}

#[test]
fn a_panic_in_the_message_callback_loses_no_message() {
    the_pipeline_heals("mqtt::callback=50*off->1*panic->off", "mqtt", "panicked");
}

/// A failure around the commit restarts no actor: the batch is tried again, or found to be committed.
fn a_failed_commit_is_settled(failpoint: &str) {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run_with(failpoint);
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 5, 0..500, 1);
    wait_until("every row", || rows_stored(&site.sqlite_url()) == 500);
    andon.wait_for_log("the database works again");
    // The process shows the ledger of the database, even if the commit's answer was lost.
    andon.wait_for_log("stored: 500, duplicate: 0, rejected: 0, control: 0");
    assert!(andon.stop().success());
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    assert_eq!(database.number("SELECT stored AS value FROM ingest_checkpoint"), 500);
    assert_eq!(database.number("SELECT duplicate AS value FROM ingest_checkpoint"), 0);
}

/// Proves WRI-3.
#[test]
fn an_error_before_the_commit_is_retried() {
    a_failed_commit_is_settled("writer::before_commit=1*off->2*return(away)->off");
}

/// Proves SYS-3, WRI-2.
#[test]
fn an_error_after_the_commit_is_settled_by_the_position() {
    a_failed_commit_is_settled("writer::after_commit=1*off->2*return(connection cut)->off");
}

/// Proves SYS-3, SYS-4.
#[test]
fn the_ledger_shown_is_exact_though_most_commits_are_in_doubt() {
    // Not all: a batch that does not move the position cannot be found to be done, and is stored until the answer comes.
    a_failed_commit_is_settled("writer::after_commit=1*return(connection cut)->70%return(connection cut)");
}

#[test]
fn a_panic_in_the_database_thread_is_settled() {
    a_failed_commit_is_settled("writer::after_commit=1*off->1*panic->off");
}

/// Proves SUP-4.
#[test]
fn restarts_that_do_not_help_end_with_exit_code_4_and_everything_durable() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("supervisor.restarts_max=3").set("supervisor.backoff_min=20ms");
    let mut andon = site.run_with("parser::parse=5*off->panic");
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 5, 0..300, 1);
    assert_eq!(andon.wait().code(), Some(4), "{}", andon.log());
    assert!(andon.log().contains("restarting does not help"));

    let mut andon = site.run();
    wait_until("every row after a clean start", || rows_stored(&site.sqlite_url()) == 300);
    // They may be there already; a signal in the first milliseconds of a process finds no handler yet.
    andon.wait_until_connected();
    assert!(andon.stop().success());
}

/// Proves SYS-1.
#[test]
fn a_journal_that_cannot_append_stops_the_process_and_loses_nothing() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run_with("journal::append=100*off->1*return->off");
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 5, 0..300, 1);
    assert_eq!(andon.wait().code(), Some(1), "{}", andon.log());
    assert!(andon.log().contains("could not be journaled and is not acknowledged"), "{}", andon.log());

    let mut andon = site.run();
    wait_until("every row after the next start", || rows_stored(&site.sqlite_url()) == 300);
    // They may be there already; a signal in the first milliseconds of a process finds no handler yet.
    andon.wait_until_connected();
    assert!(andon.stop().success());
}
