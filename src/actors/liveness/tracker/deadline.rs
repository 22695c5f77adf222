//! When a machine falls silent (TRK-3, TRK-12).

use std::time::Duration;

use super::machine::Machine;
use super::timeouts::Timeouts;
use super::visibility::{TimePoint, Visibility};
use crate::clock::Mono;
use crate::domain::Timestamp;

/// Returns the deadline as known now; new evidence and visibility can only move it to a later instant.
/// `None`: the machine is offline, or its filter is refused (TRK-11).
pub(super) fn deadline_of(
    machine: &Machine,
    visibility: &Visibility,
    timeouts: &Timeouts,
) -> Option<TimePoint> {
    if !machine.can_fall_silent() || !visibility.admits(machine.filter()) {
        return None;
    }
    let offline_after = timeouts.micros(machine.timeout());
    let since = visibility.since_for(machine.waits_from_grant());
    let start = match (machine.evidence(), machine.last_seen(), since) {
        (Some(mono), Some(wall), Some(since)) if since.mono <= mono => TimePoint { mono, wall },
        (_, _, Some(since)) => since,
        // The link was never up: an early deadline, which is never proven to have passed.
        (evidence, _, None) => {
            TimePoint { mono: evidence.unwrap_or_default(), wall: Timestamp::from_micros(0) }
        }
    };
    let changed = timeouts.changed_at().filter(|_| machine.has_new_rule());
    // One that became expected has had no time to send before that.
    let start = later(start, changed.filter(|_| machine.recorded().is_none()));
    let mono = Mono(start.mono.0.saturating_add(offline_after));
    let deadline = TimePoint { mono, wall: start.wall.plus(Duration::from_micros(offline_after)) };
    Some(later(deadline, changed))
}

fn later(at: TimePoint, other: Option<TimePoint>) -> TimePoint {
    other.filter(|other| other.mono > at.mono).unwrap_or(at)
}

/// Returns [`deadline_of`] for the [`super::timing_wheel`], and notes whether the machine has an entry there.
pub(super) fn real_deadline(
    machine: &mut Machine,
    visibility: &Visibility,
    timeouts: &Timeouts,
) -> Option<Mono> {
    let deadline = deadline_of(machine, visibility, timeouts);
    machine.set_armed(deadline.is_some());
    deadline.map(|deadline| deadline.mono)
}
