//! Our own outages are recorded, and make no machine offline.

use std::time::Duration;

use crate::machines::{speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;

/// Returns `reason open|closed` of our own outages, oldest first; `wrong` if one ends before it begins.
fn outages(url: &str) -> Vec<String> {
    let sql = "SELECT reason || CASE WHEN ended_at IS NULL THEN ' open' WHEN ended_at < began_at THEN ' wrong' \
               ELSE ' closed' END AS value FROM link_outage ORDER BY began_at";
    let words = Database::open(url).and_then(|mut database| database.try_words(sql)).unwrap_or_default();
    words.into_iter().flatten().collect()
}

fn wait_for_outages(url: &str, expected: &[&str]) {
    wait_until(&format!("{expected:?}, found {:?}", outages(url)), || outages(url) == expected);
}

/// Proves OUT-1, OUT-2.
#[test]
fn each_outage_of_our_own_is_recorded_once_with_its_reason() {
    let mut broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    wait_for_outages(&url, &[]);
    broker.stop();
    wait_for_outages(&url, &["link_down open"]);
    broker.restart();
    wait_for_outages(&url, &["link_down closed"]);
    assert!(andon.stop().success());
    assert_eq!(outages(&url), ["link_down closed", "stopped open"]);

    let andon = site.run();
    wait_for_outages(&url, &["link_down closed", "stopped closed"]);
    speak(&mut Single::connect(broker.port()), "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    andon.kill();
    let andon = site.run();
    let all = ["link_down closed", "stopped closed", "start closed"];
    wait_for_outages(&url, &all);
    let mut database = Database::open(&url).unwrap();
    let overlaps = "SELECT count(*) AS value FROM link_outage a JOIN link_outage b \
                    ON a.id < b.id AND a.began_at < b.ended_at AND b.began_at < a.ended_at";
    assert_eq!(database.number(overlaps), 0);
    let after_the_message =
        "SELECT count(*) AS value FROM link_outage, machine WHERE began_at = last_seen_at";
    assert_eq!(database.number(after_the_message), 1, "killed: the outage begins at the last message");
    assert!(andon.stop().success());
}

/// Proves TRK-3.
#[test]
fn a_backlog_of_our_own_downtime_makes_no_false_event() {
    const OFFLINE_AFTER: Duration = Duration::from_secs(4);
    let broker = Mosquitto::start("");
    let offline_after = format!("liveness.offline_after={}s", OFFLINE_AFTER.as_secs());
    let site = Site::new(broker.port()).set(&offline_after);
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    let mut single = Single::connect(broker.port());
    speak(&mut single, "press-1");
    wait_for_events(&url, "press-1", &["online - first_seen"]);
    assert!(andon.stop().success());
    for _ in 0..50 {
        speak(&mut single, "press-1");
        speak(&mut single, "press-2");
    }
    // Longer than offline_after: if our own downtime counted, they would be offline.
    std::thread::sleep(OFFLINE_AFTER + Duration::from_millis(500));
    let back_at = chrono::Utc::now();
    let mut andon = site.run();
    andon.wait_until_connected();
    wait_for_events(&url, "press-2", &["online - first_seen", "offline online silence"]);
    wait_for_events(&url, "press-1", &["online - first_seen", "offline online silence"]);
    let mut database = Database::open(&url).unwrap();
    let earliest = (back_at + OFFLINE_AFTER).format("%Y-%m-%d %H:%M:%S%.6f");
    let too_early = format!(
        "SELECT count(*) AS value FROM machine_event WHERE reason = 'silence' AND occurred_at < '{earliest}'"
    );
    assert_eq!(database.number(&too_early), 0, "each had offline_after to send, counted from our start");
    assert!(andon.stop().success());
}
