//! Decides whether a commit without an answer was done (invariant WRI-2 of [`super`]). Pure.

use crate::domain::Seq;
use crate::store::{Batch, Checkpoint};

/// The outcome of a commit, judged by the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The batch is in the database.
    Committed,
    /// It is not, or it does not move the position; storing it again is safe either way.
    NotCommitted,
    /// The position is no longer ours, or is neither where the batch begins nor where it ends.
    PositionLost,
}

/// Judges a commit of `batch` by the position in the database; `None` if the database does not know the
/// journal.
pub(super) fn settle(batch: &Batch, found: Option<&Checkpoint>) -> Settled {
    let own = found.filter(|checkpoint| checkpoint.is_claimed_by(batch.open_id));
    match own.map(|checkpoint| checkpoint.ledger.committed_seq) {
        Some(seq) if seq == batch.after => Settled::NotCommitted,
        Some(seq) if seq == batch.upto => Settled::Committed,
        Some(Seq(_)) | None => Settled::PositionLost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JournalId, Ledger, OpenId, Timestamp};

    const JOURNAL: JournalId = JournalId(uuid::Uuid::from_u128(1));
    const OURS: OpenId = OpenId(uuid::Uuid::from_u128(2));
    const ANOTHER: OpenId = OpenId(uuid::Uuid::from_u128(3));

    fn checkpoint(seq: u64, claim: Option<OpenId>) -> Checkpoint {
        Checkpoint {
            journal_id: JOURNAL.to_string(),
            site: "test".to_owned(),
            ledger: Ledger { committed_seq: Seq(seq), messages: seq, ..Ledger::default() },
            updated_at: Timestamp::from_micros(0),
            open_id: claim.map(|open_id| open_id.to_string()),
        }
    }

    /// Proves WRI-2.
    #[test]
    fn a_commit_in_doubt_is_judged_by_claim_and_position_and_nothing_in_between_counts_as_committed() {
        use Settled::{Committed, NotCommitted, PositionLost};
        // after, upto, position found, outcome if the claim is ours
        let table = [
            (10, 20, 0, PositionLost),
            (10, 20, 9, PositionLost),
            (10, 20, 10, NotCommitted),
            (10, 20, 11, PositionLost),
            (10, 20, 19, PositionLost),
            (10, 20, 20, Committed),
            (10, 20, 21, PositionLost),
            (10, 20, 1_000, PositionLost),
            (10, 10, 9, PositionLost),
            (10, 10, 10, NotCommitted),
            (10, 10, 11, PositionLost),
        ];
        for (after, upto, found, expected) in table {
            let batch = Batch { upto: Seq(upto), ..Batch::new(JOURNAL, OURS, Seq(after)) };
            let outcome = |claim| settle(&batch, Some(&checkpoint(found, claim)));
            assert_eq!(outcome(Some(OURS)), expected, "{after}..{upto}, found {found}");
            assert_eq!(outcome(Some(ANOTHER)), PositionLost, "another's claim, found {found}");
            assert_eq!(outcome(None), PositionLost, "no claim, found {found}");
            assert_eq!(settle(&batch, None), PositionLost, "no row");
        }
    }
}
