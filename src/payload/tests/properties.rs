//! What holds for any bytes. The ids are the invariants in the module's documentation.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::payload::json::{self, Members, Node};

/// Texts as devices and attackers write them.
fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,3}",
        "\\PC{0,6}",
        Just("temperature".to_owned()),
        Just("machine_id".to_owned()),
        Just("timestamp".to_owned()),
        Just("$serde_json::private::Number".to_owned()),
        Just("\0".to_owned()),
        Just("2025-11-22T10:11:12Z".to_owned()),
        Just("1e5".to_owned()),
    ]
}

fn any_scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("NaN".to_owned()),
        Just("-inf".to_owned()),
        Just("true".to_owned()),
        any::<f64>()
            .prop_filter("JSON has finite numbers only", |v| v.is_finite())
            .prop_map(|v| format!("{v:e}")),
        any::<i64>().prop_map(|v| v.to_string()),
        (1_700_000_000_u64..1_800_000_000).prop_map(|v| v.to_string()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,6})?",
        any_string().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}

/// JSON, plus bare tokens and duplicate keys.
fn any_json() -> impl Strategy<Value = String> {
    any_scalar().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(" , "))),
            any_object(inner),
        ]
    })
}

fn any_object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((any_string(), value), 0..6).prop_map(|members| {
        let members = members
            .into_iter()
            .map(|(key, value)| format!("{}: {value}", serde_json::to_string(&key).unwrap()));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    })
}

fn any_options() -> impl Strategy<Value = PayloadOptions> {
    let pointers =
        [("temperature", "/a/0"), ("humidity", "/b"), ("timestamp", "/a/1/b"), ("machine_id", "/c/a")];
    prop_oneof![
        Just(options()),
        prop::sample::subsequence(pointers.to_vec(), 0..=4).prop_map(|chosen| PayloadOptions {
            fields: chosen
                .into_iter()
                .map(|(field, pointer)| (field.to_owned(), pointer.to_owned()))
                .collect(),
            ..options()
        }),
    ]
}

/// Checks PAY-1 to PAY-4 for any `payload`.
fn check(options: PayloadOptions, payload: &[u8]) -> Vec<Outcome> {
    let outcomes = interpret_with(options.clone(), TOPIC, payload);
    assert!(!outcomes.is_empty(), "PAY-1: at least one");
    let mut end = 0;
    for (at, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.element as usize, at, "PAY-1: each element once, in order");
        assert!(outcome.raw.start >= end && outcome.raw.end <= payload.len(), "PAY-2: apart and inside");
        end = outcome.raw.end;
        let raw = &payload[outcome.raw.clone()];
        match &outcome.result {
            Ok(reading) => check_reading(reading, raw, outcome.element, options.max_ahead),
            Err(rejection) => {
                assert_eq!(rejection.payload, raw[..raw.len().min(REJECTED_PAYLOAD_BYTES_MAX)], "PAY-2");
                assert!(!rejection.detail.is_empty() && rejection.detail.chars().count() <= DETAIL_CHARS_MAX);
                assert!(!rejection.detail.contains('\0'));
            }
        }
    }
    if outcomes.len() == 1 && outcomes[0].raw != (0..payload.len()) {
        assert_eq!(
            payload.trim_ascii_end().last(),
            Some(&b']'),
            "PAY-2: a part of the payload in an array only"
        );
    }
    outcomes
}

fn check_reading(reading: &Reading, raw: &[u8], element: u32, max_ahead: Duration) {
    assert_eq!(reading.digest, digest(raw, reading.time_source, element), "PAY-2");
    for value in [reading.temperature, reading.humidity, reading.vibration] {
        assert!(value.is_none_or(f64::is_finite), "PAY-3");
    }
    match reading.time_source {
        TimeSource::Server => assert_eq!(reading.recorded_at, RECEIVED_AT, "PAY-3"),
        TimeSource::Device => {
            assert!(reading.recorded_at >= Timestamp::from_micros(1_735_689_600_000_000), "PAY-3");
            assert!(reading.recorded_at <= RECEIVED_AT.plus(max_ahead), "PAY-3");
        }
    }
    let Some(extra) = &reading.extra else { return };
    let members = json::object(extra).expect("PAY-4: JSON");
    assert!(!members.entries.is_empty(), "None if nothing is left");
    assert!(!extra.contains('\0') && !holds_nul(&Node::Object(members.clone())), "PAY-4: {extra}");
    assert!(
        matches!(json::document(extra), Ok(json::Document::Object(text)) if text == extra),
        "PAY-4: JSON"
    );
    assert_eq!(extra::write(&members, 0).as_ref(), Some(extra), "PAY-4: reads back as the same");
}

