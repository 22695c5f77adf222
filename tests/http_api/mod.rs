//! The API's contract, against both databases.

mod machines;
mod readings;
mod requests;
mod status;

use serde_json::Value;

use crate::support::andon::{Andon, Site};
use crate::support::database::rows_stored;
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

/// An id with every character that could break a path, a page or a file name.
const HOSTILE: &str = "a/b+c#d%e?f&g=<script>\"' プレス";
/// The same id as a path segment.
const HOSTILE_PATH: &str = "a%2Fb%2Bc%23d%25e%3Ff%26g%3D%3Cscript%3E%22%27%20%E3%83%97%E3%83%AC%E3%82%B9";

/// A broker, and an Andon that has stored the messages of [`Scene::start`].
struct Scene {
    _broker: Mosquitto,
    single: Single,
    _site: Site,
    andon: Andon,
    client: Client,
    url: String,
}

/// Returns the time of a reading: one per minute. Its temperature is the minute.
fn minute(number: u32) -> String {
    format!("2026-03-01T10:{number:02}:00Z")
}

impl Scene {
    fn start(url: Option<&str>) -> Self {
        let broker = Mosquitto::start("");
        let mut site = Site::new(broker.port())
            .set("site.time_zone=Europe/Berlin")
            .set("liveness.offline_after=1h")
            .set("metrics.per_machine=true");
        if let Some(url) = url {
            site = site.set(&format!("store.url={url}"));
        }
        let url = url.map_or_else(|| site.sqlite_url(), str::to_owned);
        let mut andon = site.run();
        andon.wait_until_connected();
        // A message before that does not prove that the machine is online now.
        andon.wait_for_log("recovering the machines' states");
        let client = Client::new(&andon.wait_for_http());
        let mut single = Single::connect(broker.port());
        for number in 0..10 {
            let payload = format!(
                r#"{{"machine_id":"press-1","temperature":{number},"humidity":null,"pressure":{},"note":"<b>","timestamp":"{}"}}"#,
                number * 100,
                minute(number)
            );
            single.publish("factory/machine/press-1/telemetry", payload.as_bytes(), 1);
        }
        let hostile = serde_json::json!({ "machine_id": HOSTILE, "temperature": 1.5 }).to_string();
        single.publish("factory/machine/x/telemetry", hostile.as_bytes(), 1);
        single.publish("factory/machine/x/telemetry", b"no json", 1);
        wait_until("the rows", || rows_stored(&url) == 11);
        Self { _broker: broker, single, _site: site, andon, client, url }
    }
}

fn texts<'a>(values: &'a Value, list: &str, field: &str) -> Vec<&'a str> {
    values[list].as_array().unwrap().iter().map(|each| each[field].as_str().unwrap()).collect()
}

fn numbers(values: &Value, list: &str, field: &str) -> Vec<f64> {
    values[list].as_array().unwrap().iter().map(|each| each[field].as_f64().unwrap()).collect()
}

/// Checks every clause in turn, because starting a site costs more than the requests.
fn api_keeps_its_contract(url: Option<&str>) {
    let mut scene = Scene::start(url);
    machines::machines_are_listed_with_status_and_newest_reading(&scene);
    readings::pages_of_readings_join_without_gap_or_overlap(&scene);
    readings::csv_has_every_row_of_the_range(&scene);
    readings::buckets_and_summaries_match_the_rows(&scene);
    machines::events_come_newest_first_and_by_machine(&scene);
    status::the_status_says_where_everything_is(&scene);
    status::metrics_agree_with_the_status(&scene);
    requests::lists_that_have_not_changed_are_not_sent_again(&scene);
    readings::short_buckets_over_a_long_range_come_in_pages(&scene);
    requests::invalid_requests_are_problems_that_name_the_fault(&scene);
    status::the_stream_sends_changes(&mut scene);
    assert!(scene.andon.stop().success());
}

#[test]
fn api_keeps_its_contract_on_sqlite() {
    api_keeps_its_contract(None);
}

#[test]
fn api_keeps_its_contract_on_postgres() {
    let server = Postgres::start();
    api_keeps_its_contract(Some(&server.create_database("api")));
}
