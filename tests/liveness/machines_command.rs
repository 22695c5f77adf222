//! `andon machines`.

use crate::machines::{speak, wait_for_events};
use crate::support::andon::Site;
use crate::support::mosquitto::Mosquitto;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

fn output(site: &Site, arguments: &[&str]) -> String {
    let output = site.command(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn machine(site: &Site, arguments: &[&str], id: &str) -> serde_json::Value {
    let report: serde_json::Value = serde_json::from_str(&output(site, arguments)).unwrap();
    let machines = report["machines"].as_array().unwrap();
    machines.iter().find(|machine| machine["machine_id"] == id).unwrap().clone()
}

fn lists_online_machines_only_while_the_service_runs(site: &Site, url: &str, port: u16) {
    let refused = site.command(&["machines"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "there are no tables yet");
    let mut andon = site.run();
    andon.wait_until_seeing();
    let mut single = Single::connect(port);
    speak(&mut single, "press-1");
    speak(&mut single, "press-1");
    speak(&mut single, "press-2");
    wait_for_events(url, "press-1", &["online - first_seen"]);
    wait_for_events(url, "press-2", &["online - first_seen", "offline online silence"]);
    let text = output(site, &["machines"]);
    assert!(text.contains("1 online, 1 offline") && !text.contains('\x1b'), "{text}");
    let press = machine(site, &["machines", "--json"], "press-1");
    assert_eq!((&press["status"], &press["readings_last_hour"]), (&"online".into(), &2.into()), "{press}");
    assert_eq!((&press["reason"], &press["flapping"]), (&"first_seen".into(), &false.into()), "{press}");
    assert!(andon.stop().success());

    let text = output(site, &["machines"]);
    assert!(text.contains("the service was stopped") && text.contains("2 unknown"), "{text}");
    let press = machine(site, &["machines", "--json"], "press-1");
    assert_eq!(
        (&press["status"], &press["recorded_status"]),
        (&"unknown".into(), &"online".into()),
        "{press}"
    );

    let text = output(site, &["machines", "--availability", "24h"]);
    assert!(text.contains("100.00 %") && text.contains("offline now"), "{text}");
    let press = machine(site, &["machines", "--availability", "7d", "--json"], "press-2");
    assert_eq!((&press["outages"], &press["in_outage"]), (&1.into(), &true.into()), "{press}");
    let (up, down) = (press["up_seconds"].as_f64().unwrap(), press["down_seconds"].as_f64().unwrap());
    assert!((0.99..1.01).contains(&up), "it was online for its offline_after: {press}");
    assert!(down < 600.0 && press["uptime"].as_f64().unwrap() > 0.0, "{press}");
}

fn rules() -> &'static str {
    "[liveness.machines.\"press-1\"]\noffline_after = \"1h\"\n[liveness.machines.\"press-2\"]\noffline_after = \"1s\""
}

#[test]
fn machines_are_listed_from_sqlite_with_the_service_up_and_down() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).configure(rules());
    lists_online_machines_only_while_the_service_runs(&site, &site.sqlite_url(), broker.port());
}

#[test]
fn machines_are_listed_from_postgres_with_the_service_up_and_down() {
    let broker = Mosquitto::start("");
    let postgres = Postgres::start();
    let url = postgres.create_database("andon");
    let site = Site::new(broker.port()).configure(rules()).set(&format!("store.url={url}"));
    lists_online_machines_only_while_the_service_runs(&site, &url, broker.port());
}
