//! Rates of a journal's backlog, and the forecast of when the journal is full. For the status line, the API and
//! `andon journal inspect`. Pure: callers pass clocks and numbers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Mono;
use crate::domain::{Seq, duration_text};

/// Rates are averages over this time. A single batch hardly changes the forecast.
const WINDOW: Duration = Duration::from_secs(300);
/// A sample within this time of the previous one replaces it, which bounds their number.
const SAMPLE_SPACING: Duration = Duration::from_secs(5);
/// A shorter time yields no rate.
const SPAN_MIN: Duration = Duration::from_secs(1);

/// How fast messages arrive in the journal and leave it for the database.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Messages journaled per second.
    pub arriving: f64,
    /// Messages committed per second.
    pub leaving: f64,
}

/// The room left in the journal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Room {
    /// Bytes until `journal.max_bytes`.
    pub bytes_free: u64,
    /// Average size of a message in the journal.
    pub bytes_per_message: f64,
}

impl Room {
    /// Computes the room of a journal of `bytes` with `records` and a limit of `bytes_max`. A journal that `is_full` has
    /// none, even below its limit: it accepts messages again only well below the limit, or when the disk has room.
    #[must_use]
    pub fn new(is_full: bool, bytes: u64, bytes_max: u64, records: u64) -> Self {
        Self {
            bytes_free: if is_full { 0 } else { bytes_max.saturating_sub(bytes) },
            bytes_per_message: bytes as f64 / records.max(1) as f64,
        }
    }
}

/// The time until the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeToFull {
    /// The journal is full now.
    Full,
    /// Full after this time at the current rates, in whole seconds.
    After(Duration),
    /// The backlog does not grow.
    Never,
    /// The rates are not known yet.
    Unknown,
}

impl TimeToFull {
    /// Forecasts from the room and the rates.
    #[must_use]
    pub fn forecast(room: Room, pace: Option<Pace>) -> Self {
        if room.bytes_free == 0 {
            return Self::Full;
        }
        let Some(pace) = pace else { return Self::Unknown };
        let bytes_per_second = (pace.arriving - pace.leaving) * room.bytes_per_message;
        let seconds = room.bytes_free as f64 / bytes_per_second;
        // A growth that takes a hundred years is noise.
        if bytes_per_second <= 0.0 || !seconds.is_finite() || seconds > 3.2e9 {
            return Self::Never;
        }
        Self::After(Duration::from_secs(seconds as u64))
    }

    /// Returns the seconds, if there is a time.
    #[must_use]
    pub const fn seconds(self) -> Option<u64> {
        match self {
            Self::Full => Some(0),
            Self::After(time) => Some(time.as_secs()),
            Self::Never | Self::Unknown => None,
        }
    }
}

/// Prints `full`, `2h 13m`, `never at this rate`, `not known yet`.
impl fmt::Display for TimeToFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::After(time) => f.write_str(&duration_text::rounded(*time)),
            Self::Never => f.write_str("never at this rate"),
            Self::Unknown => f.write_str("not known yet"),
        }
    }
}

/// The journal's positions over the last minutes. Every reader of the journal's status adds a sample.
#[derive(Debug, Default)]
pub struct BacklogWindow {
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Mono,
    appended: Seq,
    committed: Seq,
}

