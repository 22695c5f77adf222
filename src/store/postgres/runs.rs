//! How all rows are written: a run of them by one statement.
//!
//! - When the server refuses a run, and one row may be to blame, the transaction starts again with a
//!   savepoint before each run. A refused run is then rolled back and cut to an eighth, down to the one row
//!   to blame; after two successful runs the next one is twice as long. (Each failed run leaves lines in the
//!   server's log; halving makes more than twice as many.)
//! - When the server cancels a run that takes too long, the transaction starts again with a quarter of the
//!   rows in a run. Later commits keep that bound ([`RunSize`]); it grows back while they are quick. A row
//!   that takes too long by itself is not refused: it waits.

use std::time::{Duration, Instant as Clock};

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::sqlstate::Verdict;
use crate::store::batch::runs;
use crate::store::error::CommitStep;
use crate::store::failure::{AtStep, CommitFailure};

/// Rows of one statement: all of a batch, by default. A COPY of 1,024 costs the server a third more per row.
pub const RUN_ROWS_MAX: usize = 4_096;
/// Bytes of one statement, roughly; bounds the memory for its parameters, here and in the server.
pub const RUN_BYTES_MAX: usize = 1024 * 1024;

/// How many rows the server takes by one statement within its timeout.
#[derive(Debug)]
pub struct RunSize {
    rows: usize,
    statement_timeout: Duration,
}

impl RunSize {
    /// Starts with the largest runs.
    pub fn new(statement_timeout: Duration) -> Self {
        Self { rows: RUN_ROWS_MAX, statement_timeout }
    }

    /// Returns the bound on the rows of a run.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Shrinks after a run of `cancelled` rows was cancelled. Returns `false` if no smaller run is possible.
    pub fn shrink(&mut self, cancelled: usize) -> bool {
        let rows = self.rows.min(cancelled);
        self.rows = (rows / 4).max(1);
        rows > 1
    }

    /// Grows after a commit whose slowest run took `slowest`, if that was quick.
    pub fn grow(&mut self, slowest: Duration) {
        if slowest < self.statement_timeout / 4 || self.statement_timeout.is_zero() {
            self.rows = (self.rows * 2).min(RUN_ROWS_MAX);
        }
    }
}

/// The bound on the next run while a refused row is searched.
struct RunBound {
    rows: usize,
    max: usize,
    is_second: bool,
}

impl RunBound {
    fn new(max: usize) -> Self {
        Self { rows: max, max, is_second: false }
    }

    /// Doubles after every second run that succeeds.
    fn grow(&mut self) {
        self.rows = if self.is_second { (self.rows * 2).min(self.max) } else { self.rows };
        self.is_second = !self.is_second;
    }

    /// Cuts to an eighth of a refused run.
    fn cut(&mut self, refused: usize) {
        self.rows = (refused / 8).max(1);
        self.is_second = false;
    }
}

/// How a transaction writes its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteMode {
    /// Copies the readings. Never together with `isolates`: a COPY fails for no fault of a row.
    pub copies: bool,
    /// Sets a savepoint before each run, to find a refused row.
    pub isolates: bool,
    /// Checks deferred constraints with each run.
    pub checks_at_once: bool,
}

impl WriteMode {
    /// Returns the mode after a row was refused at `step`; `None` if no mode would help.
    pub fn after_refusal(self, step: CommitStep) -> Option<Self> {
        let next = match step {
            CommitStep::Readings | CommitStep::Transitions | CommitStep::Outages | CommitStep::Sightings => {
                Self { copies: false, isolates: true, ..self }
            }
            // A deferred constraint fails the COMMIT.
            CommitStep::Transaction => Self { copies: false, isolates: true, checks_at_once: true },
            _ => self,
        };
        (next != self).then_some(next)
    }

    /// Returns the mode after a COPY failed.
    pub fn after_copy(self) -> Self {
        Self { copies: false, ..self }
    }

    /// Returns the mode after the COMMIT was cancelled: it had to check all rows at once.
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
    /// Begins. Call it in the transaction, before its first row.
    pub fn begin(connection: &'c mut PgConnection, mode: WriteMode, rows_max: usize) -> QueryResult<Self> {
        if mode.checks_at_once {
            connection.batch_execute("SET CONSTRAINTS ALL IMMEDIATE")?;
        }
        Ok(Self { connection, mode, rows_max, slowest: Duration::ZERO })
    }

    /// Returns whether the readings are copied.
    pub fn copies(&self) -> bool {
        self.mode.copies
    }

    /// Returns how long the slowest run took.
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Writes `rows` in runs, each by `statement`; a row has about `size` bytes. Returns the index of each
    /// refused row, with the server's message. `name` names the row at an index.
    pub fn write<'a, T>(
        &mut self,
        step: CommitStep,
        rows: &'a [T],
        size: impl Fn(&T) -> usize,
        name: impl Fn(usize) -> String,
        mut statement: impl FnMut(&mut PgConnection, &'a [T]) -> QueryResult<()>,
    ) -> Result<Vec<(usize, String)>, CommitFailure> {
        let (mut written, mut bound, mut refused) = (0, RunBound::new(self.rows_max), Vec::new());
        if rows.is_empty() {
            return Ok(refused);
        }
        self.savepoint("SAVEPOINT andon_run").at(step)?;
        while let Some(run) = runs(&rows[written..], bound.rows, RUN_BYTES_MAX, &size).next() {
            let Err(error) = self.timed(|connection| statement(connection, run)) else {
                written += run.len();
                bound.grow();
                self.savepoint("RELEASE SAVEPOINT andon_run; SAVEPOINT andon_run").at(step)?;
                continue;
            };
            match Verdict::of(&error) {
                Verdict::Refused(refusal) if self.mode.isolates => {
                    self.savepoint("ROLLBACK TO SAVEPOINT andon_run").at(step)?;
                    bound.cut(run.len());
                    if run.len() == 1 {
                        refused.push((written, refusal));
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
        for rows in [300, 600, 1_200, 2_400, 4_096, 4_096] {
            size.grow(ms(200));
            assert_eq!(size.rows(), rows);
        }
        for rows in [1_024, 256, 64, 16, 4, 1] {
            assert!(size.shrink(RUN_ROWS_MAX));
            assert_eq!(size.rows(), rows);
        }
        assert!(!size.shrink(RUN_ROWS_MAX));
        assert!(!RunSize::new(ms(1)).shrink(1), "one row is one row");
    }

    #[test]
    fn the_mode_changes_only_where_that_helps() {
        let isolating = WriteMode { isolates: true, ..WriteMode::default() };
        let most = WriteMode { isolates: true, checks_at_once: true, ..WriteMode::default() };
        let copying = WriteMode { copies: true, ..WriteMode::default() };
        assert_eq!(copying.after_refusal(CommitStep::Transitions), Some(isolating));
        assert_eq!(copying.after_refusal(CommitStep::Transaction), Some(most));
        assert_eq!(copying.after_copy(), WriteMode::default());
        assert_eq!(WriteMode::default().after_refusal(CommitStep::Readings), Some(isolating));
        assert_eq!(isolating.after_refusal(CommitStep::Readings), None);
        assert_eq!(isolating.after_refusal(CommitStep::Transaction), Some(most));
        assert_eq!(most.after_refusal(CommitStep::Transaction), None);
        assert_eq!(WriteMode::default().after_refusal(CommitStep::Rejections), None);
        assert_eq!(most.after_slow_commit(), None);
    }
}
