//! A machine's page from a real database.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use chrono_tz::Tz;
use tempfile::TempDir;
use uuid::Uuid;

use super::query::{MachineHistory, PageRequest};
use super::span::Lookback;
use super::{history_view, view};
use crate::clock::wall_now;
use crate::domain::{
    DisplayStatus, JournalHistory, JournalId, MachineId, MachineStatus, OpenId, Qos, Reading, Seq,
    TimeSource, Timestamp, Transition, TransitionReason,
};
use crate::http::board::layout::Installation;
use crate::http::tests::store_options;
use crate::http::{Budget, HistoryPool, IN_FLIGHT_BYTES_MAX, lane::Lane};
use crate::store::{self, Batch, ReadingRow, StoreOptions};

struct Scene {
    _directory: TempDir,
    options: StoreOptions,
    now: Timestamp,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = store_options(&directory);
        store::open(&options).unwrap().migrate().unwrap();
        Self { _directory: directory, options, now: wall_now() }
    }

    fn ago(&self, minutes: i64) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros() - minutes * 60_000_000)
    }

    fn commit(&self, change: impl FnOnce(&mut Batch)) {
        let mut store = store::open(&self.options).unwrap();
        let journal = JournalId(Uuid::new_v4());
        store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
        let mut batch = Batch::new(journal, OpenId(journal.0), Seq::ZERO);
        change(&mut batch);
        store.commit(&batch).unwrap();
    }

    /// Records changes to offline, online, offline …, one every ten minutes, the newest ten minutes ago.
    fn flapping(&self, changes: i64) {
        let transition = |number: i64| {
            let is_online = number % 2 == 0;
            let [online, offline] = [MachineStatus::Online, MachineStatus::Offline];
            Transition {
                machine_id: MachineId::parse("press-1").unwrap(),
                status: if is_online { online } else { offline },
                previous_status: Some(if is_online { offline } else { online }),
                reason: if is_online { TransitionReason::Message } else { TransitionReason::Silence },
                occurred_at: self.ago(10 * number),
                last_seen_at: None,
                seq: Seq(1),
            }
        };
        self.commit(|batch| batch.transitions = (1..=changes).rev().map(transition).collect());
    }

    fn reading(&self, extra: &str) {
        let reading = Reading {
            machine_id: MachineId::parse("press-1").unwrap(),
            temperature: Some(20.0),
            humidity: None,
            vibration: None,
            extra: Some(extra.to_owned()),
            recorded_at: self.ago(5),
            time_source: TimeSource::Server,
            digest: 1,
        };
        let row = ReadingRow {
            seq: Seq(1),
            element: 0,
            received_at: self.ago(5),
            topic: Arc::from("t"),
            qos: Qos::AtLeastOnce,
            retained: false,
            clock_unset: false,
            reading,
            payload: Vec::new(),
        };
        self.commit(|batch| (batch.upto, batch.messages, batch.readings) = (Seq(1), 1, vec![row]));
    }

    fn request(&self, lookback: Lookback) -> PageRequest {
        PageRequest {
            machine_id: MachineId::parse("press-1").unwrap(),
            lookback,
            zone: Tz::UTC,
            now: self.now,
            status: Some((DisplayStatus::Offline, self.ago(10))),
        }
    }

    fn load(&self, request: &PageRequest) -> MachineHistory {
        let pool = HistoryPool::start(&self.options, &slog::Logger::root(slog::Discard, slog::o!())).unwrap();
        let client = pool.client(Lane::Board, None, &Budget::new(IN_FLIGHT_BYTES_MAX));
        actix_rt::System::new().block_on(request.load(&client)).unwrap()
    }

    fn page(&self, request: &PageRequest, known: &MachineHistory) -> String {
        let content = view::Content {
            machine_id: &request.machine_id,
            machine: None,
            history: Ok(known),
            outages: &[],
            request,
        };
        history_view::history(known, &content).into_string()
    }
}

#[test]
fn with_too_many_changes_the_timeline_shows_the_newest_and_says_what_is_missing() {
    for changes in [1_000, 1_001, 1_500] {
        let scene = Scene::new();
        scene.flapping(changes);
        scene.reading("{}");
        let request = scene.request(Lookback::Month);
        let known = scene.load(&request);
        let page = scene.page(&request, &known);
        assert_eq!(known.events.len(), 1_000);
        let first = known.timeline[0];
        if changes == 1_000 {
            assert_eq!((first.from, first.to), (known.from, scene.ago(10_000)), "the status before is known");
            assert_eq!((known.changes_from, page.contains("are not loaded")), (None, false));
            continue;
        }
        let shown_from = scene.ago(10_000);
        assert_eq!(
            (first.from, first.status),
            (shown_from, DisplayStatus::Online),
            "nothing is invented before it"
        );
        assert_eq!(known.changes_from, Some(shown_from));
        assert!(page.contains("The bar shows the newest 1000 changes"), "{page}");
        assert!(page.contains(&format!("datetime=\"{shown_from}\"")), "{page}");
        assert!(page.contains("and 950 older ones, and more that are not loaded"), "{page}");
    }
}

#[test]
fn a_large_extra_is_shown_as_its_size_and_its_numbers_are_charted() {
    let scene = Scene::new();
    scene.reading(&format!(r#"{{"blob":"{}","pressure":3}}"#, "x".repeat(250_000)));
    let request = scene.request(Lookback::Hour);
    let known = scene.load(&request);
    let names: Vec<_> = known.series.iter().map(|series| series.measurement.name().to_owned()).collect();
    assert_eq!(names, ["Temperature", "pressure"]);
    let latest = known.latest.as_ref().and_then(|latest| latest.reading.extra.as_deref());
    assert_eq!(latest, Some(r#"{"_bytes":250024}"#), "what a page holds is bounded");
    let content = view::Content {
        machine_id: &request.machine_id,
        machine: None,
        history: Ok(&known),
        outages: &[],
        request: &request,
    };
    let installation = Installation { site: "s", time_zone: "UTC" };
    let page = view::machine(installation, &content).into_string();
    assert!(page.contains("250024 bytes; read them with the API") && !page.contains("_bytes"), "{page}");
}

#[test]
fn originals_of_unusable_values_are_no_measurements() {
    let scene = Scene::new();
    let huge = "9".repeat(400);
    let originals = r#""timestamp":4711,"temperature":7,"humidity":8,"vibration":1e999"#;
    scene.reading(&format!(r#"{{{originals},"a":{huge},"b":1e999,"pressure":3}}"#));
    let request = scene.request(Lookback::Hour);
    let known = scene.load(&request);
    let names: Vec<_> = known.series.iter().map(|series| series.measurement.name().to_owned()).collect();
    assert_eq!(names, ["Temperature", "pressure"]);
    let latest = known.latest.as_ref().and_then(|latest| latest.reading.extra.clone()).unwrap();
    assert!(latest.contains(r#""timestamp":4711"#), "it stays in extra: {latest}");
    let page = scene.page(&request, &known);
    assert_eq!(page.matches("<figure").count(), 2);
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}
