//! What is rejected, with which reason and detail, and what is kept of it.

use super::*;

#[test]
fn a_payload_that_is_not_json_is_rejected_with_the_place() {
    let table: [(&[u8], &str); 18] = [
        (b"", "the payload is empty"),
        (b"   ", "the payload is white space only"),
        (b"\xEF\xBB\xBF\r\n", "the payload is white space only"),
        (b"{", "the payload ends inside an object at line 1 column 1"),
        (br#"{"temperature":12 "x":1}"#, "expected `,` or `}` at line 1 column 19"),
        (b"{\"a\":1,\n \"b\":}", "expected a value at line 2 column 6"),
        (br#"{"a":1}}"#, "there is more text after the end of the JSON text at line 1 column 8"),
        (br#"{"a":1,}"#, "expected a name in double quotes at line 1 column 8"),
        (br#"[{"a":1},]"#, "trailing comma at line 1 column 10"),
        (br#"[{"a":1},{"b":]"#, "expected a value at line 1 column 15"),
        (br#"{'a':1}"#, "expected a name in double quotes at line 1 column 2"),
        (br#"{"a":01}"#, "invalid number at line 1 column 7"),
        (b"{\"a\":\"\0\"}", "a control character inside a string at line 1 column 6"),
        (b"\0{}", "expected a value at line 1 column 1"),
        // Behind replaced tokens and a byte order mark the place is still that in the payload.
        (br#"{"a":-Infinity,"b":inf,"c":}"#, "expected a value at line 1 column 28"),
        (b"\xEF\xBB\xBF{\"a\":}", "expected a value at line 1 column 6"),
        (br#"{"a":INF}"#, "expected a value at line 1 column 6"),
        (br#"{"a":"\x"}"#, "unknown escape sequence in a string at line 1 column 8"),
    ];
    for (payload, detail) in table {
        let rejection = rejection(payload);
        assert_eq!(rejection.reason, RejectReason::InvalidJson, "{}", payload.escape_ascii());
        assert_eq!(rejection.detail, detail, "{}", payload.escape_ascii());
        assert_eq!(rejection.payload, payload);
    }
}

#[test]
fn a_lone_surrogate_anywhere_is_invalid_json() {
    for payload in [
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00 x"}"#,
        r#"{"a":"\ud83dx"}"#,
        r#"{"\ud800":1}"#,
        r#"{"a":[[{"b":"\ud800\ud800"}]]}"#,
        r#"{"machine_id":"\ud800"}"#,
        r#"{"a":"\ud800","a":1}"#,
        r#"{"machine_id":["\udfff"]}"#,
    ] {
        let rejection = rejection(payload);
        assert_eq!(rejection.reason, RejectReason::InvalidJson, "{payload}");
        assert!(rejection.detail.contains(" at line 1 column "), "{}", rejection.detail);
    }
}

#[test]
fn nesting_is_kept_up_to_the_limit_and_rejected_beyond_it() {
    let nested = |levels: usize, open: &str, close: &str| {
        format!(r#"{{"a":{}1{}}}"#, open.repeat(levels - 1), close.repeat(levels - 1))
    };
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deepest = nested(NESTING_MAX, open, close);
        assert_eq!(extra_of(&deepest).as_deref(), Some(deepest.as_str()));
        assert!(serde_json::from_str::<serde_json::Value>(&deepest).is_ok(), "others can read it too");
        let too_deep = rejection(nested(NESTING_MAX + 1, open, close));
        assert_eq!(too_deep.reason, RejectReason::InvalidJson);
        assert!(
            too_deep.detail.starts_with("nested deeper than 127 levels at line 1 column "),
            "{}",
            too_deep.detail
        );
    }
    const { assert!(NESTING_MAX >= 100) };
    assert_eq!(rejection("[".repeat(MAX_PAYLOAD)).reason, RejectReason::InvalidJson);
    let whole = "[".repeat(MAX_PAYLOAD / 2) + &"]".repeat(MAX_PAYLOAD / 2);
    assert_eq!(rejection(whole).reason, RejectReason::NotAnObject);
    let whole = format!(r#"{{"temperature":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(rejection(whole).reason, RejectReason::InvalidJson);
}

#[test]
fn what_is_neither_object_nor_array_of_objects_is_rejected() {
    let table = [
        ("1", "expected an object, found a number"),
        ("-1", "expected an object, found a number"),
        (" \"x\" ", "expected an object, found a string"),
        ("true", "expected an object, found a boolean"),
        ("null", "expected an object, found null"),
        ("NaN", "expected an object, found null"),
        ("[]", "expected an object, found an empty array"),
        (" [ \n] ", "expected an object, found an empty array"),
        ("[[{}]]", "expected an object, found an array"),
    ];
    for (payload, detail) in table {
        let rejection = rejection(payload);
        assert_eq!(
            (rejection.reason, rejection.detail.as_str()),
            (RejectReason::NotAnObject, detail),
            "{payload}"
        );
    }
}

#[test]
fn one_bad_element_rejects_that_element_only() {
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let long = format!(r#"{{"machine_id":"{}"}}"#, "x".repeat(101));
    let elements = [
        r#"{"machine_id":"a"}"#,
        "5",
        r#"{"x":"\ud800"}"#,
        &deep,
        &long,
        "NaN",
        r#"{"machine_id":"b","t":-inf}"#,
        "[]",
    ];
    let payload = format!("\u{FEFF} [ {} ]\n", elements.join(" ,\n "));
    let outcomes = interpret(&payload);
    let found: Vec<_> =
        outcomes.iter().map(|outcome| outcome.result.as_ref().map(|_| ()).map_err(|r| r.reason)).collect();
    let expected = [
        Ok(()),
        Err(RejectReason::NotAnObject),
        Err(RejectReason::InvalidJson),
        Err(RejectReason::InvalidJson),
        Err(RejectReason::InvalidMachineId),
        Err(RejectReason::NotAnObject),
        Ok(()),
        Err(RejectReason::NotAnObject),
    ];
    assert_eq!(found, expected);
    for ((at, element), outcome) in elements.iter().enumerate().zip(&outcomes) {
        assert_eq!(outcome.element as usize, at);
        assert_eq!(&payload[outcome.raw.clone()], *element, "the element's own bytes, as received");
        match &outcome.result {
            Ok(reading) => {
                assert_eq!(reading.digest, digest(element.as_bytes(), TimeSource::Server, outcome.element));
            }
            Err(rejection) => assert_eq!(rejection.payload, element.as_bytes()),
        }
    }
    let surrogate = outcomes[2].result.as_ref().unwrap_err();
    assert!(surrogate.detail.ends_with(" at line 3 column 14"), "{}", surrogate.detail);
}

#[test]
fn too_large_comes_before_everything_else_and_keeps_the_first_64_kib() {
    let exactly = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_PAYLOAD - 8));
    assert_eq!(exactly.len(), MAX_PAYLOAD);
    assert!(reading(&exactly).extra.is_some());
    let mut over = exactly.into_bytes();
    over.push(0xFF);
    let rejection = rejection(&over);
    assert_eq!(rejection.reason, RejectReason::TooLarge);
    assert_eq!(rejection.detail, "at least 262145 bytes, at most 262144 are allowed (mqtt.max_payload)");
    assert_eq!(rejection.payload, over[..REJECTED_PAYLOAD_BYTES_MAX]);
}

#[test]
fn a_topic_that_is_not_text_rejects_the_message_whatever_its_payload() {
    let of = |topic: &[u8], payload: &[u8]| {
        let mut outcomes = Vec::new();
        let message = Message { topic: Topic::from_bytes(topic), ..message("", payload) };
        PayloadRules::new(options()).unwrap().interpret(&message, &mut outcomes);
        assert_eq!((outcomes.len(), outcomes[0].raw.clone()), (1, 0..payload.len()));
        outcomes.remove(0).result.unwrap_err()
    };
    for payload in [br#"[{"machine_id":"m"},{"machine_id":"n"}]"#.as_slice(), b"no JSON", b""] {
        let rejection = of(b"a/\xff/c", payload);
        assert_eq!((rejection.reason, &*rejection.payload), (RejectReason::InvalidTopic, payload));
        assert_eq!(rejection.detail, "the topic is not UTF-8 at byte 2; its bytes in hex: 612fff2f63");
    }
    assert_eq!(of(b"a\0", b"{}").detail, "the topic contains a NUL; its bytes in hex: 6100");
    let long = of(&[0xff; 65_535], b"{}").detail;
    assert!(long.ends_with("ffff… (65535 bytes)") && long.len() <= DETAIL_CHARS_MAX, "{long}");
}

#[test]
fn a_payload_that_is_not_utf_8_is_rejected_with_the_place() {
    for payload in [b"{\"a\":\"\xFF\"}".as_slice(), b"{\"a\":\"\xED\xA0\x80\"}", b"{\"a\":\"\xC0\x80\"}"] {
        let rejection = rejection(payload);
        assert_eq!(rejection.reason, RejectReason::InvalidUtf8);
        assert_eq!(rejection.detail, "not UTF-8 at byte 6");
    }
    assert_eq!(rejection(b"\xFF\xFE{\0}\0").reason, RejectReason::InvalidUtf8);
}
