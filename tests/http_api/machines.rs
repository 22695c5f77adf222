//! Machines and their events.

use serde_json::Value;

use super::{HOSTILE, HOSTILE_PATH, Scene, numbers, texts};
use crate::support::andon::Site;
use crate::support::database::rows_stored;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::{wait_for, wait_until};
use crate::support::publisher::Single;

pub(super) fn machines_are_listed_with_status_and_newest_reading(scene: &Scene) {
    let client = &scene.client;
    let machines = wait_for("the newest readings", || {
        let machines = client.json("/api/v1/machines");
        let all = machines["machines"].as_array().unwrap();
        let is_complete = |machine: &Value| machine["status"] == "online" && !machine["latest"].is_null();
        let complete = all.len() == 2 && all.iter().all(is_complete);
        complete.then_some(machines)
    });
    let hostile = HOSTILE.to_lowercase();
    assert_eq!(texts(&machines, "machines", "machine_id"), [hostile.as_str(), "press-1"]);
    let press = &machines["machines"][1];
    assert_eq!(
        (press["status"].as_str(), press["offline_after_seconds"].as_u64()),
        (Some("online"), Some(3600))
    );
    assert_eq!(press["latest"]["recorded_at"], "2026-03-01T10:09:00.000000Z");
    assert_eq!(press["latest"]["temperature"].as_f64(), Some(9.0));
    assert!(press["latest"]["humidity"].is_null());
    assert_eq!(press["latest"]["extra"]["pressure"].as_u64(), Some(900));
    for instant in ["status_since", "first_seen_at", "last_seen_at"] {
        assert!(press[instant].as_str().is_some_and(|text| text.ends_with('Z')), "{instant}: {press}");
    }
    let one = client.json(&format!("/api/v1/machines/{HOSTILE_PATH}"));
    assert_eq!(
        (one["machine_id"].as_str(), one["latest"]["temperature"].as_f64()),
        (Some(hostile.as_str()), Some(1.5))
    );
    assert_eq!(client.get("/api/v1/machines/nobody").status, 404);
}

pub(super) fn events_come_newest_first_and_by_machine(scene: &Scene) {
    let events = wait_for("both events", || {
        let events = scene.client.json("/api/v1/events");
        (events["events"].as_array().unwrap().len() == 2).then_some(events)
    });
    let hostile = HOSTILE.to_lowercase();
    assert_eq!(texts(&events, "events", "machine_id"), [hostile.as_str(), "press-1"]);
    assert_eq!(texts(&events, "events", "reason"), ["first_seen", "first_seen"]);
    let first = scene.client.json("/api/v1/events?limit=1");
    let next = first["next"].as_str().unwrap();
    let second = scene.client.json(&format!("/api/v1/events?limit=1&cursor={next}"));
    assert_eq!(texts(&second, "events", "machine_id"), ["press-1"]);
    assert!(second["next"].is_null());
    let of_one = scene.client.json("/api/v1/events?machine_id=PRESS-1");
    assert_eq!(texts(&of_one, "events", "machine_id"), ["press-1"]);
}

