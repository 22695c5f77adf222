//! How many machines are in which status, without looking at any of them.

use super::machine::Machine;
use super::view::StatusCounts;
use super::visibility::Visibility;
use crate::clock::Mono;
use crate::domain::DisplayStatus;

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

/// The groups, by `PatienceId`: of machines that wait from when the link came up, and late (`Machine::is_late`). Those whose
/// filter is refused are counted alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    in_time: Vec<Group>,
    late: Vec<Group>,
    unseen: u64,
}

impl Counts {
    pub(super) fn new(patiences_micros: &[u64]) -> Self {
        let group = |&patience_micros: &u64| Group { patience_micros, ..Group::default() };
        let in_time: Vec<Group> = patiences_micros.iter().map(group).collect();
        Self { late: in_time.clone(), in_time, unseen: 0 }
    }

    pub(super) fn add(&mut self, machine: &Machine, sight: &Visibility) {
        if !sight.sees(machine.place()) {
            self.unseen += 1;
            return;
        }
        let covered = u64::from(sight.covers_for(machine.place(), machine.evidence()));
        let group = self.group(machine);
        if let Some(split) = group.split_of(machine) {
            split.all += 1;
            split.covered += covered;
        } else {
            group.undecided += 1;
        }
    }

    /// Takes out a machine as [`Self::add`] put it in.
    pub(super) fn remove(&mut self, machine: &Machine, sight: &Visibility) {
        if !sight.sees(machine.place()) {
            self.unseen -= 1;
            return;
        }
        let covered = u64::from(sight.covers_for(machine.place(), machine.evidence()));
        let group = self.group(machine);
        if let Some(split) = group.split_of(machine) {
            split.all -= 1;
            split.covered -= covered;
        } else {
            group.undecided -= 1;
        }
    }

    /// A new stretch of sight began, with all filters alike, and no machine has evidence in it yet.
    pub(super) fn uncover_all(&mut self) {
        for group in &mut self.in_time {
            group.online.covered = 0;
            group.offline.covered = 0;
            group.never_seen.covered = 0;
        }
    }

    /// The numbers of the board; the same rules as `board::status_of`.
    pub(super) fn counts(&self, sight: &Visibility) -> StatusCounts {
        let mut counts = StatusCounts { unknown: self.unseen, ..StatusCounts::default() };
        for (late, group) in self.groups() {
            let all = group.online.all + group.offline.all + group.never_seen.all + group.undecided;
            if !sight.is_open() {
                counts.unknown += all;
                continue;
            }
            let silence_is_certain = sight.grace_is_over(late, group.patience_micros);
            let certain = |split: Split| if silence_is_certain { split.all } else { split.covered };
            let (offline, never_seen) = (certain(group.offline), certain(group.never_seen));
            counts.online += group.online.covered;
            counts.offline += offline;
            counts.never_seen += never_seen;
            counts.unknown += all - group.online.covered - offline - never_seen;
        }
        counts
    }

    /// When the machines recorded as offline that have not been confirmed yet can be, by group.
    pub(super) fn confirmations(&self, sight: &Visibility) -> impl Iterator<Item = Mono> {
        self.groups()
            .filter(|(_, group)| {
                group.offline.all + group.never_seen.all > group.offline.covered + group.never_seen.covered
            })
            .filter(|(late, group)| !sight.grace_is_over(*late, group.patience_micros))
            .filter_map(|(late, group)| sight.grace_end(late, group.patience_micros))
    }

    fn groups(&self) -> impl Iterator<Item = (bool, &Group)> {
        let in_time = self.in_time.iter().map(|group| (false, group));
        in_time.chain(self.late.iter().map(|group| (true, group)))
    }

    fn group(&mut self, machine: &Machine) -> &mut Group {
        let groups = if machine.is_late() { &mut self.late } else { &mut self.in_time };
        &mut groups[machine.timeout().index()]
    }
}

impl Group {
    fn split_of(&mut self, machine: &Machine) -> Option<&mut Split> {
        match machine.standing()? {
            DisplayStatus::Online => Some(&mut self.online),
            DisplayStatus::Offline => Some(&mut self.offline),
            DisplayStatus::NeverSeen => Some(&mut self.never_seen),
            DisplayStatus::Unknown => None,
        }
    }
}