/// Returns whether any string holds U+0000. Keys need no check: an escaped one would not read back as the same text.
fn holds_nul(node: &Node<'_>) -> bool {
    match node {
        Node::String(text) => text.contains('\0'),
        Node::Array(items) => items.iter().any(holds_nul),
        Node::Object(members) => members.entries.iter().any(|(_, value)| holds_nul(value)),
        Node::Null | Node::Bool(_) | Node::Number(_) => false,
    }
}

/// The keys of an object, in order.
fn keys<'a>(members: &'a Members<'_>) -> Vec<&'a str> {
    members.entries.iter().map(|(key, _)| key.as_ref()).collect()
}

proptest! {
    #![proptest_config(Config { cases: 512, failure_persistence: None, ..Config::default() })]

    /// Proves PAY-1, PAY-2, PAY-3, PAY-4.
    #[test]
    fn arbitrary_bytes_are_accounted_for(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        check(options(), &payload);
    }

    /// Proves PAY-1, PAY-2, PAY-3, PAY-4.
    #[test]
    fn arbitrary_json_is_accounted_for(options in any_options(), payload in any_json()) {
        check(options, payload.as_bytes());
    }

    #[test]
    fn objects_are_always_readings_and_keep_every_other_field(payload in any_object(any_json())) {
        let outcomes = check(options(), payload.as_bytes());
        prop_assert_eq!(outcomes.len(), 1);
        let Ok(reading) = &outcomes[0].result else {
            prop_assert!(payload.contains("machine_id"), "only a bad machine_id can reject {}", payload);
            return Ok(());
        };
        let text = bare_tokens::replace(&payload).map_or(payload.clone(), |replaced| replaced.text);
        let received = json::object(&text).unwrap();
        let extra = reading.extra.clone().unwrap_or_else(|| "{}".to_owned());
        let kept = json::object(&extra).unwrap();
        let other = |key: &&str| !["machine_id", "temperature", "humidity", "vibration", "timestamp"].contains(key);
        let received_others: Vec<_> = keys(&received).into_iter().filter(other).collect();
        let kept_others: Vec<_> = keys(&kept).into_iter().filter(other).collect();
        prop_assert_eq!(received_others, kept_others);
        for (key, value) in &kept.entries {
            if key == "temperature" {
                prop_assert_eq!(reading.temperature, None);
                prop_assert!(!matches!(value, Node::Null | Node::Bool(_)));
            }
        }
    }

    /// Proves PAY-1, PAY-2, PAY-3, PAY-4.
    #[test]
    fn mutated_json_is_accounted_for(
        options in any_options(),
        payload in any_json(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..6),
    ) {
        let mut bytes = payload.into_bytes();
        for (index, kind, byte) in mutations {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, b"{}[]\",:\\0eN-"[usize::from(byte) % 12]),
                _ => bytes.truncate(at),
            }
        }
        check(options, &bytes);
    }

    /// Proves PAY-1, PAY-2.
    #[test]
    fn elements_of_an_array_read_as_they_would_alone(elements in prop::collection::vec(any_json(), 1..6)) {
        let payload = format!(" [ {} ] ", elements.join(" ,\t"));
        let outcomes = check(options(), payload.as_bytes());
        prop_assert_eq!(outcomes.len(), elements.len());
        for (outcome, element) in outcomes.iter().zip(&elements) {
            prop_assert_eq!(&payload[outcome.raw.clone()], element.as_str());
            let alone = interpret(element);
            match &outcome.result {
                Ok(reading) => {
                    let digest = digest(element.as_bytes(), reading.time_source, 0);
                    prop_assert_eq!(alone[0].result.clone(), Ok(Reading { digest, ..reading.clone() }));
                }
                Err(rejection) if rejection.reason == RejectReason::NotAnObject => {}
                Err(rejection) => {
                    prop_assert_eq!(alone[0].result.as_ref().map_err(|r| r.reason), Err(rejection.reason));
                }
            }
        }
    }

    /// Proves PAY-2.
    #[test]
    fn the_digest_depends_on_the_bytes_alone(payload in any_object(any_json()), at in any::<i32>()) {
        let other = Message {
            received_at: Timestamp::from_micros(RECEIVED_AT.as_micros() + i64::from(at)),
            qos: Qos::AtMostOnce,
            retained: true,
            clock_unset: false,
            topic: "other/m2/topic/x".into(),
            payload: payload.as_bytes(),
        };
        let mut outcomes = Vec::new();
        PayloadRules::new(options()).unwrap().interpret(&other, &mut outcomes);
        let digests = |outcomes: &[Outcome]| -> Vec<_> {
            outcomes.iter().map(|outcome| outcome.result.as_ref().map(|r| r.digest).map_err(|r| r.reason)).collect()
        };
        prop_assert_eq!(digests(&outcomes), digests(&interpret(&payload)));
    }
}
