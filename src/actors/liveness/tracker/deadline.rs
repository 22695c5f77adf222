//! When a machine falls silent (rule TRK-3 of [`super`]).

use std::time::Duration;

use super::machine::Machine;
use super::timeouts::Patiences;
use super::visibility::{TimePoint, Visibility};
use crate::clock::Mono;
use crate::domain::Timestamp;

/// TRK-3, as far as it is known today; evidence and sight can only move it to a later instant. `None`: the machine is
/// offline, or cannot be seen (TRK-11).
pub(super) fn deadline_of(machine: &Machine, sight: &Visibility, patiences: &Patiences) -> Option<TimePoint> {
    if !machine.is_watched() || !sight.sees(machine.place()) {
        return None;
    }
    let offline_after = patiences.micros(machine.timeout());
    let from = match (machine.evidence(), machine.last_seen(), sight.since_for(machine.is_late())) {
        (Some(mono), Some(wall), Some(since)) if since.mono <= mono => TimePoint { mono, wall },
        (_, _, Some(since)) => since,
        // Never had sight: early, and never proven to have passed.
        (evidence, _, None) => {
            TimePoint { mono: evidence.unwrap_or_default(), wall: Timestamp::from_micros(0) }
        }
    };
    let mono = Mono(from.mono.0.saturating_add(offline_after));
    Some(TimePoint { mono, wall: from.wall.plus(Duration::from_micros(offline_after)) })
}

/// [`deadline_of`] for the [`super::timing_wheel`]: the machine's entry is armed for it, or is gone.
pub(super) fn real_deadline(
    machine: &mut Machine,
    sight: &Visibility,
    patiences: &Patiences,
) -> Option<Mono> {
    let deadline = deadline_of(machine, sight, patiences);
    machine.set_armed(deadline.is_some());
    deadline.map(|deadline| deadline.mono)
}
