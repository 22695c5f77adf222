//! Detects a stalled pipeline: records are pending, and nothing is committed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::StatusCells;
use crate::clock::Mono;
use crate::domain::{Seq, word_enum};
use crate::journal::JournalStats;
use crate::status::StoreState;

word_enum! {
    /// The stage that has to act next.
    pub enum Stage {
        /// Records are in the journal, and the writer has no batch.
        Parser = "parser",
        /// The writer has a batch, and the database is not known to be away.
        Writer = "writer",
        /// The writer has a batch, or asks for its position, and the database does not respond.
        Store = "store",
    }
}

/// Remembers since when nothing has been committed. `server` updates it twice a second, and so does every reader.
#[derive(Debug, Default)]
pub struct Stall {
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    committed: Seq,
    /// Nothing was pending.
    idle: bool,
    /// When the position last changed, or the first record became pending.
    since: Mono,
}

impl Stall {
    /// Returns how long records have been pending without a commit, and the stage that has to act next.
    pub fn observe(&self, now: Mono, journal: &JournalStats, cells: &StatusCells) -> (Duration, Stage) {
        let stalled_for = self.note(now, journal.positions.appended, journal.positions.committed);
        let stage = match cells.store.snapshot().state {
            StoreState::Away | StoreState::Opening => Stage::Store,
            StoreState::Works if cells.progress.is_with_writer() => Stage::Writer,
            StoreState::Works => Stage::Parser,
        };
        (stalled_for, stage)
    }

    fn note(&self, now: Mono, appended: Seq, committed: Seq) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *seen {
            Some(seen) if seen.committed == committed && !seen.idle => seen.since,
            _ => now,
        };
        *seen = Some(Seen { committed, idle: appended <= committed, since });
        now.since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pending_records_without_a_commit_count_as_a_stall() {
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
