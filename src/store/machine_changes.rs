//! Transitions folded to their effect on `machine`: one row a machine. They apply in the order of the batch;
//! their times may go back, as the wall clock may.

use std::collections::HashMap;

use crate::domain::{MachineStatus, Timestamp, Transition, TransitionReason};

/// The net effect of a batch's transitions on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineChange<'a> {
    /// Which machine.
    pub machine_id: &'a str,
    /// The status of the last transition in the batch.
    pub status: MachineStatus,
    /// When that transition occurred.
    pub status_since: Timestamp,
    /// When its earliest `first_seen` transition occurred.
    pub first_seen_at: Option<Timestamp>,
    /// The last sighting in the transitions.
    pub last_seen_at: Option<Timestamp>,
}

/// Returns one change a machine, in the order in which the machines first appear. Pass only transitions whose
/// events are new: an event that is in the database already changed its machine in the same transaction.
pub fn machine_changes<'a>(transitions: impl IntoIterator<Item = &'a Transition>) -> Vec<MachineChange<'a>> {
    let mut changes: Vec<MachineChange<'_>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for transition in transitions {
        let first_seen_at =
            (transition.reason == TransitionReason::FirstSeen).then_some(transition.occurred_at);
        let machine_id = transition.machine_id.as_str();
        let place = *places.entry(machine_id).or_insert(changes.len());
        if place == changes.len() {
            changes.push(MachineChange {
                machine_id,
                status: transition.status,
                status_since: transition.occurred_at,
                first_seen_at,
                last_seen_at: transition.last_seen_at,
            });
            continue;
        }
        let change = &mut changes[place];
        change.status = transition.status;
        change.status_since = transition.occurred_at;
        change.first_seen_at = match (change.first_seen_at, first_seen_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        change.last_seen_at = transition.last_seen_at.or(change.last_seen_at);
    }
    changes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::{MachineId, Seq};

    fn transition(machine: &str, status: MachineStatus, reason: TransitionReason, at: i64) -> Transition {
        Transition {
            machine_id: MachineId::parse(machine).unwrap(),
            status,
            previous_status: None,
            reason,
            occurred_at: Timestamp::from_micros(at),
            last_seen_at: (reason != TransitionReason::NeverSeen).then(|| Timestamp::from_micros(at - 1)),
            seq: Seq(1),
        }
    }

    #[test]
    fn the_last_transition_of_a_machine_wins_whatever_its_time() {
        use MachineStatus::{Offline, Online};
        let transitions = vec![
            transition("a", Online, TransitionReason::FirstSeen, 10),
            transition("a", Offline, TransitionReason::Silence, 20),
            transition("b", Offline, TransitionReason::NeverSeen, 15),
            transition("a", Online, TransitionReason::Message, 18),
        ];
        let expected = MachineChange {
            machine_id: "a",
            status: Online,
            status_since: Timestamp::from_micros(18),
            first_seen_at: Some(Timestamp::from_micros(10)),
            last_seen_at: Some(Timestamp::from_micros(17)),
        };
        let changes = machine_changes(&transitions);
        assert_eq!((changes.len(), &changes[0]), (2, &expected));
        let never_seen = machine_changes(&transitions[2..3])[0].clone();
        assert_eq!((never_seen.first_seen_at, never_seen.last_seen_at), (None, None));
    }
}
