//! The events: each machine has exactly those that its messages cause.

use std::collections::{BTreeMap, BTreeSet};

use super::{SHOWN_MAX, Sent, Verdict};
use crate::faults::broker_log::BrokerLog;
use crate::faults::kinds;
use crate::support::database::Database;

/// Checks the events. Every machine speaks within `offline_after`, so each has one event, `first_seen`. A mortal machine also goes
/// offline by its last will; each redelivery of its two messages may repeat its two changes.
pub fn judge(database: &mut Database, sent: Sent, broker_log: &BrokerLog, verdict: &mut Verdict) {
    if sent.may_have_gaps {
        return;
    }
    let sql = "SELECT machine_id || ' ' || reason || ' ' || count(*) AS value FROM machine_event \
        GROUP BY machine_id, reason ORDER BY machine_id";
    let mut machines: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for event in database.words(sql).into_iter().flatten() {
        let [machine, reason, count] = event.split(' ').collect::<Vec<&str>>()[..] else { panic!("{event}") };
        machines.entry(machine.to_owned()).or_default().insert(reason.to_owned(), count.parse().unwrap());
    }
    if machines.len() as u64 != sent.machines() {
        verdict.events.push(format!(
            "{} machines with events, {} published",
            machines.len(),
            sent.machines()
        ));
    }
    let mut gone = BTreeSet::new();
    for (machine, mut reasons) in machines {
        let shown = format!("{machine}: {reasons:?}");
        let mut count = |reason: &str| reasons.remove(reason).unwrap_or(0);
        let (first_seen, message, last_will) = (count("first_seen"), count("message"), count("last_will"));
        let lives = kinds::life_of(&machine)
            .map_or(1, |(birth, _)| broker_log.copies_max(&kinds::sample(birth).topic));
        let has_gone = last_will > 0;
        let as_lived =
            first_seen == 1 && message < lives.max(1) && last_will <= 1 + message && last_will >= message;
        if !as_lived || !reasons.is_empty() || machine.starts_with("kept-") {
            verdict.events.push(shown);
        } else if has_gone {
            gone.insert(machine);
        }
    }
    let wills = kinds::sums(sent.numbered).wills;
    if gone.len() as u64 != wills || gone.iter().any(|machine| kinds::life_of(machine).is_none()) {
        verdict.events.push(format!("{} machines are offline by their last will, sent: {wills}", gone.len()));
    }
    verdict.events.truncate(SHOWN_MAX);
}
