//! How long each machine may be silent.

use std::collections::HashMap;
use std::time::Duration;

use super::TrackerOptions;
use crate::domain::MachineId;

/// Names one of the distinct `offline_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PatienceId(u32);

impl PatienceId {
    /// Its place among all of them.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The distinct `offline_after`, and which of them each machine has.
#[derive(Debug)]
pub(super) struct Patiences {
    /// In microseconds; the first is the general one.
    micros: Vec<u64>,
    /// Machines whose `offline_after` is not the general one.
    own: HashMap<MachineId, PatienceId>,
}

impl Patiences {
    pub(super) fn new(options: &TrackerOptions) -> Self {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let general = micros(options.offline_after);
        let mut patiences = Self { micros: vec![general], own: HashMap::new() };
        let mut ids = HashMap::from([(general, PatienceId(0))]);
        for (machine_id, rule) in &options.machines {
            let Some(offline_after) = rule.offline_after.map(micros) else { continue };
            let id = *ids.entry(offline_after).or_insert_with(|| patiences.add(offline_after));
            patiences.own.insert(machine_id.clone(), id);
        }
        patiences
    }

    pub(super) fn of(&self, machine_id: &MachineId) -> PatienceId {
        self.own.get(machine_id).copied().unwrap_or(PatienceId(0))
    }

    /// In microseconds.
    pub(super) fn micros(&self, id: PatienceId) -> u64 {
        self.micros[id.index()]
    }

    /// All of them in microseconds, by [`PatienceId::index`].
    pub(super) fn all_micros(&self) -> &[u64] {
        &self.micros
    }

    fn add(&mut self, micros: u64) -> PatienceId {
        self.micros.push(micros);
        PatienceId(u32::try_from(self.micros.len() - 1).expect("there are fewer rules than 2^32"))
    }
}
