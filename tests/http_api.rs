//! The API's contract, against both databases.

use serde_json::Value;

use crate::support::andon::{Andon, Site};
use crate::support::database::{Database, rows_stored};
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::{wait_for, wait_until};
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

fn machines_are_listed_with_status_and_newest_reading(scene: &Scene) {
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

fn pages_of_readings_join_without_gap_or_overlap(scene: &Scene) {
    let path = "/api/v1/machines/press-1/readings";
    let range = format!("from={}&to={}", minute(2), minute(7));
    let all = scene.client.json(&format!("{path}?{range}&order=asc"));
    assert_eq!(
        numbers(&all, "readings", "temperature"),
        [2.0, 3.0, 4.0, 5.0, 6.0],
        "from is inclusive, to is exclusive"
    );
    assert!(all["next"].is_null());
    for (order, expected) in [("asc", [2.0, 3.0, 4.0, 5.0, 6.0]), ("desc", [6.0, 5.0, 4.0, 3.0, 2.0])] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        for _ in 0..3 {
            let page = scene.client.json(&format!("{path}?{range}&order={order}&limit=2{cursor}"));
            found.extend(numbers(&page, "readings", "temperature"));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "{order}");
    }
    let newest = scene.client.json(&format!("{path}?limit=1"));
    assert_eq!(numbers(&newest, "readings", "temperature"), [9.0], "newest first");
    assert_eq!(newest["readings"][0]["time_source"], "device");
    assert_eq!(newest["readings"][0]["extra"]["note"], "<b>");
    let none = scene.client.json(&format!("{path}?from=2020-01-01&to=2020-01-02"));
    assert_eq!(
        none["readings"].as_array().unwrap().len(),
        0,
        "a known machine, and a period without readings"
    );
}

fn csv_has_every_row_of_the_range(scene: &Scene) {
    let path = "/api/v1/machines/press-1/readings?format=csv&order=asc";
    let answer = scene.client.get(&format!("{path}&from={}", minute(8)));
    assert!(answer.header("content-type").unwrap().starts_with("text/csv"));
    assert!(
        answer.header("content-disposition").unwrap().starts_with("attachment; filename=\"readings.csv\"")
    );
    let lines: Vec<&str> = answer.body.split_terminator("\r\n").collect();
    assert_eq!(lines[0], "recorded_at,temperature,humidity,vibration,extra,time_source,received_at");
    assert_eq!(lines.len(), 3);
    assert!(lines[1].starts_with("2026-03-01T10:08:00.000000Z,8,,,\"{"), "{}", lines[1]);
    assert_eq!(scene.client.get(&format!("{path}&limit=4")).body.split_terminator("\r\n").count(), 5);
}

fn buckets_and_summaries_match_the_rows(scene: &Scene) {
    let path = "/api/v1/machines/press-1/readings";
    let range = format!("from={}&to={}", minute(0), minute(10));
    let buckets = scene.client.json(&format!("{path}?{range}&bucket=5m&extra=pressure"));
    assert_eq!(
        texts(&buckets, "buckets", "start"),
        ["2026-03-01T10:00:00.000000Z", "2026-03-01T10:05:00.000000Z"]
    );
    let first = &buckets["buckets"][0];
    let statistics = |of: &Value| ["min", "mean", "max", "count"].map(|name| of[name].as_f64().unwrap());
    assert_eq!(statistics(&first["temperature"]), [0.0, 2.0, 4.0, 5.0]);
    assert_eq!(statistics(&first["extra"]), [0.0, 200.0, 400.0, 5.0]);
    assert_eq!(first["count"].as_u64(), Some(5));
    assert!(first["humidity"].is_null() && first["vibration"].is_null());
    let of_text = scene.client.json(&format!("{path}?{range}&bucket=1d&extra=note"));
    assert!(of_text["buckets"][0]["extra"].is_null(), "text has no statistics");
    // The message without a timestamp has Andon's own time.
    for (window, count) in [("1m", 1), ("1h", 1), ("24h", 1), ("today", 1), ("yesterday", 0)] {
        let summary = scene.client.json(&format!("/api/v1/machines/{HOSTILE_PATH}/summary?window={window}"));
        assert_eq!(summary["window"], window);
        // Around midnight the row belongs to yesterday, and on a busy machine a minute may pass.
        if matches!(window, "1h" | "24h") {
            assert_eq!(summary["count"].as_u64(), Some(count), "{window}");
            assert_eq!(summary["temperature"]["mean"].as_f64(), Some(1.5), "{window}");
        }
    }
    let today = scene.client.json(&format!("/api/v1/machines/{HOSTILE_PATH}/summary?window=today"));
    let from = today["from"].as_str().unwrap();
    assert!(from.contains("T22:00:00") || from.contains("T23:00:00"), "midnight in Berlin: {from}");
}

