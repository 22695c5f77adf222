//! Strikes rows of the database: edited by hand, they are skipped and logged once each, and everything else is stored.

use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::poll::wait_until;

faults![rows_edited_by_hand_stop_nothing_in_sqlite, rows_edited_by_hand_stop_nothing_in_postgres];

const MESSAGES: u64 = 500;
const PASSED_OVER: &str = "the database holds a row that Andon cannot read";

/// One bad row of each table that is read before anything can be stored.
const BAD_ROWS: [&str; 4] = [
    "INSERT INTO machine (site, machine_id, status) VALUES ('test', 'spoilt', 'broken')",
    "INSERT INTO machine (site, machine_id, status) VALUES ('test', ' ', 'online')",
    "INSERT INTO machine_event (site, machine_id, status, reason, occurred_at, publish_pending) \
     VALUES ('test', 'spoilt', 'online', 'because', '2030-01-01 00:00:00.000000+00:00', true)",
    "INSERT INTO link_outage (site, began_at, reason) VALUES ('test', '2030-01-01 00:00:00.000000+00:00', 'sunspots')",
];
const REMOVED: [&str; 3] = [
    "DELETE FROM machine WHERE machine_id IN ('spoilt', ' ')",
    "DELETE FROM machine_event WHERE machine_id = 'spoilt'",
    "DELETE FROM link_outage WHERE reason = 'sunspots'",
];

fn rows_edited_by_hand_stop_nothing(mut plant: Plant, bad_time: &str, run: &mut FaultRun) -> Report {
    plant.open();
    plant.publish(50);
    plant.wait_until_stored(50);
    plant.stop();
    let mut database = Database::open(&plant.url).unwrap();
    BAD_ROWS.iter().for_each(|statement| database.execute(statement));
    database.execute(&format!("UPDATE link_sight SET seen_until = {bad_time}"));
    database.execute(&format!("UPDATE ingest_checkpoint SET updated_at = {bad_time}"));
    plant.open();
    for _ in 0..run.scale {
        plant.load(MESSAGES).join();
    }
    let all = plant.sent.numbered;
    plant.wait_until_stored(all);
    let http = Client::new(&plant.andon().wait_for_http());
    assert_eq!(http.get("/api/v1/machines").status, 200);
    assert_eq!(http.get("/api/v1/events").status, 200);
    wait_until("every row counted", || {
        http.get("/metrics").body.contains("\nandon_unreadable_rows_total 5\n")
    });
    let named: Vec<String> =
        plant.andon().log().lines().filter(|line| line.contains(PASSED_OVER)).map(str::to_owned).collect();
    let words =
        ["word \\\"broken", "machine id is empty", "word \\\"because", "word \\\"sunspots", "seen_until is"];
    for word in words {
        assert_eq!(named.iter().filter(|line| line.contains(word)).count(), 1, "{word} in {named:#?}");
    }
    assert_eq!(named.len(), words.len(), "{named:#?}");
    REMOVED.iter().for_each(|statement| database.execute(statement));
    drop(database);
    plant.finish()
}

fn rows_edited_by_hand_stop_nothing_in_sqlite(run: &mut FaultRun) -> Report {
    rows_edited_by_hand_stop_nothing(Plant::sqlite(run), "'yesterday'", run)
}

fn rows_edited_by_hand_stop_nothing_in_postgres(run: &mut FaultRun) -> Report {
    rows_edited_by_hand_stop_nothing(Plant::postgres(run), "'infinity'", run)
}
