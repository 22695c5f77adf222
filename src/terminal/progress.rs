//! Progress of long work, on standard error: a bar on a terminal, otherwise a plain line every few seconds.
//!
//! Work that ends sooner than the first line prints nothing into a log or a pipe. A bar is erased when the work ends, so
//! that only the result stays on the screen.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressState, ProgressStyle};

use super::printable;
use crate::domain::duration_text::rounded;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two drawings of a bar on which nothing else happens.
const TICK: Duration = Duration::from_millis(200);
/// Total of work whose end is not known.
const UNKNOWN: u64 = u64::MAX;

/// What the work is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things, by their plural: `rows`.
    Things(&'static str),
    /// Bytes.
    Bytes,
    /// Nothing: it only takes time.
    Time,
}

/// The progress of one piece of work. Ends when it is dropped.
pub struct ProgressDisplay {
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines(Lines),
    Nothing,
}

impl ProgressDisplay {
    /// Shows the progress of `what`, such as "copying machine_telemetry", of which `done` of `total` was done before.
    #[must_use]
    pub fn start(what: impl Into<String>, unit: Unit, done: u64, total: Option<u64>) -> Self {
        let work = Work::new(what.into(), unit, done, total);
        let is_plain = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let shown = if io::stderr().is_terminal() && !is_plain {
            Shown::Bar(bar(&work))
        } else {
            Shown::Lines(Lines::start(work, LINE_EVERY, Box::new(io::stderr())))
        };
        Self { shown }
    }

    /// Shows that work whose steps cannot be counted goes on.
    #[must_use]
    pub fn waiting(what: impl Into<String>) -> Self {
        Self::start(what, Unit::Time, 0, None)
    }

    /// Shows nothing.
    #[must_use]
    pub const fn hidden() -> Self {
        Self { shown: Shown::Nothing }
    }

    /// Counts what was done since the last call.
    pub fn advance(&self, by: u64) {
        match &self.shown {
            Shown::Bar(bar) => bar.inc(by),
            Shown::Lines(lines) => drop(lines.work.done.fetch_add(by, Ordering::Relaxed)),
            Shown::Nothing => {}
        }
    }

    /// Prints a line that stays, such as a warning.
    pub fn say(&self, line: &str) {
        let line = format!("andon: {}\n", printable(line));
        // Nobody reads it any more: the work goes on.
        let print = || drop(io::stderr().write_all(line.as_bytes()));
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(print),
            _ => print(),
        }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(work: &Work) -> ProgressBar {
    let total = work.known_total();
    let template = match (work.unit, total) {
        (Unit::Things(_), Some(_)) => "{prefix} {wide_bar} {pos} of {len} {msg}, {rate}, {eta} left",
        (Unit::Things(_), None) => "{spinner} {prefix}: {pos} {msg}, {rate}",
        (Unit::Bytes, Some(_)) => "{prefix} {wide_bar} {bytes} of {total_bytes}, {eta} left",
        (Unit::Bytes, None) => "{spinner} {prefix}: {bytes}",
        (Unit::Time, _) => "{spinner} {prefix}, {elapsed}",
    };
    let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
        // Writing to a buffer cannot fail.
        write!(text, "{:.0} per second", state.per_sec()).ok();
    };
    let style = ProgressStyle::with_template(template).expect("a test reads each template");
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
    bar.set_prefix(printable(&work.what).into_owned());
    bar.set_message(if let Unit::Things(name) = work.unit { name } else { "" });
    bar.set_position(work.done.load(Ordering::Relaxed));
    bar.reset_eta();
    bar.enable_steady_tick(TICK);
    bar
}

/// The state of the work.
struct Work {
    what: String,
    unit: Unit,
    begun: Instant,
    /// What an earlier run had done.
    done_before: u64,
    done: AtomicU64,
    total: u64,
}

impl Work {
    fn new(what: String, unit: Unit, done: u64, total: Option<u64>) -> Self {
        let total = total.unwrap_or(UNKNOWN);
        Self { what, unit, begun: Instant::now(), done_before: done, done: AtomicU64::new(done), total }
    }

    fn known_total(&self) -> Option<u64> {
        (self.total != UNKNOWN).then_some(self.total)
    }

    /// Returns the line for work that has run for `elapsed` and last advanced `stalled` ago.
    fn line(&self, elapsed: Duration, stalled: Duration) -> String {
        let done = self.done.load(Ordering::Relaxed);
        let what = &self.what;
        let noun = match self.unit {
            Unit::Things(name) => format!(" {name}"),
            Unit::Bytes => String::new(),
            Unit::Time => return format!("{what}: running for {}", rounded(elapsed)),
        };
        let total = self.known_total().filter(|total| *total >= done);
        let mut line = match total {
            Some(total) => {
                let percent = done as f64 * 100.0 / total.max(1) as f64;
                format!("{what}: {} of {}{noun} ({percent:.0} %)", self.amount(done), self.amount(total))
            }
            None => format!("{what}: {}{noun}", self.amount(done)),
        };
        if stalled >= LINE_EVERY * 2 {
            return line + &format!(", no progress for {}", rounded(stalled));
        }
        let rate = (done - self.done_before) as f64 / elapsed.as_secs_f64().max(0.001);
        line.push_str(&format!(", {} per second", self.amount(rate as u64)));
        if let (Some(total), true) = (total, rate > 0.0) {
            let left = Duration::from_secs_f64(((total - done) as f64 / rate).min(1e9));
            line.push_str(&format!(", {} left", rounded(left)));
        }
        line
    }

