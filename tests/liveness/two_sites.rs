//! Two sites on one broker, each subscribed to everything: what one publishes is nothing to the other.

use crate::machines::{events, speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::publisher::Single;

const ANOTHER: &str = "another Andon publishes the statuses of its machines";
const SILENT: [&str; 2] = ["online - first_seen", "offline online silence"];

/// The sites `test` and `other`.
fn two_sites(port: u16) -> [Site; 2] {
    let site = || Site::new(port).set("liveness.offline_after=1s").set("mqtt.subscriptions=#");
    [site(), site().set("site.id=other").set("mqtt.client_id=andon-other")]
}

#[test]
fn two_sites_that_are_subscribed_to_everything_take_nothing_of_each_other_for_a_devices_word() {
    let broker = Mosquitto::start("");
    let sites = two_sites(broker.port());
    let mut andons = sites.each_ref().map(Site::run);
    andons.iter_mut().for_each(|andon| andon.wait_until_seeing());
    let mut single = Single::connect(broker.port());
    // Once the second one is silent, the first one has had time to be said online by the other site's status.
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
        assert!(control >= 8, "{control}: the statuses of both, and when they came and went");
    }
}

#[test]
fn a_site_that_sees_the_statuses_of_another_prefix_says_so_once() {
    let broker = Mosquitto::start("");
    let [site, other] = two_sites(broker.port());
    let other = other.set("liveness.publish_prefix=elsewhere/andon");
    let (mut andon, mut elsewhere) = (site.run(), other.run());
    andon.wait_until_seeing();
    elsewhere.wait_until_seeing();
    speak(&mut Single::connect(broker.port()), "press-1");
    andon.wait_for_log(ANOTHER);
    let log = andon.log();
    let said = log.lines().find(|line| line.contains(ANOTHER)).unwrap();
    assert!(said.contains("elsewhere/andon/other/machine/press-1/status"), "{said}");
    // It goes on as ever: each takes the other's word for a machine's.
    wait_for_more_statuses(&site);
    assert_eq!(andon.log().matches(ANOTHER).count(), 1);
}

fn wait_for_more_statuses(site: &Site) {
    let statuses = "SELECT count(*) AS value FROM machine_telemetry WHERE source_topic LIKE 'elsewhere/%'";
    let mut database = Database::open(&site.sqlite_url()).unwrap();
    crate::support::poll::wait_until("more of them", || database.number(statuses) >= 3);
}
