//! Keys of rows, where a page begins and ends.

use std::fmt;
use std::str::FromStr;

use crate::domain::Timestamp;

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// The key of a reading among those of its machine: its time, and its digest within the same microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadingCursor {
    /// `recorded_at`.
    pub at: Timestamp,
    /// The digest, signed as in the database.
    pub digest: i64,
}

impl ReadingCursor {
    /// Returns the key before every reading of that instant.
    #[must_use]
    pub const fn before(at: Timestamp) -> Self {
        Self { at, digest: i64::MIN }
    }

    /// Returns the next key.
    #[must_use]
    pub fn successor(self) -> Self {
        match self.digest.checked_add(1) {
            Some(digest) => Self { at: self.at, digest },
            None => Self::before(Timestamp::from_micros(self.at.as_micros().saturating_add(1))),
        }
    }
}

/// The key of an event among those of its site: its time, and its id within the same microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventCursor {
    /// `occurred_at`.
    pub at: Timestamp,
    /// The row's id.
    pub id: i64,
}

impl EventCursor {
    /// Returns the key before every event of that instant.
    #[must_use]
    pub const fn before(at: Timestamp) -> Self {
        Self { at, id: i64::MIN }
    }
}

/// Writes the opaque text of a cursor.
fn write(f: &mut fmt::Formatter<'_>, at: Timestamp, rest: i64) -> fmt::Result {
    write!(f, "{:016x}{:016x}", at.as_micros() as u64, rest as u64)
}

fn read(text: &str) -> Option<(Timestamp, i64)> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = |part: &str| u64::from_str_radix(part, 16).ok().map(|bits| bits as i64);
    if !digits {
        return None;
    }
    Some((Timestamp::from_micros(number(&text[..16])?), number(&text[16..])?))
}

/// The text is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCursor;

macro_rules! as_cursor {
    ($key:ident, $rest:ident) => {
        impl fmt::Display for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(f, self.at, self.$rest)
            }
        }

        impl FromStr for $key {
            type Err = InvalidCursor;

            fn from_str(text: &str) -> Result<Self, InvalidCursor> {
                read(text).map(|(at, $rest)| Self { at, $rest }).ok_or(InvalidCursor)
            }
        }
    };
}

as_cursor!(ReadingCursor, digest);
as_cursor!(EventCursor, id);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_the_key_it_was_written_from() {
        for (at, rest) in [(0, 0), (-1, i64::MIN), (i64::MAX, i64::MAX), (1_767_595_199_000_001, -7)] {
            let reading = ReadingCursor { at: Timestamp::from_micros(at), digest: rest };
            assert_eq!(reading.to_string().parse(), Ok(reading));
            let event = EventCursor { at: Timestamp::from_micros(at), id: rest };
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        for text in ["", "7", "+000000000000001000000000000000f", "zz", &"0".repeat(33), &"é".repeat(16)] {
            assert_eq!(text.parse::<ReadingCursor>(), Err(InvalidCursor), "{text}");
        }
    }

    #[test]
    fn the_successor_is_the_next_key() {
        let last = ReadingCursor { at: Timestamp::from_micros(7), digest: i64::MAX };
        assert_eq!(last.successor(), ReadingCursor::before(Timestamp::from_micros(8)));
        let key = ReadingCursor { at: Timestamp::from_micros(7), digest: 3 };
        assert_eq!(key.successor().digest, 4);
    }
}
