//! The SQLite file locked by somebody else, on a full disk, and read-only.

use std::time::Duration;

use super::plant::Plant;
use super::tmpfs::Disk;
use super::{Lab, Report, faults};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;

faults![
    an_sqlite_file_locked_by_another_process_is_waited_for,
    an_sqlite_file_on_a_full_disk_is_waited_for,
    an_sqlite_file_that_is_read_only_is_waited_for,
    rows_that_are_slow_to_store_are_no_hung_database,
];

/// SQLite resolves links in its path by itself, and so cannot reach a disk through `/proc`: these need a real mount.
pub const ON_A_DISK_OF_ITS_OWN: [&str; 2] =
    ["an_sqlite_file_on_a_full_disk_is_waited_for", "an_sqlite_file_that_is_read_only_is_waited_for"];

const MESSAGES: u64 = 1_000;
const REFUSED: &str = "the database does not take the data";

fn an_sqlite_file_locked_by_another_process_is_waited_for(lab: &mut Lab) -> Report {
    let mut plant = Plant::sqlite(lab).set(&["store.lock_timeout=100ms"]);
    plant.open();
    for _ in 0..2 * lab.scale {
        let load = plant.load(MESSAGES);
        lab.chance.pause(Duration::from_millis(200));
        let mut other = Database::open(&plant.url).unwrap();
        other.execute("BEGIN EXCLUSIVE");
        load.join();
        // There is something to refuse, whatever was left of the load.
        plant.publish(50);
        plant.andon().wait_for_log(REFUSED);
        lab.chance.pause(Duration::from_millis(300));
        other.execute("ROLLBACK");
        plant.fault_is_over();
        plant.wait_until_stored(plant.sent.numbered);
    }
    assert!(plant.andon().log().contains("locked"), "{}", plant.andon().log());
    plant.finish()
}

/// A plant whose SQLite file lies on `disk`.
fn on(disk: &Disk, lab: &Lab) -> Plant {
    let broker = Mosquitto::start("");
    let url = format!("sqlite://{}/andon.db", disk.path().display());
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    Plant::new(lab, broker, None, site, url)
}

fn an_sqlite_file_on_a_full_disk_is_waited_for(lab: &mut Lab) -> Report {
    let disk = Disk::shared(16 * 1024 * 1024);
    let mut plant = on(&disk, lab);
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    for _ in 0..lab.scale {
        disk.fill();
        plant.publish(MESSAGES);
        plant.andon().wait_for_log(REFUSED);
        lab.chance.pause(Duration::from_millis(300));
        disk.free();
        plant.fault_is_over();
    }
    let log = plant.andon().log();
    assert!(log.contains("disk is full") || log.contains("disk I/O error"), "{log}");
    let report = plant.finish();
    drop(disk);
    report
}

fn an_sqlite_file_that_is_read_only_is_waited_for(lab: &mut Lab) -> Report {
    let mut disk = Disk::shared(16 * 1024 * 1024);
    let mut plant = on(&disk, lab);
    plant.open();
    plant.publish(100);
    plant.wait_until_stored(100);
    plant.stop();
    disk.set_read_only(true);
    plant.start();
    plant.andon().wait_until_connected();
    plant.publish(MESSAGES * lab.scale);
    plant.andon().wait_for_log(REFUSED);
    disk.set_read_only(false);
    plant.fault_is_over();
    let report = plant.finish();
    drop(disk);
    report
}

/// A batch takes longer than the database may be silent; it is not silent.
fn rows_that_are_slow_to_store_are_no_hung_database(lab: &mut Lab) -> Report {
    let mut plant = Plant::sqlite(lab).set(&["store.connect_timeout=2s", "store.statement_timeout=100ms"]);
    plant.open();
    let mut database = Database::open(&plant.url).unwrap();
    // Some milliseconds of counting.
    database.execute(
        "CREATE TRIGGER slow BEFORE INSERT ON machine_telemetry BEGIN SELECT (WITH RECURSIVE c (n) AS (
             SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30000) SELECT max(n) FROM c); END",
    );
    plant.publish(1_500 * lab.scale);
    plant.fault_is_over();
    let all = plant.sent.numbered;
    plant.wait_until_stored(all);
    let log = plant.andon().log();
    assert!(!log.contains(REFUSED), "{log}");
    database.execute("DROP TRIGGER slow");
    drop(database);
    plant.finish()
}
