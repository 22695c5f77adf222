//! A journal's history, and which position in a database it proves.
//!
//! A directory can be copied, or restored from a backup, while the database went on without it. Its id and its seqs look the
//! same as before, so they prove nothing. The proof is an [`OpenId`]: each process draws one at random before it first writes
//! a position to a database, stores it in the directory with the first seq that it can append, and writes it with each
//! position. A position under an id unknown to the directory, or after the records it held when the next process opened it,
//! comes from another history.

use std::fmt;

use super::{JournalId, Seq};

/// Identifies one opening of a journal by a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenId(pub uuid::Uuid);

impl fmt::Display for OpenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// One opening of a journal, until the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// The first seq that could be appended.
    pub first: Seq,
    /// Its id; `None` until one is drawn for a database.
    pub id: Option<OpenId>,
}

/// A journal's openings. Very old ones are forgotten, and a position from then is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalHistory {
    /// The journal's id.
    pub journal_id: JournalId,
    /// The id of the current opening, under which positions are written.
    pub own: OpenId,
    /// Records up to here are older than open ids: Andon 0.1.0 wrote them.
    pub before_opens: Seq,
    /// Ascending by their first seq.
    pub opens: Vec<Open>,
    /// The newest seq.
    pub appended: Seq,
}

impl JournalHistory {
    /// Returns the history of a new journal, opened once. Its open id equals its id, so tests carry only one of them.
    #[cfg(test)]
    pub fn of_new_journal(journal_id: JournalId) -> Self {
        let own = OpenId(journal_id.0);
        let opens = vec![Open { first: Seq(1), id: Some(own) }];
        Self { journal_id, own, before_opens: Seq::ZERO, opens, appended: Seq(u64::MAX) }
    }

    /// Returns whether a position in the database, written under `open_id`, belongs to this history: everything up to it was
    /// read from this journal.
    #[must_use]
    pub fn believes(&self, position: Seq, open_id: Option<OpenId>) -> bool {
        let Some(open_id) = open_id else { return position <= self.before_opens };
        let Some(place) = self.opens.iter().position(|open| open.id == Some(open_id)) else { return false };
        let end = self.opens.get(place + 1).map_or(self.appended, |next| Seq(next.first.0.saturating_sub(1)));
        position <= end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_id(number: u128) -> OpenId {
        OpenId(uuid::Uuid::from_u128(number))
    }

    fn open(first: u64, id: Option<u128>) -> Open {
        Open { first: Seq(first), id: id.map(open_id) }
    }

    #[test]
    fn a_position_is_believed_only_under_a_known_id_and_within_its_time() {
        let history = JournalHistory {
            journal_id: JournalId(uuid::Uuid::nil()),
            own: open_id(9),
            before_opens: Seq(40),
            opens: vec![
                open(41, Some(1)),
                open(61, None),
                open(81, Some(3)),
                open(81, Some(4)),
                open(91, Some(9)),
            ],
            appended: Seq(100),
        };
        let table = [
            ("by version 0.1.0", None, 40),
            ("the one before the next time, which told no database anything", Some(1), 60),
            ("of a time in which nothing came", Some(3), 80),
            ("the same again", Some(4), 90),
            ("our own", Some(9), 100),
        ];
        for (what, id, last) in table {
            let believed = |position| history.believes(Seq(position), id.map(open_id));
            assert!(believed(0) && believed(last) && !believed(last + 1), "{what}");
        }
        assert!(!history.believes(Seq::ZERO, Some(open_id(2))), "somebody else's");
    }
}
