//! The slow, obvious tracker of the property tests: no deadlines and no counts are kept, each answer goes
//! through all machines and the history of the link.

use std::time::Duration;

use crate::domain::{DisplayStatus, MachineRule, MachineStatus, TransitionReason};

use super::super::*;

pub(super) const SECOND: u64 = 1_000_000;
/// Id, own `offline_after` in seconds (the default is 15 s; one exceeds the span of the timing wheel), and
/// `expected`.
pub(super) const MACHINES: [(&str, Option<u64>, bool); 7] = [
    ("a", None, false),
    ("b", Some(3), false),
    ("c", Some(100), false),
    ("d", None, true),
    ("e", Some(5), true),
    ("f", None, false),
    ("a machine with a rather long name, too long for an entry", Some(3), false),
];
const MACHINES_MAX: usize = 6;
/// Short, so that random operations reach it.
pub(super) const FLAPPING: FlappingRule = FlappingRule { changes: 2, window: Duration::from_secs(30) };

/// The tracker's options and the model's.
pub(super) fn options() -> TrackerOptions {
    let machines = MACHINES
        .iter()
        .map(|(name, own, expected)| {
            let rule = MachineRule { offline_after: own.map(Duration::from_secs), expected: *expected };
            (MachineId::parse(name).expect("a valid id"), rule)
        })
        .collect();
    TrackerOptions {
        offline_after: Duration::from_secs(15),
        machines,
        machines_max: MACHINES_MAX,
        flapping: FLAPPING,
    }
}

/// Returns which of two filters match a machine's topic, as bits.
pub(super) fn comes_through(name: &str) -> u8 {
    match name {
        "a" | "d" => 1,
        "b" | "e" => 2,
        _ => 3,
    }
}

/// Converts such bits for the tracker.
pub(super) fn filters(mask: u8) -> FilterSet {
    let both = ["f0", "f1"].map(|text| crate::domain::TopicFilter::parse(text).expect("valid"));
    FilterSet::of(&both, |filter| (0..2).any(|bit| mask >> bit & 1 == 1 && both[bit] == *filter))
}

/// One machine as the model sees it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) name: MachineId,
    pub(super) recorded: Option<(MachineStatus, Timestamp)>,
    pub(super) first_seen: Option<Timestamp>,
    pub(super) last_seen: Option<Timestamp>,
    /// When this process received its newest message, or learned otherwise that `recorded` holds.
    learned: Option<u64>,
    /// The filter of its newest message, as a bit.
    filter: Option<u8>,
    /// It was invisible when a filter was granted, or came through a filter that was granted late: it waits
    /// since then.
    pub(super) waits_from_grant: bool,
    from_database: bool,
    /// When it changed lately; negative before this process began.
    changes: Vec<i64>,
}

impl Known {
    pub(super) fn new(name: MachineId) -> Self {
        Self {
            name,
            recorded: None,
            first_seen: None,
            last_seen: None,
            learned: None,
            filter: None,
            waits_from_grant: false,
            from_database: false,
            changes: Vec::new(),
        }
    }

    pub(super) fn status(&self) -> Option<MachineStatus> {
        self.recorded.map(|(status, _)| status)
    }

    pub(super) fn remember_change(&mut self, at: i64) {
        self.changes.push(self.changes.last().map_or(at, |newest| at.max(*newest)));
    }

    fn offline_after(&self) -> u64 {
        let rule = MACHINES.iter().find(|(name, _, _)| *name == self.name.as_str());
        rule.and_then(|(_, own, _)| *own).unwrap_or(15) * SECOND
    }

    fn change(
        &mut self,
        status: MachineStatus,
        reason: TransitionReason,
        at: Timestamp,
        happened: Option<i64>,
        seq: Seq,
    ) -> Transition {
        let at = match self.recorded {
            Some((_, since)) if (0..1_000).contains(&(since.as_micros() - at.as_micros())) => {
                Timestamp::from_micros(since.as_micros() + 1)
            }
            _ => at,
        };
        let previous_status = self.status();
        self.recorded = Some((status, at));
        if let Some(happened) = happened {
            self.remember_change(happened);
        }
        Transition {
            machine_id: self.name.clone(),
            status,
            previous_status,
            reason,
            occurred_at: at,
            last_seen_at: self.last_seen,
            seq,
        }
    }
}

/// Returns whether its filter was granted late, or may have been.
fn was_granted_late(machine: &Known, granted_late: u8) -> bool {
    machine.filter.map_or(granted_late != 0, |bit| granted_late & bit != 0)
}