#[test]
fn machines_come_in_pages_and_of_a_large_extra_the_list_has_the_size() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("liveness.offline_after=1h");
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("recovering the machines' states");
    let client = Client::new(&andon.wait_for_http());
    let mut single = Single::connect(broker.port());
    let ids: Vec<String> = (0..25).map(|number| format!("line {}/ü-{number:02}", number % 3)).collect();
    for id in &ids {
        let payload = serde_json::json!({ "machine_id": id, "temperature": 7, "note": "small" });
        single.publish("factory/machine/any/telemetry", payload.to_string().as_bytes(), 1);
    }
    let blob = "x".repeat(20_000);
    let large = format!(r#"{{"machine_id":"large","blob":"{blob}"}}"#);
    single.publish("factory/machine/any/telemetry", large.as_bytes(), 1);
    let extra_of = |list: &Value, id: &str| {
        let machine = list["machines"].as_array().unwrap().iter().find(|machine| machine["machine_id"] == id);
        machine.and_then(|machine| machine["latest"].as_object()).map(|latest| latest["extra"].clone())
    };
    let all = wait_for("all machines with their newest reading", || {
        let all = client.json("/api/v1/machines");
        let complete = all["machines"].as_array().unwrap().iter().all(|machine| !machine["latest"].is_null());
        (texts(&all, "machines", "machine_id").len() == 26 && complete).then_some(all)
    });
    assert!(all["next"].is_null());
    let sorted = texts(&all, "machines", "machine_id");
    assert!(sorted.is_sorted());
    assert_eq!(extra_of(&all, "large").unwrap().to_string(), format!(r#"{{"_bytes":{}}}"#, blob.len() + 11));
    assert_eq!(extra_of(&all, &ids[0]).unwrap()["note"], "small");
    let one = client.json("/api/v1/machines/large");
    assert_eq!(one["latest"]["extra"]["blob"].as_str(), Some(blob.as_str()), "the machine has all of it");

    for limit in [1, 7, 13, 25, 26, 10_000] {
        let pages = sorted.len().div_ceil(limit);
        assert_eq!(
            pages_of_machines(&client, limit),
            (sorted.iter().map(ToString::to_string).collect(), pages)
        );
    }
    for wrong in ["limit=0", "limit=10001", "cursor=xyz", "limt=1"] {
        assert_eq!(client.get(&format!("/api/v1/machines?{wrong}")).status, 400, "{wrong}");
    }
    assert!(andon.stop().success());
}

/// Reads the list of machines in pages of `limit`; returns the ids and the number of pages.
fn pages_of_machines(client: &Client, limit: usize) -> (Vec<String>, usize) {
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = client.json(&format!("/api/v1/machines?limit={limit}{cursor}"));
        let ids = texts(&page, "machines", "machine_id");
        assert!(ids.len() <= limit);
        found.extend(ids.into_iter().map(str::to_owned));
        pages += 1;
        let Some(next) = page["next"].as_str() else { return (found, pages) };
        cursor = format!("&cursor={next}");
    }
}

/// A machine beyond `liveness.machines_max` is stored, but not watched.
#[test]
fn an_unwatched_machine_has_readings_and_an_expected_one_is_known() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port())
        .set("liveness.machines_max=2")
        .set("liveness.machines={ghost = { expected = true }}");
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("recovering the machines' states");
    let client = Client::new(&andon.wait_for_http());
    let mut single = Single::connect(broker.port());
    for machine in ["first", "second", "third"] {
        single.publish(&format!("factory/machine/{machine}/telemetry"), br#"{"temperature":7}"#, 1);
    }
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 3);
    let status = |path: &str| client.get(&format!("/api/v1/machines/{path}")).status;
    let unwatched = ["second", "third"].into_iter().find(|machine| status(machine) == 404);
    let unwatched = unwatched.expect("one of them is beyond the limit");
    let readings = client.json(&format!("/api/v1/machines/{unwatched}/readings"));
    assert_eq!(numbers(&readings, "readings", "temperature"), [7.0]);
    assert_eq!(client.json(&format!("/api/v1/machines/{unwatched}/summary"))["count"].as_u64(), Some(1));
    assert_eq!(status(&format!("{unwatched}/readings?format=csv")), 200);
    assert_eq!(client.json("/api/v1/machines/ghost/readings")["readings"].as_array().unwrap().len(), 0);
    assert_eq!(client.json("/api/v1/machines/ghost/summary")["count"].as_u64(), Some(0));
    for path in
        ["nobody/readings", "nobody/readings?bucket=1h", "nobody/readings?format=csv", "nobody/summary"]
    {
        assert_eq!(status(path), 404, "{path}");
    }
    assert!(andon.stop().success());
}
