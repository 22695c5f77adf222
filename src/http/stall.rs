//! Notices a pipeline that stands still: records are pending, and nothing is committed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::StatusCells;
use crate::clock::Mono;
use crate::domain::Seq;
use crate::journal::JournalStats;
use crate::status::StoreState;

/// Who is to move next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Records are in the journal, and no batch is with the writer.
    Parser,
    /// A batch is with the writer, and the database is not known to be away.
    Writer,
    /// A batch (or the question for the position) is with the writer, and the database does not take it.
    Store,
}

impl Stage {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parser => "parser",
            Self::Writer => "writer",
            Self::Store => "store",
        }
    }
}

/// Remembers since when nothing has moved. Looked at once a second (see `server`), and by whoever asks.
#[derive(Debug, Default)]
pub struct Stall {
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    committed: Seq,
    /// Nothing was pending.
    idle: bool,
    /// When it moved there, or something became pending.
    since: Mono,
}

impl Stall {
    /// How long nothing has been committed although something was pending, and whose turn it is.
    pub fn look(&self, now: Mono, journal: &JournalStats, boards: &StatusCells) -> (Duration, Stage) {
        let still_for = self.note(now, journal.positions.appended, journal.positions.committed);
        let stage = match boards.store.snapshot().state {
            StoreState::Away | StoreState::Opening => Stage::Store,
            StoreState::Works if boards.progress.is_with_writer() => Stage::Writer,
            StoreState::Works => Stage::Parser,
        };
        (still_for, stage)
    }

    fn note(&self, now: Mono, appended: Seq, committed: Seq) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *seen {
            Some(seen) if seen.committed == committed && !seen.idle => seen.since,
            _ => now,
        };
        *seen = Some(Seen { committed, idle: appended <= committed, since });
        Duration::from_micros(now.0.saturating_sub(since.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pending_records_that_do_not_move_count_as_standing_still() {
        let stall = Stall::default();
        let look = |second: u64, appended, committed| {
            stall.note(Mono(second * 1_000_000), Seq(appended), Seq(committed)).as_secs()
        };
        assert_eq!(look(10, 5, 5), 0);
        assert_eq!(look(500, 5, 5), 0, "idle");
        assert_eq!(look(510, 6, 5), 0, "new work begins now");
        assert_eq!(look(535, 9, 5), 25);
        assert_eq!(look(545, 9, 5), 35);
        assert_eq!(look(546, 9, 6), 0, "it moved");
        assert_eq!(look(550, 9, 6), 4);
        assert_eq!(look(551, 9, 9), 0, "done");
    }
}
