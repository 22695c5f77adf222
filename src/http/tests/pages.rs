//! Paging through rows with equal times: each row once, in the order of the whole list.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::Server;
use super::client::Client;
use crate::domain::{
    MachineId, MachineStatus, Qos, Reading, Seq, TimeSource, Timestamp, Transition, TransitionReason,
};
use crate::store::ReadingRow;

/// 2026-03-01T10:00:00Z.
const BEGIN: i64 = 1_772_359_200_000_000;

/// Returns a reading of `press-1`, `second` seconds after [`BEGIN`]. Its temperature is `number`.
pub fn reading(number: u32, second: i64, extra: &str) -> ReadingRow {
    let recorded_at = Timestamp::from_micros(BEGIN + second * 1_000_000);
    let reading = Reading {
        machine_id: MachineId::parse("press-1").unwrap(),
        temperature: Some(f64::from(number)),
        humidity: None,
        vibration: None,
        extra: Some(extra.to_owned()),
        recorded_at,
        time_source: TimeSource::Device,
        // Cover the whole range including the highest bit: the database stores it as a signed number.
        digest: u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15),
    };
    ReadingRow {
        seq: Seq(1),
        element: number,
        received_at: recorded_at,
        topic: Arc::from("factory/machine/press-1/telemetry"),
        qos: Qos::AtLeastOnce,
        retained: false,
        clock_unset: false,
        reading,
        payload: Vec::new(),
    }
}

fn commit_readings(server: &Server, readings: Vec<ReadingRow>) {
    server.commit(|batch| (batch.upto, batch.messages, batch.readings) = (Seq(1), 1, readings));
}

/// Returns the rows of all pages of `list` at `path` as text, and the number of pages.
fn rows_of_pages(client: &Client, path: &str, list: &str) -> (Vec<String>, usize) {
    let mark = if path.contains('?') { '&' } else { '?' };
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    for pages in 1..100 {
        let page = client.json(&format!("{path}{cursor}"));
        rows.extend(page[list].as_array().unwrap().iter().map(Value::to_string));
        match page["next"].as_str() {
            Some(next) => cursor = format!("{mark}cursor={next}"),
            None => return (rows, pages),
        }
    }
    panic!("{path} never ends");
}

fn assert_each_once(rows: &[String], expected: usize, what: &str) {
    let distinct: HashSet<_> = rows.iter().collect();
    assert_eq!((rows.len(), distinct.len()), (expected, expected), "{what}");
}

#[test]
fn readings_with_equal_times_appear_once_across_pages() {
    let server = Server::local();
    // Seven readings at each of three times.
    commit_readings(&server, (0..21).map(|number| reading(number, i64::from(number / 7), "{}")).collect());
    for order in ["asc", "desc"] {
        let path = format!("/api/v1/machines/press-1/readings?order={order}");
        let (whole, _) = rows_of_pages(&server.client, &path, "readings");
        assert_each_once(&whole, 21, &path);
        for limit in [1, 2, 3, 5, 7, 20, 21, 22] {
            let path = format!("{path}&limit={limit}");
            let (rows, pages) = rows_of_pages(&server.client, &path, "readings");
            assert_eq!(rows, whole, "{path}");
            assert_eq!(pages, 21_usize.div_ceil(limit), "{path}");
        }
    }
}

#[test]
fn a_full_page_continues_among_readings_with_equal_times() {
    let server = Server::local();
    let extra = format!(r#"{{"blob":"{}"}}"#, "x".repeat(400_000));
    commit_readings(&server, (0..25).map(|number| reading(number, i64::from(number / 20), &extra)).collect());
    for order in ["asc", "desc"] {
        let path = format!("/api/v1/machines/press-1/readings?order={order}&limit=10000");
        let (rows, pages) = rows_of_pages(&server.client, &path, "readings");
        assert_each_once(&rows, 25, &path);
        assert!(pages >= 3, "{pages} pages of 10 MB");
    }
}

#[test]
fn events_with_equal_times_appear_once_across_pages() {
    let server = Server::local();
    let transition = |number: i64| Transition {
        machine_id: MachineId::parse(&format!("press-{number}")).unwrap(),
        status: MachineStatus::Offline,
        previous_status: Some(MachineStatus::Online),
        reason: TransitionReason::Silence,
        // Many machines can fall silent at the same instant.
        occurred_at: Timestamp::from_micros(BEGIN + number / 9),
        last_seen_at: None,
        seq: Seq(1),
    };
    server.commit(|batch| batch.transitions = (0..18).map(transition).collect());
    let (whole, _) = rows_of_pages(&server.client, "/api/v1/events", "events");
    assert_each_once(&whole, 18, "all");
    for limit in [1, 2, 4, 9, 17, 18, 19] {
        let path = format!("/api/v1/events?limit={limit}");
        let (rows, pages) = rows_of_pages(&server.client, &path, "events");
        assert_eq!((&rows, pages), (&whole, 18_usize.div_ceil(limit)), "{path}");
    }
}
