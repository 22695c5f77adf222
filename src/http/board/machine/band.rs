//! The states of a machine over time, from its recorded changes.

use crate::domain::{BoardStatus, Timestamp};
use crate::http::board::charts::Span;

/// A recorded change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// To online; else to offline.
    pub online: bool,
    /// From online, or from offline; `None`: the machine was not known before.
    pub was_online: Option<bool>,
}

/// The states between `from` and `to`. `changes` are those within, oldest first; `now` is the present state and since
/// when it holds, which fills what no change tells about. Where nothing is known there is no span.
pub fn band(
    changes: &[Change],
    from: Timestamp,
    to: Timestamp,
    now: Option<(BoardStatus, Timestamp)>,
) -> Vec<Span> {
    let mut spans = Vec::with_capacity(changes.len() + 1);
    let mut known = match (changes.first(), now) {
        (Some(first), _) => first.was_online.map(|online| (from, recorded(online))),
        (None, Some((status, since))) => Some((since.max(from), status)),
        (None, None) => None,
    };
    for change in changes {
        close(&mut spans, known, change.at);
        known = Some((change.at, recorded(change.online)));
    }
    // What is not known now was known up to the newest change at most; the band says so from there on.
    if let (Some((since, _)), Some((BoardStatus::Unknown, _))) = (known, now) {
        known = Some((since, BoardStatus::Unknown));
    }
    close(&mut spans, known, to);
    spans
}

fn recorded(online: bool) -> BoardStatus {
    if online { BoardStatus::Online } else { BoardStatus::Offline }
}

fn close(spans: &mut Vec<Span>, open: Option<(Timestamp, BoardStatus)>, to: Timestamp) {
    if let Some((from, status)) = open
        && from < to
    {
        spans.push(Span { from, to, status });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn words(spans: &[Span]) -> Vec<(i64, i64, &'static str)> {
        spans.iter().map(|span| (span.from.as_micros(), span.to.as_micros(), span.status.as_str())).collect()
    }

    #[test]
    fn the_first_change_tells_what_was_before() {
        let changes = [
            Change { at: at(20), online: false, was_online: Some(true) },
            Change { at: at(30), online: true, was_online: Some(false) },
        ];
        let spans = band(&changes, at(10), at(50), Some((BoardStatus::Online, at(30))));
        assert_eq!(words(&spans), [(10, 20, "online"), (20, 30, "offline"), (30, 50, "online")]);
    }

    #[test]
    fn before_a_machine_was_known_there_is_nothing() {
        let changes = [Change { at: at(20), online: true, was_online: None }];
        assert_eq!(words(&band(&changes, at(10), at(50), None)), [(20, 50, "online")]);
    }

    #[test]
    fn without_changes_the_present_state_has_held_since_it_began() {
        let now = |since| Some((BoardStatus::Offline, at(since)));
        assert_eq!(words(&band(&[], at(10), at(50), now(5))), [(10, 50, "offline")]);
        assert_eq!(words(&band(&[], at(10), at(50), now(40))), [(40, 50, "offline")]);
        assert_eq!(words(&band(&[], at(10), at(50), None)), []);
    }
}
