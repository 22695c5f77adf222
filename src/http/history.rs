//! A few threads that read the database, so that no request blocks the server.
//!
//! Two [lanes](Lane) with threads of their own: what the board asks, and what programs ask of the API. In each, clients
//! take turns ([`FairThreads`]). Each thread owns one read-only connection, opened on first use. A database that is away
//! is tried at most once a second, however many clients ask. A thread whose server hangs (a frozen server triggers no
//! timeout) recovers together with the server.
//!
//! One more thread a lane writes long lists that need no database, also while the database is away: a list of 10,000
//! machines would keep a thread of the server from all its other connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slog::{Logger, info, warn};
use thiserror::Error;

use super::body::{Body, BodyWriter};
use super::budget::{Budget, BudgetSpent};
use super::fair_queue::Host;
pub(super) use super::fair_threads::ANSWER_MAX;
use super::fair_threads::{FairThreads, NotRun};
use super::lane::{ByLane, Lane};
use super::priority;
use crate::logging::{causes, keys};
use crate::store::{self, StoreError, StoreOptions, WorkerConnection};

/// Connections to the database, for each lane.
const THREADS: usize = 3;
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

/// Why a query failed. Clients see these texts: what a database says of hosts, users and files stays in the log.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The database cannot be reached, or its answer is unusable.
    #[error("the database is away; the log says why")]
    Away,
    /// Its turn does not come soon enough.
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

impl From<NotRun> for HistoryError {
    fn from(why: NotRun) -> Self {
        match why {
            NotRun::NoTurn => Self::Busy,
            NotRun::Failed => Self::Away,
            NotRun::TooSlow => Self::TooSlow,
        }
    }
}

/// The threads of both lanes.
#[derive(Clone)]
pub struct HistoryPool {
    lanes: ByLane<Threads>,
}

/// The threads of a lane.
#[derive(Clone)]
struct Threads {
    readers: FairThreads<Connection>,
    list_writer: FairThreads<ListWriter>,
}

/// How much is asked of a lane.
#[derive(Debug, Clone, Copy)]
pub struct LaneLoad {
    /// Questions that wait for their turn now.
    pub waiting: usize,
    /// Questions whose turn did not come soon enough, since the process started.
    pub refused: u64,
}

impl HistoryPool {
    /// Starts the threads. They end when the pool is dropped.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(store: &StoreOptions, logger: &Logger) -> std::io::Result<Self> {
        let options = StoreOptions {
            connect_timeout: store.connect_timeout.min(CONNECT_MAX),
            statement_timeout: STATEMENT_MAX,
            lock_timeout: LOCK_MAX,
            ..store.clone()
        };
        let outage = Arc::new(Outage { reason: Mutex::new(None), logger: logger.clone() });
        let board = Threads::start("board", &options, &outage, priority::yield_to_the_pipeline)?;
        let api = Threads::start("api", &options, &outage, priority::yield_to_the_board)?;
        Ok(Self { lanes: ByLane { board, api } })
    }

    /// Returns what waits in a lane, and what it has refused.
    #[must_use]
    pub fn load(&self, lane: Lane) -> LaneLoad {
        let Threads { readers, list_writer } = self.lanes.of(lane);
        LaneLoad {
            waiting: readers.waiting() + list_writer.waiting(),
            refused: readers.refused() + list_writer.refused(),
        }
    }

    /// Returns what a request of this host may use; responses are charged to `budget`.
    #[must_use]
    pub fn client(&self, lane: Lane, host: Host, budget: &Budget) -> HistoryClient {
        HistoryClient { threads: self.lanes.of(lane).clone(), host, budget: budget.of(lane, host) }
    }
}

impl Threads {
    /// Starts the threads. Each calls `begins` first.
    fn start(
        lane: &str,
        options: &StoreOptions,
        outage: &Arc<Outage>,
        begins: fn(),
    ) -> std::io::Result<Self> {
        let (options, outage) = (options.clone(), Arc::clone(outage));
        let connection = move || {
            begins();
            let (options, outage) = (options.clone(), Arc::clone(&outage));
            Connection { options, history: None, away_until: None, outage }
        };
        let list_writer = move || {
            begins();
            ListWriter
        };
        Ok(Self {
            readers: FairThreads::start(&format!("history-{lane}"), THREADS, connection)?,
            list_writer: FairThreads::start(&format!("lists-{lane}"), 1, list_writer)?,
        })
    }
}

