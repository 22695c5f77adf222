//! The writer with an SQLite database, while commits fail, hang or lose their answer.

use std::time::Instant;

use actix::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::actors::supervisor::ChildExited;
use crate::domain::{MachineId, Qos, Reading, Seq, TimeSource};
use crate::store::{DatabaseUrl, Progress, ReadingRow, Retention, UnreadableRows};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test waits.
const FOR_EVER: &str = "1*sleep(600000)";

/// Stands for supervisor and parser.
struct Others;

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<ChildExited> for Others {
    type Result = ();

    fn handle(&mut self, _: ChildExited, _: &mut Context<Self>) {}
}

impl Handler<PositionLost> for Others {
    type Result = ();

    fn handle(&mut self, _: PositionLost, _: &mut Context<Self>) {}
}

/// A writer that has claimed the position.
struct Stage {
    writer: Addr<Writer>,
    metrics: Arc<Metrics>,
    history: JournalHistory,
    _others: Addr<Others>,
    _directory: TempDir,
}

impl Stage {
    async fn attached() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = StoreOptions {
            url: DatabaseUrl::Sqlite(directory.path().join("andon.db")),
            schema: None,
            site: "test".to_owned(),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(5),
            timescale: false,
            unreadable: UnreadableRows::default(),
            progress: Progress::default(),
        };
        let options = WriterOptions {
            database: "sqlite".to_owned(),
            store,
            job_max: Duration::from_millis(500),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(20),
            clock: Arc::new(ClockKeeper::open(directory.path(), "test", None)),
            ledger: Arc::default(),
            settings: Arc::new(StatusCell::new(WriterSettings {
                retention: Retention::default(),
                past_window: Duration::from_secs(60),
            })),
            past_rows_max: 100,
            status: Arc::default(),
            forget: Arc::default(),
        };
        let (metrics, others) = (Arc::new(Metrics::default()), Others.start());
        let exit_guard = ExitGuard::new(0, 1, others.clone().recipient());
        let logger = Logger::root(slog::Discard, o!());
        let writer = Writer::new(options, Arc::clone(&metrics), exit_guard, &logger).start();
        let history = JournalHistory::of_new_journal(JournalId(uuid::Uuid::from_u128(1)));
        assert!(!metrics.store_available.get());
        let lost = others.clone().recipient().downgrade();
        let attach = Attach { history: history.clone(), lost };
        let answer = within_patience(writer.send(attach)).await;
        assert!(
            matches!(answer, Ok(Attached::Granted(Known { committed_seq: Seq::ZERO, .. }))),
            "{answer:?}"
        );
        Self { writer, metrics, history, _others: others, _directory: directory }
    }

    /// A batch of one reading a record.
    fn batch(&self, after: u64, upto: u64) -> CommitBatch {
        let batch = Batch::new(self.history.journal_id, self.history.own, Seq(after));
        let readings = (after + 1..=upto).map(reading).collect();
        CommitBatch(Arc::new(Batch { upto: Seq(upto), messages: upto - after, readings, ..batch }))
    }

    fn counted(&self) -> (u64, u64) {
        (self.metrics.batches_committed.get(), self.metrics.readings_stored.get())
    }
}

async fn within_patience<T>(answer: impl Future<Output = Result<T, MailboxError>>) -> T {
    let begun = Instant::now();
    let answer = actix_rt::time::timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| panic!("no answer within {:?}", begun.elapsed())).unwrap()
}

fn reading(seq: u64) -> ReadingRow {
    let reading = Reading {
        machine_id: MachineId::parse("press-1").unwrap(),
        temperature: None,
        humidity: None,
        vibration: None,
        extra: None,
        recorded_at: Timestamp::from_micros(i64::try_from(seq).unwrap()),
        time_source: TimeSource::Device,
        digest: seq,
    };
    ReadingRow {
        seq: Seq(seq),
        element: 0,
        received_at: Timestamp::from_micros(1),
        topic: "a/b/c".into(),
        qos: Qos::AtLeastOnce,
        retained: false,
        clock_unset: false,
        reading,
        payload: b"{}".to_vec(),
    }
}

#[test]
fn a_database_that_answers_is_available() {
    System::new().block_on(async {
        let stage = Stage::attached().await;
        assert!(stage.metrics.store_available.get());
    });
}

/// Proves WRI-2.
#[test]
fn a_commit_whose_answer_is_lost_is_found_to_be_done_and_is_counted() {
    let _scenario = fail::FailScenario::setup();
    System::new().block_on(async {
        let stage = Stage::attached().await;
        fail::cfg("writer::after_commit", "1*return(connection cut)").unwrap();
        assert_eq!(within_patience(stage.writer.send(stage.batch(0, 5))).await, Ok(Committed));
        assert_eq!(stage.counted(), (1, 5));
        assert!(stage.metrics.store_available.get());
    });
}

/// Proves WRI-1.
#[test]
fn a_batch_that_is_tried_again_keeps_its_place_before_later_ones() {
    let _scenario = fail::FailScenario::setup();
    System::new().block_on(async {
        let stage = Stage::attached().await;
        fail::cfg("writer::before_commit", "1*return(away)").unwrap();
        let (first, second) = (stage.writer.send(stage.batch(0, 5)), stage.writer.send(stage.batch(5, 9)));
        let first = actix_rt::spawn(first);
        // If the second went first, it would not begin at the position.
        assert_eq!(within_patience(second).await, Ok(Committed));
        assert_eq!(first.await.unwrap().unwrap(), Ok(Committed));
        assert_eq!(stage.counted(), (2, 9));
    });
}

/// Proves WRI-3.
#[test]
fn a_database_thread_that_hangs_is_given_up_and_the_batch_is_committed_by_another() {
    let _scenario = fail::FailScenario::setup();
    System::new().block_on(async {
        let stage = Stage::attached().await;
        fail::cfg("writer::before_commit", FOR_EVER).unwrap();
        assert_eq!(within_patience(stage.writer.send(stage.batch(0, 5))).await, Ok(Committed));
        assert_eq!(stage.counted(), (1, 5));
    });
}
