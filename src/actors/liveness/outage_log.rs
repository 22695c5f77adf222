//! The log of our own outages: each time in which silence could not be judged, for the database.
//!
//! An outage begins at the last instant at which the link was proven to be up, not when its end was noticed.
//! That instant is recorded every [`SEEN_UNTIL_EVERY`] while the link is up. So after a kill the outage
//! begins at most that much too early, and never too late.
//!
//! Invariants
//! - **OUT-1** Outages of a site do not overlap, and are recorded in order: the beginning, then the end.
//! - **OUT-2** Nothing is recorded before the recorded history is known; what happened before is recorded
//!   then.
//! - **OUT-3** While the broker refuses a filter, the time counts as an outage of the whole site: the
//!   database does not know which machines come through which filter.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use super::tracker::TimePoint;
use crate::clock::Mono;
use crate::domain::{LinkOutage, OutageReason, Timestamp};

/// How often the newest proof of the link is recorded.
pub const SEEN_UNTIL_EVERY: Duration = Duration::from_secs(30);
/// Outages kept while the database is away; beyond that the two oldest are merged.
const OUTAGES_MAX: usize = 10_000;
/// Outages of one batch.
const BATCH_OUTAGES_MAX: usize = 1_000;

/// What the database knows of the time before the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutageHistory {
    /// The newest outage.
    pub newest_outage: Option<LinkOutage>,
    /// The newest instant at which the link is known to have been up.
    pub seen_until: Option<Timestamp>,
}

/// What to record; see [`OutageLog::on_recorded`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutagesToRecord {
    /// In order. Of one outage its beginning, or its beginning and end.
    pub outages: Vec<LinkOutage>,
    /// See [`OutageHistory`].
    pub seen_until: Option<Timestamp>,
    /// The number of outages ever recorded, including these.
    pub upto: u64,
}

/// The outage that has not ended.
#[derive(Debug, Clone, Copy)]
struct OpenOutage {
    /// `None`: only the database knows.
    began_at: Option<Timestamp>,
    reason: OutageReason,
}

/// The log of one incarnation. It begins in an outage.
#[derive(Debug)]
pub struct OutageLog {
    open: Option<OpenOutage>,
    /// When the link first came up, if that was before the history was known.
    first_visible: Option<Timestamp>,
    history_is_known: bool,
    pending: VecDeque<LinkOutage>,
    recorded: u64,
    /// The newest outage logged.
    newest: Option<LinkOutage>,
    seen_until: Option<Timestamp>,
    /// The newest proof taken over into `seen_until`.
    last_proof: Mono,
}

impl Default for OutageLog {
    fn default() -> Self {
        Self {
            open: Some(OpenOutage { began_at: None, reason: OutageReason::Start }),
            first_visible: None,
            history_is_known: false,
            pending: VecDeque::new(),
            recorded: 0,
            newest: None,
            seen_until: None,
            last_proof: Mono::default(),
        }
    }
}

impl OutageLog {
    /// Takes the recorded history. `now` is the present wall clock.
    pub fn start_from(&mut self, history: OutageHistory, now: Timestamp) {
        if self.history_is_known {
            return;
        }
        self.history_is_known = true;
        let first_visible = self.first_visible.take();
        let ended_at = first_visible.unwrap_or(now);
        let (began_at, reason) = match history.newest_outage {
            Some(LinkOutage { began_at, ended_at: None, reason }) => (Some(began_at), reason),
            newest => {
                let ended_at = newest.and_then(|outage| outage.ended_at);
                (history.seen_until.max(ended_at), OutageReason::Start)
            }
        };
        // A new site has no earlier time: its history begins when the link first comes up.
        let Some(began_at) = began_at else { return };
        // The clock may have been set back meanwhile.
        let began_at = distinct_from_ended(began_at.min(ended_at), history.newest_outage);
        let outage = LinkOutage { began_at, ended_at: first_visible, reason };
        self.newest = self.newest.or(Some(outage));
        self.pending.push_front(outage);
        if let Some(open) = self.open.as_mut().filter(|open| open.began_at.is_none()) {
            *open = OpenOutage { began_at: Some(began_at), reason };
        }
    }

    /// The link came up.
    pub fn link_up(&mut self, at: TimePoint) {
        match self.open.take() {
            Some(OpenOutage { began_at: Some(began_at), reason }) => {
                self.push(LinkOutage { began_at, ended_at: Some(at.wall.max(began_at)), reason });
            }
            Some(OpenOutage { began_at: None, .. }) => {
                self.first_visible = Some(at.wall).filter(|_| !self.history_is_known);
            }
            None => return,
        }
        self.seen_until = Some(at.wall);
        self.last_proof = at.mono;
    }