/// Asks the database on behalf of one client, and writes responses within that client's share of the budget.
#[derive(Clone)]
pub struct HistoryClient {
    threads: Threads,
    host: Host,
    budget: Budget,
}

impl HistoryClient {
    /// Returns the share of the budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Runs a query.
    ///
    /// # Errors
    /// [`HistoryError`] says why it failed.
    pub async fn ask<T: Send + 'static>(
        &self,
        query: impl Fn(&mut dyn store::History) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        self.threads.readers.run(self.host, move |connection| connection.ask(query)).await?
    }

    /// Writes a response that needs no database, but takes long to write.
    ///
    /// # Errors
    /// [`HistoryError`] says why it failed.
    pub async fn list(
        &self,
        write: impl FnOnce(&mut BodyWriter) + Send + 'static,
    ) -> Result<Body, HistoryError> {
        let budget = self.budget.clone();
        let write = move |_: &mut ListWriter| {
            let mut body = BodyWriter::new(&budget);
            write(&mut body);
            body.finish()
        };
        Ok(self.threads.list_writer.run(self.host, write).await??)
    }

    /// Runs a query that writes its rows into the response body as it reads them. Only the bytes to send are in memory.
    ///
    /// # Errors
    /// [`HistoryError`] says why it failed.
    pub async fn write<T: Send + 'static>(
        &self,
        query: impl Fn(&mut dyn store::History, &mut BodyWriter) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(Body, T), HistoryError> {
        let budget = self.budget.clone();
        let written = self.ask(move |history| {
            let mut body = BodyWriter::new(&budget);
            let outcome = query(history, &mut body)?;
            Ok((body, outcome))
        });
        let (body, outcome) = written.await?;
        Ok((body.finish()?, outcome))
    }
}

/// A thread that writes lists has nothing of its own.
struct ListWriter;

impl WorkerConnection for ListWriter {}

struct Connection {
    options: StoreOptions,
    history: Option<Box<dyn store::History>>,
    /// When to try a database again that is away.
    away_until: Option<Instant>,
    outage: Arc<Outage>,
}

/// Why the database cannot be read, for the log. All threads share it: an outage is one line for each reason.
struct Outage {
    reason: Mutex<Option<String>>,
    logger: Logger,
}

impl Outage {
    fn begins(&self, reason: &str) {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(reason) {
            warn!(self.logger, "the database cannot be read: the board and the API have no history until it can";
                keys::REASON => reason);
            *known = Some(reason.to_owned());
        }
    }

    fn ends(&self) {
        if self.reason.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            info!(self.logger, "the database can be read again");
        }
    }
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
        let mut answer = self.run_once(&query);
        if served_before && answer.is_err() && begun.elapsed() < DEAD_WITHIN {
            answer = self.run_once(&query);
        }
        match &answer {
            Ok(_) | Err(Failure::TooMuch(_)) => self.outage.ends(),
            Err(Failure::Away(reason)) => self.outage.begins(reason),
            Err(Failure::StillAway) => {}
        }
        Ok(answer?)
    }

    /// Closes an SQLite file that was moved or replaced. While it is open, this process may not open the new file.
    fn close_if_moved(&mut self) {
        self.history = self.history.take().filter(|history| history.check_file().is_ok());
    }

    fn run_once<T>(
        &mut self,
        query: &impl Fn(&mut dyn store::History) -> Result<T, StoreError>,
    ) -> Result<T, Failure> {
        if self.away_until.is_some_and(|until| Instant::now() < until) {
            return Err(Failure::StillAway);
        }
        self.away_until = None;
        self.close_if_moved();
        if self.history.is_none() {
            match store::open_history(&self.options) {
                Ok(history) => self.history = Some(history),
                Err(error) => {
                    self.away_until = Some(Instant::now() + RETRY_PAUSE);
                    return Err(Failure::Away(causes(&error)));
                }
            }
        }
        let history = self.history.as_deref_mut().expect("opened above");
        query(history).map_err(|error| {
            // The state of the connection is unknown.
            self.history = None;
            match error {
                StoreError::HistoryTooSlow { .. } => Failure::TooMuch(format!("could not {error}")),
                _ => Failure::Away(causes(&error)),
            }
        })
    }
}

/// Why a thread could not answer.
enum Failure {
    Away(String),
    /// It was away a moment ago, and was not asked again.
    StillAway,
    TooMuch(String),
}

