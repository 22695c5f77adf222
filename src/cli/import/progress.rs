//! How far a long command is: one changing line on a terminal, a line every few seconds otherwise.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Pause between two lines where they do not replace each other.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Pause between two changes of a line on a terminal.
const CHANGE_EVERY: Duration = Duration::from_millis(200);

/// Shows progress on standard error.
pub struct Progress {
    rows_about: u64,
    is_terminal: bool,
    begun: Instant,
    shown: Instant,
    first: Option<u64>,
}

impl Progress {
    /// Begins, with about so many rows to come.
    pub fn new(rows_about: u64) -> Self {
        let now = Instant::now();
        Self { rows_about, is_terminal: io::stderr().is_terminal(), begun: now, shown: now, first: None }
    }

    /// Shows that `rows` are done, if that is due.
    pub fn show(&mut self, rows: u64) {
        let first = *self.first.get_or_insert(rows);
        let pause = if self.is_terminal { CHANGE_EVERY } else { LINE_EVERY };
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        let rate = (rows - first) as f64 / self.begun.elapsed().as_secs_f64();
        let line = format!("{rows} of about {} rows, {rate:.0} rows/s", self.rows_about.max(rows));
        // A closed standard error is no reason to fail.
        let _ = match self.is_terminal {
            true => write!(io::stderr(), "\r{line}\x1b[K"),
            false => writeln!(io::stderr(), "{line}"),
        };
    }

    /// Clears the line.
    pub fn end(&mut self, _rows: u64) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
