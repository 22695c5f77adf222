//! Whether echoes come back (rule LINK-6 of [`super`]).

use std::time::Duration;

use super::{after, lasted};
use crate::clock::Mono;

/// Echoes lost in a row before the echo may count as unusable.
const LOST_MIN: u32 = 3;
/// A broker from which no message came for less than this is not called quiet.
const QUIET_MIN: Duration = Duration::from_secs(3);
/// Messages come, and echoes do not: how long that may be their place in the queue. If one ever came back they are allowed, and it
/// may be so for much longer.
const LOST_FOR_MAX: Duration = Duration::from_secs(3 * 60);
const LOST_FOR_MAX_IF_KNOWN: Duration = Duration::from_secs(3_600);
/// How often an echo that is unusable is tried again.
const TEST_EVERY: Duration = Duration::from_secs(60);

/// Over all links of this run: what a broker forbids it forbids on the next one, too.
#[derive(Debug, Default)]
pub(super) struct EchoTrust {
    is_unusable: bool,
    ever_back: bool,
    lost: u32,
    /// When the first of these was sent.
    lost_since: Option<Mono>,
    test_at: Mono,
    told: bool,
}

impl EchoTrust {
    pub(super) fn is_usable(&self) -> bool {
        !self.is_unusable
    }

    /// On a new link it may be otherwise.
    pub(super) fn test_at_once(&mut self) {
        self.test_at = Mono::default();
    }

    /// Whether it is time for a test echo, which is sent then.
    pub(super) fn begin_test(&mut self, now: Mono) -> bool {
        let is_due = self.is_unusable && self.test_at <= now;
        if is_due {
            self.test_at = after(now, TEST_EVERY);
        }
        is_due
    }

    /// One that was sent at `asked` is lost; no message came for `quiet`, of `offline_after` that count. `Some(whether that is so)`:
    /// it is unusable, which has to be said.
    pub(super) fn lose(
        &mut self,
        asked: Mono,
        now: Mono,
        quiet: Duration,
        offline_after: Duration,
    ) -> Option<bool> {
        self.lost += 1;
        let lost_for = lasted(*self.lost_since.get_or_insert(asked), now);
        let quiet = quiet >= offline_after.max(QUIET_MIN);
        let lost_for_max = if self.ever_back { LOST_FOR_MAX_IF_KNOWN } else { LOST_FOR_MAX };
        if self.lost < LOST_MIN || !(quiet || lost_for >= lost_for_max) {
            return None;
        }
        self.forbid(now).then_some(quiet)
    }

    /// It is unusable. Whether that has to be said.
    pub(super) fn forbid(&mut self, now: Mono) -> bool {
        self.is_unusable = true;
        self.test_at = after(now, TEST_EVERY);
        !std::mem::replace(&mut self.told, true)
    }

    /// One came back. Whether it has to be said that it is usable again.
    pub(super) fn back(&mut self) -> bool {
        let was_told = self.told;
        *self = Self { ever_back: true, ..Self::default() };
        was_told
    }
}
