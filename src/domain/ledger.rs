//! The ledger: the outcome of everything that a journal has given to the database.

use super::Seq;

/// A journal's counts, as they stand in `ingest_checkpoint`. At every commit
/// `stored + duplicate + rejected + control` is the number of elements of the `messages` up to `committed_seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// The committed position: everything up to here is in the database.
    pub committed_seq: Seq,
    /// Messages committed (records lost in gaps are none).
    pub messages: u64,
    /// Elements that became new rows.
    pub stored: u64,
    /// Elements that were there already.
    pub duplicate: u64,
    /// Elements that are in `rejected_message`.
    pub rejected: u64,
    /// Elements that are neither readings nor rejections: last wills and the like.
    pub control: u64,
}

impl Ledger {
    /// Returns all elements: a message is one, an array as many as it has.
    #[must_use]
    pub const fn elements(&self) -> u64 {
        self.stored + self.duplicate + self.rejected + self.control
    }

    /// Returns the ledger corrected by `duplicate` and `refused` elements that were first counted as stored.
    #[must_use]
    pub const fn corrected(self, duplicate: u64, refused: u64) -> Self {
        Self {
            stored: self.stored.saturating_sub(duplicate.saturating_add(refused)),
            duplicate: self.duplicate + duplicate,
            rejected: self.rejected + refused,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_changes_the_split_and_not_the_sum() {
        let taken_for_stored =
            Ledger { stored: 10, duplicate: 1, rejected: 2, control: 3, ..Ledger::default() };
        let corrected = taken_for_stored.corrected(4, 5);
        assert_eq!((corrected.stored, corrected.duplicate, corrected.rejected), (1, 5, 7));
        assert_eq!(corrected.elements(), taken_for_stored.elements());
    }
}
