//! Strikes the SQLite file: locked by another process, on a full disk, read-only, slow, removed, renamed and replaced.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::plant::Plant;
use super::tmpfs::Disk;
use super::{FaultRun, Report, faults, kinds};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;

faults![
    an_sqlite_file_locked_by_another_process_is_waited_for,
    an_sqlite_file_on_a_full_disk_is_waited_for,
    an_sqlite_file_that_is_read_only_is_waited_for,
    rows_that_are_slow_to_store_are_no_hung_database,
    an_sqlite_file_that_is_removed_loses_no_message,
    an_sqlite_file_that_is_renamed_and_put_back_loses_no_message,
    an_sqlite_file_that_is_replaced_by_its_backup_loses_no_message,
    an_sqlite_file_whose_write_ahead_log_is_removed_loses_nothing,
    an_sqlite_file_whose_directory_is_renamed_loses_nothing,
];

/// SQLite resolves the links in its path, so it cannot reach a disk through `/proc`: these faults need a real mount.
pub const ON_A_DISK_OF_ITS_OWN: [&str; 2] =
    ["an_sqlite_file_on_a_full_disk_is_waited_for", "an_sqlite_file_that_is_read_only_is_waited_for"];

const MESSAGES: u64 = 1_000;
const REFUSED: &str = "the database does not accept the data";

fn an_sqlite_file_locked_by_another_process_is_waited_for(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&["store.lock_timeout=100ms"]);
    plant.open();
    for _ in 0..2 * run.scale {
        let load = plant.load(MESSAGES);
        run.rng.pause(Duration::from_millis(200));
        let mut other = Database::open(&plant.url).unwrap();
        other.execute("BEGIN EXCLUSIVE");
        load.join();
        // The load may be over: publish something that must wait.
        plant.publish(50);
        plant.andon().wait_for_log(REFUSED);
        run.rng.pause(Duration::from_millis(300));
        other.execute("ROLLBACK");
        plant.fault_is_over();
        plant.wait_until_stored(plant.sent.numbered);
    }
    assert!(plant.andon().log().contains("locked"), "{}", plant.andon().log());
    plant.finish()
}

/// Makes a plant whose SQLite file is on `disk`.
fn on(disk: &Disk, run: &FaultRun) -> Plant {
    let broker = Mosquitto::start("");
    let url = format!("sqlite://{}/andon.db", disk.path().display());
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    Plant::new(run, broker, None, site, url)
}

fn an_sqlite_file_on_a_full_disk_is_waited_for(run: &mut FaultRun) -> Report {
    let disk = Disk::shared(16 * 1024 * 1024);
    let mut plant = on(&disk, run);
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    for _ in 0..run.scale {
        disk.fill();
        plant.publish(MESSAGES);
        plant.andon().wait_for_log(REFUSED);
        run.rng.pause(Duration::from_millis(300));
        disk.free();
        plant.fault_is_over();
    }
    let log = plant.andon().log();
    assert!(log.contains("disk is full") || log.contains("disk I/O error"), "{log}");
    let report = plant.finish();
    drop(disk);
    report
}

fn an_sqlite_file_that_is_read_only_is_waited_for(run: &mut FaultRun) -> Report {
    let mut disk = Disk::shared(16 * 1024 * 1024);
    let mut plant = on(&disk, run);
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    plant.stop();
    disk.set_read_only(true);
    plant.start();
    plant.andon().wait_until_connected();
    plant.publish(MESSAGES * run.scale);
    plant.andon().wait_for_log(REFUSED);
    disk.set_read_only(false);
    plant.fault_is_over();
    let report = plant.finish();
    drop(disk);
    report
}

/// A batch takes longer than the time after which a silent database is abandoned; but it makes progress.
fn rows_that_are_slow_to_store_are_no_hung_database(run: &mut FaultRun) -> Report {
    let mut plant = Plant::sqlite(run).set(&["store.connect_timeout=2s", "store.statement_timeout=100ms"]);
    plant.open();
    let mut database = Database::open(&plant.url).unwrap();
    // Counts for some milliseconds per row.
    database.execute(
        "CREATE TRIGGER slow BEFORE INSERT ON machine_telemetry BEGIN SELECT (WITH RECURSIVE c (n) AS (
             SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30000) SELECT max(n) FROM c); END",
    );
    plant.publish(1_500 * run.scale);
    plant.fault_is_over();
    let all = plant.sent.numbered;
    plant.wait_until_stored(all);
    let log = plant.andon().log();
    assert!(!log.contains(REFUSED), "{log}");
    database.execute("DROP TRIGGER slow");
    drop(database);
    plant.finish()
}

/// The SQLite file of a plant, in a directory of its own.
struct DatabaseFile {
    directory: PathBuf,
    path: PathBuf,
}

impl DatabaseFile {
    fn with_suffix(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.path.display()))
    }
}

