//! Which of the mqtt actor's news of its link are news. Pure.

use super::LinkChanged;
use crate::actors::supervisor::Generation;

/// The newest news.
#[derive(Debug, Default)]
pub(super) struct LinkNews {
    generation: Generation,
    /// The link that is up.
    link: Option<u64>,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing: an incarnation that was given up and wakes up has no say any more.
    Stale,
    /// It is the link that is up already: only what the broker refuses may have changed.
    SameLink,
    /// Another link is up, or none.
    Another,
}

impl LinkNews {
    /// What `changed` tells.
    #[must_use]
    pub(super) fn judge(&mut self, changed: &LinkChanged) -> News {
        if changed.generation < self.generation {
            return News::Stale;
        }
        if changed.up && changed.generation == self.generation && self.link == Some(changed.link) {
            return News::SameLink;
        }
        self.generation = changed.generation;
        self.link = changed.up.then_some(changed.link);
        News::Another
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
    fn news_of_an_older_generation_and_repetitions_are_none() {
        const UP: bool = true;
        const DOWN: bool = false;
        let mut news = LinkNews::default();
        let told = [
            (1, 1, UP, News::Another, "the first"),
            (1, 1, UP, News::SameLink, "said again"),
            (1, 1, DOWN, News::Another, "the link ends"),
            (1, 2, UP, News::Another, "another link"),
            (1, 3, UP, News::Another, "another one, whose beginning was not told"),
            (2, 3, UP, News::Another, "a link of another incarnation with the same number"),
            (1, 3, DOWN, News::Stale, "the one before has no say any more"),
            (1, 4, UP, News::Stale, "nor has it that a link came up"),
            (2, 3, UP, News::SameLink, "what it said has changed nothing"),
            (2, 3, DOWN, News::Another, "the end of the link"),
            (2, 3, UP, News::Another, "as the end was told"),
        ];
        for (generation, link, up, expected, what) in told {
            assert_eq!(news.judge(&changed(generation, link, up)), expected, "{what}");
        }
    }
}
