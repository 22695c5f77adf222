//! The trusted time of this process.
//!
//! A thread checks the clocks every second, writes the file and logs. The writer reads the trusted time to decide what to
//! delete, and exchanges records with the database. Nothing is deleted before the database has answered once: it may have
//! a newer record than the directory, which can be new or restored. The first record of all waits for the same answer.

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::file::ClockFile;
use super::trusted::{News, Reading, Reason, TrustedClock, start_max};
use super::{Mono, boot_now, kernel, publish, system_now};
use crate::domain::{ClockRecord, Timestamp};

/// How often the file is replaced. A start believes much larger differences than this.
const RECORD_EVERY: Duration = Duration::from_secs(60);

/// State of the clocks, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStatus {
    /// The trusted time.
    pub trusted: Timestamp,
    /// How far the wall clock is ahead of it (behind, if negative), in microseconds, while the step is not believed.
    pub step: Option<i64>,
    /// The wall clock was never set.
    pub is_unset: bool,
    /// The kernel reports a synchronised wall clock.
    pub synchronised: bool,
}

/// Keeps the trusted time of this process.
#[derive(Debug)]
pub struct ClockKeeper {
    file: ClockFile,
    start_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    clock: TrustedClock,
    synchronised: bool,
    /// The database has answered.
    is_settled: bool,
    /// When the file is next written.
    record_at: Mono,
    /// Changes not yet reported.
    news: Vec<News>,
}

impl ClockKeeper {
    /// Starts from the record beside the journal. From here on the trusted time overrules a wall clock far behind.
    #[must_use]
    pub fn open(journal_dir: &Path, site: &str, shortest_retention: Option<Duration>) -> Self {
        let file = ClockFile::in_directory(journal_dir, site);
        let keeper = Self::start(file, shortest_retention, reading_now());
        keeper.publish(&keeper.locked());
        keeper
    }

    fn start(file: ClockFile, shortest_retention: Option<Duration>, now: Reading) -> Self {
        let start_max = start_max(shortest_retention);
        let (clock, news) = TrustedClock::start(file.read(), now, start_max);
        let state = State {
            clock,
            synchronised: now.synchronised,
            is_settled: false,
            record_at: now.boot,
            news: news.into_iter().collect(),
        };
        Self { file, start_max, state: Mutex::new(state) }
    }

    /// Checks the clocks and replaces the file if it is due. Returns the changes, each once, and any error from writing.
    pub fn look(&self) -> (Vec<News>, io::Result<()>) {
        let (news, record) = self.look_at(reading_now());
        self.publish(&self.locked());
        // Written outside the lock: a disk may stall.
        (news, record.map_or(Ok(()), |record| self.file.write(&record)))
    }

    /// Writes the file once more at an orderly end.
    ///
    /// # Errors
    /// I/O errors.
    pub fn close(&self) -> io::Result<()> {
        self.locked().record_at = Mono::default();
        self.look().1
    }

    fn look_at(&self, now: Reading) -> (Vec<News>, Option<ClockRecord>) {
        let mut state = self.locked();
        let news = state.clock.tick(now);
        state.synchronised = now.synchronised;
        state.news.extend(news);
        let is_begun = state.is_settled || state.clock.record().is_some_and(|record| record.seq > 0);
        let is_due = is_begun && (news.is_some() || now.boot >= state.record_at);
        let record = if is_due { state.clock.next_record() } else { None };
        if is_due {
            state.record_at = Mono(now.boot.0.saturating_add(Mono::from(RECORD_EVERY).0));
        }
        (std::mem::take(&mut state.news), record)
    }

    /// Takes the database's answer: a record newer than ours, if it has one.
    pub fn settle(&self, newer: Option<ClockRecord>) {
        self.settle_at(newer, reading_now());
        self.publish(&self.locked());
    }

    fn settle_at(&self, newer: Option<ClockRecord>, now: Reading) {
        let mut state = self.locked();
        let was_settled = std::mem::replace(&mut state.is_settled, true);
        let ours = state.clock.record().map_or(0, |record| record.seq);
        let Some(newer) = newer.filter(|newer| newer.is_consistent() && newer.seq >= ours) else { return };
        let before = state.clock.step();
        let (clock, news) = TrustedClock::start(Some(newer), now, self.start_max);
        state.clock = clock;
        state.record_at = now.boot;
        let confirmed = before.filter(|_| was_settled && state.clock.step().is_none());
        let news = confirmed.map(|by| News::Followed(by, Reason::Confirmed)).or(news);
        state.news.extend(news);
    }

    /// Returns the record to store in the database; `None` if nothing is known yet.
    #[must_use]
    pub fn record(&self) -> Option<ClockRecord> {
        self.locked().clock.record()
    }

    /// Returns the trusted time, once the database has answered.
    #[must_use]
    pub fn trusted_now(&self) -> Option<Timestamp> {
        let state = self.locked();
        state.is_settled.then(|| state.clock.now(boot_now()))
    }

    /// Returns the state of the clocks.
    #[must_use]
    pub fn status(&self) -> ClockStatus {
        let state = self.locked();
        ClockStatus {
            trusted: state.clock.now(boot_now()),
            step: state.clock.step(),
            is_unset: state.clock.is_unset(),
            synchronised: state.synchronised,
        }
    }

