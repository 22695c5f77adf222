//! How many machines are in which status, without looking at any of them.

use super::board::StatusCounts;
use super::machine::Machine;
use super::patience::PatienceId;
use super::sight::Sight;
use crate::domain::BoardStatus;

/// Machines that share one `offline_after`, counted by recorded standing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Group {
    patience_micros: u64,
    online: Split,
    offline: Split,
    never_seen: Split,
    undecided: u64,
}

/// Machines of one standing; `covered` of them have evidence in the present stretch of sight.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Split {
    all: u64,
    covered: u64,
}

/// The groups, by [`PatienceId`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    groups: Vec<Group>,
}

impl Tally {
    pub(super) fn new(patiences_micros: &[u64]) -> Self {
        let group = |&patience_micros: &u64| Group { patience_micros, ..Group::default() };
        Self { groups: patiences_micros.iter().map(group).collect() }
    }

    pub(super) fn add(&mut self, machine: &Machine, sight: &Sight) {
        let covered = u64::from(sight.covers(machine.evidence()));
        if let Some(split) = self.split_of(machine) {
            split.all += 1;
            split.covered += covered;
        } else {
            self.group(machine.patience()).undecided += 1;
        }
    }

    /// Takes out a machine as [`Self::add`] put it in.
    pub(super) fn remove(&mut self, machine: &Machine, sight: &Sight) {
        let covered = u64::from(sight.covers(machine.evidence()));
        if let Some(split) = self.split_of(machine) {
            split.all -= 1;
            split.covered -= covered;
        } else {
            self.group(machine.patience()).undecided -= 1;
        }
    }

    /// A new stretch of sight began and no machine has evidence in it yet.
    pub(super) fn uncover_all(&mut self) {
        for group in &mut self.groups {
            group.online.covered = 0;
            group.offline.covered = 0;
            group.never_seen.covered = 0;
        }
    }

    /// The numbers of the board; the same rules as `board::status_of`.
    pub(super) fn counts(&self, sight: &Sight) -> StatusCounts {
        let mut counts = StatusCounts::default();
        for group in &self.groups {
            let all = group.online.all + group.offline.all + group.never_seen.all + group.undecided;
            if !sight.is_open() {
                counts.unknown += all;
                continue;
            }
            let silence_is_certain = sight.grace_is_over(group.patience_micros);
            let certain = |split: Split| if silence_is_certain { split.all } else { split.covered };
            let (offline, never_seen) = (certain(group.offline), certain(group.never_seen));
            counts.online += group.online.covered;
            counts.offline += offline;
            counts.never_seen += never_seen;
            counts.unknown += all - group.online.covered - offline - never_seen;
        }
        counts
    }

    /// The `offline_after` of the groups in which machines recorded as offline have not been confirmed yet.
    pub(super) fn unconfirmed(&self, sight: &Sight) -> impl Iterator<Item = u64> {
        self.groups
            .iter()
            .filter(|group| {
                group.offline.all + group.never_seen.all > group.offline.covered + group.never_seen.covered
            })
            .map(|group| group.patience_micros)
            .filter(|&patience_micros| !sight.grace_is_over(patience_micros))
    }

    fn group(&mut self, patience: PatienceId) -> &mut Group {
        &mut self.groups[patience.index()]
    }

    fn split_of(&mut self, machine: &Machine) -> Option<&mut Split> {
        let standing = machine.standing()?;
        let group = self.group(machine.patience());
        match standing {
            BoardStatus::Online => Some(&mut group.online),
            BoardStatus::Offline => Some(&mut group.offline),
            BoardStatus::NeverSeen => Some(&mut group.never_seen),
            BoardStatus::Unknown => None,
        }
    }
}
