//! The status message of a machine.

use serde::Serialize;

use super::tracker::View;
use crate::actors::mqtt::messages::StatusMessage;
use crate::domain::{MachineId, Transition};

#[derive(Serialize)]
struct Body<'a> {
    machine_id: &'a str,
    status: &'static str,
    since: String,
    last_seen: Option<String>,
    reason: Option<&'static str>,
    flapping: bool,
}

/// Returns the retained message with a machine's current status, on `<prefix>/machine/<id>/status`; `None`
/// for an expected machine that still has time to send. `prefix` is `<publish_prefix>/<site>`.
pub fn current_status(prefix: &str, view: &View<'_>) -> Option<StatusMessage> {
    let body = Body {
        machine_id: view.machine_id.as_str(),
        status: view.recorded?.as_str(),
        since: view.status_since?.to_string(),
        last_seen: view.last_seen.map(|at| at.to_string()),
        reason: view.reason.map(|reason| reason.as_str()),
        flapping: view.flapping,
    };
    Some(message(prefix, &body))
}

/// Returns the retained message with the status of a transition; see [`current_status`].
pub fn transition_status(prefix: &str, transition: &Transition, flapping: bool) -> StatusMessage {
    let body = Body {
        machine_id: transition.machine_id.as_str(),
        status: transition.status.as_str(),
        since: transition.occurred_at.to_string(),
        last_seen: transition.last_seen_at.map(|at| at.to_string()),
        reason: Some(transition.reason.as_str()),
        flapping,
    };
    message(prefix, &body)
}

/// Returns the retained message without content that clears a machine's status at the broker.
pub fn cleared_status(prefix: &str, machine_id: &MachineId) -> StatusMessage {
    StatusMessage { topic: topic(prefix, machine_id.as_str()), payload: Vec::new() }
}

fn message(prefix: &str, body: &Body<'_>) -> StatusMessage {
    let payload = serde_json::to_vec(body).expect("strings and a flag always serialise");
    StatusMessage { topic: topic(prefix, body.machine_id), payload }
}

fn topic(prefix: &str, machine_id: &str) -> String {
    format!("{prefix}/machine/{}/status", topic_level(machine_id))
}

/// Returns a machine id as one level of a topic: `/ + # %` and control characters are percent-encoded, as
/// UTF-8 bytes.
fn topic_level(machine_id: &str) -> String {
    let mut level = String::with_capacity(machine_id.len());
    for character in machine_id.chars() {
        if matches!(character, '/' | '+' | '#' | '%') || character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                level.push_str(&format!("%{byte:02X}"));
            }
        } else {
            level.push(character);
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::topic_level;

    #[test]
    fn characters_with_a_meaning_in_topics_are_percent_encoded() {
        assert_eq!(topic_level("a/b+c#d%e"), "a%2Fb%2Bc%23d%25e");
        assert_eq!(topic_level("presse 7 ä"), "presse 7 ä");
        assert_eq!(topic_level("x\u{85}y"), "x%C2%85y");
    }
}
