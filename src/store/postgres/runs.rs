//! The one way in which rows are written: a run of them by one statement.
//!
//! - When the server refuses a run for what may be one row's fault, the transaction is begun anew with a savepoint before each run.
//!   A run that is refused then is rolled back to it and cut to an eighth, down to the one row that is to blame; after two runs that
//!   go in, the next one is twice as long. (Each run that fails leaves lines in the server's log. Halving makes more than twice as many.)
//! - When it cancels a run because it takes too long, the transaction is begun anew with a quarter as many rows in a run. That bound is kept
//!   for later commits ([`RunSize`]) and grows back while they are quick. A row that takes too long by itself is not refused: it waits.

use std::time::{Duration, Instant as Clock};

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::sqlstate::Verdict;
use crate::store::batch::runs;
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};

/// Rows of one statement. More gain nothing; fewer cost round trips.
pub const RUN_ROWS_MAX: usize = 1_024;
/// Bytes of one statement, about; bounds the memory for its parameters, here and in the server.
pub const RUN_BYTES_MAX: usize = 1024 * 1024;

/// Rows of one statement, as many as the server takes within its timeout.
#[derive(Debug)]
pub struct RunSize {
    rows: usize,
    statement_timeout: Duration,
}

impl RunSize {
    /// Nothing is known yet.
    pub fn new(statement_timeout: Duration) -> Self {
        Self { rows: RUN_ROWS_MAX, statement_timeout }
    }

    /// Rows of a run at most.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A run of so many rows was cancelled; `false` if there is no smaller one.
    pub fn shrink(&mut self, cancelled: usize) -> bool {
        let rows = self.rows.min(cancelled);
        self.rows = (rows / 4).max(1);
        rows > 1
    }

    /// A commit succeeded whose slowest run took so long.
    pub fn grow(&mut self, slowest: Duration) {
        if slowest < self.statement_timeout / 4 || self.statement_timeout.is_zero() {
            self.rows = (self.rows * 2).min(RUN_ROWS_MAX);
        }
    }
}

/// How careful a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteMode {
    /// A savepoint before each run, so that a row that is refused can be found.
    pub isolates: bool,
    /// Constraints that wait for the end of the transaction are checked with each run.
    pub checks_at_once: bool,
}

impl WriteMode {
    /// More care after a row was refused at `step`; `None` if that helps nothing.
    pub fn after_refusal(self, step: CommitStep) -> Option<Self> {
        let more = match step {
            CommitStep::Readings | CommitStep::Transitions | CommitStep::Outages | CommitStep::Sightings => {
                Self { isolates: true, ..self }
            }
            // A constraint that is checked at the end of the transaction fails the COMMIT.
            CommitStep::Transaction => Self { isolates: true, checks_at_once: true },
            _ => self,
        };
        (more != self).then_some(more)
    }

    /// More care after the COMMIT was cancelled: it had to check all rows at once.
    pub fn after_slow_commit(self) -> Option<Self> {
        (!self.checks_at_once).then_some(Self { checks_at_once: true, ..self })
    }
}

/// Writes the rows of one transaction.
pub struct RunWriter<'c> {
    /// Inside the transaction.
    pub connection: &'c mut PgConnection,
    mode: WriteMode,
    rows_max: usize,
    slowest: Duration,
}

impl<'c> RunWriter<'c> {
    /// To be called in the transaction, before its first row.
    pub fn begin(connection: &'c mut PgConnection, mode: WriteMode, rows_max: usize) -> QueryResult<Self> {
        if mode.checks_at_once {
            connection.batch_execute("SET CONSTRAINTS ALL IMMEDIATE")?;
        }
        Ok(Self { connection, mode, rows_max, slowest: Duration::ZERO })
    }

