//! Moves the data while it comes in: restored from a backup that was made under load, and copied from SQLite to PostgreSQL.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::disk::assert_lost_is_what_the_gaps_name;
use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::andon::Site;
use crate::support::mosquitto::Mosquitto;
use crate::support::postgres::Postgres;

faults![
    an_sqlite_file_restored_from_its_backup_is_filled_again_and_what_is_gone_is_named,
    a_postgres_restored_from_its_dump_is_filled_again_and_what_is_gone_is_named,
    a_move_from_sqlite_to_postgres_under_load_loses_and_doubles_nothing,
    a_switch_to_postgres_before_the_last_copy_is_filled_from_the_journal,
];

const MESSAGES: u64 = 1_000;

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {text:?}");
    output
}

/// A journal that keeps little of what is stored, so that an older database misses something.
fn forgetful(plant: Plant, run: &mut FaultRun) -> Plant {
    let when_full = *run.rng.pick(&["hold", "drop_oldest"]);
    plant.set(&[
        "journal.segment_bytes=64KiB",
        "journal.max_bytes=64MiB",
        &format!("journal.when_full={when_full}"),
    ])
}

/// Backs up under load, goes on, kills Andon, restores, and goes on from there.
fn restored(
    mut plant: Plant,
    run: &mut FaultRun,
    back_up: impl Fn(&Plant),
    restore: impl Fn(&Plant),
) -> Report {
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    let load = plant.load(MESSAGES);
    run.rng.pause(Duration::from_millis(200));
    back_up(&plant);
    load.join();
    plant.publish(2 * MESSAGES);
    plant.wait_until_stored(plant.sent.numbered);
    plant.kill();
    restore(&plant);
    plant.sent.may_have_gaps = true;
    plant.open();
    plant.andon().wait_for_log("the database is older than its last commit");
    plant.andon().wait_for_log("reason: restored");
    plant.publish(50);
    plant.fault_is_over();
    let mut report = plant.finish();
    assert_lost_is_what_the_gaps_name(&mut report);
    report
}

/// Proves BAK-1.
fn an_sqlite_file_restored_from_its_backup_is_filled_again_and_what_is_gone_is_named(
    run: &mut FaultRun,
) -> Report {
    let plant = forgetful(Plant::sqlite(run), run);
    let (file, backup) = (plant.site.path().join("andon.db"), plant.site.path().join("backup.db"));
    let name = backup.to_str().unwrap().to_owned();
    restored(
        plant,
        run,
        |plant| drop(succeed(&mut plant.site.command(&["db", "backup", &name]))),
        |_| {
            // As docs/operations.md says: the log of the old file must not meet the new one.
            for suffix in ["-wal", "-shm"] {
                fs::remove_file(format!("{}{suffix}", file.display())).unwrap();
            }
            fs::rename(&backup, &file).unwrap();
        },
    )
}

fn a_postgres_restored_from_its_dump_is_filled_again_and_what_is_gone_is_named(run: &mut FaultRun) -> Report {
    let plant = forgetful(Plant::postgres(run), run);
    let (dump, url) = (plant.site.path().join("backup.dump"), plant.url.clone());
    restored(
        plant,
        run,
        |plant| {
            // The line that `andon db backup` names.
            let said = plant.site.command(&["db", "backup", dump.to_str().unwrap()]).output().unwrap();
            let line = String::from_utf8(said.stdout).unwrap();
            assert!(line.starts_with("pg_dump ") && !said.status.success(), "{line}");
            let programs = plant.postgres.as_ref().unwrap().programs();
            let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
            succeed(Command::new("sh").args(["-c", &line]).env("PATH", path));
        },
        |plant| {
            let server = plant.postgres.as_ref().unwrap();
            server.psql("postgres", "DROP DATABASE andon WITH (FORCE)");
            server.psql("postgres", "CREATE DATABASE andon");
            succeed(Command::new(server.programs().join("pg_restore")).args(["--dbname", &url]).arg(&dump));
        },
    )
}

/// Makes a plant with an SQLite file, and an empty database on a server to move it to.
fn between(run: &FaultRun) -> (Plant, String) {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let target = postgres.create_database("andon");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    (Plant::new(run, broker, Some(postgres), site, url), target)
}

fn copy(plant: &Plant, target: &str) -> Command {
    plant.site.command(&["db", "copy", "--to", target])
}

/// Starts a copy and kills it when it has committed a page.
fn copy_and_kill(plant: &Plant, target: &str) {
    let mut command = copy(plant, target);
    command.env("FAILPOINTS", "copy::page=return(hold)").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut copying = command.spawn().unwrap();
    let lines = BufReader::new(copying.stderr.take().unwrap()).lines();
    let held = lines.map_while(Result::ok).find(|line| line.contains("held at copy::page"));
    copying.kill().unwrap();
    copying.wait().unwrap();
    assert!(held.is_some(), "the copy ended before its first page");
}

fn switch(plant: Plant, target: String) -> Plant {
    let mut plant = plant.set(&[&format!("store.url={target}")]);
    plant.url = target;
    plant
}

/// Proves CPY-1.
fn a_move_from_sqlite_to_postgres_under_load_loses_and_doubles_nothing(run: &mut FaultRun) -> Report {
    let (mut plant, target) = between(run);
    plant.open();
    plant.publish(MESSAGES);
    plant.wait_until_stored(MESSAGES);
    let load = plant.load(3 * MESSAGES * run.scale);
    for _ in 0..run.scale {
        copy_and_kill(&plant, &target);
        run.rng.pause(Duration::from_millis(100));
        succeed(&mut copy(&plant, &target));
    }
    load.join();
    plant.publish(50);
    if run.rng.below(2) == 0 {
        plant.stop();
    } else {
        plant.kill();
    }
    plant.publish(100); // The broker keeps these.
    let said = succeed(&mut copy(&plant, &target));
    assert!(String::from_utf8_lossy(&said.stdout).contains("all tables were compared"));
    let mut plant = switch(plant, target);
    plant.open();
    plant.publish(200);
    plant.fault_is_over();
    plant.finish()
}

/// What the copy does not have, the journal still has, if it is large enough.
fn a_switch_to_postgres_before_the_last_copy_is_filled_from_the_journal(run: &mut FaultRun) -> Report {
    let (mut plant, target) = between(run);
    plant.open();
    plant.publish(MESSAGES);
    plant.wait_until_stored(MESSAGES);
    succeed(&mut copy(&plant, &target));
    plant.publish(MESSAGES);
    plant.wait_until_stored(2 * MESSAGES);
    plant.stop();
    let mut plant = switch(plant, target);
    plant.open();
    plant.andon().wait_for_log("the database is older than its last commit");
    plant.publish(50);
    plant.fault_is_over();
    let report = plant.finish();
    assert!(report.verdict.gap_seqs.is_empty(), "{:#?}", report.verdict);
    report
}
