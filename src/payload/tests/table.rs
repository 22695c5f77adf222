//! One table a rule.

use super::*;

#[test]
fn a_whole_reading_is_read() {
    let payload = br#"{"machine_id":" Press-07 ","temperature":71.25,"humidity":"40.5","vibration":true,
        "timestamp":"2025-11-22T10:11:10.5+00:00","mode":"auto","n":[1,{"x":null}]}"#;
    assert_eq!(
        interpret(payload),
        vec![Outcome {
            element: 0,
            raw: 0..payload.len(),
            result: Ok(Reading {
                machine_id: crate::domain::MachineId::parse("press-07").unwrap(),
                temperature: Some(71.25),
                humidity: Some(40.5),
                vibration: Some(1.0),
                extra: Some(r#"{"mode":"auto","n":[1,{"x":null}]}"#.to_owned()),
                recorded_at: Timestamp::from_micros(RECEIVED_AT.as_micros() - 1_500_000),
                time_source: TimeSource::Device,
                digest: xxhash_rust::xxh3::xxh3_64(payload),
            }),
        }]
    );
}

#[test]
fn the_machine_id_comes_from_the_payload_first() {
    let table = [
        (r#"{"machine_id":"M1"}"#, "m1"),
        (r#"{"machine_id":"\u2003 Ä \t"}"#, "ä"),
        (r#"{"machine_id":17}"#, "17"),
        (r#"{"machine_id":1E5}"#, "1e5"),
        (r#"{"machine_id":-0.50}"#, "-0.50"),
        (r#"{"machine_id":1e400}"#, "1e400"),
        (r#"{"machine_id":"null"}"#, "null"),
        (r#"{"machine_id":"a","machine_id":"b"}"#, "b"),
        (r#"{"machine_id":"a","machine_id":null}"#, "m-topic"),
        (r#"{"machine\u005fid":"escaped key"}"#, "escaped key"),
        (r#"{}"#, "m-topic"),
        (r#"{"machine_id":null}"#, "m-topic"),
        (r#"{"machine_id":""}"#, "m-topic"),
        (r#"{"machine_id":" \n"}"#, "m-topic"),
        (r#"{"machine_id":true}"#, "m-topic"),
        (r#"{"machine_id":{"id":"x"}}"#, "m-topic"),
        (r#"{"machine_id":["x"]}"#, "m-topic"),
        (r#"{"machine_id":NaN}"#, "m-topic"),
        (r#"{"Machine_Id":"other field"}"#, "m-topic"),
    ];
    for (payload, expected) in table {
        assert_eq!(reading(payload).machine_id.as_str(), expected, "{payload}");
    }
    assert_eq!(extra_of(r#"{"machine_id":true}"#), None);
}

#[test]
fn an_impossible_machine_id_in_the_payload_is_not_replaced_by_the_topic() {
    let table = [
        format!(r#"{{"machine_id":"{}"}}"#, "x".repeat(101)),
        format!(r#"{{"machine_id":{}}}"#, "1".repeat(101)),
        r#"{"machine_id":"a\u0000b"}"#.to_owned(),
        r#"{"machine_id":"a\u0085b"}"#.to_owned(),
        r#"{"machine_id":"\u0000"}"#.to_owned(),
    ];
    for payload in table {
        let rejection = rejection(&payload);
        assert_eq!(rejection.reason, RejectReason::InvalidMachineId, "{payload}");
        assert_eq!(rejection.payload, payload.as_bytes());
    }
    assert_eq!(reading(format!(r#"{{"machine_id":"{}"}}"#, "ß".repeat(100))).machine_id.as_str().len(), 200);
}

#[test]
fn the_topic_names_the_machine_by_the_first_matching_subscription() {
    let filter = |text| TopicFilter::parse(text).unwrap();
    let segments = vec![
        (filter("plant/#"), 2),
        (filter("plant/+/last"), -1),
        (filter("$share/g/anonymous/#"), 0),
        (filter("far/#"), 9),
    ];
    let long = format!("x/{}/telemetry", "y".repeat(101));
    let table = [
        ("plant/Press-1/last", Ok("press-1")),
        ("plant/ P 1 /a/b", Ok("p 1")),
        ("factory/machine/M9/telemetry", Ok("m9")),
        ("//factory//M9//telemetry//", Ok("m9")),
        ("plant/M9", Err(RejectReason::MissingMachineId)),
        ("anonymous/a/b/c", Err(RejectReason::MissingMachineId)),
        ("far/a/b/c", Err(RejectReason::MissingMachineId)),
        ("a/ /b", Err(RejectReason::MissingMachineId)),
        ("a/b\u{7}c/d", Err(RejectReason::InvalidMachineId)),
        (long.as_str(), Err(RejectReason::InvalidMachineId)),
        ("", Err(RejectReason::MissingMachineId)),
    ];
    for (topic, expected) in table {
        let outcomes =
            interpret_with(PayloadOptions { segments: segments.clone(), ..options() }, topic, b"{}");
        let found = outcomes[0].result.as_ref().map(|reading| reading.machine_id.as_str());
        assert_eq!(found.map_err(|rejection| rejection.reason), expected, "{topic}");
    }
}

#[test]
fn a_measurement_is_a_number_or_a_text_or_a_boolean_and_what_it_cannot_be_is_kept() {
    let digits_400 = "9".repeat(400);
    let table = [
        ("21.5", Some(21.5), None),
        ("-0.5e-3", Some(-0.0005), None),
        ("1e308", Some(1e308), None),
        ("1e-999", Some(0.0), None),
        ("true", Some(1.0), None),
        ("false", Some(0.0), None),
        (r#"" 21.5 ""#, Some(21.5), None),
        (r#""+1e2""#, Some(100.0), None),
        (r#"".5""#, Some(0.5), None),
        (r#""5.""#, Some(5.0), None),
        (r#""\u0032""#, Some(2.0), None),
        ("null", None, None),
        (r#""""#, None, None),
        (r#""  ""#, None, None),
        ("NaN", None, None),
        ("-Infinity", None, None),
        ("1e999", None, Some("1e999")),
        ("-1E+999", None, Some("-1E+999")),
        (digits_400.as_str(), None, Some(digits_400.as_str())),
        ("1e999999", None, Some(r#""1e999999""#)),
        (r#""1e999""#, None, Some(r#""1e999""#)),
        (r#""nan""#, None, Some(r#""nan""#)),
        (r#""inf""#, None, Some(r#""inf""#)),
        (r#""-Infinity""#, None, Some(r#""-Infinity""#)),
        (r#""21,5""#, None, Some(r#""21,5""#)),
        (r#""21.5 °C""#, None, Some(r#""21.5 °C""#)),
        (r#""0x10""#, None, Some(r#""0x10""#)),
        (r#""1_000""#, None, Some(r#""1_000""#)),
        (r#""1\u0000""#, None, Some("\"1\u{FFFD}\"")),
        ("[21.5]", None, Some("[21.5]")),
        (r#"{"v":21.5}"#, None, Some(r#"{"v":21.5}"#)),
        ("[]", None, Some("[]")),
        ("{}", None, Some("{}")),
    ];
    for field in ["temperature", "humidity", "vibration"] {
        for (value, expected, kept) in table {
            let reading = reading(format!(r#"{{"{field}":{value}}}"#));
            let found = match field {
                "temperature" => reading.temperature,
                "humidity" => reading.humidity,
                _ => reading.vibration,
            };
            assert_eq!(found, expected, "{field} {value}");
            assert_eq!(reading.extra, kept.map(|kept| format!(r#"{{"{field}":{kept}}}"#)), "{field} {value}");
        }
    }
}

#[test]
fn a_timestamp_is_used_or_kept() {
    let seconds = RECEIVED_AT.as_micros() / 1_000_000;
    let used = |text: &str, micros: i64| (text.to_owned(), Some(micros));
    let kept = |text: &str| (text.to_owned(), None);
    let table = [
        used(r#""2025-11-22T10:11:12Z""#, RECEIVED_AT.as_micros()),
        used(r#"" 2025-11-22T10:11:12Z ""#, RECEIVED_AT.as_micros()),
        used(&format!("{seconds}"), RECEIVED_AT.as_micros()),
        used(&format!("{seconds}.000001"), RECEIVED_AT.as_micros() + 1),
        used(&format!(r#""{seconds}123""#), RECEIVED_AT.as_micros() + 123_000),
        used(&format!("{seconds}123456"), RECEIVED_AT.as_micros() + 123_456),
        used(&format!("{seconds}123456789"), RECEIVED_AT.as_micros() + 123_456),
        // The borders of what is used.
        used(r#""2025-01-01T00:00:00Z""#, 1_735_689_600_000_000),
        kept(r#""2024-12-31T23:59:59.999999Z""#),
        used(r#""2025-01-01T02:00:00+02:00""#, 1_735_689_600_000_000),
        used(r#""2025-11-23T10:11:12Z""#, RECEIVED_AT.as_micros() + 86_400_000_000),
        kept(r#""2025-11-23T10:11:12.000001Z""#),
        kept("0"),
        kept("12345"),
        kept("-1"),
        kept("1e400"),
        kept(r#""1970-01-01T00:00:00Z""#),
        kept(r#""yesterday""#),
        kept("true"),
        kept("[1763806272]"),
        kept(r#"{"s":1763806272}"#),
    ];
    for (value, device_time) in table {
        let reading = reading(format!(r#"{{"timestamp":{value}}}"#));
        match device_time {
            Some(micros) => {
                assert_eq!(reading.time_source, TimeSource::Device, "{value}");
                assert_eq!(reading.recorded_at.as_micros(), micros, "{value}");
                assert_eq!(reading.extra, None, "{value}");
            }
            None => {
                assert_eq!(reading.time_source, TimeSource::Server, "{value}");
                assert_eq!(reading.recorded_at, RECEIVED_AT, "{value}");
                assert_eq!(reading.extra, Some(format!(r#"{{"timestamp":{value}}}"#)), "{value}");
            }
        }
    }
    for value in ["null", r#""""#, r#""  ""#, "nan"] {
        let reading = reading(format!(r#"{{"timestamp":{value}}}"#));
        assert_eq!((reading.time_source, reading.extra), (TimeSource::Server, None), "{value}");
    }
}

#[test]
fn other_fields_are_kept_as_they_were_written() {
    let long_fraction = format!("0.{}", "1".repeat(17_000));
    let table = [
        (r#"{}"#.to_owned(), None),
        (r#"{"a":1E5,"b":1.10,"c":-0,"d":123456789012345678901234567890}"#.to_owned(), None),
        (r#"{ "a" : [ 1 , { } , [ ] , null ] }"#.to_owned(), Some(r#"{"a":[1,{},[],null]}"#.to_owned())),
        (r#"{"a":null,"b":""}"#.to_owned(), None),
        (r#"{"é":"日本\/\"\\\n\u0001\u00e9"}"#.to_owned(), Some(r#"{"é":"日本/\"\\\n\u0001é"}"#.to_owned())),
        (
            r#"{"a":"\u0000x","k\u0000":1}"#.to_owned(),
            Some("{\"a\":\"\u{FFFD}x\",\"k\u{FFFD}\":1}".to_owned()),
        ),
        (r#"{"a":{"\u0000":1,"\uFFFD":2}}"#.to_owned(), Some("{\"a\":{\"\u{FFFD}\":2}}".to_owned())),
        (r#"{"a":1,"b":2,"a":3}"#.to_owned(), Some(r#"{"b":2,"a":3}"#.to_owned())),
        (r#"{"n":[{"a":1,"\u0061":2}]}"#.to_owned(), Some(r#"{"n":[{"a":2}]}"#.to_owned())),
        (r#"{"a":"\ud83d\ude00"}"#.to_owned(), Some(r#"{"a":"😀"}"#.to_owned())),
        (
            r#"{"a":NaN,"b":[inf,-inf,"NaN"]}"#.to_owned(),
            Some(r#"{"a":null,"b":[null,null,"NaN"]}"#.to_owned()),
        ),
        (
            r#"{"a":[1e1023,1e1024,1e-20000]}"#.to_owned(),
            Some(r#"{"a":[1e1023,"1e1024","1e-20000"]}"#.to_owned()),
        ),
        (format!(r#"{{"a":{long_fraction}}}"#), Some(format!(r#"{{"a":"{long_fraction}"}}"#))),
        (r#"{"$serde_json::private::Number":"x"}"#.to_owned(), None),
        (r#"{"a":{"$serde_json::private::RawValue":"[1"}}"#.to_owned(), None),
    ];
    for (payload, expected) in table {
        let expected = if payload == "{}" { None } else { Some(expected.unwrap_or_else(|| payload.clone())) };
        assert_eq!(extra_of(&payload), expected, "{payload}");
    }
}

#[test]
fn of_many_duplicate_keys_the_last_wins_too() {
    let members: Vec<String> = (0..20_000).map(|n| format!(r#""k{}":{n}"#, n % 50)).collect();
    let extra = extra_of(format!("{{{}}}", members.join(","))).unwrap();
    let expected: Vec<String> = (19_950..20_000).map(|n| format!(r#""k{}":{n}"#, n % 50)).collect();
    assert_eq!(extra, format!("{{{}}}", expected.join(",")));
}

#[test]
fn the_digest_is_of_all_bytes_of_a_single_object_and_of_the_elements_own_in_an_array() {
    let of = |text: &str| digest(text.as_bytes(), TimeSource::Device, 7);
    for payload in ["{}", " {}", "\u{FEFF}{}", "{\"a\":NaN}", "{ }\n"] {
        assert_eq!(reading(payload).digest, of(payload), "{payload:?}");
    }
    let dated = r#"{"timestamp":1763806272}"#;
    let in_array = interpret(format!("[ {{\"a\":NaN}} , {dated} ]"));
    assert_eq!(in_array[0].result.as_ref().unwrap().digest, of("{\"a\":NaN}"));
    assert_eq!(in_array[1].result.as_ref().unwrap().digest, of(dated));
    // Fixed for ever: the rows in the databases hold it.
    assert_eq!(of(""), 0x2D06_8005_38D3_94C2);
    assert_eq!(of(r#"{"machine_id":"m1"}"#), reading(r#"{"machine_id":"m1"}"#).digest);
}

#[test]
fn equal_elements_of_an_array_are_apart_without_a_time_and_one_with_it() {
    let digests = |payload: &str| -> Vec<u64> {
        interpret(payload).into_iter().map(|outcome| outcome.result.unwrap().digest).collect()
    };
    let undated = digests(r#"[{"t":1},{"t":1},{"t":1}]"#);
    assert!(undated[0] != undated[1] && undated[1] != undated[2] && undated[0] != undated[2], "{undated:x?}");
    assert_eq!(undated, digests(r#"[ {"t":1}, {"t":1}, {"t":1} ]"#), "the same when it comes again");
    assert_eq!(undated[0], reading(r#"{"t":1}"#).digest);
    // Fixed for ever: the rows in the databases hold them.
    assert_eq!(undated, [0xAB8D_0212_1613_A1C4, 0x8E36_07AA_331A_91A7, 0xECE6_9FEF_BBC6_2220]);
    // An uptime is no usable time; a time from now is.
    let uptimes = digests(r#"[{"timestamp":17},{"timestamp":17}]"#);
    assert_ne!(uptimes[0], uptimes[1]);
    let dated = digests(r#"[{"timestamp":1763806272},{"timestamp":1763806272}]"#);
    assert_eq!(dated[0], dated[1]);
}

#[test]
fn while_our_clock_is_unset_a_devices_time_is_believed_however_far_ahead_it_is() {
    let of = |clock_unset, timestamp: &str| {
        let payload = format!(r#"{{"timestamp":"{timestamp}"}}"#);
        let message = Message { clock_unset, ..message(TOPIC, payload.as_bytes()) };
        let mut outcomes = Vec::new();
        PayloadRules::new(options()).unwrap().interpret(&message, &mut outcomes);
        let reading = outcomes.remove(0).result.unwrap();
        (reading.time_source, reading.recorded_at.to_string())
    };
    let (received, ahead) = (RECEIVED_AT.to_string(), "2035-01-02T03:04:05.000000Z".to_owned());
    assert_eq!(of(false, "2035-01-02T03:04:05Z"), (TimeSource::Server, received.clone()));
    assert_eq!(of(true, "2035-01-02T03:04:05Z"), (TimeSource::Device, ahead));
    assert_eq!(of(true, "2024-12-31T23:59:59Z"), (TimeSource::Server, received), "never a device's uptime");
}