/// The slow, obvious tracker.
pub(super) struct Model {
    pub(super) machines: Vec<Known>,
    /// When the link came up, each time, and when it went down again.
    pub(super) links: Vec<(TimePoint, Option<u64>)>,
    /// Since when the newest of them delivered.
    pub(super) heard_from: u64,
    pub(super) proven: u64,
    /// Of two filters, as bits: refused; and granted late, with the newest grant and since when the granted
    /// ones delivered.
    pub(super) refused: u8,
    pub(super) granted_late: u8,
    pub(super) granted_at: Option<(TimePoint, u64)>,
    pub(super) observed_upto: Seq,
    /// The wall clock when the monotonic one began.
    began: i64,
}

impl Model {
    pub(super) fn new(known: &[KnownMachine], position: Seq, began: i64) -> Self {
        let mut machines: Vec<Known> = known
            .iter()
            .map(|row| Known {
                name: row.machine_id.clone(),
                recorded: Some((row.status, row.status_since)),
                first_seen: row.first_seen_at,
                last_seen: row.last_seen_at,
                learned: None,
                filter: None,
                waits_from_grant: false,
                from_database: true,
                changes: Vec::new(),
            })
            .collect();
        for (name, _, expected) in MACHINES {
            if expected && machines.iter().all(|machine| machine.name.as_str() != name) {
                machines.push(Known::new(MachineId::parse(name).expect("a valid id")));
            }
        }
        Self {
            machines,
            links: Vec::new(),
            heard_from: 0,
            proven: 0,
            refused: 0,
            granted_late: 0,
            granted_at: None,
            observed_upto: position,
            began,
        }
    }

    pub(super) fn observe(&mut self, sighting: &Sighting, received: Option<u64>) -> Option<Transition> {
        if sighting.seq <= self.observed_upto {
            return None;
        }
        self.observed_upto = sighting.seq;
        let is_message = sighting.kind == SightingKind::Message;
        if !self.machines.iter().any(|machine| machine.name == sighting.machine_id) {
            if !is_message || self.machines.len() >= MACHINES_MAX {
                return None;
            }
            self.machines.push(Known::new(sighting.machine_id.clone()));
        }
        let machine = self.machines.iter_mut().find(|machine| machine.name == sighting.machine_id)?;
        let online = machine.status() == Some(MachineStatus::Online);
        if received.is_none() && machine.from_database {
            let since = machine.recorded.map(|(_, since)| since);
            let newest_known =
                if online && is_message { machine.last_seen } else { since.max(machine.last_seen) };
            if Some(sighting.received_at) < newest_known {
                return None;
            }
        }
        if !is_message && !online {
            return None;
        }
        machine.from_database = false;
        let age = self.began - sighting.received_at.as_micros();
        let happened = match received {
            Some(received) => Some(received as i64),
            None => (age >= 0).then_some(-age),
        };
        machine.learned = machine.learned.max(received);
        if !is_message {
            let reason = TransitionReason::LastWill;
            return Some(machine.change(
                MachineStatus::Offline,
                reason,
                sighting.received_at,
                happened,
                sighting.seq,
            ));
        }
        let comes = comes_through(machine.name.as_str());
        let bits = if comes & !self.refused != 0 { comes & !self.refused } else { comes };
        machine.filter = Some(1 << bits.trailing_zeros());
        machine.waits_from_grant |= machine.filter.is_some_and(|bit| self.granted_late & bit != 0);
        machine.last_seen = Some(sighting.received_at);
        let reason = match machine.first_seen {
            None => TransitionReason::FirstSeen,
            Some(_) => TransitionReason::Message,
        };
        machine.first_seen.get_or_insert(sighting.received_at);
        (!online).then(|| {
            machine.change(MachineStatus::Online, reason, sighting.received_at, happened, sighting.seq)
        })
    }

    /// The link came up with all filters alike.
    pub(super) fn link_up(&mut self, at: TimePoint, heard_from: u64) {
        self.links.push((at, None));
        (self.heard_from, self.proven) = (heard_from, 0);
        (self.refused, self.granted_late, self.granted_at) = (0, 0, None);
        self.machines.iter_mut().for_each(|machine| machine.waits_from_grant = false);
    }

    pub(super) fn set_refused(&mut self, refused: u8, at: TimePoint, heard_from: u64) {
        let Some((up, None)) = self.links.last() else { return };
        let granted = self.refused & !refused;
        self.refused = refused;
        if granted != 0 {
            self.granted_late |= granted;
            self.granted_at = Some((at, heard_from.max(up.mono.0)));
        }
        for machine in &mut self.machines {
            machine.waits_from_grant |= was_granted_late(machine, self.granted_late);
        }
    }

