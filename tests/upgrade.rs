//! Today's program opens what each release has written (`scripts/golden.sh`), and refuses what a later one has.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::andon::{Andon, Site};
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher;

const READINGS: i64 = 205;
const PENDING: i64 = 40;

/// Returns the archives of all releases.
fn releases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut archives: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    archives.sort();
    assert!(archives.iter().any(|path| path.ends_with("0.1.0.tar.gz")), "{archives:?}");
    archives
}

/// Makes a site of the journal and the files that `release` has written with `database`.
fn unpack(broker: &Mosquitto, release: &Path, database: &str) -> Site {
    // What it has rejected is as old as the release.
    let site = Site::new(broker.port())
        .set("site.id=golden")
        .set("journal.segment_bytes=64KiB")
        .set("store.retention_rejected=");
    let tar = Command::new("tar")
        .args(["--strip-components=1", "-xzf"])
        .arg(release)
        .arg("-C")
        .arg(site.path())
        .arg(database)
        .status();
    assert!(tar.unwrap().success());
    site
}

/// Starts the site, waits for what was pending, and checks that everything is there once.
fn open_and_check(site: &Site, broker: &Mosquitto, url: &str, what: &str) {
    let count =
        |sql: &str| Database::open(url).and_then(|mut database| database.try_number(sql)).unwrap_or(-1);
    let readings = || count("SELECT count(*) AS value FROM machine_telemetry");
    let events_of_others =
        || count("SELECT count(*) AS value FROM machine_event WHERE machine_id <> 'press-2'");
    assert_eq!(readings(), READINGS, "{what}");
    let events_before = events_of_others();
    assert!(events_before >= 4, "{what}: two machines came and went");

    let mut andon = site.run();
    wait_until("what was pending", || readings() == READINGS + PENDING);
    let rejected = count("SELECT count(*) AS value FROM rejected_message");
    let identities = count(
        "SELECT count(*) AS value FROM (SELECT DISTINCT site, machine_id, recorded_at, digest FROM machine_telemetry) AS i",
    );
    assert_eq!((rejected, identities), (1, READINGS + PENDING), "{what}");
    assert_eq!(ledger(&mut andon), [243, 243, 0, 247, 245, 1, 1, 0], "{what}");
    assert_eq!(events_of_others(), events_before, "{what}: an upgrade is no event");

    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), "factory/machine/new/telemetry", 1, 0..3, 1);
    wait_until("new readings", || readings() == READINGS + PENDING + 3);
    assert!(andon.stop().success(), "{what}");
    let verified = site.command(&["journal", "verify"]).status().unwrap();
    assert!(verified.success(), "{what}");
}

/// Returns the ledger, in the order of the contract.
fn ledger(andon: &mut Andon) -> [i64; 8] {
    let status = Client::new(&andon.wait_for_http()).json("/api/v1/status");
    let counts =
        ["journaled", "committed", "pending", "elements", "stored", "duplicate", "rejected", "control"];
    counts.map(|count| status["ledger"][count].as_i64().unwrap_or_else(|| panic!("{status:#}")))
}

#[test]
fn what_each_release_left_in_sqlite_is_opened_and_nothing_is_lost_or_twice() {
    let broker = Mosquitto::start("");
    for release in releases() {
        let site = unpack(&broker, &release, "sqlite");
        open_and_check(&site, &broker, &site.sqlite_url(), &format!("{}, SQLite", release.display()));
    }
}

#[test]
fn what_each_release_left_in_postgresql_is_opened_and_nothing_is_lost_or_twice() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    for (number, release) in releases().into_iter().enumerate() {
        let name = format!("release{number}");
        let url = postgres.create_database(&name);
        let site = unpack(&broker, &release, "postgres").set(&format!("store.url={url}"));
        let restored = Command::new("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"])
            .arg(site.path().join("dump.sql"))
            .arg(&url)
            .status();
        assert!(restored.unwrap().success());
        open_and_check(&site, &broker, &url, &format!("{}, PostgreSQL", release.display()));
    }
}
