//! What the board and the API show of a machine.

use std::time::Duration;

use crate::domain::{DisplayStatus, MachineId, MachineStatus, Timestamp, TransitionReason};

use super::machine::Machine;
use super::timeouts::Timeouts;
use super::visibility::Visibility;

/// One machine as the tracker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View<'a> {
    /// The machine.
    pub machine_id: &'a MachineId,
    /// The status to show.
    pub status: DisplayStatus,
    /// The status of the newest transition, as it is recorded and published; `None` for an expected machine
    /// that has sent nothing and still has time.
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
    /// It is unknown because the broker refuses the filter that it comes through, or may come through
    /// (TRK-11).
    pub refused: bool,
}

/// How many machines show which status.
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
    visibility: &Visibility,
    timeouts: &Timeouts,
    flapping: bool,
) -> View<'a> {
    let timeout_micros = timeouts.micros(machine.timeout());
    View {
        machine_id,
        status: status_of(machine, visibility, timeout_micros),
        recorded: machine.recorded(),
        status_since: machine.status_since(),
        reason: machine.reason(),
        first_seen: machine.first_seen(),
        last_seen: machine.last_seen(),
        offline_after: Duration::from_micros(timeout_micros),
        flapping,
        refused: visibility.is_open() && !visibility.admits(machine.filter()),
    }
}

/// Returns the status to show (TRK-4, TRK-11).
fn status_of(machine: &Machine, visibility: &Visibility, timeout_micros: u64) -> DisplayStatus {
    let Some(status) = machine.status_if_visible() else { return DisplayStatus::Unknown };
    let filter = machine.filter();
    let learned_over_this_link = visibility.covers_filter(filter, machine.evidence());
    let waited = visibility.grace_is_over(machine.waits_from_grant(), timeout_micros);
    let silence_is_certain = status != DisplayStatus::Online && waited;
    let is_visible = visibility.is_open() && visibility.admits(filter);
    if is_visible && (learned_over_this_link || silence_is_certain) { status } else { DisplayStatus::Unknown }
}
