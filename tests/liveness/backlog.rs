//! A broker that delivers a backlog slowly: machines whose messages wait behind it are not silent.

use std::time::Duration;

use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::database::{Database, rows_stored};
use crate::support::device::Device;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher::{Single, publish_each};
use crate::support::slow_line::SlowLine;
use crate::support::subscriber::Subscriber;

/// A window of 20 and a round trip of 200 ms let 100 messages a second through.
const WINDOW: usize = 20;
const ONE_WAY: Duration = Duration::from_millis(100);
/// Takes 9 s, three times `offline_after`.
const BACKLOG: u64 = 900;

fn publish_backlog(port: u16) {
    publish_each(port, 0..BACKLOG, 1, |number| {
        let payload = format!(r#"{{"machine_id":"gateway","n":{number}}}"#);
        ("factory/machine/gateway/telemetry".to_owned(), payload)
    });
}

fn gateway_stored(url: &str) -> u64 {
    let sql = "SELECT count(*) AS value FROM machine_telemetry WHERE machine_id = 'gateway'";
    let count = Database::open(url).and_then(|mut database| database.try_number(sql));
    count.map_or(0, |count| u64::try_from(count).unwrap())
}

/// Proves MQTT-8, TRK-2.
#[test]
fn behind_a_slow_backlog_a_sending_machine_stays_online_and_a_silent_one_goes_offline() {
    let broker = Mosquitto::start("");
    let line = SlowLine::start(broker.port(), ONE_WAY, WINDOW);
    let site = Site::new(line.port()).set("liveness.offline_after=3s");
    let url = site.sqlite_url();
    let subscriber = Subscriber::start(broker.port(), "andon/test/machine/+/status");
    let mut andon = site.run();
    andon.wait_until_seeing();
    let talker = Device::start(broker.port(), "talker");
    wait_for_events(&url, "talker", &["online - first_seen"]);
    speak(&mut Single::connect(broker.port()), "silent");
    wait_for_events(&url, "silent", &["online - first_seen"]);
    publish_backlog(broker.port());
    wait_for_events(&url, "silent", &["online - first_seen", "offline online silence"]);
    wait_until("the backlog", || gateway_stored(&url) == BACKLOG);
    assert_eq!(events(&url, "talker"), ["online - first_seen"], "{}", andon.log());
    assert_eq!(subscriber.live("/talker/status", "status"), ["online"]);
    assert_eq!(andon.connections(), 1, "the link was never lost");
    drop(talker);
    assert!(andon.stop().success());
}

/// Proves MQTT-8.
#[test]
fn behind_a_backlog_of_our_downtime_a_sending_machine_stays_online() {
    let broker = Mosquitto::start("");
    let line = SlowLine::start(broker.port(), ONE_WAY, WINDOW);
    let site = Site::new(line.port()).set("liveness.offline_after=3s").set("mqtt.protocol=3.1.1");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_seeing();
    let talker = Device::start(broker.port(), "talker");
    wait_for_events(&url, "talker", &["online - first_seen"]);
    assert!(andon.stop().success());
    publish_backlog(broker.port());
    let before = rows_stored(&url);
    let andon = site.run();
    wait_until("the backlog", || gateway_stored(&url) == BACKLOG);
    wait_until("the talker, behind it", || rows_stored(&url) > before + i64::try_from(BACKLOG).unwrap());
    assert_eq!(events(&url, "talker"), ["online - first_seen"], "{}", andon.log());
    drop(talker);
    assert!(andon.stop().success());
}