    /// How long the slowest run took.
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Writes `rows` by `statement`, which takes a run of them, each row of about `size` bytes. Returns the places of those
    /// that are refused, with the server's words. `name` says which row is at a place.
    pub fn write<'a, T>(
        &mut self,
        step: CommitStep,
        rows: &'a [T],
        size: impl Fn(&T) -> usize,
        name: impl Fn(usize) -> String,
        mut statement: impl FnMut(&mut PgConnection, &'a [T]) -> QueryResult<()>,
    ) -> Result<Vec<(usize, String)>, CommitFailure> {
        let (mut written, mut bound, mut refused) = (0, self.rows_max, Vec::new());
        let mut is_second = false;
        if rows.is_empty() {
            return Ok(refused);
        }
        self.savepoint("SAVEPOINT andon_run").at(step)?;
        while let Some(run) = runs(&rows[written..], bound, RUN_BYTES_MAX, &size).next() {
            let Err(error) = self.timed(|connection| statement(connection, run)) else {
                written += run.len();
                bound = if is_second { (bound * 2).min(self.rows_max) } else { bound };
                is_second = !is_second;
                self.savepoint("RELEASE SAVEPOINT andon_run; SAVEPOINT andon_run").at(step)?;
                continue;
            };
            match Verdict::of(&error) {
                Verdict::Refused(words) if self.mode.isolates => {
                    self.savepoint("ROLLBACK TO SAVEPOINT andon_run").at(step)?;
                    bound = (run.len() / 8).max(1);
                    is_second = false;
                    if run.len() == 1 {
                        refused.push((written, words));
                        written += 1;
                    }
                }
                Verdict::Cancelled => {
                    let row = (run.len() == 1).then(|| name(written));
                    return Err(CommitFailure::Cancelled { step, rows: run.len(), row, error });
                }
                _ => return Err(CommitFailure::Step(step, error)),
            }
        }
        self.savepoint("RELEASE SAVEPOINT andon_run").at(step)?;
        Ok(refused)
    }

    fn timed(&mut self, statement: impl FnOnce(&mut PgConnection) -> QueryResult<()>) -> QueryResult<()> {
        let begun = Clock::now();
        let result = statement(self.connection);
        self.slowest = self.slowest.max(begun.elapsed());
        result
    }

    fn savepoint(&mut self, command: &str) -> QueryResult<()> {
        if self.mode.isolates { self.connection.batch_execute(command) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_becomes_as_small_as_the_timeout_wants_and_grows_back_while_commits_are_quick() {
        let ms = Duration::from_millis;
        let mut size = RunSize::new(ms(1_000));
        assert_eq!(size.rows(), RUN_ROWS_MAX);
        assert!(size.shrink(600));
        assert_eq!(size.rows(), 150, "a quarter of the run that was cancelled");
        size.grow(ms(300));
        assert_eq!(size.rows(), 150, "twice as many rows could take too long");
        for rows in [300, 600, 1_024, 1_024] {
            size.grow(ms(200));
            assert_eq!(size.rows(), rows);
        }
        for rows in [256, 64, 16, 4, 1] {
            assert!(size.shrink(RUN_ROWS_MAX));
            assert_eq!(size.rows(), rows);
        }
        assert!(!size.shrink(RUN_ROWS_MAX));
        assert!(!RunSize::new(ms(1)).shrink(1), "one row is one row");
    }

    #[test]
    fn care_grows_only_where_it_helps() {
        let isolating = WriteMode { isolates: true, ..WriteMode::default() };
        let most = WriteMode { isolates: true, checks_at_once: true };
        assert_eq!(WriteMode::default().after_refusal(CommitStep::Readings), Some(isolating));
        assert_eq!(isolating.after_refusal(CommitStep::Readings), None);
        assert_eq!(isolating.after_refusal(CommitStep::Transaction), Some(most));
        assert_eq!(most.after_refusal(CommitStep::Transaction), None);
        assert_eq!(WriteMode::default().after_refusal(CommitStep::Rejections), None);
        assert_eq!(most.after_slow_commit(), None);
    }
}
