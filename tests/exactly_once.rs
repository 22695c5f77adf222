//! 10,000 numbered messages while the process is killed with -9 ten times: each is stored exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher;

const MESSAGES: u64 = 10_000;
const KILLS: u32 = 10;

fn every_message_is_stored_exactly_once(site: &Site, url: &str, port: u16) {
    let mut andon = site.run();
    andon.wait_until_connected();
    let done = Arc::new(AtomicBool::new(false));
    let publishing = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            for start in (0..MESSAGES).step_by(500) {
                let range = start..start + 500;
                publisher::publish_numbered(port, "factory/machine/{machine}/telemetry", 20, range, 1);
                std::thread::sleep(Duration::from_millis(100));
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    let mut stored_at_last_kill = -1;
    for kill in 0..KILLS {
        // Each run has to store something first, or the kills would not hit it at work.
        wait_until("progress before the next kill", || {
            rows_stored(url) > stored_at_last_kill || done.load(Ordering::SeqCst)
        });
        std::thread::sleep(Duration::from_millis(u64::from(17 * kill)));
        stored_at_last_kill = rows_stored(url);
        andon.kill();
        andon = site.run();
    }
    publishing.join().unwrap();
    let expected = i64::try_from(MESSAGES).unwrap();
    wait_until("every row", || rows_stored(url) >= expected);
    wait_until("an idle pipeline", || {
        let messages = "SELECT messages AS value FROM ingest_checkpoint";
        let before = Database::open(url).unwrap().number(messages);
        std::thread::sleep(Duration::from_millis(300));
        before == Database::open(url).unwrap().number(messages)
    });
    assert!(andon.stop().success());

    let mut database = Database::open(url).unwrap();
    let distinct = "SELECT count(DISTINCT digest) AS value FROM machine_telemetry";
    assert_eq!(rows_stored(url), expected, "no message twice");
    assert_eq!(database.number(distinct), expected, "no message missing");
    let ledger = "SELECT messages - stored - duplicate - rejected - control AS value FROM ingest_checkpoint";
    assert_eq!(database.number(ledger), 0, "the ledger is exact");
    assert_eq!(database.number("SELECT stored AS value FROM ingest_checkpoint"), expected);
    assert_eq!(database.number("SELECT committed_seq - messages AS value FROM ingest_checkpoint"), 0);
}

#[test]
fn kill_9_loses_and_doubles_nothing_in_sqlite() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    every_message_is_stored_exactly_once(&site, &site.sqlite_url(), broker.port());
}

#[test]
fn kill_9_loses_and_doubles_nothing_in_postgres() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    every_message_is_stored_exactly_once(&site, &url, broker.port());
}
