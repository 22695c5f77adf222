//! One machine's state and the rules by which evidence changes it.

use crate::clock::Mono;
use crate::domain::{DisplayStatus, FilterPlace, MachineStatus, Timestamp, TransitionReason};

use super::packed_time::{PackedMono, PackedTimestamp};
use super::timeouts::TimeoutId;

/// What the tracker knows about one machine. 40 bytes.
#[derive(Debug)]
pub(super) struct Machine {
    status_since: PackedTimestamp,
    first_seen: PackedTimestamp,
    last_seen: PackedTimestamp,
    evidence: PackedMono,
    timeout: TimeoutId,
    recorded: Option<MachineStatus>,
    reason: Option<TransitionReason>,
    /// The filter of its newest message (TRK-11).
    filter: FilterPlace,
    flags: Flags,
}

/// Five flags in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Flags(u8);

impl Flags {
    /// The whole state comes from the database: no record has changed it since (TRK-8).
    const FROM_DATABASE: u8 = 1;
    /// The machine has an entry among the deadlines.
    const ARMED: u8 = 2;
    /// In this visibility period it waits since its filter was granted, which was after the link came up
    /// (TRK-11).
    const WAITS_FROM_GRANT: u8 = 4;
    /// Its `offline_after` was changed, or it became expected, while it was waited for (TRK-12).
    const HAS_NEW_RULE: u8 = 8;
    /// It is no longer tracked.
    const REMOVED: u8 = 16;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }
}

/// A change of one machine's status: a transition without the machine's id and the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) status: MachineStatus,
    pub(super) previous_status: Option<MachineStatus>,
    pub(super) reason: TransitionReason,
    pub(super) occurred_at: Timestamp,
    pub(super) last_seen_at: Option<Timestamp>,
}

/// A machine's state in the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recorded {
    pub(super) status: MachineStatus,
    pub(super) status_since: Timestamp,
    pub(super) reason: Option<TransitionReason>,
    pub(super) first_seen: Option<Timestamp>,
    pub(super) last_seen: Option<Timestamp>,
}

impl Machine {
    /// Returns a machine of which nothing is known.
    pub(super) fn new_unknown(timeout: TimeoutId) -> Self {
        Self {
            status_since: PackedTimestamp::NONE,
            first_seen: PackedTimestamp::NONE,
            last_seen: PackedTimestamp::NONE,
            evidence: PackedMono::NONE,
            timeout,
            recorded: None,
            reason: None,
            filter: FilterPlace::UNKNOWN,
            flags: Flags::default(),
        }
    }

    /// Returns a machine that the database knows.
    pub(super) fn known(recorded: Recorded, timeout: TimeoutId) -> Self {
        Self {
            status_since: Some(recorded.status_since).into(),
            first_seen: recorded.first_seen.into(),
            last_seen: recorded.last_seen.into(),
            recorded: Some(recorded.status),
            reason: recorded.reason,
            flags: Flags(Flags::FROM_DATABASE),
            ..Self::new_unknown(timeout)
        }
    }

    /// Returns the status of the newest change; `None` for an expected machine that still has time to send.
    pub(super) fn recorded(&self) -> Option<MachineStatus> {
        self.recorded
    }

    /// Returns when the newest change occurred.
    pub(super) fn status_since(&self) -> Option<Timestamp> {
        self.status_since.get()
    }

    /// Returns the reason of the newest change, if it is known.
    pub(super) fn reason(&self) -> Option<TransitionReason> {
        self.reason
    }

    pub(super) fn first_seen(&self) -> Option<Timestamp> {
        self.first_seen.get()
    }

    pub(super) fn last_seen(&self) -> Option<Timestamp> {
        self.last_seen.get()
    }

    /// Returns the filter of its newest message.
    pub(super) fn filter(&self) -> FilterPlace {
        self.filter
    }

    pub(super) fn set_filter(&mut self, filter: FilterPlace) {
        self.filter = filter;
    }

    /// Returns whether it waits since its filter was granted, rather than since the link came up.
    pub(super) fn waits_from_grant(&self) -> bool {
        self.flags.has(Flags::WAITS_FROM_GRANT)
    }

    pub(super) fn set_waits_from_grant(&mut self, on: bool) {
        self.flags.set(Flags::WAITS_FROM_GRANT, on);
    }

    pub(super) fn is_armed(&self) -> bool {
        self.flags.has(Flags::ARMED)
    }

    pub(super) fn set_armed(&mut self, armed: bool) {
        self.flags.set(Flags::ARMED, armed);
    }

    pub(super) fn timeout(&self) -> TimeoutId {
        self.timeout
    }

    /// Replaces how long it may be silent. `is_new`: it is judged by that from the change on only (TRK-12).
    pub(super) fn set_timeout(&mut self, timeout: TimeoutId, is_new: bool) {
        self.timeout = timeout;
        self.flags.set(Flags::HAS_NEW_RULE, is_new);
    }

