//! Asks the running service for the machines.

use chrono::DateTime;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::report::{Outlook, ShownMachine};
use crate::cli::service;
use crate::clock::wall_now;
use crate::config::Http;
use crate::domain::{DisplayStatus, MachineId, MachineStatus, Role, Timestamp, TransitionReason};
use crate::store::MachineRow;

/// Longest answer to read: a page has at most 4 MiB.
const ANSWER_BYTES_MAX: u64 = 5 * 1024 * 1024;
/// Most pages to read: something that always has another page is no Andon.
const PAGES_MAX: usize = 10_000;

#[derive(Deserialize)]
struct Page {
    machines: Vec<Machine>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Machine {
    machine_id: String,
    status: String,
    status_since: Option<String>,
    reason: Option<String>,
    flapping: bool,
    first_seen_at: Option<String>,
    last_seen_at: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    broker: Broker,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
    since: Option<String>,
    reason: Option<String>,
}

/// Returns all machines and what is known of them, or says why not.
pub(super) fn machines(http: &Http) -> Result<(Vec<ShownMachine>, Outlook), String> {
    let Status { broker } = ask(http, "/api/v1/status")?;
    let outlook = Outlook { now: wall_now(), source: "service", blind: blindness(&broker), until: None };
    let mut shown = Vec::new();
    let mut path = "/api/v1/machines".to_owned();
    for _ in 0..PAGES_MAX {
        let page: Page = ask(http, &path)?;
        for machine in page.machines {
            let machine = read(&machine);
            shown.push(
                machine.ok_or("the service sent a machine that this version of Andon does not understand")?,
            );
        }
        let Some(next) = page.next else { return Ok((shown, outlook)) };
        path = format!("/api/v1/machines?cursor={next}");
    }
    Err("the service sends pages without end; is it Andon that listens there?".to_owned())
}

fn ask<T: DeserializeOwned>(http: &Http, path: &str) -> Result<T, String> {
    let answer = service::ask(http, Role::View, path, ANSWER_BYTES_MAX)?;
    serde_json::from_str(&answer.body).map_err(|_| answer.complaint())
}

/// Says why the service does not see the machines, in the same words as the database.
fn blindness(broker: &Broker) -> Option<String> {
    let what = match broker.state.as_str() {
        "connected" | "restricted" => return None,
        "holding" => "the journal is full",
        "connecting" => "the service has not seen the broker since it started",
        _ => "the broker link is down",
    };
    let since = broker.since.as_ref().map(|since| format!(", since {since}")).unwrap_or_default();
    let reason = broker.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(format!("{what}{since}{reason}"))
}

fn read(machine: &Machine) -> Option<ShownMachine> {
    let status = DisplayStatus::from_word(&machine.status)?;
    let reason = machine.reason.as_deref().and_then(TransitionReason::from_word);
    let row = MachineRow {
        machine_id: MachineId::parse(&machine.machine_id).ok()?,
        status: recorded(status, reason),
        status_since: machine.status_since.as_deref().and_then(instant),
        reason,
        first_seen_at: machine.first_seen_at.as_deref().and_then(instant),
        last_seen_at: machine.last_seen_at.as_deref().and_then(instant),
    };
    Some(ShownMachine { row, status, readings_last_hour: None, flapping: machine.flapping })
}

/// Returns the recorded status: for a machine that is unknown now, the reason of its last change tells it.
fn recorded(status: DisplayStatus, reason: Option<TransitionReason>) -> MachineStatus {
    use TransitionReason::{LastWill, NeverSeen, Silence};
    match (status, reason) {
        (DisplayStatus::Online, _) => MachineStatus::Online,
        (DisplayStatus::Offline | DisplayStatus::NeverSeen, _) => MachineStatus::Offline,
        (DisplayStatus::Unknown, Some(Silence | LastWill | NeverSeen)) => MachineStatus::Offline,
        (DisplayStatus::Unknown, _) => MachineStatus::Online,
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|instant| Timestamp::from(instant.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_the_service_read_like_those_of_the_database() {
        let machine = |status: &str, reason: Option<&str>| {
            let text = serde_json::json!({
                "machine_id": "press-1", "status": status, "status_since": "2026-01-05T06:39:59.000001Z", "reason": reason,
                "flapping": true, "first_seen_at": null, "last_seen_at": "2026-01-05T06:40:00.000000Z",
                "offline_after_seconds": 15, "latest": null
            });
            read(&serde_json::from_value(text).unwrap())
        };
        let shown = machine("unknown", Some("silence")).unwrap();
        assert_eq!((shown.status, shown.row.status), (DisplayStatus::Unknown, MachineStatus::Offline));
        assert_eq!(shown.row.status_since, Some(Timestamp::from_micros(1_767_595_199_000_001)));
        assert!(shown.flapping && shown.row.first_seen_at.is_none() && shown.readings_last_hour.is_none());
        assert_eq!(machine("unknown", Some("message")).unwrap().row.status, MachineStatus::Online);
        assert_eq!(machine("never_seen", None).unwrap().row.status, MachineStatus::Offline);
        assert!(machine("asleep", None).is_none());
    }
}
