//! Derives the present status of machines from the database alone: pure.
//!
//! A recorded status is true only while the service watches. If it does not run, or cannot see the machines, every machine
//! is `unknown`, and the recorded status is shown beside it.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::{DisplayStatus, LinkOutage, MachineId, MachineStatus, Timestamp};
use crate::store::MachineRow;

/// The service records every 30 s that it sees the machines. If the last record is older than this, it does not run, or
/// cannot reach the database.
const RECORD_FRESH_FOR: Duration = Duration::from_secs(90);

/// How late the running service may record a silence, after the deadline of the machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// Whether Andon sees the machines, and until when it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visibility {
    /// The last time at which it is known to have seen them.
    pub(super) until: Option<Timestamp>,
    /// The newest outage.
    pub(super) outage: Option<LinkOutage>,
    /// Now.
    pub(super) now: Timestamp,
}

impl Visibility {
    /// Combines what the database knows: the last record of the service, the newest message, the newest outage.
    pub(super) fn new(
        seen_until: Option<Timestamp>,
        machines: &[MachineRow],
        outage: Option<LinkOutage>,
        now: Timestamp,
    ) -> Self {
        // A message proves the link, and the service records a silence only with a proof of the link.
        let newest_proof = machines.iter().filter_map(|each| each.last_seen_at.max(each.status_since)).max();
        let newest_outage = outage.map(|outage| outage.ended_at.unwrap_or(outage.began_at));
        let until = seen_until.max(newest_proof).max(newest_outage);
        Self { until: until.map(|until| until.min(now)), outage, now }
    }

    /// Says why every status is uncertain at present; `None` if Andon sees the machines.
    pub(super) fn blindness(&self) -> Option<String> {
        if let Some(outage) = self.outage.filter(|outage| outage.ended_at.is_none()) {
            let why = match outage.reason {
                crate::domain::OutageReason::LinkDown => "the broker link is down",
                crate::domain::OutageReason::FilterRefused => {
                    "the broker refuses a subscription (/readyz names it), and the database does not know whose machines come through it"
                }
                crate::domain::OutageReason::Hold => "the journal is full",
                crate::domain::OutageReason::Stopped => "the service was stopped",
                crate::domain::OutageReason::Start => "the service has not seen the broker since it started",
            };
            return Some(format!("{why}, since {}", outage.began_at));
        }
        match self.until {
            Some(until) if self.now.since(until) <= RECORD_FRESH_FOR => None,
            Some(until) => Some(format!(
                "the service has recorded nothing since {until}: it does not run, or cannot reach the database"
            )),
            None => Some("the service has never seen the broker".to_owned()),
        }
    }

    /// Returns the time from which on it is unknown whether Andon saw the machines.
    pub(super) fn blind_from(&self) -> Option<Timestamp> {
        self.until
    }
}

/// Returns the status of one machine now, by the same rules as the tracker (TRK-4).
pub(super) fn status(
    machine: &MachineRow,
    visibility: &Visibility,
    offline_after: Duration,
) -> DisplayStatus {
    let visible_since = visibility.outage.and_then(|outage| outage.ended_at);
    let newest_sign = machine.last_seen_at.max(machine.status_since);
    let heard_since = visible_since.is_none_or(|began| newest_sign >= Some(began));
    // A running service would have recorded the silence; one that was killed a moment ago has not.
    let unnoticed = newest_sign.is_some_and(|at| visibility.now.since(at) > offline_after + NOTICED_WITHIN);
    let waited = visible_since.is_none_or(|began| visibility.now.since(began) >= offline_after);
    match machine.status {
        _ if visibility.blindness().is_some() => DisplayStatus::Unknown,
        MachineStatus::Online if heard_since && !unnoticed => DisplayStatus::Online,
        MachineStatus::Offline if heard_since || waited => match machine.last_seen_at {
            Some(_) => DisplayStatus::Offline,
            None => DisplayStatus::NeverSeen,
        },
        _ => DisplayStatus::Unknown,
    }
}

/// Counts the changes of status of each machine.
pub(super) fn counted_changes(changes: &[(MachineId, Timestamp)]) -> HashMap<&MachineId, usize> {
    let mut counts = HashMap::new();
    for (machine_id, _) in changes {
        *counts.entry(machine_id).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OutageReason;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn machine(status: MachineStatus, since: i64, last_seen: Option<i64>) -> MachineRow {
        MachineRow {
            machine_id: MachineId::parse("press-1").expect("a valid id"),
            status,
            status_since: Some(at(since)),
            reason: None,
            first_seen_at: last_seen.map(|_| at(0)),
            last_seen_at: last_seen.map(at),
        }
    }

    fn outage(began: i64, ended: Option<i64>) -> Option<LinkOutage> {
        Some(LinkOutage { began_at: at(began), ended_at: ended.map(at), reason: OutageReason::LinkDown })
    }

    #[test]
    fn no_machine_is_online_or_offline_while_andon_does_not_see_it() {
        use DisplayStatus::{NeverSeen, Offline, Online, Unknown};
        let online = machine(MachineStatus::Online, 10, Some(990));
        let offline = machine(MachineStatus::Offline, 500, Some(485));
        let ghost = machine(MachineStatus::Offline, 500, None);
        let seen = |seen: i64| Some(at(seen));
        let cases = [
            ("the service runs", seen(980), outage(100, Some(200)), 1_000, [Online, Offline, NeverSeen]),
            ("messages prove it, too", None, outage(100, Some(200)), 1_000, [Online, Offline, NeverSeen]),
            ("it was killed", seen(980), outage(100, Some(200)), 1_200, [Unknown; 3]),
            (
                "it was killed a moment ago, and a silence went unnoticed",
                seen(980),
                outage(100, Some(200)),
                1_016,
                [Unknown, Offline, NeverSeen],
            ),
            ("the link is down", seen(980), outage(985, None), 1_000, [Unknown; 3]),
            ("sight is just back", seen(995), outage(100, Some(995)), 1_000, [Unknown; 3]),
            (
                "sight is back, a machine that spoke is online",
                seen(980),
                outage(100, Some(980)),
                990,
                [Online, Unknown, Unknown],
            ),
            (
                "sight is back for long enough",
                seen(980),
                outage(100, Some(980)),
                995,
                [Online, Offline, NeverSeen],
            ),
        ];
        for (name, seen_until, outage, now, expected) in cases {
            let machines = [online.clone(), offline.clone(), ghost.clone()];
            let visibility = Visibility::new(seen_until, &machines, outage, at(now));
            let found = machines.map(|machine| status(&machine, &visibility, Duration::from_secs(15)));
            assert_eq!(found, expected, "{name}: {:?}", visibility.blindness());
        }
    }

    #[test]
    fn a_site_that_never_ran_is_blind() {
        let visibility = Visibility::new(None, &[], None, at(5));
        assert_eq!(visibility.blindness().as_deref(), Some("the service has never seen the broker"));
    }
}