fn events_come_newest_first_and_by_machine(scene: &Scene) {
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

fn lists_that_have_not_changed_are_not_sent_again(scene: &Scene) {
    for path in
        ["/api/v1/machines", "/api/v1/events", "/api/v1/machines/press-1/readings", "/api/openapi.json"]
    {
        wait_until(&format!("304 for {path}"), || {
            let first = scene.client.get(path);
            let again =
                scene.client.with(&format!("If-None-Match: {}", first.header("etag").unwrap())).get(path);
            assert!(again.status == 200 || again.body.is_empty());
            again.status == 304
        });
    }
}

fn the_status_says_where_everything_is(scene: &Scene) {
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

fn metrics_agree_with_the_status(scene: &Scene) {
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
            // This one exists only with a certificate.
            let known = name == "andon_certificate_expiry_timestamp_seconds"
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

/// Uses far more readings than one page is computed from.
fn short_buckets_over_a_long_range_come_in_pages(scene: &Scene) {
    let columns = "INSERT INTO machine_telemetry (site, machine_id, temperature, source_topic, recorded_at, time_source, \
        received_at, digest)";
    let mut database = Database::open(&scene.url).unwrap();
    let sqlite = matches!(database, Database::Sqlite(_));
    let site = database.words("SELECT min(site) AS value FROM machine_telemetry").remove(0).unwrap();
    database.execute(&if sqlite {
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 249999) \
             {columns} SELECT '{site}', 'busy', 1, 't', strftime('%Y-%m-%d %H:%M:%S.000000+00:00', 1772323200 + i, 'unixepoch'), \
             'device', '2026-01-01 00:00:00.000000+00:00', i FROM n"
        )
    } else {
        format!(
            "{columns} SELECT '{site}', 'busy', 1, 't', to_timestamp(1772323200 + i), 'device', now(), i \
             FROM generate_series(0, 249999) i"
        )
    });
    // The inserted readings have no rollups.
    database.execute("DELETE FROM machine_rollup_exact");
    let path = "/api/v1/machines/busy/readings?from=2026-03-01T00:00:00Z&to=2026-03-31T00:00:00Z&bucket=1m&extra=none";
    let (mut pages, mut buckets, mut readings, mut cursor) = (0, 0, 0.0, String::new());
    loop {
        let page = scene.client.json(&format!("{path}{cursor}"));
        let counts = numbers(&page, "buckets", "count");
        pages += 1;
        buckets += counts.len();
        readings += counts.iter().sum::<f64>();
        assert!(counts.iter().sum::<f64>() <= 100_000.0);
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((pages, buckets, readings), (3, 4_167, 250_000.0));
    let whole = scene.client.json(&path.replace("1m", "5m"));
    assert!(whole["next"].is_null(), "five minutes are one page");

    // Fewer readings, but more buckets than fit into a page.
    let path = "/api/v1/machines/busy/readings?from=2026-03-01T00:00:00Z&to=2026-03-01T12:00:00Z&bucket=1s";
    let (mut starts, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = scene.client.get(&format!("{path}{cursor}"));
        assert!(answer.status == 200 && answer.body.len() <= 4 * 1024 * 1024, "{}", answer.body.len());
        let page = answer.json();
        starts.extend(texts(&page, "buckets", "start").into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(starts.len(), 43_200);
    assert!(starts.is_sorted_by(|one, next| one < next), "each bucket once");
    assert_eq!(numbers(&whole, "buckets", "count").len(), 834);
}

fn invalid_requests_are_problems_that_name_the_fault(scene: &Scene) {
    let long = "x".repeat(101);
    let readings = scene.client.json("/api/v1/machines/press-1/readings?limit=1");
    let next = readings["next"].as_str().expect("there are more");
    let of_readings = format!("/api/v1/machines/press-1/readings?bucket=1m&cursor={next}");
    let wrong = [
        ("/api/v1/machines/press-1/readings?limit=0", 400, "limit"),
        ("/api/v1/machines/press-1/readings?limit=many", 400, "limit"),
        ("/api/v1/machines/press-1/readings?from=yesterday", 400, "from"),
        ("/api/v1/machines/press-1/readings?from=2026-03-02&to=2026-03-01", 400, "is after to"),
        ("/api/v1/machines/press-1/readings?order=up", 400, "order"),
        ("/api/v1/machines/press-1/readings?format=xml", 400, "format"),
        ("/api/v1/machines/press-1/readings?cursor=7", 400, "cursor"),
        ("/api/v1/machines/press-1/readings?bucket=1", 400, "bucket"),
        ("/api/v1/machines/press-1/readings?bucket=1m&cursor=7", 400, "cursor"),
        (of_readings.as_str(), 400, "previous page"),
        // A minute after midnight, where a page of minutes may end.
        (
            "/api/v1/machines/press-1/readings?bucket=1h&cursor=00000000039387008000000000000000",
            400,
            "previous page",
        ),
        (
            "/api/v1/machines/press-1/readings?bucket=1s&from=2026-01-01&to=2026-12-31",
            400,
            "at most 50000 are allowed",
        ),
        ("/api/v1/machines/press-1/readings?limt=1", 400, "limt"),
        ("/api/v1/machines/press-1/summary?window=1y", 400, "window"),
        ("/api/v1/machines/%00", 400, "control character"),
        ("/api/v1/machines/%ff", 400, "UTF-8"),
        ("/api/v1/events?limit=1001", 400, "limit"),
        ("/api/v1/nothing", 404, "/api/v1/nothing"),
        ("/api/v1/machines/nobody/readings", 404, "nobody"),
        ("/api/v1/machines/nobody/readings?bucket=1m", 404, "nobody"),
        ("/api/v1/machines/nobody/readings?format=csv", 404, "nobody"),
        ("/api/v1/machines/nobody/summary", 404, "nobody"),
        ("/api/v1/machines/nobody/summary?window=1y", 400, "window"),
    ];
    let too_long = format!("/api/v1/machines/{long}");
    for (path, status, word) in wrong.into_iter().chain([(too_long.as_str(), 400, "101 characters")]) {
        let answer = scene.client.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = answer.json();
        assert_eq!(problem["status"].as_u64(), Some(u64::from(status)), "{path}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}: {problem}");
    }
    assert_eq!(scene.client.request("POST", "/api/v1/machines", "a=b").status, 405);
    assert_eq!(scene.client.request("DELETE", "/api/v1/events", "").status, 405);
}

fn the_stream_sends_changes(scene: &mut Scene) {
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
        let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = client.json(&format!("/api/v1/machines?limit={limit}{cursor}"));
            let ids = texts(&page, "machines", "machine_id");
            assert!(ids.len() <= limit);
            found.extend(ids.into_iter().map(str::to_owned));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(
            (found, pages),
            (sorted.iter().map(ToString::to_string).collect(), 26_usize.div_ceil(limit))
        );
    }
    for wrong in ["limit=0", "limit=10001", "cursor=xyz", "limt=1"] {
        assert_eq!(client.get(&format!("/api/v1/machines?{wrong}")).status, 400, "{wrong}");
    }
    assert!(andon.stop().success());
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

/// Checks every clause in turn, because starting a site costs more than the requests.
fn api_keeps_its_contract(url: Option<&str>) {
    let mut scene = Scene::start(url);
    machines_are_listed_with_status_and_newest_reading(&scene);
    pages_of_readings_join_without_gap_or_overlap(&scene);
    csv_has_every_row_of_the_range(&scene);
    buckets_and_summaries_match_the_rows(&scene);
    events_come_newest_first_and_by_machine(&scene);
    the_status_says_where_everything_is(&scene);
    metrics_agree_with_the_status(&scene);
    lists_that_have_not_changed_are_not_sent_again(&scene);
    short_buckets_over_a_long_range_come_in_pages(&scene);
    invalid_requests_are_problems_that_name_the_fault(&scene);
    the_stream_sends_changes(&mut scene);
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