/// Strikes the file under load, with a reader over HTTP. Andon must notice by itself, and then read and write the file at the path.
fn moved(run: &mut FaultRun, strikes: impl Fn(&DatabaseFile, &mut Plant)) -> Report {
    moved_plant(run, strikes).finish()
}

/// As [`moved`], with a file that does not come back. Every message is stored again from the journal; the events in the lost file are
/// gone, because liveness does not start over.
fn lost(run: &mut FaultRun, strikes: impl Fn(&DatabaseFile, &mut Plant)) -> Report {
    let mut plant = moved_plant(run, strikes);
    plant.sent.may_have_gaps = true;
    let report = plant.finish();
    assert!(report.verdict.gap_seqs.is_empty(), "{:#?}", report.verdict);
    report
}

fn moved_plant(run: &mut FaultRun, strikes: impl Fn(&DatabaseFile, &mut Plant)) -> Plant {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let directory = site.path().join("database");
    let file = DatabaseFile { path: directory.join("andon.db"), directory };
    let url = format!("sqlite://{}", file.path.display());
    let site = site.set(&format!("store.url={url}"));
    let mut plant = Plant::new(run, broker, None, site, url);
    plant.open();
    let reader = Client::new(&plant.andon().wait_for_http());
    plant.publish(100);
    plant.wait_until_stored(100);
    for round in 1..=run.scale {
        let load = plant.load(MESSAGES);
        run.rng.pause(Duration::from_millis(200));
        readings_read(&reader);
        strikes(&file, &mut plant);
        load.join();
        plant.publish(50);
        let noticed = "while Andon had it open";
        let logged = || plant.andon.as_ref().unwrap().log().matches(noticed).count() as u64 >= round;
        wait_until("the change of the file in the log", logged);
        plant.fault_is_over();
        plant.wait_until_stored(plant.sent.numbered);
    }
    let rows = (0..plant.sent.numbered).flat_map(|number| kinds::sample(number).rows);
    let sent = rows.filter(|row| row.machine == "press-07").count();
    wait_until("the reader to see what is stored", || readings_read(&reader) == sent);
    plant
}

/// Counts the readings of one machine over HTTP; 0 without an answer.
fn readings_read(reader: &Client) -> usize {
    let answer = reader.get("/api/v1/machines/press-07/readings?from=2025-06-01T00:00:00Z&limit=1000");
    if answer.status == 200 { answer.json()["readings"].as_array().unwrap().len() } else { 0 }
}

fn an_sqlite_file_that_is_removed_loses_no_message(run: &mut FaultRun) -> Report {
    let with_its_log = run.rng.below(2) == 1;
    lost(run, |file, _| {
        fs::remove_file(&file.path).unwrap();
        if with_its_log {
            fs::remove_file(file.with_suffix("-wal")).unwrap();
            fs::remove_file(file.with_suffix("-shm")).unwrap();
        }
    })
}

/// Andon begins a new file before the old one is put back over it.
/// The events that were recorded in the new file meanwhile are gone with it.
fn an_sqlite_file_that_is_renamed_and_put_back_loses_no_message(run: &mut FaultRun) -> Report {
    lost(run, |file, plant| {
        let aside = file.with_suffix(".aside");
        fs::rename(&file.path, &aside).unwrap();
        plant.publish(200);
        wait_until("a new file", || file.path.exists());
        fs::rename(&aside, &file.path).unwrap();
    })
}

fn an_sqlite_file_that_is_replaced_by_its_backup_loses_no_message(run: &mut FaultRun) -> Report {
    lost(run, |file, plant| {
        let backup = file.with_suffix(".backup");
        let mut other = Database::open(&plant.url).unwrap();
        other.execute(&format!("VACUUM INTO '{}'", backup.display()));
        drop(other);
        plant.publish(300);
        fs::rename(&backup, &file.path).unwrap();
    })
}

fn an_sqlite_file_whose_write_ahead_log_is_removed_loses_nothing(run: &mut FaultRun) -> Report {
    let suffixes = *run.rng.pick(&[&["-wal", "-shm"][..], &["-wal"], &["-shm"]]);
    moved(run, |file, _| {
        suffixes.iter().for_each(|suffix| fs::remove_file(file.with_suffix(suffix)).unwrap())
    })
}

/// Andon begins no new file in another directory at the path: the real one may only be unmounted.
fn an_sqlite_file_whose_directory_is_renamed_loses_nothing(run: &mut FaultRun) -> Report {
    moved(run, |file, plant| {
        let aside = file.directory.with_extension("aside");
        fs::rename(&file.directory, &aside).unwrap();
        fs::create_dir(&file.directory).unwrap();
        plant.publish(200);
        plant.andon().wait_for_log("the file and its directory are gone");
        assert!(!file.path.exists());
        fs::remove_dir(&file.directory).unwrap();
        fs::rename(&aside, &file.directory).unwrap();
    })
}
