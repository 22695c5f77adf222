//! One machine's state and the rules by which evidence changes it.

use crate::clock::Mono;
use crate::domain::{DisplayStatus, FilterPlace, MachineStatus, Timestamp, TransitionReason};

use super::packed::{PackedMono, PackedTimestamp};
use super::timeouts::PatienceId;

/// What the tracker knows about one machine. 40 bytes.
#[derive(Debug)]
pub(super) struct Machine {
    status_since: PackedTimestamp,
    first_seen: PackedTimestamp,
    last_seen: PackedTimestamp,
    evidence: PackedMono,
    timeout: PatienceId,
    recorded: Option<MachineStatus>,
    reason: Option<TransitionReason>,
    /// The filter of its newest message (TRK-11).
    place: FilterPlace,
    marks: Marks,
}

/// Some bits in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Marks(u8);

impl Marks {
    /// Everything else comes from the database: no record has been accepted since (TRK-8).
    const FROM_DATABASE: u8 = 1;
    /// The machine has an entry among the deadlines.
    const ARMED: u8 = 2;
    /// Its wait in this stretch of sight began when a filter was granted late (TRK-11).
    const LATE: u8 = 4;

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    fn set(&mut self, mark: u8, on: bool) {
        self.0 = if on { self.0 | mark } else { self.0 & !mark };
    }
}

/// A change of one machine's status: what a transition says, but for the machine's id and the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) status: MachineStatus,
    pub(super) previous_status: Option<MachineStatus>,
    pub(super) reason: TransitionReason,
    pub(super) occurred_at: Timestamp,
    pub(super) last_seen_at: Option<Timestamp>,
}

/// The state in which the database has a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recorded {
    pub(super) status: MachineStatus,
    pub(super) status_since: Timestamp,
    pub(super) reason: Option<TransitionReason>,
    pub(super) first_seen: Option<Timestamp>,
    pub(super) last_seen: Option<Timestamp>,
}

impl Machine {
    /// A machine of which nothing is known.
    pub(super) fn unheard_of(timeout: PatienceId) -> Self {
        Self {
            status_since: PackedTimestamp::NONE,
            first_seen: PackedTimestamp::NONE,
            last_seen: PackedTimestamp::NONE,
            evidence: PackedMono::NONE,
            timeout,
            recorded: None,
            reason: None,
            place: FilterPlace::UNKNOWN,
            marks: Marks::default(),
        }
    }

    /// A machine that the database knows.
    pub(super) fn known(recorded: Recorded, timeout: PatienceId) -> Self {
        Self {
            status_since: Some(recorded.status_since).into(),
            first_seen: recorded.first_seen.into(),
            last_seen: recorded.last_seen.into(),
            recorded: Some(recorded.status),
            reason: recorded.reason,
            marks: Marks(Marks::FROM_DATABASE),
            ..Self::unheard_of(timeout)
        }
    }

    /// The status of the newest change; `None` for an expected machine that is still given time.
    pub(super) fn recorded(&self) -> Option<MachineStatus> {
        self.recorded
    }

    /// When that change occurred.
    pub(super) fn status_since(&self) -> Option<Timestamp> {
        self.status_since.get()
    }

    /// That change's reason, if it is known.
    pub(super) fn reason(&self) -> Option<TransitionReason> {
        self.reason
    }

    pub(super) fn first_seen(&self) -> Option<Timestamp> {
        self.first_seen.get()
    }

    pub(super) fn last_seen(&self) -> Option<Timestamp> {
        self.last_seen.get()
    }

    /// The filter of its newest message.
    pub(super) fn place(&self) -> FilterPlace {
        self.place
    }

    /// It spoke through this filter.
    pub(super) fn set_place(&mut self, place: FilterPlace) {
        self.place = place;
    }

    /// Whether it waits from when a filter was granted, rather than from when the link came up.
    pub(super) fn is_late(&self) -> bool {
        self.marks.has(Marks::LATE)
    }

    pub(super) fn set_late(&mut self, late: bool) {
        self.marks.set(Marks::LATE, late);
    }

    pub(super) fn is_armed(&self) -> bool {
        self.marks.has(Marks::ARMED)
    }

