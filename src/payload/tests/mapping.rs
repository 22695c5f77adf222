//! `[payload.fields]`.

use super::*;

fn mapped(fields: &[(&str, &str)]) -> PayloadOptions {
    let fields = fields.iter().map(|(field, pointer)| ((*field).to_owned(), (*pointer).to_owned())).collect();
    PayloadOptions { fields, ..options() }
}

#[track_caller]
fn mapped_reading(fields: &[(&str, &str)], payload: &str) -> Reading {
    interpret_with(mapped(fields), TOPIC, payload.as_bytes()).remove(0).result.expect("a reading")
}

#[test]
fn every_field_can_lie_elsewhere_and_is_not_doubled_in_extra() {
    let fields = [
        ("machine_id", "/device/id"),
        ("temperature", "/sensors/0/value"),
        ("humidity", "/a~1b/~0c"),
        ("vibration", "/v/1"),
        ("timestamp", "/meta/at"),
    ];
    let reading = mapped_reading(
        &fields,
        r#"{"device":{"id":"D1"},"sensors":[{"value":"20","unit":"C"}],"a/b":{"~c":30,"x":1},"v":[1,2,3],
            "meta":{"at":1763806272}}"#,
    );
    assert_eq!(reading.machine_id.as_str(), "d1");
    assert_eq!(
        (reading.temperature, reading.humidity, reading.vibration),
        (Some(20.0), Some(30.0), Some(2.0))
    );
    assert_eq!((reading.recorded_at, reading.time_source), (RECEIVED_AT, TimeSource::Device));
    let extra = r#"{"sensors":[{"unit":"C"}],"a/b":{"x":1},"v":[1,null,3]}"#;
    assert_eq!(reading.extra.as_deref(), Some(extra));
}

#[test]
fn a_mapped_field_is_read_from_nowhere_else() {
    let reading = mapped_reading(
        &[("temperature", "/sensors/t"), ("machine_id", "/id")],
        r#"{"machine_id":"plain","temperature":99,"humidity":5}"#,
    );
    assert_eq!(reading.machine_id.as_str(), "m-topic");
    assert_eq!((reading.temperature, reading.humidity), (None, Some(5.0)));
    assert_eq!(reading.extra.as_deref(), Some(r#"{"machine_id":"plain","temperature":99}"#));
}

#[test]
fn an_unusable_mapped_value_is_kept_under_the_plain_name_or_stays_where_it_was() {
    let fields = [("temperature", "/s/t"), ("timestamp", "/s/at")];
    let reading = mapped_reading(&fields, r#"{"s":{"t":"hot","at":0}}"#);
    assert_eq!(reading.extra.as_deref(), Some(r#"{"temperature":"hot","timestamp":0}"#));
    let reading = mapped_reading(&fields, r#"{"s":{"t":"hot"},"temperature":1}"#);
    assert_eq!(reading.extra.as_deref(), Some(r#"{"s":{"t":"hot"},"temperature":1}"#));
    let reading =
        mapped_reading(&[("timestamp", "/timestamp/unix")], r#"{"timestamp":{"unix":1763806272,"tz":"x"}}"#);
    assert_eq!(reading.time_source, TimeSource::Device);
    assert_eq!(reading.extra.as_deref(), Some(r#"{"timestamp":{"tz":"x"}}"#));
}

#[test]
fn a_pointer_that_leads_nowhere_finds_nothing() {
    let payload = r#"{"a":{"b":[1,2]},"c":"text"}"#;
    for pointer in [
        "/x",
        "/a/x",
        "/a/b/2",
        "/a/b/01",
        "/a/b/-",
        "/a/b/+1",
        "/a/b/0/x",
        "/c/0",
        "/",
        "/a/b/18446744073709551616",
    ] {
        let reading = mapped_reading(&[("temperature", pointer)], payload);
        assert_eq!((reading.temperature, reading.extra.as_deref()), (None, Some(payload)), "{pointer}");
    }
    assert_eq!(mapped_reading(&[("temperature", "/")], r#"{"":5}"#).temperature, Some(5.0));
}

#[test]
fn two_fields_can_change_places() {
    let fields = [("temperature", "/humidity"), ("humidity", "/temperature")];
    let reading = mapped_reading(&fields, r#"{"temperature":1,"humidity":2}"#);
    assert_eq!((reading.temperature, reading.humidity, reading.extra), (Some(2.0), Some(1.0), None));
}

#[test]
fn a_wrong_mapping_is_refused() {
    let table: [(&[(&str, &str)], &str); 8] = [
        (&[("temprature", "/t")], "unknown field \"temprature\""),
        (&[("temperature", "")], "temperature: \"\" is not a JSON pointer"),
        (&[("temperature", "t")], "temperature: \"t\" is not a JSON pointer"),
        (&[("temperature", "/t~2")], "temperature: \"/t~2\" is not a JSON pointer"),
        (&[("temperature", "/t~")], "temperature: \"/t~\" is not a JSON pointer"),
        (
            &[("temperature", "/x"), ("humidity", "/x")],
            "temperature and humidity would be read from the same place",
        ),
        (&[("temperature", "/humidity")], "temperature and humidity would be read"),
        (&[("temperature", "/s/t"), ("timestamp", "/s")], "timestamp and temperature would be read"),
    ];
    for (fields, expected) in table {
        let error = PayloadRules::new(mapped(fields)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
