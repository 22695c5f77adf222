//! Whether echoes come back (LINK-6).

use std::time::Duration;

use super::after;
use crate::clock::Mono;

/// Echoes lost in a row before the echo may count as unusable.
const LOST_MIN: u32 = 3;
/// A shorter time without messages never counts as quiet.
const QUIET_MIN: Duration = Duration::from_secs(3);
/// How long echoes may be queued while messages come. If one ever came back, the broker allows them, and may
/// take much longer.
const LOST_FOR_MAX: Duration = Duration::from_secs(3 * 60);
const LOST_FOR_MAX_IF_KNOWN: Duration = Duration::from_secs(3_600);
/// How often to test an unusable echo.
const TEST_EVERY: Duration = Duration::from_secs(60);

/// Kept over all links of this run: a broker that forbids the echo forbids it on the next link, too.
#[derive(Debug, Default)]
pub(super) struct EchoTrust {
    is_unusable: bool,
    ever_back: bool,
    lost: u32,
    /// When the first of these was sent.
    lost_since: Option<Mono>,
    test_at: Mono,
    logged: bool,
}

impl EchoTrust {
    pub(super) fn is_usable(&self) -> bool {
        !self.is_unusable
    }

    /// Makes a test echo due: a new link may behave differently.
    pub(super) fn test_at_once(&mut self) {
        self.test_at = Mono::default();
    }

    /// Returns whether a test echo is due, and starts the time until the next one.
    pub(super) fn begin_test(&mut self, now: Mono) -> bool {
        let is_due = self.is_unusable && self.test_at <= now;
        if is_due {
            self.test_at = after(now, TEST_EVERY);
        }
        is_due
    }

    /// Notes the loss of an echo that was sent at `asked`, when no message had come for `quiet`. Returns
    /// `Some` if that makes the echo unusable and has to be logged, with whether no message came for
    /// `offline_after` either.
    pub(super) fn lose(
        &mut self,
        asked: Mono,
        now: Mono,
        quiet: Duration,
        offline_after: Duration,
    ) -> Option<bool> {
        self.lost += 1;
        let lost_for = now.since(*self.lost_since.get_or_insert(asked));
        let quiet = quiet >= offline_after.max(QUIET_MIN);
        let lost_for_max = if self.ever_back { LOST_FOR_MAX_IF_KNOWN } else { LOST_FOR_MAX };
        if self.lost < LOST_MIN || !(quiet || lost_for >= lost_for_max) {
            return None;
        }
        self.forbid(now).then_some(quiet)
    }

    /// Marks the echo as unusable. Returns whether to log that.
    pub(super) fn forbid(&mut self, now: Mono) -> bool {
        self.is_unusable = true;
        self.test_at = after(now, TEST_EVERY);
        !std::mem::replace(&mut self.logged, true)
    }

    /// Notes an echo that came back. Returns whether to log that echoes work again.
    pub(super) fn back(&mut self) -> bool {
        let was_logged = self.logged;
        *self = Self { ever_back: true, ..Self::default() };
        was_logged
    }
}