    pub(super) fn set_armed(&mut self, armed: bool) {
        self.marks.set(Marks::ARMED, armed);
    }

    pub(super) fn timeout(&self) -> PatienceId {
        self.timeout
    }

    /// When this process last learned that [`Self::recorded`] is true: receipt of a message or a last will, or
    /// the deadline that passed. `None`: not yet in this process's life.
    pub(super) fn evidence(&self) -> Option<Mono> {
        self.evidence.get()
    }

    /// What [`Self::recorded`] means on a board that sees everything; `None` while undecided.
    pub(super) fn standing(&self) -> Option<DisplayStatus> {
        Some(match (self.recorded?, self.last_seen()) {
            (MachineStatus::Online, _) => DisplayStatus::Online,
            (MachineStatus::Offline, Some(_)) => DisplayStatus::Offline,
            (MachineStatus::Offline, None) => DisplayStatus::NeverSeen,
        })
    }

    pub(super) fn is_online(&self) -> bool {
        self.recorded == Some(MachineStatus::Online)
    }

    /// Silence of this machine would be a change.
    pub(super) fn is_watched(&self) -> bool {
        self.recorded != Some(MachineStatus::Offline)
    }

    /// Whether what the database knows is newer than a record of an earlier process's life, so that the record
    /// proves nothing (TRK-8).
    pub(super) fn has_outlived(&self, received_at: Timestamp, is_message: bool) -> bool {
        let known_from = match (self.is_online(), is_message) {
            (true, true) => self.last_seen(),
            _ => self.status_since().max(self.last_seen()),
        };
        self.marks.has(Marks::FROM_DATABASE) && known_from.is_some_and(|known_from| received_at < known_from)
    }

    /// A valid message: the machine is online (TRK-1).
    pub(super) fn speak(&mut self, received_at: Timestamp, received: Option<Mono>) -> Option<Change> {
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

    /// The device's last will: an online machine is offline at once (TRK-6).
    pub(super) fn die(&mut self, received_at: Timestamp, received: Option<Mono>) -> Option<Change> {
        if !self.is_online() {
            return None;
        }
        self.note_evidence(received);
        Some(self.change(MachineStatus::Offline, TransitionReason::LastWill, received_at))
    }

    /// The deadline passed at `at`, which is `occurred_at` on the wall clock.
    pub(super) fn fall_silent(&mut self, at: Mono, occurred_at: Timestamp) -> Change {
        debug_assert!(self.is_watched(), "TRK-1: only an online or undecided machine falls silent");
        self.evidence = self.evidence().max(Some(at)).into();
        let reason = match self.recorded {
            Some(_) => TransitionReason::Silence,
            None => TransitionReason::NeverSeen,
        };
        self.change(MachineStatus::Offline, reason, occurred_at)
    }

    fn note_evidence(&mut self, received: Option<Mono>) {
        self.evidence = self.evidence().max(received).into();
        self.marks.set(Marks::FROM_DATABASE, false);
    }

    fn change(&mut self, status: MachineStatus, reason: TransitionReason, occurred_at: Timestamp) -> Change {
        debug_assert_ne!(self.recorded, Some(status), "TRK-1: a transition changes the status");
        let occurred_at = self.status_since().map_or(occurred_at, |before| told_apart(before, occurred_at));
        let previous_status = self.recorded.replace(status);
        self.status_since = Some(occurred_at).into();
        self.reason = Some(reason);
        Change { status, previous_status, reason, occurred_at, last_seen_at: self.last_seen() }
    }
}

/// Changes that are no further apart than this happened at one instant, as far as a clock can tell.
const ONE_INSTANT: i64 = 1_000;

/// TRK-5: when a change occurred, told apart from the one `before` if both are of one instant. A clock that was set back is another
/// matter.
pub(super) fn told_apart(before: Timestamp, occurred_at: Timestamp) -> Timestamp {
    let earlier_by = before.as_micros().saturating_sub(occurred_at.as_micros());
    let of_one_instant = (0..ONE_INSTANT).contains(&earlier_by);
    if of_one_instant { Timestamp::from_micros(before.as_micros().saturating_add(1)) } else { occurred_at }
}
