//! Threads that own a connection each and run closures on it.
//!
//! Every call into a database library blocks, and may block for ever: a frozen server ignores every statement
//! timeout. So neither an actor nor a request makes such a call. It hands a job to a [`Worker`] and awaits the
//! answer for as long as it likes. A thread that hangs cannot be ended: its owner drops the worker and
//! starts a new one, and the old thread ends once its call returns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// What a thread of a [`Worker`] owns. It opens the database at its first job.
pub trait WorkerConnection: 'static {
    /// How long a thread may wait for a job before [`Self::while_idle`] runs; `None`: it never does.
    const IDLE_INTERVAL: Option<Duration> = None;

    /// Runs between jobs, at every [`Self::IDLE_INTERVAL`] without one.
    fn while_idle(&mut self) {}
}

/// Why a worker did not take a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// As many jobs as may wait are waiting.
    QueueFull,
    /// Its threads have ended.
    Ended,
}

type Job<C> = Box<dyn FnOnce(&mut C) + Send>;

/// Handle of the threads. Each ends after its current job once every handle is dropped.
pub struct Worker<C> {
    jobs: SyncSender<Job<C>>,
}

impl<C> Clone for Worker<C> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<C: WorkerConnection> Worker<C> {
    /// Starts `threads` threads, with at most `queue_max` jobs that wait. Each thread makes its connection by
    /// `connection`, and a new one after a job that panicked.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(
        name: &str,
        threads: usize,
        queue_max: usize,
        connection: impl Fn() -> C + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(queue_max);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let (queue, connection) = (Arc::clone(&queue), connection.clone());
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&queue, connection))?;
        }
        Ok(Self { jobs })
    }

    /// Queues a job whose answer nobody needs.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn run(&self, job: impl FnOnce(&mut C) + Send + 'static) -> Result<(), NotTaken> {
        self.queue(Box::new(job))
    }

    /// Queues a job. Its answer comes through the channel, which closes without one if the job panics. A job
    /// whose answer nobody awaits any more when its turn comes does not run.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut C) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, NotTaken> {
        let (reply, answer) = oneshot::channel();
        let job: Job<C> = Box::new(move |connection| {
            if !reply.is_closed() {
                let _no_longer_awaited = reply.send(job(connection));
            }
        });
        self.queue(job)?;
        Ok(answer)
    }

    fn queue(&self, job: Job<C>) -> Result<(), NotTaken> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => NotTaken::QueueFull,
            TrySendError::Disconnected(_) => NotTaken::Ended,
        })
    }
}

/// Runs jobs until every handle is dropped.
fn work<C: WorkerConnection>(queue: &Mutex<Receiver<Job<C>>>, connect: impl Fn() -> C) {
    let mut connection = connect();
    loop {
        match next_job(queue, C::IDLE_INTERVAL) {
            Ok(job) => {
                // The panic hook has logged it. The state of the connection is unknown.
                if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
                    connection = connect();
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                connection.while_idle();
                // The lock is not fair, and the other threads must get here, too.
                std::thread::sleep(C::IDLE_INTERVAL.unwrap_or_default() / 100);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn next_job<C>(
    queue: &Mutex<Receiver<Job<C>>>,
    wait_max: Option<Duration>,
) -> Result<Job<C>, RecvTimeoutError> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    match wait_max {
        Some(wait_max) => queue.recv_timeout(wait_max),
        None => Ok(queue.recv()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counter(u32);

    impl WorkerConnection for Counter {
        const IDLE_INTERVAL: Option<Duration> = Some(Duration::from_millis(1));

        fn while_idle(&mut self) {
            self.0 += 100;
        }
    }

    struct Untouched(u32);

    impl WorkerConnection for Untouched {}

    fn count(connection: &mut Untouched) -> u32 {
        connection.0 += 1;
        connection.0
    }

    #[test]
    fn a_job_that_panics_costs_its_answer_and_the_connection_but_no_thread() {
        let worker = Worker::start("test", 1, 3, || Untouched(0)).unwrap();
        assert_eq!(worker.ask(count).unwrap().blocking_recv(), Ok(1));
        assert_eq!(worker.ask(count).unwrap().blocking_recv(), Ok(2), "the connection is kept");
        let broken = worker.ask(|_| -> u32 { panic!("a bug") }).unwrap();
        assert!(broken.blocking_recv().is_err());
        assert_eq!(worker.ask(count).unwrap().blocking_recv(), Ok(1), "a new connection");
    }

    #[test]
    fn jobs_beyond_the_queue_are_refused_and_abandoned_ones_do_not_run() {
        let worker = Worker::start("test", 1, 2, || Untouched(0)).unwrap();
        let (release, wait) = sync_channel::<()>(0);
        let (started, has_started) = sync_channel(1);
        let slow = worker.ask(move |connection| {
            started.send(()).unwrap();
            wait.recv().unwrap();
            count(connection)
        });
        has_started.recv().unwrap();
        drop(worker.ask(count).unwrap());
        let waiting = worker.ask(count).unwrap();
        assert_eq!(worker.ask(count).map(drop), Err(NotTaken::QueueFull));
        release.send(()).unwrap();
        assert_eq!((slow.unwrap().blocking_recv(), waiting.blocking_recv()), (Ok(1), Ok(2)));
    }

    #[test]
    fn every_thread_looks_after_its_connection_while_there_is_no_job() {
        let worker = Worker::start("test", 1, 1, Counter::default).unwrap();
        let read = || worker.ask(|counter| counter.0).unwrap().blocking_recv().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while read() == 0 {
            assert!(std::time::Instant::now() < deadline, "never");
        }
    }
}
