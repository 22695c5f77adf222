//! What the board shows of a machine.

use std::time::Duration;

use crate::domain::{DisplayStatus, MachineId, MachineStatus, Timestamp, TransitionReason};

use super::machine::Machine;
use super::timeouts::Patiences;
use super::visibility::Visibility;

/// One machine as the tracker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View<'a> {
    /// Which.
    pub machine_id: &'a MachineId,
    /// What the board shows.
    pub status: DisplayStatus,
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
    /// It changes its status too often (TRK-10).
    pub flapping: bool,
    /// It is unknown because the broker refuses the filter that it comes through, or may come through (TRK-11).
    pub refused: bool,
}

/// How many machines the board shows in which status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusCounts {
    /// [`DisplayStatus::Online`].
    pub online: u64,
    /// [`DisplayStatus::Offline`].
    pub offline: u64,
    /// [`DisplayStatus::Unknown`].
    pub unknown: u64,
    /// [`DisplayStatus::NeverSeen`].
    pub never_seen: u64,
}

pub(super) fn view<'a>(
    machine_id: &'a MachineId,
    machine: &Machine,
    sight: &Visibility,
    patiences: &Patiences,
    flapping: bool,
) -> View<'a> {
    let patience_micros = patiences.micros(machine.timeout());
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

/// Rules TRK-4 and TRK-11.
fn status_of(machine: &Machine, sight: &Visibility, patience_micros: u64) -> DisplayStatus {
    let Some(standing) = machine.standing() else { return DisplayStatus::Unknown };
    let place = machine.place();
    let seen = sight.covers_for(place, machine.evidence());
    let waited = sight.grace_is_over(machine.is_late(), patience_micros);
    let silence_is_certain = standing != DisplayStatus::Online && waited;
    if sight.is_open() && sight.sees(place) && (seen || silence_is_certain) {
        standing
    } else {
        DisplayStatus::Unknown
    }
}
