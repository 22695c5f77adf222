//! What we can see: since when the broker link is up without a break, and how far that is proven.

use crate::clock::Mono;
use crate::domain::Timestamp;

/// One instant on both clocks: `mono` decides, `wall` labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// On the monotonic clock.
    pub mono: Mono,
    /// On the wall clock.
    pub wall: Timestamp,
}

/// The newest stretch of unbroken sight. It is *open* while the link is up.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// When the link came up; `None` before it ever did.
    since: Option<Moment>,
    /// What was received from here on came over this link: a little before `since`, as a session delivers while its
    /// subscriptions are still being checked.
    heard_from: Mono,
    /// When it went down again.
    lost_at: Option<Mono>,
    /// The newest instant of this stretch at which the link is proven to have been alive, with every record
    /// received before it looked at.
    proven: Option<Mono>,
}

impl Sight {
    pub(super) fn is_open(&self) -> bool {
        self.since.is_some() && self.lost_at.is_none()
    }

    pub(super) fn since(&self) -> Option<Moment> {
        self.since
    }

    /// A new stretch begins (T3), over a link on which was heard from `heard_from` on. It cannot begin before the one before
    /// it ended.
    pub(super) fn open(&mut self, now: Moment, heard_from: Mono) {
        let not_before = self.lost_at.max(self.since.map(|since| since.mono)).unwrap_or_default();
        let since = Moment { mono: now.mono.max(not_before), wall: now.wall };
        self.since = Some(since);
        self.heard_from = heard_from.clamp(not_before, since.mono);
        self.lost_at = None;
        self.proven = None;
    }

    /// The stretch ends; of several reports the first counts.
    pub(super) fn close(&mut self, at: Mono) {
        if let (Some(since), None) = (self.since, self.lost_at) {
            self.lost_at = Some(at.max(since.mono));
        }
    }

    /// Takes a proof. Returns the newest instant whose deadlines have passed for certain: not after the
    /// proof, and before the moment the link went down (T2). `None`: nothing is certain.
    pub(super) fn prove(&mut self, until: Mono) -> Option<Mono> {
        let since = self.since?;
        let horizon = match self.lost_at {
            Some(lost_at) => until.min(Mono(lost_at.0.checked_sub(1)?)),
            None => until,
        };
        if horizon < since.mono {
            return None;
        }
        self.proven = self.proven.max(Some(horizon));
        Some(horizon)
    }

    /// Whether something observed at `evidence` came over the link of this stretch: nothing between then and now,
    /// or the end of the stretch, has escaped us.
    pub(super) fn covers(&self, evidence: Option<Mono>) -> bool {
        self.since.is_some() && evidence >= Some(self.heard_from)
    }

    /// When a machine without evidence in this stretch has had `patience_micros` to speak.
    pub(super) fn grace_end(&self, patience_micros: u64) -> Option<Mono> {
        self.since.map(|since| Mono(since.mono.0.saturating_add(patience_micros)))
    }

    /// Whether it is proven that [`Self::grace_end`] has passed.
    pub(super) fn grace_is_over(&self, patience_micros: u64) -> bool {
        self.grace_end(patience_micros).is_some_and(|end| self.proven >= Some(end))
    }
}
