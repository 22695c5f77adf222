//! What names the machine, by `payload.machine_id_from`.

use super::*;
use crate::domain::MachineIdFrom;

/// Interprets `payload` on `topic`: the machine and `extra`, or the reason.
fn named(from: MachineIdFrom, topic: &str, payload: &str) -> Result<(String, Option<String>), RejectReason> {
    let rules = PayloadRules::new(PayloadOptions { machine_id_from: from, ..options() }).unwrap();
    let mut outcomes = Vec::new();
    rules.interpret(&message(topic, payload.as_bytes()), &mut outcomes);
    let result = outcomes.pop().unwrap().result;
    result
        .map(|reading| (reading.machine_id.to_string(), reading.extra))
        .map_err(|rejection| rejection.reason)
}

#[test]
fn with_topic_a_payload_cannot_speak_for_another_machine() {
    let table = [
        (r#"{"machine_id":"other"}"#, Some(r#"{"machine_id":"other"}"#)),
        (r#"{"machine_id":"M-Topic"}"#, Some(r#"{"machine_id":"M-Topic"}"#)),
        (r#"{"machine_id":7,"a":1}"#, Some(r#"{"machine_id":7,"a":1}"#)),
        (r#"{"machine_id":"a\u0001b"}"#, Some("{\"machine_id\":\"a\\u0001b\"}")),
        (r#"{"machine_id":null}"#, None),
        ("{}", None),
    ];
    for (payload, extra) in table {
        let expected = Ok(("m-topic".to_owned(), extra.map(str::to_owned)));
        assert_eq!(named(MachineIdFrom::Topic, TOPIC, payload), expected, "{payload}");
    }
    let nameless = named(MachineIdFrom::Topic, "plant/m9", r#"{"machine_id":"m9"}"#);
    assert_eq!(nameless, Err(RejectReason::MissingMachineId));
}

#[test]
fn with_must_match_both_name_the_same_machine_or_the_element_is_rejected() {
    use RejectReason::{InvalidMachineId, MachineIdMismatch, MissingMachineId};
    let table = [
        (TOPIC, r#"{"machine_id":" M-TOPIC "}"#, Ok(("m-topic".to_owned(), None))),
        (TOPIC, r#"{"machine_id":"other"}"#, Err(MachineIdMismatch)),
        (TOPIC, "{}", Err(MachineIdMismatch)),
        (TOPIC, r#"{"machine_id":true}"#, Err(MachineIdMismatch)),
        (TOPIC, r#"{"machine_id":"a\u200bb"}"#, Err(InvalidMachineId)),
        ("plant/m9", r#"{"machine_id":"m9"}"#, Err(MachineIdMismatch)),
        ("plant/m9", "{}", Err(MissingMachineId)),
        ("factory/machine/a\u{202E}b/telemetry", r#"{"machine_id":"ab"}"#, Err(InvalidMachineId)),
    ];
    for (topic, payload, expected) in table {
        assert_eq!(named(MachineIdFrom::MustMatch, topic, payload), expected, "{topic} {payload}");
    }
}

#[test]
fn a_mapped_machine_id_is_compared_and_kept_like_a_plain_one() {
    let fields = BTreeMap::from([("machine_id".to_owned(), "/dev/id".to_owned())]);
    let interpret = |machine_id_from| {
        let rules =
            PayloadRules::new(PayloadOptions { machine_id_from, fields: fields.clone(), ..options() })
                .unwrap();
        let mut outcomes = Vec::new();
        rules.interpret(&message(TOPIC, br#"{"dev":{"id":"m-topic"}}"#), &mut outcomes);
        outcomes.pop().unwrap().result.unwrap()
    };
    assert_eq!(interpret(MachineIdFrom::MustMatch).machine_id.as_str(), "m-topic");
    assert_eq!(interpret(MachineIdFrom::Topic).extra.as_deref(), Some(r#"{"machine_id":"m-topic"}"#));
}
