//! Andon's own state: the status, the metrics, and the stream of changes.

use serde_json::Value;

use super::{Scene, texts};
use crate::support::poll::wait_for;

pub(super) fn the_status_says_where_everything_is(scene: &Scene) {
    let status = wait_for("the ledger", || {
        let status = scene.client.json("/api/v1/status");
        (status["ledger"]["pending"].as_u64() == Some(0)).then_some(status)
    });
    let ledger = &status["ledger"];
    let part = |name: &str| ledger[name].as_u64().unwrap_or_else(|| panic!("{name} in {ledger}"));
    assert_eq!((part("journaled"), part("committed"), part("elements")), (12, 12, 12));
    assert_eq!((part("stored"), part("duplicate"), part("rejected"), part("control")), (11, 0, 1, 0));
    assert_eq!(status["broker"]["state"], "connected");
    assert_eq!(status["broker"]["protocol"], "5");
    assert_eq!(status["store"]["state"], "works");
    assert_eq!(status["journal"]["state"], "accepting");
    assert_eq!(status["time_zone"], "Europe/Berlin");
    let actors: Vec<_> = texts(&status, "actors", "name");
    for name in ["http", "writer", "liveness", "parser", "mqtt"] {
        assert!(actors.contains(&name), "{name} in {actors:?}");
    }
    for actor in status["actors"].as_array().unwrap() {
        assert_eq!(
            (actor["state"].as_str(), actor["generation"].as_u64()),
            (Some("running"), Some(1)),
            "{actor}"
        );
    }
    for path in ["/livez", "/readyz"] {
        let health = scene.client.json(path);
        assert!(health["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{health}");
    }
}

pub(super) fn metrics_agree_with_the_status(scene: &Scene) {
    let answer = scene.client.get("/metrics");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let expected = [
        "andon_messages_received_total 12",
        "andon_readings_stored_total 11",
        "andon_rejected_total{reason=\"invalid_json\"} 1",
        "andon_rejected_total{reason=\"too_large\"} 0",
        "andon_journal_appended_seq 12",
        "andon_journal_committed_seq 12",
        "andon_journal_pending_messages 0",
        "andon_broker_connected 1",
        "andon_broker_connects_total 1",
        "andon_machines{status=\"online\"} 2",
        "andon_actor_restarts_total{actor=\"writer\"} 0",
        "andon_machine_online{machine_id=\"press-1\"} 1",
        "andon_ledger_elements{outcome=\"rejected\"} 1",
    ];
    for line in expected {
        assert!(answer.body.lines().any(|found| found == line), "{line} in\n{}", answer.body);
    }
    let count =
        answer.body.lines().find_map(|line| line.strip_prefix("andon_end_to_end_latency_seconds_count "));
    assert!(count.is_some_and(|count| count.parse::<u64>().unwrap() >= 1), "{}", answer.body);
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("andon_"), "{line}");
    }
    every_watched_metric_exists(&answer.body);
}

/// Checks that dashboard and alerts name only metrics that exist.
fn every_watched_metric_exists(exposition: &str) {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut watched = 0;
    for file in ["prometheus/andon.rules.yml", "grafana/andon.json"] {
        let text = std::fs::read_to_string(deploy.join(file)).unwrap();
        for part in text.split("andon_").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
            let name = format!("andon_{}", &part[..end]);
            // These exist only with a certificate.
            let known = ["andon_certificate_expiry_timestamp_seconds", "andon_http_tls_not_after_seconds"]
                .contains(&name.as_str())
                || exposition.contains(&format!("# TYPE {name} "))
                || exposition
                    .lines()
                    .any(|line| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            assert!(known, "{file} watches {name}, which /metrics does not have");
            watched += 1;
        }
    }
    assert!(watched > 20, "{watched}");
}

pub(super) fn the_stream_sends_changes(scene: &mut Scene) {
    let mut lines = scene.client.stream("/api/v1/stream");
    // Returns the first event of each kind that contains its word, in any order.
    let mut named = |wanted: &[(&str, &str)]| -> Vec<Value> {
        let mut found = vec![None; wanted.len()];
        while found.iter().any(Option::is_none) {
            let line = lines.next().expect("the stream goes on");
            let Some(name) = line.strip_prefix("event: ") else { continue };
            let data = lines.next().expect("data follows").strip_prefix("data: ").unwrap().to_owned();
            for (slot, (wanted, word)) in found.iter_mut().zip(wanted) {
                if slot.is_none() && name == *wanted && data.contains(word) {
                    *slot = Some(serde_json::from_str(&data).unwrap());
                }
            }
        }
        found.into_iter().flatten().collect()
    };
    let status = named(&[("status", "")]).remove(0);
    assert_eq!(status["broker"]["state"], "connected");
    scene.single.publish("factory/machine/late/telemetry", br#"{"temperature":7}"#, 1);
    let [event, machine] = &named(&[("event", "late"), ("machine", "\"late\"")])[..] else { unreachable!() };
    assert_eq!((event["machine_id"].as_str(), event["status"].as_str()), (Some("late"), Some("online")));
    assert_eq!(machine["status"], "online");
    let status = named(&[("status", "\"journaled\":13")]).remove(0);
    assert_eq!(status["ledger"]["journaled"].as_u64(), Some(13));
}