impl BacklogWindow {
    /// Adds a sample.
    pub fn note(&self, at: Mono, appended: Seq, committed: Seq) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = Sample { at, appended, committed };
        // Always keep the newest sample. Replace the previous one while it is too close to the one before.
        match samples.len().checked_sub(2).map(|before| samples[before].at) {
            Some(before) if at.since(before) < SAMPLE_SPACING => {
                samples.pop_back();
            }
            _ => {}
        }
        samples.push_back(sample);
        while samples.len() > 2 && at.since(samples[1].at) >= WINDOW {
            samples.pop_front();
        }
    }

    /// Returns the rates over the last minutes; `None` until two samples are far enough apart.
    #[must_use]
    pub fn pace(&self) -> Option<Pace> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (oldest, newest) = (samples.front()?, samples.back()?);
        let time = newest.at.since(oldest.at);
        let seconds = time.as_secs_f64();
        (time >= SPAN_MIN).then(|| Pace {
            arriving: newest.appended.since(oldest.appended) as f64 / seconds,
            leaving: newest.committed.since(oldest.committed) as f64 / seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { bytes_free: 1_000_000, bytes_per_message: 100.0 };

    fn pace(arriving: f64, leaving: f64) -> Option<Pace> {
        Some(Pace { arriving, leaving })
    }

    fn second(second: u64) -> Mono {
        Mono(second * 1_000_000)
    }

    #[test]
    fn a_journal_fills_at_the_rate_at_which_its_backlog_grows() {
        let hundred = Duration::from_secs(100);
        assert_eq!(TimeToFull::forecast(ROOM, pace(100.0, 0.0)), TimeToFull::After(hundred));
        assert_eq!(TimeToFull::forecast(ROOM, pace(1_000.0, 900.0)), TimeToFull::After(hundred));
        assert_eq!(TimeToFull::forecast(ROOM, pace(100.0, 100.0)), TimeToFull::Never);
        assert_eq!(TimeToFull::forecast(ROOM, pace(100.0, 900.0)), TimeToFull::Never, "it shrinks");
        assert_eq!(TimeToFull::forecast(ROOM, pace(0.0, 0.0)), TimeToFull::Never);
        assert_eq!(TimeToFull::forecast(ROOM, pace(1e-9, 0.0)), TimeToFull::Never);
        assert_eq!(TimeToFull::forecast(ROOM, None), TimeToFull::Unknown);
        let full = Room::new(false, 70, 64, 3);
        assert_eq!(TimeToFull::forecast(full, None), TimeToFull::Full);
        let held = Room::new(true, 60, 64, 3);
        assert_eq!(TimeToFull::forecast(held, pace(5.0, 4.0)), TimeToFull::Full, "until it is below 90 %");
        assert_eq!(Room::new(false, 0, 64, 0), Room { bytes_free: 64, bytes_per_message: 0.0 });
        assert_eq!(TimeToFull::forecast(Room::new(false, 0, 64, 0), pace(5.0, 0.0)), TimeToFull::Never);
    }

    #[test]
    fn a_forecast_prints_two_units_or_why_there_is_none() {
        let after = TimeToFull::After(Duration::from_secs(7_999));
        assert_eq!(
            (after.to_string(), TimeToFull::Never.to_string()),
            ("2h 13m".to_owned(), "never at this rate".to_owned())
        );
    }

    #[test]
    fn rates_cover_the_last_five_minutes() {
        let window = BacklogWindow::default();
        assert_eq!(window.pace(), None);
        window.note(second(0), Seq(1_000), Seq(1_000));
        assert_eq!(window.pace(), None, "one sample has no rate");
        window.note(second(10), Seq(1_100), Seq(1_000));
        assert_eq!(window.pace(), pace(10.0, 0.0));
        // An hour of silence, then 20 messages a second, all stored.
        (3_600..=4_000).for_each(|at| {
            window.note(second(at), Seq(1_100 + (at - 3_600) * 20), Seq(1_000 + (at - 3_600) * 20));
        });
        assert_eq!(window.pace(), pace(20.0, 20.0));
    }

    #[test]
    fn the_number_of_samples_is_bounded() {
        let window = BacklogWindow::default();
        (0..100_000).for_each(|tenth| window.note(Mono(tenth * 100_000), Seq(tenth), Seq(0)));
        assert!(window.samples.lock().unwrap().len() <= 64);
        let rate = window.pace().unwrap().arriving;
        assert!((9.9..10.1).contains(&rate), "{rate}");
    }
}
