//! A few threads that read the database for requests, so that no request ever blocks the server.
//!
//! Owns one read-only connection a thread, opened when it is first needed. A question waits in a bounded queue; it is
//! answered, or refused at once when the queue is full, or given up after [`ANSWER_MAX`]. A database that is away
//! is asked again once a second at most, whatever clients do. A thread that hangs (a frozen server answers no timeout)
//! is waited for by nobody and comes back with the server.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::oneshot;

use super::body::{Body, BodyWriter};
use super::budget::{Budget, BudgetSpent};
use crate::logging::causes;
use crate::store::{self, StoreError, StoreOptions};

/// Connections to the database.
const THREADS: usize = 2;
/// Questions that wait.
const QUEUE_MAX: usize = 64;
/// How long a question may take, waiting included.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bound on one statement.
const STATEMENT_MAX: Duration = Duration::from_secs(8);
/// Bound on waiting for a lock; readers need hardly any.
const LOCK_MAX: Duration = Duration::from_secs(2);
/// Bound on connecting.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A dead connection is found to be dead sooner than this.
const DEAD_WITHIN: Duration = Duration::from_secs(1);
/// How long an SQLite file that has moved may be held by a connection that nobody uses.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between attempts to use a database that is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no answer. The texts are for clients: they hold no credentials.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The database does not answer as it should.
    #[error("the database is away: {0}")]
    Away(String),
    /// Too many questions at a time.
    #[error("too many questions to the database at a time; try again in a moment")]
    Busy,
    /// The answer is larger than what is left for answers.
    #[error(transparent)]
    Spent(#[from] BudgetSpent),
    /// The answer needs more work than one statement may take.
    #[error("{0}")]
    TooMuch(String),
    /// It took too long.
    #[error("the database did not answer within {} s", ANSWER_MAX.as_secs())]
    TooSlow,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The way to the threads.
#[derive(Clone)]
pub struct HistoryPool {
    jobs: SyncSender<Job>,
}

impl HistoryPool {
    /// Starts the threads; they end when the pool is dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(store: &StoreOptions) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let options = StoreOptions {
            connect_timeout: store.connect_timeout.min(CONNECT_MAX),
            statement_timeout: STATEMENT_MAX,
            lock_timeout: LOCK_MAX,
            ..store.clone()
        };
        for _ in 0..THREADS {
            let (queue, options) = (Arc::clone(&queue), options.clone());
            std::thread::Builder::new().name("history".to_owned()).spawn(move || work(&queue, options))?;
        }
        Ok(Self { jobs })
    }

    /// Asks the database.
    ///
    /// # Errors
    /// [`HistoryError`] says why there is no answer.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&mut dyn store::History) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if !reply.is_closed() {
                let _client_gone = reply.send(connection.ask(question));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(HistoryError::Busy),
            Err(TrySendError::Disconnected(_)) => {
                return Err(HistoryError::Away("the reading threads have ended".to_owned()));
            }
        }
        match actix_rt::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HistoryError::Away("the reading thread has failed".to_owned())),
            Err(_) => Err(HistoryError::TooSlow),
        }
    }

    /// Has the answer written as it is read, so that nothing of it is in memory but the bytes that are to be sent.
    ///
    /// # Errors
    /// [`HistoryError`] says why there is no answer.
    pub async fn write<T: Send + 'static>(
        &self,
        budget: &Budget,
        question: impl Fn(&mut dyn store::History, &mut BodyWriter) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(Body, T), HistoryError> {
        let budget = budget.clone();
        let written = self.ask(move |history| {
            let mut body = BodyWriter::new(&budget);
            let outcome = question(history, &mut body)?;
            Ok((body, outcome))
        });
        let (body, outcome) = written.await?;
        Ok((body.finish()?, outcome))
    }
}

/// One thread's life.
fn work(queue: &Mutex<Receiver<Job>>, options: StoreOptions) {
    let mut connection = Connection { options, history: None, away: None };
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LOOK_INTERVAL);
        let job = match job {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                connection.let_go_of_what_has_moved();
                // The lock is not fair, and the other threads have to look, too.
                std::thread::sleep(LOOK_INTERVAL / 100);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // A bug in one question must not take the thread from all others.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut connection)));
        if outcome.is_err() {
            connection.history = None;
        }
    }
}

struct Connection {
    options: StoreOptions,
    history: Option<Box<dyn store::History>>,
    /// Until when it is not asked again, and why.
    away: Option<(Instant, String)>,
}

impl Connection {
    /// A connection that served before may have died unnoticed, with the server's restart: then the question is asked again.
    fn ask<T>(
        &mut self,
        question: impl Fn(&mut dyn store::History) -> Result<T, StoreError>,
    ) -> Result<T, HistoryError> {
        let served_before = self.history.is_some();
        let begun = Instant::now();
        let answer = self.ask_once(&question);
        let died_unnoticed = served_before && answer.is_err() && begun.elapsed() < DEAD_WITHIN;
        if died_unnoticed { self.ask_once(&question) } else { answer }
    }

    /// Nobody else of this process may open a file while this has a former one of its name.
    fn let_go_of_what_has_moved(&mut self) {
        self.history = self.history.take().filter(|history| history.check_file().is_ok());
    }

    fn ask_once<T>(
        &mut self,
        question: &impl Fn(&mut dyn store::History) -> Result<T, StoreError>,
    ) -> Result<T, HistoryError> {
        if let Some((until, reason)) = &self.away
            && Instant::now() < *until
        {
            return Err(HistoryError::Away(reason.clone()));
        }
        self.away = None;
        self.let_go_of_what_has_moved();
        if self.history.is_none() {
            match store::open_history(&self.options) {
                Ok(history) => self.history = Some(history),
                Err(error) => {
                    let reason = causes(&error);
                    self.away = Some((Instant::now() + RETRY_PAUSE, reason.clone()));
                    return Err(HistoryError::Away(reason));
                }
            }
        }
        let history = self.history.as_deref_mut().expect("opened above");
        question(history).map_err(|error| {
            // Nobody knows what state the connection is in.
            self.history = None;
            match error {
                StoreError::HistoryTooSlow { .. } => HistoryError::TooMuch(format!("could not {error}")),
                _ => HistoryError::Away(causes(&error)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;

    use super::*;
    use crate::http::problem::Problem;
    use crate::store::{DatabaseUrl, Progress, UnreadableRows};

    #[test]
    fn an_answer_that_takes_too_much_is_a_problem_that_says_what_helps() {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            url: DatabaseUrl::Sqlite(directory.path().join("andon.db")),
            site: "s".to_owned(),
            connect_timeout: CONNECT_MAX,
            statement_timeout: STATEMENT_MAX,
            lock_timeout: LOCK_MAX,
            unreadable: UnreadableRows::default(),
            progress: Progress::default(),
        };
        store::open(&options).unwrap().migrate().unwrap();
        let pool = HistoryPool::start(&options).unwrap();
        let answers = actix_rt::System::new().block_on(async move {
            let too_slow = pool.ask(|_| {
                let source = "interrupted".into();
                Err::<(), _>(StoreError::HistoryTooSlow { what: "readings", limit: STATEMENT_MAX, source })
            });
            (too_slow.await, pool.ask(|history| history.machines()).await)
        });
        let problem = Problem::from(answers.0.unwrap_err());
        assert_eq!(
            problem.to_string(),
            "could not read readings within 8 s; ask for a shorter time or longer buckets"
        );
        assert_eq!(problem.response().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answers.1.unwrap(), [], "others are answered");
    }
}