    pub(super) fn has_new_rule(&self) -> bool {
        self.flags.has(Flags::HAS_NEW_RULE)
    }

    /// Makes it a machine that never falls silent and that nobody sees. An entry among the deadlines stays until
    /// it comes up.
    pub(super) fn mark_removed(&mut self) {
        self.recorded = Some(MachineStatus::Offline);
        self.flags.set(Flags::REMOVED, true);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.flags.has(Flags::REMOVED)
    }

    /// Returns when this process last learned that [`Self::recorded`] is true: receipt of a message or a last
    /// will, or the deadline that passed. `None`: not yet in this process.
    pub(super) fn evidence(&self) -> Option<Mono> {
        self.evidence.get()
    }

    /// Returns the status to show if the machine is visible; `None` while undecided.
    pub(super) fn status_if_visible(&self) -> Option<DisplayStatus> {
        Some(match (self.recorded?, self.last_seen()) {
            (MachineStatus::Online, _) => DisplayStatus::Online,
            (MachineStatus::Offline, Some(_)) => DisplayStatus::Offline,
            (MachineStatus::Offline, None) => DisplayStatus::NeverSeen,
        })
    }

    pub(super) fn is_online(&self) -> bool {
        self.recorded == Some(MachineStatus::Online)
    }

    /// Returns whether silence would change its status.
    pub(super) fn can_fall_silent(&self) -> bool {
        self.recorded != Some(MachineStatus::Offline)
    }

    /// Returns whether the database knows something newer than a record from before this process, so that the
    /// record has no effect (TRK-8).
    pub(super) fn is_newer_than(&self, received_at: Timestamp, is_message: bool) -> bool {
        let known_from = match (self.is_online(), is_message) {
            (true, true) => self.last_seen(),
            _ => self.status_since().max(self.last_seen()),
        };
        self.flags.has(Flags::FROM_DATABASE) && known_from.is_some_and(|known_from| received_at < known_from)
    }

    /// Takes a valid message: the machine is online (TRK-1).
    pub(super) fn on_message(&mut self, received_at: Timestamp, received: Option<Mono>) -> Option<Change> {
        self.note_evidence(received);
        let first_ever = self.first_seen().is_none();
        if first_ever {
            self.first_seen = Some(received_at).into();
        }
        self.last_seen = Some(received_at).into();
        if self.is_online() {
            return None;
        }
        let reason = if first_ever { TransitionReason::FirstSeen } else { TransitionReason::Message };
        Some(self.change(MachineStatus::Online, reason, received_at))
    }

    /// Takes the device's last will: an online machine is offline at once (TRK-6).
    pub(super) fn on_last_will(&mut self, received_at: Timestamp, received: Option<Mono>) -> Option<Change> {
        if !self.is_online() {
            return None;
        }
        self.note_evidence(received);
        Some(self.change(MachineStatus::Offline, TransitionReason::LastWill, received_at))
    }

    /// Makes the machine offline because its deadline passed at `at`, which is `occurred_at` on the wall
    /// clock.
    pub(super) fn fall_silent(&mut self, at: Mono, occurred_at: Timestamp) -> Change {
        debug_assert!(self.can_fall_silent(), "TRK-1: only an online or undecided machine falls silent");
        self.evidence = self.evidence().max(Some(at)).into();
        let reason = match self.recorded {
            Some(_) => TransitionReason::Silence,
            None => TransitionReason::NeverSeen,
        };
        self.change(MachineStatus::Offline, reason, occurred_at)
    }

    fn note_evidence(&mut self, received: Option<Mono>) {
        self.evidence = self.evidence().max(received).into();
        self.flags.set(Flags::FROM_DATABASE, false);
    }

    fn change(&mut self, status: MachineStatus, reason: TransitionReason, occurred_at: Timestamp) -> Change {
        debug_assert_ne!(self.recorded, Some(status), "TRK-1: a transition changes the status");
        let previous = self.status_since();
        let occurred_at = previous.map_or(occurred_at, |previous| distinct_from(previous, occurred_at));
        let previous_status = self.recorded.replace(status);
        self.status_since = Some(occurred_at).into();
        self.reason = Some(reason);
        Change { status, previous_status, reason, occurred_at, last_seen_at: self.last_seen() }
    }
}

/// Changes closer than this, in microseconds, count as simultaneous: no clock can order them.
const SIMULTANEOUS_WITHIN: i64 = 1_000;

/// Returns `occurred_at`, or the microsecond after the `previous` change if both are simultaneous (TRK-5). A
/// clock that was set back further than that is left alone.
fn distinct_from(previous: Timestamp, occurred_at: Timestamp) -> Timestamp {
    let earlier_by = previous.as_micros().saturating_sub(occurred_at.as_micros());
    let simultaneous = (0..SIMULTANEOUS_WITHIN).contains(&earlier_by);
    if simultaneous { Timestamp::from_micros(previous.as_micros().saturating_add(1)) } else { occurred_at }
}
