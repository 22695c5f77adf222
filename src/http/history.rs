//! A few threads that read the database, so that no request blocks the server.
//!
//! Each thread owns one read-only connection, opened on first use. A query waits in a bounded queue: it is answered,
//! refused at once when the queue is full, or abandoned after [`ANSWER_MAX`]. A database that is away is tried at most
//! once a second, however many clients ask. A thread whose server hangs (a frozen server triggers no timeout) blocks no
//! request; it recovers together with the server.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::body::{Body, BodyWriter};
use super::budget::{Budget, BudgetSpent};
use crate::logging::causes;
use crate::store::{self, NotTaken, StoreError, StoreOptions, Worker, WorkerConnection};

/// Connections to the database.
const THREADS: usize = 2;
/// Most queries that wait.
const QUEUE_MAX: usize = 64;
/// How long a query may take, including its time in the queue.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Limit on one statement.
const STATEMENT_MAX: Duration = Duration::from_secs(8);
/// Limit on waiting for a lock. Readers hardly ever need one.
const LOCK_MAX: Duration = Duration::from_secs(2);
/// Limit on connecting.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A failure within this time on a reused connection means that the connection had died.
const DEAD_WITHIN: Duration = Duration::from_secs(1);
/// How long an idle connection may hold an SQLite file that was moved.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between attempts to use a database that is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why a query failed. Clients see these texts, so they hold no credentials.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The database cannot be reached, or its answer is unusable.
    #[error("the database is away: {0}")]
    Away(String),
    /// The queue is full.
    #[error("too many queries wait for the database; try again in a moment")]
    Busy,
    /// The response is larger than what is left of the budget.
    #[error(transparent)]
    Spent(#[from] BudgetSpent),
    /// The query needs more work than one statement may do.
    #[error("{0}")]
    TooMuch(String),
    /// The query took too long.
    #[error("the database did not answer within {} s", ANSWER_MAX.as_secs())]
    TooSlow,
}

/// Sends queries to the threads.
#[derive(Clone)]
pub struct HistoryPool {
    threads: Worker<Connection>,
}

impl HistoryPool {
    /// Starts the threads. They end when the pool is dropped.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(store: &StoreOptions) -> std::io::Result<Self> {
        let options = StoreOptions {
            connect_timeout: store.connect_timeout.min(CONNECT_MAX),
            statement_timeout: STATEMENT_MAX,
            lock_timeout: LOCK_MAX,
            ..store.clone()
        };
        let connection = move || Connection { options: options.clone(), history: None, away: None };
        Ok(Self { threads: Worker::start("history", THREADS, QUEUE_MAX, connection)? })
    }

    /// Runs a query.
    ///
    /// # Errors
    /// [`HistoryError`] says why it failed.
    pub async fn ask<T: Send + 'static>(
        &self,
        query: impl Fn(&mut dyn store::History) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let answer = self.threads.ask(move |connection| connection.ask(query)).map_err(|why| match why {
            NotTaken::QueueFull => HistoryError::Busy,
            NotTaken::Ended => HistoryError::Away("the threads that read it have ended".to_owned()),
        })?;
        match actix_rt::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HistoryError::Away("the thread that reads it has failed".to_owned())),
            Err(_) => Err(HistoryError::TooSlow),
        }
    }

    /// Runs a query that writes its rows into the response body as it reads them. Only the bytes to send are in memory.
    ///
    /// # Errors
    /// [`HistoryError`] says why it failed.
    pub async fn write<T: Send + 'static>(
        &self,
        budget: &Budget,
        query: impl Fn(&mut dyn store::History, &mut BodyWriter) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(Body, T), HistoryError> {
        let budget = budget.clone();
        let written = self.ask(move |history| {
            let mut body = BodyWriter::new(&budget);
            let outcome = query(history, &mut body)?;
            Ok((body, outcome))
        });
        let (body, outcome) = written.await?;
        Ok((body.finish()?, outcome))
    }
}

struct Connection {
    options: StoreOptions,
    history: Option<Box<dyn store::History>>,
    /// When to try the database again, and why it is away.
    away: Option<(Instant, String)>,
}

impl WorkerConnection for Connection {
    const IDLE_INTERVAL: Option<Duration> = Some(IDLE_CHECK_INTERVAL);

    fn while_idle(&mut self) {
        self.close_if_moved();
    }
}

impl Connection {
    /// Runs a query. A reused connection may have died with a restart of the server; then the query runs once more.
    fn ask<T>(
        &mut self,
        query: impl Fn(&mut dyn store::History) -> Result<T, StoreError>,
    ) -> Result<T, HistoryError> {
        let served_before = self.history.is_some();
        let begun = Instant::now();
        let answer = self.run_once(&query);
        let had_died = served_before && answer.is_err() && begun.elapsed() < DEAD_WITHIN;
        if had_died { self.run_once(&query) } else { answer }
    }

    /// Closes an SQLite file that was moved or replaced. While it is open, this process may not open the new file.
    fn close_if_moved(&mut self) {
        self.history = self.history.take().filter(|history| history.check_file().is_ok());
    }

    fn run_once<T>(
        &mut self,
        query: &impl Fn(&mut dyn store::History) -> Result<T, StoreError>,
    ) -> Result<T, HistoryError> {
        if let Some((until, reason)) = &self.away
            && Instant::now() < *until
        {
            return Err(HistoryError::Away(reason.clone()));
        }
        self.away = None;
        self.close_if_moved();
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
        query(history).map_err(|error| {
            // The state of the connection is unknown.
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
    use crate::http::tests::store_options;

    #[test]
    fn a_query_over_the_limit_is_a_problem_that_says_what_helps() {
        let directory = tempfile::tempdir().unwrap();
        let options = store_options(&directory);
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
        assert_eq!(answers.1.unwrap(), [], "later queries work");
    }
}
