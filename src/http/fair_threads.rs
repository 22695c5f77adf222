//! A few threads that run the jobs of many clients, in turns.
//!
//! A job waits in the [`FairQueue`]: it is answered, told to come back if its turn does not come within [`TURN_MAX`], or
//! abandoned after [`ANSWER_MAX`]. A client that asks in a loop is slowed down by its own jobs, not by errors, and slows
//! down nobody else. A thread that hangs blocks no request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::fair_queue::{Bounds, FairQueue, Host, Ticket};
use crate::store::{Worker, WorkerConnection};

/// Most jobs that wait.
const WAITING_MAX: usize = 512;
/// Most jobs of a client that wait.
const WAITING_OF_HOST_MAX: usize = 128;
/// How long a job waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(5);
/// How long a job may take, including the wait for its turn.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRun {
    /// Its turn does not come soon enough.
    NoTurn,
    /// It panicked.
    Failed,
    /// It takes too long.
    TooSlow,
}

/// The threads, each with a `C` of its own, and what waits for them.
pub struct FairThreads<C> {
    worker: Worker<C>,
    queue: Arc<Mutex<FairQueue<Job<C>>>>,
    refused: Arc<AtomicU64>,
}

impl<C> Clone for FairThreads<C> {
    fn clone(&self) -> Self {
        let Self { worker, queue, refused } = self;
        Self { worker: worker.clone(), queue: Arc::clone(queue), refused: Arc::clone(refused) }
    }
}

type Job<C> = Box<dyn FnOnce(&mut C) + Send>;

impl<C: WorkerConnection> FairThreads<C> {
    /// Starts the threads. One client alone leaves a thread to the others, if there are several. They end when every
    /// handle is dropped.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(
        name: &str,
        threads: usize,
        begin: impl Fn() -> C + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let bounds = Bounds {
            running_max: threads,
            running_of_host_max: threads.saturating_sub(1).max(1),
            waiting_max: WAITING_MAX,
            waiting_of_host_max: WAITING_OF_HOST_MAX,
        };
        // No more jobs are handed over than threads are free.
        let worker = Worker::start(name, threads, threads, begin)?;
        let queue = Arc::new(Mutex::new(FairQueue::new(bounds)));
        Ok(Self { worker, queue, refused: Arc::default() })
    }

    /// Returns how many jobs wait.
    pub fn waiting(&self) -> usize {
        self.queue().waiting()
    }

    /// Returns how many jobs got no turn, since the process started.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Runs a job of this client, when its turn has come.
    ///
    /// # Errors
    /// [`NotRun`] says why there is no answer.
    pub async fn run<T: Send + 'static>(
        &self,
        host: Host,
        job: impl FnOnce(&mut C) -> T + Send + 'static,
    ) -> Result<T, NotRun> {
        let (reply, mut answer) = oneshot::channel();
        let job = move |connection: &mut C| {
            if !reply.is_closed() {
                let _no_longer_awaited = reply.send(job(connection));
            }
        };
        let place = self.enter(host, Box::new(job))?;
        let mut result = actix_rt::time::timeout(TURN_MAX, &mut answer).await;
        if result.is_err() {
            if place.leave() {
                return Err(self.refuse());
            }
            result = actix_rt::time::timeout(ANSWER_MAX.saturating_sub(TURN_MAX), &mut answer).await;
        }
        match result {
            Ok(answer) => answer.map_err(|_closed| NotRun::Failed),
            Err(_) => Err(NotRun::TooSlow),
        }
    }

    /// Queues a job. It leaves the queue with its place.
    fn enter(&self, host: Host, job: Job<C>) -> Result<Place<'_, C>, NotRun> {
        let ticket = self.queue().push(host, job).map_err(|_job| self.refuse())?;
        self.run_next();
        Ok(Place { threads: self, host, ticket })
    }

    fn refuse(&self) -> NotRun {
        self.refused.fetch_add(1, Ordering::Relaxed);
        NotRun::NoTurn
    }

    /// Hands jobs to the threads, as many as may run.
    fn run_next(&self) {
        loop {
            let Some((host, job)) = self.queue().next() else { return };
            // Dropped with the job however it ends, or at once if the threads have ended: then nobody gets an answer.
            let turn = Turn { threads: self.clone(), host };
            let _threads_ended = self.worker.run(move |connection| {
                let _turn = turn;
                job(connection);
            });
        }
    }
}

impl<C> FairThreads<C> {
    fn queue(&self) -> MutexGuard<'_, FairQueue<Job<C>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that runs. Dropping it lets the next one run.
struct Turn<C: WorkerConnection> {
    threads: FairThreads<C>,
    host: Host,
}

impl<C: WorkerConnection> Drop for Turn<C> {
    fn drop(&mut self) {
        self.threads.queue().finished(self.host);
        self.threads.run_next();
    }
}

/// A job that waits, or waited. Dropping it takes the job out of the queue if its turn has not come.
struct Place<'a, C> {
    threads: &'a FairThreads<C>,
    host: Host,
    ticket: Ticket,
}

impl<C> Place<'_, C> {
    /// Takes the job out of the queue. False if its turn has come.
    fn leave(&self) -> bool {
        self.threads.queue().leave(self.host, self.ticket).is_some()
    }
}

impl<C> Drop for Place<'_, C> {
    fn drop(&mut self) {
        self.leave();
    }
}