    fn amount(&self, number: u64) -> String {
        if self.unit == Unit::Bytes { BinaryBytes(number).to_string() } else { number.to_string() }
    }
}

/// Prints the progress as lines, from a thread of its own: also while the work waits for a database.
struct Lines {
    work: Arc<Work>,
    /// Disconnecting ends the thread.
    running: Option<SyncSender<()>>,
    printer: Option<JoinHandle<()>>,
}

impl Lines {
    fn start(work: Work, every: Duration, mut out: Box<dyn Write + Send>) -> Self {
        let work = Arc::new(work);
        let (running, ended) = sync_channel(0);
        let shown = Arc::clone(&work);
        let printer = thread::spawn(move || {
            let mut seen = (shown.done.load(Ordering::Relaxed), shown.begun);
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let (done, now) = (shown.done.load(Ordering::Relaxed), Instant::now());
                if done != seen.0 {
                    seen = (done, now);
                }
                let line = shown.line(now - shown.begun, now - seen.1);
                // In one piece: others may write there, too. Nobody reads it any more: the work goes on.
                out.write_all(format!("andon: {}\n", printable(&line)).as_bytes()).ok();
            }
        });
        Self { work, running: Some(running), printer: Some(printer) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.running = None;
        // A panic of the printer is no failure of the work.
        self.printer.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_tells_how_much_is_done_how_fast_and_how_long_it_takes() {
        let line = |unit, done_before, done, total| {
            let work = Work::new("copying".to_owned(), unit, done_before, total);
            work.done.store(done, Ordering::Relaxed);
            work.line(seconds(10), seconds(0))
        };
        let table = [
            (
                line(Unit::Things("rows"), 0, 250, Some(1_000)),
                "copying: 250 of 1000 rows (25 %), 25 per second, 30s left",
            ),
            (
                line(Unit::Things("rows"), 900, 950, Some(1_000)),
                "copying: 950 of 1000 rows (95 %), 5 per second, 10s left",
            ),
            (line(Unit::Things("rows"), 0, 0, Some(1_000)), "copying: 0 of 1000 rows (0 %), 0 per second"),
            (line(Unit::Things("rows"), 0, 1_200, Some(1_000)), "copying: 1200 rows, 120 per second"),
            (line(Unit::Things("rows"), 0, 250, None), "copying: 250 rows, 25 per second"),
            (
                line(Unit::Bytes, 0, 10 << 20, Some(20 << 20)),
                "copying: 10.00 MiB of 20.00 MiB (50 %), 1.00 MiB per second, 10s left",
            ),
            (line(Unit::Time, 0, 0, None), "copying: running for 10s"),
        ];
        for (line, expected) in table {
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn work_that_stands_still_is_shown_as_such() {
        let work = Work::new("copying".to_owned(), Unit::Things("rows"), 0, Some(1_000));
        work.advance_for_test(250);
        assert_eq!(
            work.line(seconds(60), seconds(35)),
            "copying: 250 of 1000 rows (25 %), no progress for 35s"
        );
    }

    #[test]
    fn lines_are_printed_until_the_work_ends_whether_or_not_it_advances() {
        let (sender, lines) = sync_channel(100);
        let work = Work::new("copying\u{1b}[2J".to_owned(), Unit::Things("rows"), 0, None);
        let shown = Lines::start(work, Duration::from_millis(1), Box::new(Sent(sender)));
        let first = lines.recv_timeout(seconds(10)).unwrap();
        assert!(first.starts_with("andon: copying\\u{1b}[2J: 0 rows"), "{first}");
        shown.work.advance_for_test(7);
        let advanced = std::iter::from_fn(|| lines.recv_timeout(seconds(10)).ok())
            .find(|line| line.contains(": 7 rows"));
        assert!(advanced.is_some());
        let drained = thread::spawn(move || lines.iter().count());
        drop(shown);
        drained.join().unwrap();
    }

    #[test]
    fn each_kind_of_work_has_a_bar() {
        for unit in [Unit::Things("rows"), Unit::Bytes, Unit::Time] {
            for total in [None, Some(10)] {
                bar(&Work::new("copying".to_owned(), unit, 0, total)).finish_and_clear();
            }
        }
    }

    impl Work {
        fn advance_for_test(&self, by: u64) {
            self.done.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Sends each line that is written.
    struct Sent(SyncSender<String>);

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
