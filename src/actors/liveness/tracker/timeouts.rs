//! How long each machine may be silent.

use std::collections::HashMap;
use std::time::Duration;

use super::{TimePoint, TrackerOptions};
use crate::domain::MachineId;

/// Names one of the distinct `offline_after` values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeoutId(u32);

impl TimeoutId {
    /// Returns its index in [`Timeouts::all_micros`].
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The distinct `offline_after` values, and which of them each machine has.
#[derive(Debug)]
pub(super) struct Timeouts {
    /// In microseconds; the first is the default.
    micros: Vec<u64>,
    /// Machines whose `offline_after` is not the default.
    own: HashMap<MachineId, TimeoutId>,
    /// When they last changed; `None`: not in this process.
    changed_at: Option<TimePoint>,
}

impl Timeouts {
    pub(super) fn new(options: &TrackerOptions) -> Self {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let default = micros(options.offline_after);
        let mut timeouts = Self { micros: vec![default], own: HashMap::new(), changed_at: None };
        let mut ids = HashMap::from([(default, TimeoutId(0))]);
        for (machine_id, rule) in &options.machines {
            let Some(offline_after) = rule.offline_after.map(micros) else { continue };
            let id = *ids.entry(offline_after).or_insert_with(|| timeouts.add(offline_after));
            timeouts.own.insert(machine_id.clone(), id);
        }
        timeouts
    }

    pub(super) fn of(&self, machine_id: &MachineId) -> TimeoutId {
        self.own.get(machine_id).copied().unwrap_or(TimeoutId(0))
    }

    /// In microseconds.
    pub(super) fn micros(&self, id: TimeoutId) -> u64 {
        self.micros[id.index()]
    }

    /// All of them in microseconds, by [`TimeoutId::index`].
    pub(super) fn all_micros(&self) -> &[u64] {
        &self.micros
    }

    /// Returns when they last changed (TRK-12).
    pub(super) fn changed_at(&self) -> Option<TimePoint> {
        self.changed_at
    }

    pub(super) fn set_changed_at(&mut self, at: Option<TimePoint>) {
        self.changed_at = at;
    }

    fn add(&mut self, micros: u64) -> TimeoutId {
        self.micros.push(micros);
        TimeoutId(u32::try_from(self.micros.len() - 1).expect("there are fewer rules than 2^32"))
    }
}
