//! What we can see: since when the broker link is up without a break, how far that is proven, and which
//! filters are refused.

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

/// The newest visibility period: from `link_up` to `link_down`. It is *open* while the link is up.
#[derive(Debug, Default)]
pub(super) struct Visibility {
    /// When the link came up; `None` before it first did.
    since: Option<TimePoint>,
    /// What was received from here on came over this link. A little before `since`: a session delivers while
    /// its subscriptions are still being checked.
    heard_from: Mono,
    /// When it went down again.
    lost_at: Option<Mono>,
    /// The newest instant of this period at which the link is proven to have been alive, with every record
    /// received before it observed.
    proven: Option<Mono>,
    /// Filters that the broker refuses: their machines are invisible.
    refused: FilterSet,
    /// Filters that it refused earlier in this period.
    granted_late: FilterSet,
    /// When the newest of them was granted. It stands for all of them: better invisible for too long than for
    /// too short.
    grant: Option<Grant>,
}

/// A filter was granted after the link had come up.
#[derive(Debug, Clone, Copy)]
struct Grant {
    at: TimePoint,
    /// What was received from here on may have come through it. A little before `at`: the broker delivers
    /// before it answers.
    heard_from: Mono,
}

impl Visibility {
    pub(super) fn is_open(&self) -> bool {
        self.since.is_some() && self.lost_at.is_none()
    }

    pub(super) fn since(&self) -> Option<TimePoint> {
        self.since
    }

    /// Returns since when a machine is visible in this period; `from_grant`: see `Machine::waits_from_grant`.
    pub(super) fn since_for(&self, from_grant: bool) -> Option<TimePoint> {
        self.grant.filter(|_| from_grant).map(|grant| grant.at).or(self.since)
    }

    /// Returns whether the broker sends us what comes through a filter.
    pub(super) fn admits(&self, filter: FilterPlace) -> bool {
        !self.refused.contains(filter)
    }

    /// Returns whether a filter was granted after the link came up.
    pub(super) fn was_granted_late(&self, filter: FilterPlace) -> bool {
        self.granted_late.contains(filter)
    }

    /// Returns the filter to which a message that matches `filters` is attributed: a granted one if there is
    /// any.
    pub(super) fn filter_of(&self, filters: FilterSet) -> FilterPlace {
        let granted = filters.without(self.refused);
        if granted.is_empty() { filters.first() } else { granted.first() }
    }

    /// Replaces the refused filters from `now` on; the newly granted ones may have delivered from
    /// `heard_from` on. Returns whether anything changed.
    pub(super) fn set_refused(&mut self, refused: FilterSet, now: TimePoint, heard_from: Mono) -> bool {
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

    /// Returns whether no filter is refused or was refused in this period.
    pub(super) fn filters_are_alike(&self) -> bool {
        self.refused.is_empty() && self.granted_late.is_empty()
    }

    /// Starts a new period (TRK-3), over a link that delivered from `heard_from` on. It cannot start before
    /// the previous one ended.
    pub(super) fn open(&mut self, now: TimePoint, heard_from: Mono) {
        let begun = self.since_for(true).map(|since| since.mono);
        let not_before = self.lost_at.max(begun).unwrap_or_default();
        let since = TimePoint { mono: now.mono.max(not_before), wall: now.wall };
        self.since = Some(since);
        self.heard_from = heard_from.clamp(not_before, since.mono);
        self.lost_at = None;
        self.proven = None;
        (self.refused, self.granted_late, self.grant) = Default::default();
    }

    /// Ends the period. The first of several reports counts.
    pub(super) fn close(&mut self, at: Mono) {
        if let (Some(since), None) = (self.since, self.lost_at) {
            self.lost_at = Some(at.max(since.mono));
        }
    }

    /// Takes a proof. Returns the newest instant whose deadlines have certainly passed: not after the proof,
    /// and before the link went down (TRK-2). `None`: nothing is certain.
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

    /// Returns whether `evidence` came over the link of this period: nothing since then, up to now or the end
    /// of the period, has escaped us.
    pub(super) fn covers(&self, evidence: Option<Mono>) -> bool {
        self.since.is_some() && evidence >= Some(self.heard_from)
    }

    /// The same as [`Self::covers`], for evidence that came through a filter.
    pub(super) fn covers_filter(&self, filter: FilterPlace, evidence: Option<Mono>) -> bool {
        match self.grant {
            Some(grant) if self.was_granted_late(filter) => evidence >= Some(grant.heard_from),
            _ => self.covers(evidence),
        }
    }

    /// Returns when a machine without evidence in this period has had its whole timeout to send;
    /// `from_grant`: see `Machine::waits_from_grant`.
    pub(super) fn grace_end(&self, from_grant: bool, timeout_micros: u64) -> Option<Mono> {
        self.since_for(from_grant).map(|since| Mono(since.mono.0.saturating_add(timeout_micros)))
    }

    /// Returns whether [`Self::grace_end`] is proven to have passed.
    pub(super) fn grace_is_over(&self, from_grant: bool, timeout_micros: u64) -> bool {
        self.grace_end(from_grant, timeout_micros).is_some_and(|end| self.proven >= Some(end))
    }
}
