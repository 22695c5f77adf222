//! Decides what the parser does next. Pure.

/// Everything that decides on the next step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    /// There is something to commit, liveness has seen all of it, and the writer is free (PAR-2, PAR-3).
    pub(super) can_commit: bool,
    /// The batch should not wait for more records.
    pub(super) is_ripe: bool,
    /// The database can be written to, and the batch has room.
    pub(super) can_build: bool,
    /// The storage position has reached the end of the journal.
    pub(super) storage_at_end: bool,
    /// The lookout is ahead of storage, or storage has to wait for the database.
    pub(super) lookout_runs_alone: bool,
    /// The lookout has reached the end of the journal.
    pub(super) lookout_at_end: bool,
    /// While the lookout runs alone, it and storage take turns.
    pub(super) lookout_is_next: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Hand the batch to the writer.
    Commit,
    /// Read for liveness alone.
    LookOut,
    /// Read for the batch, and for liveness what it has not seen yet.
    Build,
    /// Nothing is left to read: pass on a newer proof of the link.
    PassOnProof,
}

impl Situation {
    /// Returns the next step. Each step changes the situation, so that asking again ends with
    /// [`NextStep::PassOnProof`].
    pub(super) fn next_step(self) -> NextStep {
        let may_look_out = self.lookout_runs_alone && !self.lookout_at_end;
        let may_build = self.can_build && !self.storage_at_end;
        if self.can_commit && self.is_ripe {
            NextStep::Commit
        } else if may_look_out && (self.lookout_is_next || !may_build) {
            NextStep::LookOut
        } else if may_build {
            NextStep::Build
        } else if self.can_commit {
            NextStep::Commit
        } else {
            NextStep::PassOnProof
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NextStep::{Build, Commit, LookOut, PassOnProof};
    use super::*;

    /// In step with the journal, with nothing to read and nothing to commit.
    const IDLE: Situation = Situation {
        can_commit: false,
        is_ripe: false,
        can_build: true,
        storage_at_end: true,
        lookout_runs_alone: false,
        lookout_at_end: false,
        lookout_is_next: true,
    };
    /// In step, with more to read.
    const READING: Situation = Situation { storage_at_end: false, ..IDLE };
    /// The lookout is ahead of storage, and both have more to read.
    const APART: Situation = Situation { lookout_runs_alone: true, is_ripe: true, ..READING };
    /// The database is away.
    const AWAY: Situation = Situation { can_build: false, lookout_runs_alone: true, ..READING };

    #[test]
    fn the_next_step_follows_from_the_situation() {
        let table = [
            ("nothing to do", IDLE, PassOnProof),
            ("in step", READING, Build),
            ("a batch waits while there is more to read", Situation { can_commit: true, ..READING }, Build),
            ("a ripe batch", Situation { can_commit: true, is_ripe: true, ..READING }, Commit),
            ("ripe, but the writer is busy", Situation { is_ripe: true, ..READING }, Build),
            (
                "ripe and full, the writer is busy",
                Situation { is_ripe: true, can_build: false, ..READING },
                PassOnProof,
            ),
            ("the end of the journal", Situation { can_commit: true, ..IDLE }, Commit),
            ("apart, the lookout's turn", APART, LookOut),
            ("apart, storage's turn", Situation { lookout_is_next: false, ..APART }, Build),
            ("apart, and the writer is free", Situation { can_commit: true, ..APART }, Commit),
            ("apart, the lookout at the end", Situation { lookout_at_end: true, ..APART }, Build),
            (
                "apart, storage's turn, but the batch is full",
                Situation { lookout_is_next: false, can_build: false, ..APART },
                LookOut,
            ),
            ("the database is away", AWAY, LookOut),
            ("away, out of turn", Situation { lookout_is_next: false, ..AWAY }, LookOut),
            ("away, all is seen", Situation { lookout_at_end: true, ..AWAY }, PassOnProof),
            (
                "away, no transition is committed before storage is back",
                Situation { is_ripe: true, ..AWAY },
                LookOut,
            ),
        ];
        for (what, situation, expected) in table {
            assert_eq!(situation.next_step(), expected, "{what}: {situation:?}");
        }
    }

    #[test]
    fn nothing_is_read_or_committed_that_may_not_be() {
        for bits in 0..1_u8 << 7 {
            let is = |bit: u8| bits & (1 << bit) != 0;
            let situation = Situation {
                can_commit: is(0),
                is_ripe: is(1),
                can_build: is(2),
                storage_at_end: is(3),
                lookout_runs_alone: is(4),
                lookout_at_end: is(5),
                lookout_is_next: is(6),
            };
            let may_read = situation.can_build && !situation.storage_at_end;
            let may_look_out = situation.lookout_runs_alone && !situation.lookout_at_end;
            let is_allowed = match situation.next_step() {
                Commit => situation.can_commit,
                LookOut => may_look_out,
                Build => may_read,
                PassOnProof => !situation.can_commit && !may_read && !may_look_out,
            };
            assert!(is_allowed, "{situation:?}: {:?}", situation.next_step());
        }
    }
}
