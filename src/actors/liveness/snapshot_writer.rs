//! Writes the snapshot of all machines for HTTP while there are readers, and each transition as it happens.

use std::sync::Arc;

use super::tracker::{Tracker, View};
use crate::clock::{Mono, mono_now};
use crate::domain::Transition;
use crate::status::{MachineView, MachinesCell, MachinesSnapshot};

/// At most one part in this many of the actor's time goes into snapshots: copying a million machines takes a
/// while.
const SHARE_OF_TIME: u64 = 20;

/// The cell and the pace at which it is written.
pub struct SnapshotWriter {
    cell: Arc<MachinesCell>,
    not_before: Mono,
}

impl SnapshotWriter {
    /// Returns a writer that may write at once.
    pub fn new(cell: Arc<MachinesCell>) -> Self {
        Self { cell, not_before: Mono::default() }
    }

    /// Adds a transition, whether or not it can be recorded now.
    pub fn add(&self, transition: Transition) {
        self.cell.write_transition(transition);
    }

    /// Marks the snapshot of the previous incarnation as uncertain: this one does not know the machines yet.
    pub fn invalidate(&self) {
        self.cell.lose_sight(mono_now());
    }

    /// Writes a snapshot if it was read lately and the time for the next one has come. Meant to be called at
    /// each tick.
    pub fn refresh(&mut self, tracker: &mut Tracker, history_is_known: bool) {
        let begun = mono_now();
        if begun < self.not_before || !self.cell.is_wanted() {
            return;
        }
        let sighted = history_is_known && tracker.visible_since().is_some();
        let machines = tracker.views_in_order().map(|view| machine_view(&view)).collect();
        self.cell.write(MachinesSnapshot { at: begun, sighted, machines });
        self.not_before = pause_after(begun, mono_now());
    }
}

/// Returns when the next snapshot may begin after one that was written from `begun` to `ended`.
fn pause_after(begun: Mono, ended: Mono) -> Mono {
    let cost = ended.0.saturating_sub(begun.0);
    Mono(begun.0.saturating_add(cost.saturating_mul(SHARE_OF_TIME)))
}

fn machine_view(view: &View<'_>) -> MachineView {
    MachineView {
        machine_id: view.machine_id.clone(),
        status: view.status,
        status_since: view.status_since,
        reason: view.reason,
        first_seen_at: view.first_seen,
        last_seen_at: view.last_seen,
        offline_after: view.offline_after,
        flapping: view.flapping,
        refused: view.refused,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::actors::liveness::tracker::{FlappingRule, Sighting, SightingKind, TimePoint, TrackerOptions};
    use crate::domain::{DisplayStatus, MachineId, Seq, Timestamp};

    fn tracker_of(names: &[&str]) -> Tracker {
        let options = TrackerOptions {
            offline_after: Duration::from_secs(15),
            machines: HashMap::new(),
            machines_max: 100,
            flapping: FlappingRule { changes: 6, window: Duration::from_secs(600) },
        };
        let mut tracker = Tracker::new(options, Vec::new(), Seq::ZERO);
        tracker.link_up(TimePoint { mono: Mono(1), wall: Timestamp::from_micros(1) }, Mono(1));
        for (seq, name) in (1..).zip(names) {
            let sighting = Sighting {
                machine_id: MachineId::parse(name).expect("a valid id"),
                received_at: Timestamp::from_micros(5),
                seq: Seq(seq),
                element: 0,
                kind: SightingKind::Message,
                filters: crate::domain::FilterSet::EMPTY,
            };
            tracker.observe(&sighting, Some(Mono(5)));
        }
        tracker
    }

    #[test]
    fn a_snapshot_is_written_only_while_wanted_and_is_sorted_by_id() {
        let cell = Arc::new(MachinesCell::default());
        let mut writer = SnapshotWriter::new(Arc::clone(&cell));
        let mut tracker = tracker_of(&["press-2", "anvil", "press-10"]);
        writer.refresh(&mut tracker, true);
        assert!(cell.snapshot().machines.is_empty(), "no reader yet");
        writer.refresh(&mut tracker, true);
        let snapshot = cell.snapshot();
        let shown: Vec<_> =
            snapshot.machines.iter().map(|each| (each.machine_id.as_str(), each.status)).collect();
        let online = DisplayStatus::Online;
        assert_eq!(shown, [("anvil", online), ("press-10", online), ("press-2", online)]);
        assert!(snapshot.sighted);
        writer.not_before = Mono::default();
        writer.refresh(&mut tracker, false);
        assert!(!cell.snapshot().sighted, "without the history no status is certain");
    }

    #[test]
    fn snapshots_take_at_most_their_share_of_the_time() {
        assert_eq!(pause_after(Mono(100), Mono(150)), Mono(1_100));
        let cell = Arc::new(MachinesCell::default());
        let mut writer = SnapshotWriter::new(Arc::clone(&cell));
        let (mut tracker, before) = (tracker_of(&["a"]), cell.snapshot());
        writer.not_before = Mono(u64::MAX);
        writer.refresh(&mut tracker, true);
        assert!(Arc::ptr_eq(&before, &cell.snapshot()), "too early");
    }
}
