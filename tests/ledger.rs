//! The ledger in the status line and in `andon journal inspect`, while the database works, hangs and is away.

use serde_json::Value;

use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;

const TOPIC: &str = "factory/machine/{machine}/telemetry";

fn inspect(site: &Site) -> Value {
    let output = site.command(&["journal", "inspect", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_ledger_is_shown_while_the_database_works_hangs_and_is_away() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..100, 1);
    wait_until("the first rows", || rows_stored(&site.sqlite_url()) == 100);
    andon.wait_for_log(
        "stored: 100, duplicate: 0, rejected: 0, control: 0, journaled: 100, committed: 100, pending: 0",
    );
    andon.wait_for_log("journal_full_in: \"never at this rate\"");

    let settled = inspect(&site);
    let counts =
        ["journaled", "committed", "messages", "elements", "stored", "pending"].map(|key| &settled[key]);
    assert_eq!(counts, [100, 100, 100, 100, 100, 0], "{settled:#}");
    assert_eq!(
        (&settled["full_in_seconds"], &settled["oldest_pending_seconds"]),
        (&Value::Null, &Value::Null)
    );

    let mut database = Database::open(&site.sqlite_url()).unwrap();
    database.execute("BEGIN EXCLUSIVE");
    publisher::publish_numbered(broker.port(), TOPIC, 3, 100..400, 1);
    wait_until("all messages", || inspect(&site)["journaled"] == 400);
    let stuck = inspect(&site);
    let counts = ["journaled", "committed", "stored", "pending"].map(|key| &stuck[key]);
    assert_eq!(counts, [400, 100, 100, 300], "{stuck:#}");
    assert!(stuck["oldest_pending_seconds"].as_f64().unwrap() > 0.0);
    assert!(
        stuck["arriving_per_second"].as_f64().unwrap() > 1.0 && stuck["stored_per_second"] == 0.0,
        "{stuck:#}"
    );
    assert!(stuck["full_in_seconds"].as_u64().unwrap() > 0);
    andon.wait_for_log("pending: 300, oldest_pending_s: ");
    andon.kill();

    let away = site.set("store.url=postgres://nobody@127.0.0.1:1/nothing");
    let output = away.command(&["journal", "inspect"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("journaled  400\n") && said.contains("pending    at most "), "{said}");
    assert!(said.contains("database   unavailable: failed to connect to"), "{said}");
    assert_eq!(inspect(&away)["pending"], Value::Null, "a bound is not a count");
}
