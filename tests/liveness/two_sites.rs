//! Two sites on one broker, each subscribed to everything: neither takes the other's statuses for telemetry.

use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::publisher::Single;

const ANOTHER: &str = "another Andon publishes machine statuses";
const SILENT: [&str; 2] = ["online - first_seen", "offline online silence"];

/// Returns the sites `test` and `other`.
fn two_sites(port: u16) -> [Site; 2] {
    let site = || Site::new(port).set("liveness.offline_after=1s").set("mqtt.subscriptions=#");
    [site(), site().set("site.id=other").set("mqtt.client_id=andon-other")]
}

#[test]
fn two_sites_subscribed_to_everything_take_no_status_of_each_other_for_telemetry() {
    let broker = Mosquitto::start("");
    let sites = two_sites(broker.port());
    let mut andons = sites.each_ref().map(Site::run);
    andons.iter_mut().for_each(|andon| andon.wait_until_seeing());
    let mut single = Single::connect(broker.port());
    // Once the second machine is silent, the other site's status had time to make the first one online.
    for machine in ["press-1", "press-2"] {
        speak(&mut single, machine);
        sites.iter().for_each(|site| wait_for_events(&site.sqlite_url(), machine, &SILENT));
    }
    for (site, andon) in sites.iter().zip(andons) {
        assert_eq!(events(&site.sqlite_url(), "press-1"), SILENT, "{}", andon.log());
        assert!(!andon.log().contains(ANOTHER), "{}", andon.log());
        assert!(andon.stop().success());
        let mut database = Database::open(&site.sqlite_url()).unwrap();
        assert_eq!(database.number("SELECT count(*) AS value FROM machine_telemetry"), 2);
        assert_eq!(database.number("SELECT count(*) AS value FROM rejected_message"), 0);
        let control = database.number("SELECT control AS value FROM ingest_checkpoint");
        assert!(control >= 8, "{control}: the statuses of both machines and both services");
    }
}

#[test]
fn a_site_that_receives_statuses_of_another_prefix_logs_it_once() {
    let broker = Mosquitto::start("");
    let [site, other] = two_sites(broker.port());
    let other = other.set("liveness.publish_prefix=elsewhere/andon");
    let (mut andon, mut elsewhere) = (site.run(), other.run());
    andon.wait_until_seeing();
    elsewhere.wait_until_seeing();
    speak(&mut Single::connect(broker.port()), "press-1");
    andon.wait_for_log(ANOTHER);
    let log = andon.log();
    let line = log.lines().find(|line| line.contains(ANOTHER)).unwrap();
    assert!(line.contains("elsewhere/andon/other/machine/press-1/status"), "{line}");
    // It goes on: each takes the other's statuses for telemetry.
    wait_for_more_statuses(&site);
    assert_eq!(andon.log().matches(ANOTHER).count(), 1);
}

fn wait_for_more_statuses(site: &Site) {
    let statuses = "SELECT count(*) AS value FROM machine_telemetry WHERE source_topic LIKE 'elsewhere/%'";
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    crate::support::poll::wait_until("more of them", || database.number(statuses) >= 3);
}