    fn is_visible(&self, machine: &Known) -> bool {
        machine.filter.map_or(self.refused == 0, |bit| self.refused & bit == 0)
    }

    /// Returns since when it is visible over the newest link, and since when its messages could arrive.
    fn begins(&self, machine: &Known) -> Option<(TimePoint, u64)> {
        let (up, _) = self.links.last()?;
        let from = self.granted_at.filter(|_| machine.waits_from_grant).map_or(*up, |(at, _)| at);
        let heard = self.granted_at.filter(|_| was_granted_late(machine, self.granted_late));
        Some((from, heard.map_or(self.heard_from, |(_, heard_from)| heard_from)))
    }

    fn deadline(&self, machine: &Known) -> Option<(u64, Timestamp)> {
        let (up, _) = self.begins(machine)?;
        if machine.status() == Some(MachineStatus::Offline) || !self.is_visible(machine) {
            return None;
        }
        let (mono, wall) = match (machine.learned, machine.last_seen) {
            (Some(heard), Some(last_seen)) if heard >= up.mono.0 => (heard, last_seen),
            _ => (up.mono.0, up.wall),
        };
        Some((mono + machine.offline_after(), wall.plus(Duration::from_micros(machine.offline_after()))))
    }

    pub(super) fn advance(&mut self, proven: u64) -> Vec<Transition> {
        let Some((up, down)) = self.links.last().copied() else { return Vec::new() };
        let certain = |at: u64| at <= proven && down.is_none_or(|down| at < down);
        if certain(up.mono.0) {
            self.proven = self.proven.max(down.map_or(proven, |down| proven.min(down - 1)));
        }
        let mut due: Vec<(u64, usize, Timestamp)> = Vec::new();
        for (index, machine) in self.machines.iter().enumerate() {
            if let Some((at, occurred_at)) = self.deadline(machine).filter(|(at, _)| certain(*at)) {
                due.push((at, index, occurred_at));
            }
        }
        due.sort_unstable();
        let mut out = Vec::new();
        for (at, index, occurred_at) in due {
            let machine = &mut self.machines[index];
            let reason = match machine.recorded {
                Some(_) => TransitionReason::Silence,
                None => TransitionReason::NeverSeen,
            };
            machine.learned = machine.learned.max(Some(at));
            out.push(machine.change(
                MachineStatus::Offline,
                reason,
                occurred_at,
                Some(at as i64),
                self.observed_upto,
            ));
        }
        out
    }

    pub(super) fn shown(&self, machine: &Known) -> DisplayStatus {
        let Some((_, None)) = self.links.last() else { return DisplayStatus::Unknown };
        let Some((up, heard_from)) = self.begins(machine).filter(|_| self.is_visible(machine)) else {
            return DisplayStatus::Unknown;
        };
        let seen = machine.learned.is_some_and(|learned| learned >= heard_from);
        let waited = self.proven >= up.mono.0 + machine.offline_after();
        match machine.status() {
            Some(MachineStatus::Online) if seen => DisplayStatus::Online,
            Some(MachineStatus::Offline) if seen || waited => match machine.last_seen {
                Some(_) => DisplayStatus::Offline,
                None => DisplayStatus::NeverSeen,
            },
            _ => DisplayStatus::Unknown,
        }
    }

    /// Returns whether a machine flaps at `now` (TRK-10).
    pub(super) fn flaps(&self, name: &MachineId, now: u64) -> bool {
        let machine = self.machines.iter().find(|machine| machine.name == *name);
        let since = now as i64 - FLAPPING.window.as_micros() as i64;
        let changes = &machine.expect("the model tracks it").changes;
        changes.iter().filter(|at| **at > since).count() > FLAPPING.changes
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let Some((_, None)) = self.links.last() else { return None };
        let confirmation = |machine: &Known| {
            let (up, _) = self.begins(machine).filter(|_| self.is_visible(machine))?;
            let pending = machine.status() == Some(MachineStatus::Offline)
                && self.shown(machine) == DisplayStatus::Unknown;
            pending.then(|| up.mono.0 + machine.offline_after())
        };
        let of = |machine: &Known| self.deadline(machine).map(|(at, _)| at).or_else(|| confirmation(machine));
        self.machines.iter().filter_map(of).min()
    }
}
