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

impl LinkNews {
    /// Whether `changed` tells anything new. An incarnation that was given up and wakes up has no say any more, and what is said
    /// twice of one link that is up is no news.
    #[must_use]
    pub(super) fn is_news(&mut self, changed: &LinkChanged) -> bool {
        let is_stale = changed.generation < self.generation;
        let is_known = changed.up && changed.generation == self.generation && self.link == Some(changed.link);
        if is_stale || is_known {
            return false;
        }
        self.generation = changed.generation;
        self.link = changed.up.then_some(changed.link);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::Moment;
    use super::*;
    use crate::clock::Mono;
    use crate::domain::{OutageReason, Seq, Timestamp};

    fn changed(generation: Generation, link: u64, up: bool) -> LinkChanged {
        LinkChanged {
            up,
            at: Moment { mono: Mono(0), wall: Timestamp::from_micros(0) },
            heard_from: Mono(0),
            forgotten: false,
            alive_until: Mono(0),
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
            (1, 1, UP, true, "the first"),
            (1, 1, UP, false, "said again"),
            (1, 1, DOWN, true, "the link ends"),
            (1, 2, UP, true, "another link"),
            (1, 3, UP, true, "another one, whose beginning was not told"),
            (2, 3, UP, true, "a link of another incarnation with the same number"),
            (1, 3, DOWN, false, "the one before has no say any more"),
            (1, 4, UP, false, "nor has it that a link came up"),
            (2, 3, UP, false, "what it said has changed nothing"),
            (2, 3, DOWN, true, "the end of the link"),
            (2, 3, UP, true, "as the end was told"),
        ];
        for (generation, link, up, is_news, what) in told {
            assert_eq!(news.is_news(&changed(generation, link, up)), is_news, "{what}");
        }
    }
}
