//! Readings: pages, CSV, buckets and summaries.

use serde_json::Value;

use super::{HOSTILE_PATH, Scene, minute, numbers, texts};
use crate::support::database::Database;

pub(super) fn pages_of_readings_join_without_gap_or_overlap(scene: &Scene) {
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

pub(super) fn csv_has_every_row_of_the_range(scene: &Scene) {
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

pub(super) fn buckets_and_summaries_match_the_rows(scene: &Scene) {
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

/// Stores 250,000 readings of `busy`, one a second from 2026-03-01 on, without rollups.
fn store_a_reading_a_second(url: &str) {
    let columns = "INSERT INTO machine_telemetry (site, machine_id, temperature, source_topic, recorded_at, time_source, \
        received_at, digest)";
    let mut database = Database::open(url).unwrap();
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
    database.execute("DELETE FROM machine_rollup_exact");
}

/// Uses far more readings than one page is computed from.
pub(super) fn short_buckets_over_a_long_range_come_in_pages(scene: &Scene) {
    store_a_reading_a_second(&scene.url);
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
