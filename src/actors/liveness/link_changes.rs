//! Sorts the mqtt actor's reports of its link into stale, repeated and new ones. Pure.

use super::LinkChanged;
use crate::actors::supervisor::Generation;

/// The newest report.
#[derive(Debug, Default)]
pub(super) struct LinkChanges {
    generation: Generation,
    /// The link that is up; `None` while it is down.
    link: Option<u64>,
}

/// What a report means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkUpdate {
    /// Nothing: an abandoned incarnation of the mqtt actor sent it.
    Stale,
    /// The link that is up is still up: only the refused filters may have changed.
    SameLink,
    /// Another link is up, or none.
    NewState,
}

impl LinkChanges {
    /// Returns what `changed` means.
    #[must_use]
    pub(super) fn classify(&mut self, changed: &LinkChanged) -> LinkUpdate {
        if changed.generation < self.generation {
            return LinkUpdate::Stale;
        }
        if changed.up && changed.generation == self.generation && self.link == Some(changed.link) {
            return LinkUpdate::SameLink;
        }
        self.generation = changed.generation;
        self.link = changed.up.then_some(changed.link);
        LinkUpdate::NewState
    }
}

#[cfg(test)]
mod tests {
    use super::super::TimePoint;
    use super::*;
    use crate::clock::Mono;
    use crate::domain::{FilterSet, OutageReason, Seq, Timestamp};

    fn changed(generation: Generation, link: u64, up: bool) -> LinkChanged {
        LinkChanged {
            up,
            at: TimePoint { mono: Mono(0), wall: Timestamp::from_micros(0) },
            heard_from: Mono(0),
            forgotten: false,
            alive_until: Mono(0),
            refused: FilterSet::EMPTY,
            asked_at: Mono(0),
            reason: OutageReason::LinkDown,
            appended: Seq::ZERO,
            generation,
            link,
        }
    }

    #[test]
    fn reports_of_an_older_generation_and_repetitions_change_nothing() {
        const UP: bool = true;
        const DOWN: bool = false;
        let mut changes = LinkChanges::default();
        let reports = [
            (1, 1, UP, LinkUpdate::NewState, "the first"),
            (1, 1, UP, LinkUpdate::SameLink, "repeated"),
            (1, 1, DOWN, LinkUpdate::NewState, "the link ends"),
            (1, 2, UP, LinkUpdate::NewState, "another link"),
            (1, 3, UP, LinkUpdate::NewState, "another one; the end of the previous one was not reported"),
            (2, 3, UP, LinkUpdate::NewState, "a link of another incarnation with the same number"),
            (1, 3, DOWN, LinkUpdate::Stale, "an abandoned incarnation"),
            (1, 4, UP, LinkUpdate::Stale, "an abandoned incarnation, link up"),
            (2, 3, UP, LinkUpdate::SameLink, "its stale reports changed nothing"),
            (2, 3, DOWN, LinkUpdate::NewState, "the end of the link"),
            (2, 3, UP, LinkUpdate::NewState, "the same link after its end was reported"),
        ];
        for (generation, link, up, expected, what) in reports {
            assert_eq!(changes.classify(&changed(generation, link, up)), expected, "{what}");
        }
    }
}