    /// Returns the file of the record beside the journal.
    #[must_use]
    pub fn file(&self) -> &ClockFile {
        &self.file
    }

    fn publish(&self, state: &State) {
        let boot = boot_now();
        publish(state.clock.now(boot), boot, self.start_max);
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the clocks of this machine.
#[must_use]
pub fn reading_now() -> Reading {
    Reading { wall: system_now(), boot: boot_now(), synchronised: kernel::is_synchronised() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;
    /// 2026-11-29T00:00:00Z
    const T0: i64 = 1_795_910_400_000_000;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(T0 + micros)
    }

    fn reading(wall: i64, boot: u64) -> Reading {
        Reading { wall: at(wall), boot: Mono(boot), synchronised: false }
    }

    fn record(seq: u64, trusted: i64) -> ClockRecord {
        ClockRecord { seq, trusted_at: at(trusted), wall_at: at(trusted), step_held: None }
    }

    /// With 730 days: 73 may pass between two starts.
    fn keeper(beside_journal: Option<ClockRecord>, wall: i64) -> (ClockKeeper, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let file = ClockFile::in_directory(directory.path(), "north");
        if let Some(record) = beside_journal {
            file.write(&record).unwrap();
        }
        let retention = Some(Duration::from_secs(730 * 86_400));
        (ClockKeeper::start(file, retention, reading(wall, 0)), directory)
    }

    fn step(keeper: &ClockKeeper) -> Option<i64> {
        keeper.status().step
    }

    #[test]
    fn of_two_records_the_newer_one_counts_wherever_it_is() {
        let ahead = 3 * 365 * DAY;
        // The directory is new, or was restored: the database knows more.
        for old in [None, Some(record(5, -200 * DAY))] {
            let (keeper, _directory) = keeper(old, DAY);
            keeper.settle_at(Some(record(900, 0)), reading(DAY, 10));
            assert_eq!((step(&keeper), keeper.record().unwrap().seq), (None, 900));
            assert_eq!(keeper.record().unwrap().trusted_at, at(DAY));
        }
        // The database is new, or was restored, and has none that is newer: the store returns nothing.
        let (keeper, _directory) = keeper(Some(record(900, 0)), ahead);
        assert_eq!(step(&keeper), Some(ahead));
        keeper.settle_at(None, reading(ahead, 10));
        assert_eq!(step(&keeper), Some(ahead), "what is in the directory holds");
        keeper.settle_at(Some(record(5, ahead)), reading(ahead, 10));
        assert_eq!(step(&keeper), Some(ahead), "older ones do not count");
        let impossible = ClockRecord { seq: u64::MAX, ..record(0, ahead) };
        keeper.settle_at(Some(impossible), reading(ahead, 10));
        assert_eq!(step(&keeper), Some(ahead), "nor such that are none");
    }

    /// Proves CLK-6.
    #[test]
    fn without_any_record_the_trace_of_an_older_version_bounds_the_time() {
        let ahead = 3 * 365 * DAY;
        let (keeper, directory) = keeper(None, ahead);
        assert_eq!((step(&keeper), keeper.trusted_now()), (None, None), "nothing is deleted yet");
        assert_eq!(keeper.look_at(reading(ahead, 10)).1, None, "nor recorded");
        keeper.settle_at(Some(record(0, -DAY)), reading(ahead, 20));
        assert_eq!(step(&keeper), Some(ahead + DAY));
        let (news, written) = keeper.look_at(reading(ahead, 30));
        assert_eq!((news, written.unwrap().seq), (vec![News::StepWaits(ahead + DAY)], 1));
        drop(directory);
    }

    #[test]
    fn a_confirmation_in_the_database_ends_the_wait_and_is_reported_as_such() {
        let ahead = 3 * 365 * DAY;
        let (keeper, _directory) = keeper(Some(record(7, 0)), ahead);
        keeper.settle_at(None, reading(ahead, 10));
        assert_eq!(keeper.look_at(reading(ahead, 20)).0, [News::StepWaits(ahead)]);
        let confirmed = record(7 + ClockRecord::CONFIRMED_AHEAD, ahead);
        keeper.settle_at(Some(confirmed), reading(ahead + 5, 30));
        assert_eq!(step(&keeper), None);
        let (news, written) = keeper.look_at(reading(ahead + 10, 40));
        assert!(
            matches!(news[..], [News::Followed(by, Reason::Confirmed)] if (ahead - by).abs() < 100),
            "{news:?}"
        );
        assert_eq!(written.unwrap().seq, confirmed.seq + 1, "and kept beside the journal at once");
    }

    #[test]
    fn the_file_is_replaced_every_minute_and_at_every_change() {
        let (keeper, _directory) = keeper(None, 0);
        keeper.settle_at(None, reading(0, 0));
        let due = |wall, boot| keeper.look_at(reading(wall, boot)).1.map(|record| record.seq);
        assert_eq!(due(0, 0), Some(1));
        assert_eq!(due(59_000_000, 59_000_000), None);
        assert_eq!(due(60_000_000, 60_000_000), Some(2));
        assert_eq!(due(3 * DAY, 61_000_000), Some(3), "a step");
        assert_eq!(due(3 * DAY, 62_000_000), None);
    }
}
