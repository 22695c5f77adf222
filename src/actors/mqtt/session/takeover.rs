//! Whether somebody else connects under our client id, and takes the session away again and again.
//!
//! With MQTT 5 the broker may say so (the library does not always hand it on); otherwise it just closes the connection, soon after
//! each connect, and takes the next one at once, with the session still there. A broker that crashes refuses some in between, or has
//! forgotten the session. Such a contest is said
//! once, and not fought: the backoff goes on growing, and nothing is logged for each round of it.

use std::time::Duration;

/// A connection that is lost sooner than this after it came up may have been taken over.
const SHORT_LIVED: Duration = Duration::from_secs(10);
/// Take-overs in a row that make it a contest: one may be an old connection of our own.
const LOSSES_MIN: u32 = 3;

/// Counts the losses in a row.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    losses: u32,
}

/// How a connection that was up came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// How long it had been up.
    pub(super) lasted: Duration,
    /// The broker said that another client took the session over.
    pub(super) taken_over: bool,
}

impl Takeover {
    /// Notes a loss; `true` if this makes it a contest, to be said now.
    pub(super) fn lost(&mut self, loss: Loss) -> bool {
        let counts = loss.taken_over || loss.lasted < SHORT_LIVED;
        self.losses = if counts { self.losses.saturating_add(1) } else { 0 };
        self.losses == LOSSES_MIN
    }

    /// The broker refused a connection, was not there, or has forgotten the session: that is another trouble.
    pub(super) fn is_another_trouble(&mut self) {
        self.losses = 0;
    }

    /// Whether somebody contests the session at present.
    pub(super) fn is_on(&self) -> bool {
        self.losses >= LOSSES_MIN
    }

    /// The link has been up for so long that nobody contests it; `true` if somebody did.
    pub(super) fn won(&mut self) -> bool {
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
    fn a_contest_is_said_once_until_it_is_over() {
        let mut takeover = Takeover::default();
        let said: Vec<bool> = (0..6).map(|_| takeover.lost(loss(3600, true))).collect();
        assert_eq!(said, [false, false, true, false, false, false]);
        assert!(takeover.is_on());
        assert!(takeover.won());
        assert!(!takeover.is_on() && !takeover.won());
        let said: Vec<bool> = (0..3).map(|_| takeover.lost(loss(0, false))).collect();
        assert_eq!(said, [false, false, true], "3.1.1 gives no reason");
    }

    #[test]
    fn an_outage_now_and_then_is_no_contest() {
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
            takeover.is_another_trouble();
        }
    }
}