    /// The link went down, as noticed at `at`; the broker gave its last sign of life at `alive_until`.
    pub fn link_down(&mut self, at: TimePoint, alive_until: Mono, reason: OutageReason) {
        if self.open.is_some() {
            return;
        }
        // The two clocks are not read at one instant: it could begin a little before the previous one ended
        // (OUT-1).
        let newest_ended = self.newest.and_then(|outage| outage.ended_at);
        let began_at =
            Some(wall_at(alive_until.max(self.last_proof), at)).max(newest_ended).unwrap_or(at.wall);
        let began_at = distinct_from_ended(began_at, self.newest);
        self.open = Some(OpenOutage { began_at: Some(began_at), reason });
        self.push(LinkOutage { began_at, ended_at: None, reason });
    }

    /// From `at` on, the broker of the present link refuses a filter, or none (OUT-3).
    pub fn set_refused(&mut self, refuses: bool, at: TimePoint) {
        match self.open.map(|open| open.reason) {
            None if refuses => self.link_down(at, at.mono, OutageReason::FilterRefused),
            Some(OutageReason::FilterRefused) if !refuses => self.link_up(at),
            _ => {}
        }
    }

    /// The link was proven to be up at `proven`; it is `now`.
    pub fn proven(&mut self, proven: Mono, now: TimePoint) {
        if self.wants_proof(proven) {
            self.last_proof = proven;
            self.seen_until = Some(wall_at(proven, now));
        }
    }

    /// Returns whether a proof is due.
    pub fn wants_proof(&self, now: Mono) -> bool {
        self.open.is_none() && now.since(self.last_proof) >= SEEN_UNTIL_EVERY
    }

    /// Returns whether there is something to record.
    pub fn has_pending(&self) -> bool {
        self.history_is_known && (!self.pending.is_empty() || self.seen_until.is_some())
    }

    /// Returns the oldest outages to record. They stay until [`Self::on_recorded`].
    pub fn pending(&self) -> OutagesToRecord {
        if !self.history_is_known {
            return OutagesToRecord::default();
        }
        let outages: Vec<_> = self.pending.iter().take(BATCH_OUTAGES_MAX).copied().collect();
        let upto = self.recorded + outages.len() as u64;
        // The link is not known to have been up beyond an outage that is still to be recorded.
        let all = outages.len() == self.pending.len();
        OutagesToRecord { outages, seen_until: self.seen_until.filter(|_| all), upto }
    }

    /// These are in the database.
    pub fn on_recorded(&mut self, upto: u64, seen_until: Option<Timestamp>) {
        if !self.history_is_known {
            return; // An answer to the previous incarnation, whose numbers mean nothing here.
        }
        while self.recorded < upto && self.pending.pop_front().is_some() {
            self.recorded += 1;
        }
        if seen_until == self.seen_until {
            self.seen_until = None;
        }
    }

    fn push(&mut self, outage: LinkOutage) {
        self.newest = Some(outage);
        self.pending.push_back(outage);
        if self.pending.len() <= OUTAGES_MAX {
            return;
        }
        // Better an outage that is too long than one that is missing: the oldest absorbs the next.
        let (Some(oldest), Some(next)) = (self.pending.pop_front(), self.pending.front().copied()) else {
            return;
        };
        self.recorded += 1;
        for outage in self.pending.iter_mut().filter(|outage| outage.began_at == next.began_at) {
            outage.began_at = oldest.began_at;
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.began_at == Some(next.began_at)) {
            open.began_at = Some(oldest.began_at);
        }
    }
}

/// Returns a beginning that the newest outage does not have: the database identifies an outage by its
/// beginning. Two would share one if the link went down again before anything proved it.
fn distinct_from_ended(began_at: Timestamp, newest: Option<LinkOutage>) -> Timestamp {
    match newest {
        Some(LinkOutage { began_at: known, ended_at: Some(_), .. }) if known == began_at => {
            Timestamp::from_micros(began_at.as_micros().saturating_add(1))
        }
        _ => began_at,
    }
}

/// Returns the wall clock's reading at `mono`, as the clocks stand `now`; not after it.
fn wall_at(mono: Mono, now: TimePoint) -> Timestamp {
    now.wall.minus(now.mono.since(mono))
}
