//! The thread that owns the database connection.
//!
//! A call into a database library can block for as long as the server likes (a frozen server answers no
//! statement timeout). So the writer actor never makes such a call itself: it hands jobs to this thread
//! and, when one finishes no statement for too long, abandons the thread with its connection. What an abandoned thread may
//! still do to the database is settled by the store's compare-and-set of the position.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::oneshot;

use crate::actors::failpoint::failpoint;
use crate::domain::{ClockRecord, JournalHistory, JournalId, Timestamp};
use crate::store::{
    Batch, Checkpoint, Claim, CommitOutcome, LivenessPast, MachineRow, MigrationReport, PastWanted, Progress,
    PruneBounds, PruneCursor, Pruned, Store, StoreError, StoreFacts, StoreOptions,
};

/// What the database knows of a journal and of the machines, read at one moment.
pub struct Knowledge {
    /// The position and the ledger, and whether they are ours.
    pub claim: Claim,
    /// Every machine of the site; none if the position is foreign.
    pub machines: Vec<MachineRow>,
    /// What else liveness begins from; the same.
    pub past: LivenessPast,
    /// What the database is and what opening it changed; `None` if it was open already.
    pub opened: Option<(StoreFacts, MigrationReport)>,
}

/// Why a job has no result.
#[derive(Debug, Error)]
pub enum JobError {
    /// The database said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No statement was finished for so long.
    #[error("no answer from the database within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The thread panicked or is gone.
    #[error("the database thread ended")]
    ThreadEnded,
    /// A test made it fail.
    #[error("{0}")]
    Injected(String),
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The actor's end; dropping it ends the thread after its present job.
pub struct StoreWorker {
    jobs: Sender<Job>,
    progress: Progress,
    patience: Duration,
}

impl StoreWorker {
    /// Starts the thread. It connects and migrates at its first job, and again after each failure. A job of which no statement
    /// is finished for as long as `patience` is given up.
    pub fn spawn(options: StoreOptions, patience: Duration) -> std::io::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "its owner waits for each job's answer before the next"
        )]
        let (jobs, queue) = channel::<Job>();
        // Its own: a thread that was given up may still move.
        let progress = Progress::default();
        let options = StoreOptions { progress: progress.clone(), ..options };
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            let mut connection = Connection { options, store: None };
            while let Ok(job) = queue.recv() {
                job(&mut connection);
            }
        })?;
        Ok(Self { jobs, progress, patience })
    }

    /// Claims the position, and reads ledger and machines.
    pub async fn learn(&self, history: JournalHistory, wanted: PastWanted) -> Result<Knowledge, JobError> {
        self.ask(move |connection| connection.learn(&history, wanted)).await
    }

    /// Position and ledger alone, if the database knows the journal.
    pub async fn checkpoint(&self, journal_id: JournalId) -> Result<Option<Checkpoint>, JobError> {
        self.with_store(move |store| Ok(store.checkpoint(journal_id)?)).await
    }

    /// Position and ledger of every journal.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>, JobError> {
        self.with_store(|store| Ok(store.checkpoints()?)).await
    }

    /// Commits a batch in one transaction.
    pub async fn commit(&self, batch: Arc<Batch>) -> Result<CommitOutcome, JobError> {
        self.with_store(move |store| commit(store, &batch)).await
    }

    /// Keeps our record of the trusted time, or returns one that is newer.
    pub async fn exchange_clock(&self, ours: Option<ClockRecord>) -> Result<Option<ClockRecord>, JobError> {
        self.with_store(move |store| Ok(store.exchange_clock(ours)?)).await
    }

    /// One step of deleting what is older than an instant.
    pub async fn prune(
        &self,
        before: Timestamp,
        from: Option<PruneCursor>,
        bounds: PruneBounds,
    ) -> Result<Pruned, JobError> {
        self.with_store(move |store| Ok(store.prune(before, from.as_ref(), bounds)?)).await
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
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // If the writer has given this thread up, it does not listen any more.
            let _abandoned = reply.send(job(connection));
        });
        self.jobs.send(job).map_err(|_| JobError::ThreadEnded)?;
        let begun = Instant::now();
        let mut answer = pin!(answer);
        loop {
            let due = self.progress.last().max(begun) + self.patience;
            match tokio::time::timeout_at(due.into(), &mut answer).await {
                Ok(Ok(result)) => return result,
                Ok(Err(_)) => return Err(JobError::ThreadEnded),
                Err(_) if self.progress.last().max(begun) + self.patience > due => {}
                Err(_) => return Err(JobError::NoAnswer(self.patience)),
            }
        }
    }
}

struct Connection {
    options: StoreOptions,
    store: Option<Box<dyn Store>>,
}

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

    /// Runs `operation`; after most failures the connection is dropped, for nobody knows what state it is in.
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
