//! The writer's jobs for the database, on a thread of their own.
//!
//! The thread is abandoned with its connection when a job finishes no statement for too long. The store's
//! compare-and-set of the position settles what an abandoned thread may still do.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::actors::failpoint::failpoint;
use crate::domain::{ClockRecord, JournalHistory, JournalId, Timestamp};
use crate::store::{
    Batch, Checkpoint, Claim, CommitOutcome, ForgetRequest, LivenessPast, MachineRow, MigrationReport,
    PartsTended, PastWanted, Progress, PruneBounds, PruneCursor, PruneLimits, Pruned, SpaceReleased, Store,
    StoreError, StoreFacts, StoreOptions, Worker, WorkerConnection,
};

/// What the database holds of a journal and its machines, read together.
pub struct Knowledge {
    /// The position and the ledger, and whether the claim was granted.
    pub claim: Claim,
    /// Every machine of the site; none if the claim was not granted.
    pub machines: Vec<MachineRow>,
    /// The recorded past that liveness starts from; empty if the claim was not granted.
    pub past: LivenessPast,
    /// Facts and migrations, if this opened the database.
    pub opened: Option<(StoreFacts, MigrationReport)>,
}

/// Why a job failed.
#[derive(Debug, Error)]
pub enum JobError {
    /// The database returned an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No statement finished within this time.
    #[error("no answer from the database within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The thread panicked or has ended.
    #[error("the database thread ended")]
    ThreadEnded,
    /// A test injected the failure.
    #[error("{0}")]
    Injected(String),
}

/// Handle of the thread. Dropping it ends the thread after the current job.
pub struct StoreWorker {
    thread: Worker<Connection>,
    progress: Progress,
    answer_max: Duration,
}

impl StoreWorker {
    /// Starts the thread. It connects and migrates at its first job, and again after a failure. A job that
    /// finishes no statement within `answer_max` fails with [`JobError::NoAnswer`].
    pub fn spawn(options: StoreOptions, answer_max: Duration) -> std::io::Result<Self> {
        // Not shared with an abandoned thread, which may still make progress.
        let progress = Progress::default();
        let options = StoreOptions { progress: progress.clone(), ..options };
        // The writer awaits each answer before it asks for the next job.
        let thread =
            Worker::start("store", 1, 1, move || Connection { options: options.clone(), store: None })?;
        Ok(Self { thread, progress, answer_max })
    }

    /// Claims the position and reads ledger, machines and past.
    pub async fn learn(&self, history: JournalHistory, wanted: PastWanted) -> Result<Knowledge, JobError> {
        self.ask(move |connection| connection.learn(&history, wanted)).await
    }

    /// Returns position and ledger, if the database knows the journal.
    pub async fn checkpoint(&self, journal_id: JournalId) -> Result<Option<Checkpoint>, JobError> {
        self.with_store(move |store| Ok(store.checkpoint(journal_id)?)).await
    }

    /// Returns position and ledger of every journal.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>, JobError> {
        self.with_store(|store| Ok(store.checkpoints()?)).await
    }

    /// Commits a batch in one transaction.
    pub async fn commit(&self, batch: Arc<Batch>) -> Result<CommitOutcome, JobError> {
        self.with_store(move |store| commit(store, &batch)).await
    }

    /// Stores our record of the trusted time, or returns a newer one.
    pub async fn exchange_clock(&self, ours: Option<ClockRecord>) -> Result<Option<ClockRecord>, JobError> {
        self.with_store(move |store| Ok(store.exchange_clock(ours)?)).await
    }

    /// Returns the machines that are to be forgotten.
    pub async fn forget_requests(&self) -> Result<Vec<ForgetRequest>, JobError> {
        self.with_store(|store| Ok(store.forget_requests()?)).await
    }

    /// Deletes rows beyond `limits`, one bounded step.
    pub async fn prune(
        &self,
        limits: PruneLimits,
        from: Option<PruneCursor>,
        bounds: PruneBounds,
    ) -> Result<Pruned, JobError> {
        self.with_store(move |store| Ok(store.prune(&limits, from.as_ref(), bounds)?)).await
    }

    /// Creates and drops partitions of the readings, where there are any.
    pub async fn tend_partitions(
        &self,
        limits: PruneLimits,
        now: Timestamp,
    ) -> Result<PartsTended, JobError> {
        self.with_store(move |store| Ok(store.tend_partitions(&limits, now)?)).await
    }

    /// Gives free space of an SQLite file back, one bounded step.
    pub async fn release_space(&self, pages_max: u32) -> Result<SpaceReleased, JobError> {
        self.with_store(move |store| Ok(store.release_space(pages_max)?)).await
    }

    async fn with_store<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut dyn Store) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, JobError> {
        self.ask(move |connection| connection.with_store(operation)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, JobError> {
        let answer = self.thread.ask(job).map_err(|_| JobError::ThreadEnded)?;
        let begun = Instant::now();
        let mut answer = pin!(answer);
        loop {
            let due = self.progress.last().max(begun) + self.answer_max;
            match tokio::time::timeout_at(due.into(), &mut answer).await {
                Ok(Ok(result)) => return result,
                Ok(Err(_)) => return Err(JobError::ThreadEnded),
                Err(_) if self.progress.last().max(begun) + self.answer_max > due => {}
                Err(_) => return Err(JobError::NoAnswer(self.answer_max)),
            }
        }
    }
}

struct Connection {
    options: StoreOptions,
    store: Option<Box<dyn Store>>,
}

impl WorkerConnection for Connection {}

impl Connection {
    fn learn(&mut self, history: &JournalHistory, wanted: PastWanted) -> Result<Knowledge, JobError> {
        let opened = self.open()?;
        self.with_store(|store| {
            let claim = store.claim(history)?;
            let (machines, past) = match claim {
                Claim::Granted(_) => (store.machines()?, store.liveness_past(wanted)?),
                Claim::Foreign(_) => Default::default(),
            };
            Ok(Knowledge { claim, machines, past, opened })
        })
    }

    fn open(&mut self) -> Result<Option<(StoreFacts, MigrationReport)>, StoreError> {
        if self.store.is_some() {
            return Ok(None);
        }
        let mut store = crate::store::open(&self.options)?;
        let migration = store.migrate()?;
        let facts = store.facts().clone();
        self.store = Some(store);
        Ok(Some((facts, migration)))
    }

    /// Runs `operation`. After most failures the state of the connection is unknown, and it is dropped.
    fn with_store<T>(
        &mut self,
        operation: impl FnOnce(&mut dyn Store) -> Result<T, JobError>,
    ) -> Result<T, JobError> {
        self.open()?;
        let store = self.store.as_deref_mut().expect("opened above");
        let result = operation(store);
        let is_usable = match &result {
            Ok(_) => true,
            Err(JobError::Store(error)) => error.keeps_connection(),
            Err(_) => false,
        };
        if !is_usable {
            self.store = None;
        }
        result
    }
}

fn commit(store: &mut dyn Store, batch: &Batch) -> Result<CommitOutcome, JobError> {
    #[cfg(feature = "failpoints")]
    if let Some(outcome) = super::mutants::commit(store, batch) {
        return outcome;
    }
    failpoint("writer::before_commit").map_err(JobError::Injected)?;
    let outcome = store.commit(batch)?;
    failpoint("writer::after_commit").map_err(JobError::Injected)?;
    Ok(outcome)
}
