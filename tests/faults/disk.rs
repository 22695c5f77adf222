//! Strikes the journal's disk: full and freed, failing calls, and `journal.max_bytes` reached.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kinds;
use super::plant::Plant;
use super::tmpfs::Disk;
use super::{FaultRun, Report, faults};
use crate::support::poll::wait_until;

faults![
    a_full_disk_under_the_journal_holds_and_loses_nothing,
    an_append_that_fails_stops_the_process_and_loses_nothing,
    a_sync_that_fails_stops_the_process_and_loses_nothing,
    a_rotation_that_fails_stops_the_process_and_loses_nothing,
    a_deletion_that_fails_is_tried_again_and_loses_nothing,
    a_full_journal_holds_and_loses_nothing,
    a_full_journal_drops_the_oldest_and_records_which,
];

const HOLDS: &str = "the journal is full: leaving the broker";
const ROOM: &str = "the journal has room again";

fn a_full_disk_under_the_journal_holds_and_loses_nothing(run: &mut FaultRun) -> Report {
    let disk = Disk::new(4 * 1024 * 1024);
    let mut plant = Plant::postgres(run)
        .set(&["journal.segment_bytes=128KiB"])
        .with_journal_in(disk.path().join("journal"));
    plant.open();
    for round in 1..=usize::try_from(run.scale).unwrap() {
        // With the database away everything stays on the disk.
        plant.server().stop();
        plant.publish(run.rng.below(800));
        disk.fill();
        plant.publish(4_000);
        let said = |plant: &Plant, text: &str| {
            plant.andon.as_ref().is_some_and(|andon| andon.log().matches(text).count() >= round)
        };
        wait_until("the disk to be full in this round", || said(&plant, "reason: disk_full"));
        disk.free();
        plant.server().restart();
        plant.fault_is_over();
        wait_until("room", || said(&plant, ROOM));
    }
    let report = plant.finish();
    drop(disk);
    report
}

/// The process ends rather than acknowledge what is not in the journal; started again, it has lost nothing.
fn an_error_that_ends_the_process(settings: &[&str], failpoint: &str, run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(settings);
    plant.open();
    plant.publish(100);
    for _ in 0..run.scale {
        plant.stop();
        plant.start_with(failpoint);
        plant.andon().wait_until_connected();
        let load = plant.load(1_500);
        plant.expect_exit(1);
        plant.start();
        load.join();
    }
    plant.fault_is_over();
    plant.finish()
}

/// Proves SYS-1.
fn an_append_that_fails_stops_the_process_and_loses_nothing(run: &mut FaultRun) -> Report {
    let failpoint = format!("journal::append={}*off->1*return->off", run.rng.below(800));
    an_error_that_ends_the_process(&[], &failpoint, run)
}

/// Proves SYS-2.
fn a_sync_that_fails_stops_the_process_and_loses_nothing(run: &mut FaultRun) -> Report {
    let failpoint = format!("journal::sync={}*off->1*return->off", run.rng.below(8));
    let sync = *run.rng.pick(&["journal.sync=background", "journal.sync=before_ack", "journal.sync=os"]);
    an_error_that_ends_the_process(&[sync], &failpoint, run)
}

fn a_rotation_that_fails_stops_the_process_and_loses_nothing(run: &mut FaultRun) -> Report {
    an_error_that_ends_the_process(&["journal.segment_bytes=64KiB"], "journal::rotate=1*return->off", run)
}

fn a_deletion_that_fails_is_tried_again_and_loses_nothing(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&["journal.segment_bytes=64KiB"]);
    plant.open_with("journal::trim=2*return->off");
    plant.publish(1_500 * run.scale);
    plant.andon().wait_for_log("the journal cannot maintain its files");
    plant.fault_is_over();
    let journal = plant.journal_dir.clone();
    let segments = || {
        let entries = std::fs::read_dir(&journal).unwrap().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "seg")).count()
    };
    wait_until("the files to be deleted", || segments() <= 2);
    plant.finish()
}

fn with_a_small_journal(plant: Plant) -> Plant {
    plant.set(&[
        "journal.max_bytes=512KiB",
        "journal.segment_bytes=64KiB",
        // Batches in memory are not dropped. With small batches the journal is.
        "store.batch_max=100",
    ])
}

fn a_full_journal_holds_and_loses_nothing(run: &mut FaultRun) -> Report {
    // The journal fills again while Andon connects and gets its backlog. Waiting for an answer that can no longer come would
    // take these ten minutes.
    let mut plant = with_a_small_journal(Plant::postgres(run)).set(&["mqtt.connect_timeout=10m"]);
    plant.open();
    for _ in 0..run.scale {
        plant.server().stop();
        plant.publish(6_000);
        plant.andon().wait_for_log(HOLDS);
        run.rng.pause(Duration::from_millis(200));
        plant.server().restart();
        plant.fault_is_over();
        plant.andon().wait_for_log(ROOM);
    }
    plant.finish()
}

/// `drop_oldest` loses messages by configuration: exactly those that `journal_gap` names.
fn a_full_journal_drops_the_oldest_and_records_which(run: &mut FaultRun) -> Report {
    let mut plant = with_a_small_journal(Plant::postgres(run)).set(&["journal.when_full=drop_oldest"]);
    plant.open();
    plant.server().stop();
    plant.publish(6_000 * run.scale);
    plant.server().restart();
    plant.sent.may_have_gaps = true;
    plant.fault_is_over();
    let mut report = plant.finish();
    assert_lost_is_what_the_gaps_name(&mut report);
    report
}

/// Asserts that the lost messages are exactly those that `journal_gap` names, and removes them from the verdict.
pub fn assert_lost_is_what_the_gaps_name(report: &mut Report) {
    let lost = std::mem::take(&mut report.verdict.lost);
    assert!(!lost.is_empty(), "no gap: the fault did not happen");
    // The broker sends everything once and in order, so the seqs follow the numbers.
    let number =
        |seq: &u64| seq.checked_sub(kinds::RETAINED + 1).expect("the retained messages are stored before");
    let gap_seqs: BTreeSet<u64> = report.verdict.gap_seqs.iter().map(number).collect();
    let is_lost = |number: &u64| {
        let is_repeated = kinds::repeats_the_previous(number + 1) && !gap_seqs.contains(&(number + 1));
        kinds::sample(*number).is_visible() && !is_repeated
    };
    let expected: Vec<u64> = gap_seqs.iter().copied().filter(is_lost).collect();
    assert_eq!(lost, expected);
}
