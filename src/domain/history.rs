//! What a journal knows of its own past, and which position in a database that proves.
//!
//! A directory can be copied, or restored from a backup, and then go on beside a database that went on without it. Its id and
//! its numbers look the same as before, so neither proves anything. What does is an [`OpenId`]: drawn at random by each process
//! before it first tells a database where the journal stands, kept in the directory with the first seq appended in that
//! process's time, and written into the database with each position. A position under an id that this directory does not know,
//! or beyond what it held when the next process took over, was written by another history of it.

use std::fmt;

use super::{JournalId, Seq};

/// Names the time in which one process had a journal open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenId(pub uuid::Uuid);

impl fmt::Display for OpenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The time from one opening of a journal to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// The first seq that could be appended in it.
    pub first: Seq,
    /// Its name; `None` as long as no database has been told one.
    pub id: Option<OpenId>,
}

/// A journal's past, as far as it is still known. Times too long ago are forgotten: a position from then is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalHistory {
    /// The journal.
    pub journal_id: JournalId,
    /// The name of the present time, under which positions are written from now on.
    pub own: OpenId,
    /// Records up to here are from before open ids, as Andon 0.1.0 wrote them.
    pub before_opens: Seq,
    /// Ascending by their first seq.
    pub opens: Vec<Open>,
    /// The newest record.
    pub appended: Seq,
}

impl JournalHistory {
    /// Of a new journal, opened once; its open id is its id, so that tests need to carry only one of them.
    #[cfg(test)]
    pub fn of_new_journal(journal_id: JournalId) -> Self {
        let own = OpenId(journal_id.0);
        let opens = vec![Open { first: Seq(1), id: Some(own) }];
        Self { journal_id, own, before_opens: Seq::ZERO, opens, appended: Seq(u64::MAX) }
    }

    /// Whether a position in the database, written under `open_id`, speaks of the records that this journal holds: everything
    /// up to it was read from this very history.
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
