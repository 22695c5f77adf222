//! What the board shows of a machine.

use std::time::Duration;

use crate::domain::{BoardStatus, MachineId, MachineStatus, Timestamp, TransitionReason};

use super::machine::Machine;
use super::patience::Patiences;
use super::sight::Sight;

/// One machine as the tracker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View<'a> {
    /// Which.
    pub machine_id: &'a MachineId,
    /// What the board shows.
    pub status: BoardStatus,
    /// The status of the newest transition, as the database has it or will have it, and as it is published;
    /// `None` for an expected machine that has not spoken and is still given time.
    pub recorded: Option<MachineStatus>,
    /// Since when `recorded` holds.
    pub status_since: Option<Timestamp>,
    /// Why `recorded` holds; `None` if the database did not say.
    pub reason: Option<TransitionReason>,
    /// Its first message ever.
    pub first_seen: Option<Timestamp>,
    /// Its newest message.
    pub last_seen: Option<Timestamp>,
    /// How long it may be silent.
    pub offline_after: Duration,
    /// It changes its status too often (T10).
    pub flapping: bool,
    /// It is unknown because the broker refuses the filter that it comes through, or may come through (T11).
    pub refused: bool,
}

/// How many machines the board shows in which status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusCounts {
    /// [`BoardStatus::Online`].
    pub online: u64,
    /// [`BoardStatus::Offline`].
    pub offline: u64,
    /// [`BoardStatus::Unknown`].
    pub unknown: u64,
    /// [`BoardStatus::NeverSeen`].
    pub never_seen: u64,
}

pub(super) fn view<'a>(
    machine_id: &'a MachineId,
    machine: &Machine,
    sight: &Sight,
    patiences: &Patiences,
    flapping: bool,
) -> View<'a> {
    let patience_micros = patiences.micros(machine.patience());
    View {
        machine_id,
        status: status_of(machine, sight, patience_micros),
        recorded: machine.recorded(),
        status_since: machine.status_since(),
        reason: machine.reason(),
        first_seen: machine.first_seen(),
        last_seen: machine.last_seen(),
        offline_after: Duration::from_micros(patience_micros),
        flapping,
        refused: sight.is_open() && !sight.sees(machine.place()),
    }
}

/// Rules T4 and T11.
fn status_of(machine: &Machine, sight: &Sight, patience_micros: u64) -> BoardStatus {
    let Some(standing) = machine.standing() else { return BoardStatus::Unknown };
    let place = machine.place();
    let seen = sight.covers_for(place, machine.evidence());
    let waited = sight.grace_is_over(machine.is_late(), patience_micros);
    let silence_is_certain = standing != BoardStatus::Online && waited;
    if sight.is_open() && sight.sees(place) && (seen || silence_is_certain) {
        standing
    } else {
        BoardStatus::Unknown
    }
}
