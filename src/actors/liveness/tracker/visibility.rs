//! What we can see: since when the broker link is up without a break, and how far that is proven.

use crate::clock::Mono;
use crate::domain::{FilterPlace, FilterSet, Timestamp};

/// One instant on both clocks: `mono` decides, `wall` labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimePoint {
    /// On the monotonic clock.
    pub mono: Mono,
    /// On the wall clock.
    pub wall: Timestamp,
}

/// The newest stretch of unbroken sight. It is *open* while the link is up.
#[derive(Debug, Default)]
pub(super) struct Visibility {
    /// When the link came up; `None` before it ever did.
    since: Option<TimePoint>,
    /// What was received from here on came over this link: a little before `since`, as a session delivers while its
    /// subscriptions are still being checked.
    heard_from: Mono,
    /// When it went down again.
    lost_at: Option<Mono>,
    /// The newest instant of this stretch at which the link is proven to have been alive, with every record
    /// received before it looked at.
    proven: Option<Mono>,
    /// Filters that the broker refuses: what comes through them cannot be seen.
    refused: FilterSet,
    /// Filters that it refused earlier in this stretch.
    granted_late: FilterSet,
    /// When the newest of them was granted. It counts for all of them: blind for too long rather than too short.
    grant: Option<Grant>,
}

/// A filter was granted after the link had come up.
#[derive(Debug, Clone, Copy)]
struct Grant {
    at: TimePoint,
    /// What was received from here on came through it: a little before `at`, as the broker delivers before it has answered.
    heard_from: Mono,
}

impl Visibility {
    pub(super) fn is_open(&self) -> bool {
        self.since.is_some() && self.lost_at.is_none()
    }

    pub(super) fn since(&self) -> Option<TimePoint> {
        self.since
    }

    /// Since when a machine can be seen in this stretch; `late`: see `Machine::is_late`.
    pub(super) fn since_for(&self, late: bool) -> Option<TimePoint> {
        self.grant.filter(|_| late).map(|grant| grant.at).or(self.since)
    }

    /// Whether the broker sends us what comes through a filter.
    pub(super) fn sees(&self, place: FilterPlace) -> bool {
        !self.refused.contains(place)
    }

    /// Whether a filter was granted later than the link came up.
    pub(super) fn is_late(&self, place: FilterPlace) -> bool {
        self.granted_late.contains(place)
    }

    /// By what a machine was heard that spoke through any of `filters`.
    pub(super) fn place_of(&self, filters: FilterSet) -> FilterPlace {
        let granted = filters.without(self.refused);
        if granted.is_empty() { filters.first() } else { granted.first() }
    }

    /// From `now` on these are the refused filters; through those among them no longer was heard from `heard_from` on. `false` if
    /// nothing changes.
    pub(super) fn refuse(&mut self, refused: FilterSet, now: TimePoint, heard_from: Mono) -> bool {
        let Some(since) = self.since.filter(|_| self.is_open()) else { return false };
        let granted = self.refused.without(refused);
        if !granted.is_empty() {
            let not_before = since.mono.max(self.grant.map_or(since.mono, |grant| grant.at.mono));
            let at = TimePoint { mono: now.mono.max(not_before), wall: now.wall };
            self.granted_late = self.granted_late.with(granted);
            self.grant = Some(Grant { at, heard_from: heard_from.clamp(since.mono, at.mono) });
        }
        std::mem::replace(&mut self.refused, refused) != refused
    }

    /// Whether all filters are alike.
    pub(super) fn is_even(&self) -> bool {
        self.refused.is_empty() && self.granted_late.is_empty()
    }

    /// A new stretch begins (TRK-3), over a link on which was heard from `heard_from` on. It cannot begin before the one before
    /// it ended.
    pub(super) fn open(&mut self, now: TimePoint, heard_from: Mono) {
        let begun = self.since_for(true).map(|moment| moment.mono);
        let not_before = self.lost_at.max(begun).unwrap_or_default();
        let since = TimePoint { mono: now.mono.max(not_before), wall: now.wall };
        self.since = Some(since);
        self.heard_from = heard_from.clamp(not_before, since.mono);
        self.lost_at = None;
        self.proven = None;
        (self.refused, self.granted_late, self.grant) = Default::default();
    }

    /// The stretch ends; of several reports the first counts.
    pub(super) fn close(&mut self, at: Mono) {
        if let (Some(since), None) = (self.since, self.lost_at) {
            self.lost_at = Some(at.max(since.mono));
        }
    }

    /// Takes a proof. Returns the newest instant whose deadlines have passed for certain: not after the
    /// proof, and before the moment the link went down (TRK-2). `None`: nothing is certain.
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

    /// The same of something that came through a filter.
    pub(super) fn covers_for(&self, place: FilterPlace, evidence: Option<Mono>) -> bool {
        match self.grant {
            Some(grant) if self.is_late(place) => evidence >= Some(grant.heard_from),
            _ => self.covers(evidence),
        }
    }

    /// When a machine without evidence in this stretch has had `patience_micros` to speak; `late`: see `Machine::is_late`.
    pub(super) fn grace_end(&self, late: bool, patience_micros: u64) -> Option<Mono> {
        self.since_for(late).map(|since| Mono(since.mono.0.saturating_add(patience_micros)))
    }

    /// Whether it is proven that [`Self::grace_end`] has passed.
    pub(super) fn grace_is_over(&self, late: bool, patience_micros: u64) -> bool {
        self.grace_end(late, patience_micros).is_some_and(|end| self.proven >= Some(end))
    }
}
