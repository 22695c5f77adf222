//! How many machines show which status, without going through the machines.

use super::machine::Machine;
use super::view::StatusCounts;
use super::visibility::Visibility;
use crate::clock::Mono;
use crate::domain::DisplayStatus;

/// Machines that share one timeout, counted by the status they show when visible.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Group {
    timeout_micros: u64,
    online: Split,
    offline: Split,
    never_seen: Split,
    undecided: u64,
}

/// Machines of one status; `covered` of them have evidence in the present visibility period.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Split {
    all: u64,
    covered: u64,
}

/// The groups, by `TimeoutId`: machines that wait since the link came up, and machines that wait since their
/// filter was granted (`Machine::waits_from_grant`). Machines whose filter is refused are counted apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    from_link_up: Vec<Group>,
    from_grant: Vec<Group>,
    refused: u64,
}

impl Counts {
    pub(super) fn new(timeouts_micros: &[u64]) -> Self {
        let group = |&timeout_micros: &u64| Group { timeout_micros, ..Group::default() };
        let groups: Vec<Group> = timeouts_micros.iter().map(group).collect();
        Self { from_grant: groups.clone(), from_link_up: groups, refused: 0 }
    }

    pub(super) fn add(&mut self, machine: &Machine, visibility: &Visibility) {
        if !visibility.admits(machine.filter()) {
            self.refused += 1;
            return;
        }
        let covered = u64::from(visibility.covers_filter(machine.filter(), machine.evidence()));
        let group = self.group(machine);
        if let Some(split) = group.split_of(machine) {
            split.all += 1;
            split.covered += covered;
        } else {
            group.undecided += 1;
        }
    }

    /// Removes a machine in the state in which [`Self::add`] counted it.
    pub(super) fn remove(&mut self, machine: &Machine, visibility: &Visibility) {
        if !visibility.admits(machine.filter()) {
            self.refused -= 1;
            return;
        }
        let covered = u64::from(visibility.covers_filter(machine.filter(), machine.evidence()));
        let group = self.group(machine);
        if let Some(split) = group.split_of(machine) {
            split.all -= 1;
            split.covered -= covered;
        } else {
            group.undecided -= 1;
        }
    }

    /// Starts a new visibility period in which all filters are alike and no machine has evidence yet.
    pub(super) fn uncover_all(&mut self) {
        for group in &mut self.from_link_up {
            group.online.covered = 0;
            group.offline.covered = 0;
            group.never_seen.covered = 0;
        }
    }

    /// Returns the counts to show, by the same rules as `view::status_of`.
    pub(super) fn counts(&self, visibility: &Visibility) -> StatusCounts {
        let mut counts = StatusCounts { unknown: self.refused, ..StatusCounts::default() };
        for (from_grant, group) in self.groups() {
            let all = group.online.all + group.offline.all + group.never_seen.all + group.undecided;
            if !visibility.is_open() {
                counts.unknown += all;
                continue;
            }
            let silence_is_certain = visibility.grace_is_over(from_grant, group.timeout_micros);
            let certain = |split: Split| if silence_is_certain { split.all } else { split.covered };
            let (offline, never_seen) = (certain(group.offline), certain(group.never_seen));
            counts.online += group.online.covered;
            counts.offline += offline;
            counts.never_seen += never_seen;
            counts.unknown += all - group.online.covered - offline - never_seen;
        }
        counts
    }

    /// Returns, by group, when machines recorded as offline and not confirmed yet can be confirmed.
    pub(super) fn confirmations(&self, visibility: &Visibility) -> impl Iterator<Item = Mono> {
        self.groups()
            .filter(|(_, group)| {
                group.offline.all + group.never_seen.all > group.offline.covered + group.never_seen.covered
            })
            .filter(|(from_grant, group)| !visibility.grace_is_over(*from_grant, group.timeout_micros))
            .filter_map(|(from_grant, group)| visibility.grace_end(from_grant, group.timeout_micros))
    }

    fn groups(&self) -> impl Iterator<Item = (bool, &Group)> {
        let from_link_up = self.from_link_up.iter().map(|group| (false, group));
        from_link_up.chain(self.from_grant.iter().map(|group| (true, group)))
    }

    fn group(&mut self, machine: &Machine) -> &mut Group {
        let groups = if machine.waits_from_grant() { &mut self.from_grant } else { &mut self.from_link_up };
        &mut groups[machine.timeout().index()]
    }
}

impl Group {
    fn split_of(&mut self, machine: &Machine) -> Option<&mut Split> {
        match machine.status_if_visible()? {
            DisplayStatus::Online => Some(&mut self.online),
            DisplayStatus::Offline => Some(&mut self.offline),
            DisplayStatus::NeverSeen => Some(&mut self.never_seen),
            DisplayStatus::Unknown => None,
        }
    }
}
