//! HTTP while another part has failed, and the pipeline while HTTP has.

use std::io::Write;
use std::net::TcpListener;

use crate::support::andon::Site;
use crate::support::database::rows_stored;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::{wait_for, wait_until};
use crate::support::postgres::Postgres;
use crate::support::publisher::{Single, publish_numbered};

const TOPIC: &str = "factory/machine/{machine}/telemetry";

/// Waits until the status shows `count` rows. It follows the commit with a short delay.
fn wait_for_ledger_stored(client: &Client, count: u64) {
    let stored = || client.json("/api/v1/status")["ledger"]["stored"].as_u64();
    wait_until(&format!("the ledger to count {count}"), || stored() == Some(count));
}

fn history_answers_503(client: &Client) {
    for path in [
        "/api/v1/events",
        "/api/v1/machines/press-1/readings",
        "/api/v1/machines/press-1/summary",
        // Only the database could tell whether it has readings.
        "/api/v1/machines/nobody/readings",
        "/api/v1/machines/nobody/summary",
    ] {
        let answer = client.get(path);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (503, Some("application/problem+json")),
            "{path}"
        );
        assert!(answer.json()["detail"] == "the database is away; the log says why", "{}", answer.body);
    }
}

fn everything_else_works(client: &Client) {
    let status = client.json("/api/v1/status");
    assert_eq!(
        (status["store"]["state"].as_str(), status["ledger"]["pending"].as_u64()),
        (Some("away"), Some(1))
    );
    let machine = client.json("/api/v1/machines/press-1");
    assert_eq!(
        (machine["status"].as_str(), machine["latest"]["temperature"].as_f64()),
        (Some("online"), Some(1.0))
    );
    let ready = client.get("/readyz");
    assert_eq!(ready.status, 503);
    let checks = ready.json()["checks"].clone();
    let store = checks.as_array().unwrap().iter().find(|check| check["name"] == "store").unwrap().clone();
    assert!(
        store["ok"] == false && store["reason"].as_str().unwrap().starts_with("1 message waits"),
        "{store}"
    );
    assert_eq!(client.get("/livez").status, 200);
}

/// Proves HTTP-3.
#[test]
fn without_the_database_history_answers_503_and_the_rest_works() {
    let mut server = Postgres::start();
    let broker = Mosquitto::start("");
    let url = server.create_database("away");
    let site = Site::new(broker.port()).set(&format!("store.url={url}"));
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("recovering the machines' states");
    let client = Client::new(&andon.wait_for_http());
    let mut single = Single::connect(broker.port());
    single.publish("factory/machine/press-1/telemetry", br#"{"temperature":1}"#, 1);
    wait_until("the row", || rows_stored(&url) == 1);
    wait_until("the reading", || {
        client.json("/api/v1/machines")["machines"][0]["latest"]["temperature"].as_f64() == Some(1.0)
    });

    server.stop();
    single.publish("factory/machine/press-1/telemetry", br#"{"temperature":2}"#, 1);
    andon.wait_for_log("the database does not accept the data");
    history_answers_503(&client);
    everything_else_works(&client);

    server.restart();
    wait_until("the second row", || rows_stored(&url) == 2);
    wait_until("history", || client.get("/api/v1/events").status == 200);
    wait_until("ready", || client.get("/readyz").status == 200);
    assert!(andon.stop().success());
}

#[test]
fn without_the_broker_machines_are_unknown_and_readiness_names_the_reason() {
    let mut broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("recovering the machines' states");
    let client = Client::new(&andon.wait_for_http());
    Single::connect(broker.port()).publish("factory/machine/press-1/telemetry", br#"{"temperature":1}"#, 1);
    wait_until("online", || client.json("/api/v1/machines")["machines"][0]["status"] == "online");
    broker.kill();
    wait_until("unknown", || client.json("/api/v1/machines")["machines"][0]["status"] == "unknown");
    let ready = wait_for("not ready", || Some(client.get("/readyz")).filter(|answer| answer.status == 503));
    let mqtt = ready.json()["checks"][0].clone();
    assert!(mqtt["name"] == "mqtt" && mqtt["ok"] == false, "{mqtt}");
    assert!(mqtt["reason"].as_str().unwrap().starts_with("not connected to tcp://127.0.0.1:"), "{mqtt}");
    assert_eq!(client.json("/api/v1/status")["broker"]["state"], "away");
    assert_eq!(client.get("/livez").status, 200);
    assert!(andon.stop().success());
}

/// Proves HTTP-1.
#[test]
fn an_address_in_use_is_retried_and_the_pipeline_works() {
    let broker = Mosquitto::start("");
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap();
    let site =
        Site::new(broker.port()).set(&format!("http.bind={address}")).set("supervisor.backoff_max=200ms");
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_for_log("the address cannot be used");
    andon.wait_until_connected();
    publish_numbered(broker.port(), TOPIC, 3, 0..50, 1);
    wait_until("the rows", || rows_stored(&url) == 50);
    assert_eq!(andon.log().matches("the address cannot be used").count(), 1, "one line, not one per attempt");
    drop(occupied);
    let client = Client::new(&andon.wait_for_http());
    wait_for_ledger_stored(&client, 50);
    assert!(andon.stop().success());
}

/// Proves HTTP-1.
#[test]
fn a_server_that_keeps_panicking_never_stops_the_pipeline() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port())
        .set("supervisor.restarts_max=2")
        .set("supervisor.backoff_min=1ms")
        .set("supervisor.backoff_max=10ms");
    let url = site.sqlite_url();
    let mut andon = site.run_with("http::handle=8*panic(server)");
    andon.wait_until_connected();
    publish_numbered(broker.port(), TOPIC, 3, 0..50, 1);
    wait_until("the rows", || rows_stored(&url) == 50);
    // Each start logs its address once. Only the ninth server keeps running.
    wait_until("the server after its restarts", || andon.log().matches("url: http://").count() == 9);
    let healed = Client::new(&andon.wait_for_http());
    let restarts = healed.json("/api/v1/status")["actors"].clone();
    let of = |name: &str| {
        let actors = restarts.as_array().unwrap().iter();
        actors.clone().find(|actor| actor["name"] == name).unwrap()["restarts"].as_u64().unwrap()
    };
    assert_eq!((of("http"), of("writer"), of("parser"), of("mqtt")), (8, 0, 0, 0));
    assert!(andon.stop().success());
}

/// Proves HTTP-1, HTTP-2.
#[test]
fn a_hundred_slow_clients_do_not_hurt_the_pipeline() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("recovering the machines' states");
    let client = Client::new(&andon.wait_for_http());
    let requests = [
        "GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /api/v1/machines HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /api/v1/machines/press-001/readings?format=csv HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: 127",
    ];
    // None of the clients ever reads.
    let slow: Vec<_> = (0..100)
        .map(|number: usize| {
            let mut connection = client.open();
            connection.write_all(requests[number % requests.len()].as_bytes()).unwrap();
            connection
        })
        .collect();
    publish_numbered(broker.port(), TOPIC, 50, 0..5_000, 1);
    wait_until("the rows", || rows_stored(&url) == 5_000);
    wait_for_ledger_stored(&client, 5_000);
    assert_eq!(client.get("/readyz").status, 200);
    drop(slow);
    wait_until("the streams to end", || client.get("/metrics").body.contains("andon_http_streams 0"));
    assert!(andon.stop().success());
}
