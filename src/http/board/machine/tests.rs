//! A machine's page of what a real database holds.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use tempfile::TempDir;
use uuid::Uuid;

use super::gather::{Past, Question};
use super::span::Lookback;
use super::{past, view};
use crate::clock::wall_now;
use crate::domain::{BoardStatus, JournalId, MachineId, Qos, Reading, Seq, TimeSource, Timestamp};
use crate::http::HistoryPool;
use crate::store::{self, Batch, ReadingRow, StoreOptions};

struct Scene {
    _directory: TempDir,
    options: StoreOptions,
    now: Timestamp,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            url: format!("sqlite://{}/andon.db", directory.path().display()),
            site: "s".to_owned(),
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(5),
        };
        store::open(&options).unwrap().migrate().unwrap();
        Self { _directory: directory, options, now: wall_now() }
    }

    fn ago(&self, minutes: i64) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros() - minutes * 60_000_000)
    }

    fn commit(&self, change: impl FnOnce(&mut Batch)) {
        let mut store = store::open(&self.options).unwrap();
        let journal = JournalId(Uuid::new_v4());
        store.checkpoint(journal).unwrap();
        let mut batch = Batch::new(journal, Seq::ZERO);
        change(&mut batch);
        store.commit(&batch).unwrap();
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
            reading,
            payload: Vec::new(),
        };
        self.commit(|batch| (batch.upto, batch.messages, batch.readings) = (Seq(1), 1, vec![row]));
    }

    fn question(&self, lookback: Lookback) -> Question {
        Question {
            machine_id: MachineId::parse("press-1").unwrap(),
            lookback,
            zone: Tz::UTC,
            now: self.now,
            status: Some((BoardStatus::Offline, self.ago(10))),
        }
    }

    fn past(&self, question: &Question) -> Past {
        let pool = HistoryPool::start(&self.options).unwrap();
        actix_rt::System::new().block_on(question.ask(&pool)).unwrap()
    }

    fn page(&self, question: &Question, known: &Past) -> String {
        let content = view::Content {
            machine_id: &question.machine_id,
            machine: None,
            past: Ok(known),
            outages: &[],
            question,
        };
        past::past(known, &content).into_string()
    }
}

#[test]
fn originals_of_values_that_could_not_be_used_are_no_measurements() {
    let scene = Scene::new();
    let huge = "9".repeat(400);
    let originals = r#""timestamp":4711,"temperature":7,"humidity":8,"vibration":1e999"#;
    scene.reading(&format!(r#"{{{originals},"a":{huge},"b":1e999,"pressure":3}}"#));
    let question = scene.question(Lookback::Hour);
    let known = scene.past(&question);
    let names: Vec<_> = known.series.iter().map(|series| series.measurement.name().to_owned()).collect();
    assert_eq!(names, ["Temperature", "pressure"]);
    let latest = known.latest.as_ref().and_then(|latest| latest.reading.extra.clone()).unwrap();
    assert!(latest.contains(r#""timestamp":4711"#), "it stays among the data: {latest}");
    let page = scene.page(&question, &known);
    assert_eq!(page.matches("<figure").count(), 2);
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}
