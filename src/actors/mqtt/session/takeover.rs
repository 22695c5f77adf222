//! Detects another client that connects under our client id and takes the session over again and again.
//!
//! With MQTT 5 the broker may say so (the library does not always pass it on). Otherwise it just closes the
//! connection soon after each connect, and accepts the next one at once, with the session still there. A
//! broker that crashes differs: it refuses some connects in between, or has forgotten the session. While
//! take-overs go on, the backoff keeps growing and the log has one line, not one a round.

use std::time::Duration;

/// A connection that is lost sooner than this after it came up may have been taken over.
const SHORT_LIVED: Duration = Duration::from_secs(10);
/// Losses in a row that count as another client: a single one may be due to an old connection of our own.
const LOSSES_MIN: u32 = 3;

/// Counts such losses in a row.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    losses: u32,
}

/// How a connection that was up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// How long it had been up.
    pub(super) lasted: Duration,
    /// The broker said that another client took the session over.
    pub(super) taken_over: bool,
}

impl Takeover {
    /// Counts a loss. Returns `true` once, when the losses point to another client.
    pub(super) fn lost(&mut self, loss: Loss) -> bool {
        let counts = loss.taken_over || loss.lasted < SHORT_LIVED;
        self.losses = if counts { self.losses.saturating_add(1) } else { 0 };
        self.losses == LOSSES_MIN
    }

    /// Starts over: the broker refused a connection, was unreachable, or has forgotten the session.
    pub(super) fn reset(&mut self) {
        self.losses = 0;
    }

    /// Returns whether another client takes the session over at present.
    pub(super) fn is_on(&self) -> bool {
        self.losses >= LOSSES_MIN
    }

    /// Notes that the link has lasted. Returns `true` if that ends a series of take-overs.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(&mut self.losses) >= LOSSES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(seconds: u64, taken_over: bool) -> Loss {
        Loss { lasted: Duration::from_secs(seconds), taken_over }
    }

    #[test]
    fn repeated_takeovers_are_reported_once_until_they_end() {
        let mut takeover = Takeover::default();
        let reported: Vec<bool> = (0..6).map(|_| takeover.lost(loss(3600, true))).collect();
        assert_eq!(reported, [false, false, true, false, false, false]);
        assert!(takeover.is_on());
        assert!(takeover.end());
        assert!(!takeover.is_on() && !takeover.end());
        let reported: Vec<bool> = (0..3).map(|_| takeover.lost(loss(0, false))).collect();
        assert_eq!(reported, [false, false, true], "3.1.1 names no reason");
    }

    #[test]
    fn an_outage_now_and_then_is_no_takeover() {
        let mut takeover = Takeover::default();
        for _ in 0..10 {
            assert!(!takeover.lost(loss(0, false)));
            assert!(!takeover.lost(loss(1, true)));
            assert!(!takeover.lost(loss(3600, false)));
            assert!(!takeover.is_on());
        }
        for _ in 0..10 {
            assert!(!takeover.lost(loss(0, false)));
            assert!(!takeover.lost(loss(0, false)));
            takeover.reset();
        }
    }
}