impl From<Failure> for HistoryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(_) | Failure::StillAway => Self::Away,
            Failure::TooMuch(why) => Self::TooMuch(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::mpsc;

    use actix_web::http::StatusCode;

    use super::*;
    use crate::http::IN_FLIGHT_BYTES_MAX;
    use crate::http::network::Network;
    use crate::http::problem::Problem;
    use crate::http::tests::store_options;

    /// Runs `test` with a pool on an empty database.
    fn with_pool<F: Future>(test: impl FnOnce(HistoryPool) -> F) -> F::Output {
        let directory = tempfile::tempdir().unwrap();
        let options = store_options(&directory);
        store::open(&options).unwrap().migrate().unwrap();
        let pool = HistoryPool::start(&options, &Logger::root(slog::Discard, slog::o!())).unwrap();
        actix_rt::System::new().block_on(test(pool))
    }

    fn client(pool: &HistoryPool, lane: Lane, host: u8) -> HistoryClient {
        let network = Network::of(Ipv4Addr::new(10, 0, 0, host).into());
        pool.client(lane, Some(network), &Budget::new(IN_FLIGHT_BYTES_MAX))
    }

    #[test]
    fn a_query_over_the_limit_is_a_problem_that_says_what_helps() {
        let answers = with_pool(async |pool| {
            let client = client(&pool, Lane::Api, 1);
            let too_slow = client.ask(|_| {
                let source = "interrupted".into();
                Err::<(), _>(StoreError::HistoryTooSlow { what: "readings", limit: STATEMENT_MAX, source })
            });
            (too_slow.await, client.ask(|history| history.machines()).await)
        });
        let problem = Problem::from(answers.0.unwrap_err());
        assert_eq!(
            problem.to_string(),
            "could not read readings within 8 s; ask for a shorter time or longer buckets"
        );
        assert_eq!(problem.response().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answers.1.unwrap(), [], "later queries work");
    }

    #[test]
    fn queries_yield_to_the_pipeline_and_those_of_the_api_to_the_board() {
        let own = niceness();
        let [board, api] = with_pool(async |pool| {
            let of = async |lane| client(&pool, lane, 1).ask(|_| Ok(niceness())).await.unwrap();
            [of(Lane::Board).await, of(Lane::Api).await]
        });
        assert!(own < board && board < api, "{own} {board} {api}");
    }

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    /// Proves HTTP-6.
    #[test]
    fn a_client_whose_queries_never_end_delays_neither_other_clients_nor_the_board() {
        with_pool(async |pool| {
            let greedy = client(&pool, Lane::Api, 1);
            let (release, released) = mpsc::channel::<()>();
            let (started, has_started) = mpsc::channel();
            let released = Arc::new(Mutex::new(released));
            for _ in 0..100 {
                let (greedy, released, started) = (greedy.clone(), Arc::clone(&released), started.clone());
                actix_rt::spawn(async move {
                    let endless = move |_: &mut dyn store::History| {
                        started.send(()).unwrap();
                        let _ended = released.lock().unwrap().recv();
                        Ok(())
                    };
                    greedy.ask(endless).await
                });
            }
            // The tasks run while this one waits.
            while greedy.threads.readers.waiting() < 100 - (THREADS - 1) {
                actix_rt::task::yield_now().await;
            }
            for (lane, host) in [(Lane::Api, 2), (Lane::Board, 1), (Lane::Board, 2)] {
                let answer = client(&pool, lane, host).ask(|history| history.machines()).await;
                assert_eq!(answer.unwrap(), [], "{lane:?} {host}");
            }
            let running = has_started.try_iter().count();
            assert!(running < THREADS, "{running}");
            drop(release);
        });
    }

    #[test]
    fn a_query_whose_client_has_gone_leaves_the_queue() {
        with_pool(async |pool| {
            let busy = client(&pool, Lane::Api, 1);
            let (release, released) = mpsc::channel::<()>();
            let released = Arc::new(Mutex::new(released));
            let endless = || {
                let released = Arc::clone(&released);
                busy.ask(move |_| {
                    let _ended = released.lock().unwrap().recv();
                    Ok(())
                })
            };
            let mut running: Vec<_> = (0..THREADS - 1).map(|_| Box::pin(endless())).collect();
            let mut waiting = Box::pin(busy.ask(|history| history.machines()));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            running.iter_mut().for_each(|ask| assert!(ask.as_mut().poll(&mut context).is_pending()));
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            assert_eq!(busy.threads.readers.waiting(), 1);
            drop(waiting);
            assert_eq!(busy.threads.readers.waiting(), 0);
            drop(release);
        });
    }
}
