//! Mistakes in single values: one line each, with its place, its key, what is wrong and what is allowed.

use super::{Scene, complaints_of_env, complaints_of_local, complaints_of_set};

/// Proves CFG-1.
#[test]
fn a_typo_in_a_key_is_reported_with_the_intended_key() {
    assert_eq!(
        complaints_of_local("[mqtt]\nhst = \"broker\""),
        ["DIR/local.toml: mqtt.hst: unknown key; did you mean mqtt.host?"]
    );
    assert_eq!(
        complaints_of_set("mqtt.hst=broker"),
        ["--set: mqtt.hst: unknown key; did you mean mqtt.host?"]
    );
    assert_eq!(
        complaints_of_env("ANDON__MQTT__HST", "broker"),
        ["environment variable ANDON__MQTT__HST: sets no known key; did you mean ANDON__MQTT__HOST?"]
    );
}

#[test]
fn a_wrong_type_is_reported_with_what_is_allowed() {
    assert_eq!(
        complaints_of_local("[mqtt]\nport = \"1883\""),
        ["DIR/local.toml: mqtt.port: expected a whole number from 1 to 65535, found the text \"1883\""]
    );
    assert_eq!(
        complaints_of_env("ANDON__MQTT__PORT", "none"),
        [
            "environment variable ANDON__MQTT__PORT: mqtt.port: expected a whole number from 1 to 65535, found the text \"none\""
        ]
    );
    assert_eq!(
        complaints_of_local("liveness.offline_after = 15"),
        [
            "DIR/local.toml: liveness.offline_after: expected a duration from 100ms to 365d, such as \"15s\", found the number 15"
        ]
    );
}

/// Proves CFG-2, CFG-3.
#[test]
fn all_mistakes_of_all_layers_are_reported_at_once() {
    let scene = Scene::new()
        .site("north", "[mqtt]\nqos = 3\n[stroe]\nurl = \"sqlite://x.db\"")
        .local("[mqtt]\nqos = 1\nhst = \"h\"\n[mqtt.tls]\ncert_file = \"Cargo.toml\"")
        .env("MQTT_KEEPALIVE_SECONDS", "soon")
        .env("ANDON__LOG__LEVEL", "loud")
        .set("http.bind=localhost")
        .set("nonsense");
    assert_eq!(
        scene.complaints(),
        [
            "DIR/sites/north.toml: mqtt.qos: expected a whole number from 0 to 2, found the number 3",
            "DIR/sites/north.toml: stroe: unknown section; did you mean [store]?",
            "DIR/local.toml: mqtt.hst: unknown key; did you mean mqtt.host?",
            "environment variable MQTT_KEEPALIVE_SECONDS: mqtt.keep_alive: expected a number of seconds, found the text \"soon\"",
            "environment variable ANDON__LOG__LEVEL: log.level: \"loud\" is not a level; expected error, warn, info, debug or trace, also by component, such as \"info,mqtt=debug\"",
            "--set: nonsense: expected key=value, such as mqtt.host=broker",
            "--set: http.bind: expected an IP address with port, such as \"127.0.0.1:8080\", found the text \"localhost\"",
            "DIR/local.toml: mqtt.tls.cert_file: a certificate needs its private key; set mqtt.tls.key_file",
            "DIR/local.toml: mqtt.tls.cert_file: has no effect with mqtt.transport = \"tcp\"; allowed with \"tls\" and \"wss\"",
        ]
    );
}

/// Proves CFG-2.
#[test]
fn a_mistake_that_a_later_layer_hides_is_still_reported() {
    let complaints = Scene::new().local("mqtt.qos = 9").set("mqtt.qos=1").complaints();
    assert_eq!(
        complaints,
        ["DIR/local.toml: mqtt.qos: expected a whole number from 0 to 2, found the number 9"]
    );
}

#[test]
fn values_out_of_their_bounds_or_of_the_wrong_kind_are_refused() {
    let table = [
        ("site.id", r#""""#),
        ("site.id", r#""North""#),
        ("site.id", r#""a/b""#),
        ("site.id", r#"".hidden""#),
        ("mqtt.host", r#""""#),
        ("mqtt.host", r#""mqtt://broker""#),
        ("mqtt.host", r#""broker:1883""#),
        ("mqtt.host", "7"),
        ("mqtt.port", "0"),
        ("mqtt.port", "65536"),
        ("mqtt.port", "1.5"),
        ("mqtt.transport", r#""TCP""#),
        ("mqtt.transport", "true"),
        ("mqtt.protocol", "4"),
        ("mqtt.client_id", r#""a\u0000b""#),
        ("mqtt.keep_alive", r#""0s""#),
        ("mqtt.keep_alive", r#""1500ms""#),
        ("mqtt.keep_alive", r#""1d""#),
        ("mqtt.qos", "-1"),
        ("mqtt.session_expiry", r#""0s""#),
        ("mqtt.max_payload", "0"),
        ("mqtt.max_payload", r#""1GiB""#),
        ("mqtt.max_payload", r#""64 furlongs""#),
        ("mqtt.max_packet", "67583"),
        ("mqtt.max_packet", "268435456"),
        ("mqtt.subscriptions", "[]"),
        ("mqtt.subscriptions", r#""a/b""#),
        ("mqtt.tls.alpn", r#"["mqtt", 5]"#),
        ("mqtt.tls.verify", r#""true""#),
        ("journal.dir", r#""""#),
        ("journal.max_bytes", "0"),
        ("journal.max_bytes", "-1"),
        ("journal.max_bytes", r#""99999999TiB""#),
        ("journal.segment_bytes", r#""2GiB""#),
        ("journal.sync", r#""always""#),
        ("store.batch_max", "0"),
        ("store.url", r#""mysql://host/db""#),
        ("store.url", r#""postgres://h:54x/d""#),
        ("store.url", r#""postgres://h/d?sslmode=foo""#),
        ("store.connect_timeout", r#""1s""#),
        ("payload.max_ahead", r#""-1s""#),
        ("payload.fields", r#""/t""#),
        ("liveness.offline_after", r#""0s""#),
        ("liveness.publish_prefix", r##""a/#""##),
        ("liveness.publish_prefix", r#""/a""#),
        ("liveness.publish_prefix", r#""$SYS""#),
        ("liveness.machines_max", "0"),
        ("liveness.machines", "[]"),
        ("http.bind", r#""127.0.0.1""#),
        ("http.anonymous", "1"),
        ("supervisor.restarts_max", "-1"),
        ("supervisor.hang_after", r#""10ms""#),
        ("log.format", r#""xml""#),
        ("log.status_interval", r#""0s""#),
    ];
    for (key, value) in table {
        let complaints = complaints_of_local(&format!("{key} = {value}"));
        assert_eq!(complaints.len(), 1, "{key} = {value}: {complaints:?}");
        let begins = complaints[0].starts_with(&format!("DIR/local.toml: {key}"));
        assert!(begins && complaints[0].contains("expected "), "{}", complaints[0]);
    }
}

#[test]
fn values_at_their_bounds_are_accepted() {
    let id = "a".repeat(64);
    let client_id = "c".repeat(65_535);
    let table = [
        ("site.id", id.as_str()),
        ("mqtt.client_id", client_id.as_str()),
        ("mqtt.port", "65535"),
        ("mqtt.host", "fe80::1"),
        ("mqtt.host", "bröker.example"),
        ("mqtt.keep_alive", "65535s"),
        ("mqtt.max_payload", "1"),
        ("mqtt.max_packet", "268435455"),
        ("supervisor.restarts_max", "0"),
        ("payload.max_ahead", "0s"),
        ("http.bind", "[::1]:0"),
        ("liveness.publish_prefix", "plant 7/andon"),
    ];
    for (key, value) in table {
        Scene::new().set(&format!("{key}={value}")).loaded();
    }
    assert_eq!(complaints_of_set(&format!("site.id={id}a")).len(), 1);
    let complaints = complaints_of_set(&format!("mqtt.client_id={client_id}c"));
    let expected = "--set: mqtt.client_id: expected text of at most 65535 bytes without control characters, found the text \"cccc";
    assert!(complaints[0].starts_with(expected) && complaints[0].len() < 300, "{complaints:?}");
}

#[test]
fn a_bad_topic_filter_is_reported_with_its_rule() {
    assert_eq!(
        complaints_of_local("mqtt.subscriptions = [\"a/+/b\", \"a/#/b\"]"),
        [
            "DIR/local.toml: mqtt.subscriptions[1]: '#' must stand alone as the last level of a topic filter (found \"a/#/b\"); expected an MQTT topic filter"
        ]
    );
    let complaints = complaints_of_env("MQTT_TOPIC", "a/b+/c");
    assert!(
        complaints[0].starts_with("environment variable MQTT_TOPIC: mqtt.subscriptions[0]: '+' must"),
        "{complaints:?}"
    );
}

#[test]
fn mistakes_inside_tables_are_reported_with_their_place() {
    let text = r#"
        [[mqtt.subscriptions]]
        filter = "a/+/b"
        machine_segment = 0
        [[mqtt.subscriptions]]
        filer = "a/+/b"
        [[mqtt.subscriptions]]
        qos = 1
        [[liveness.last_will]]
        filter = "a/+/s"
        [liveness.machines.m]
        offlineafter = "5s"
        [payload.fields]
        temprature = "/t"
        humidity = "h"
        vibration = "/a~2"
    "#;
    assert_eq!(
        complaints_of_local(text),
        [
            "DIR/local.toml: liveness.last_will[0]: payload is missing",
            "DIR/local.toml: liveness.machines.m.offlineafter: unknown key; did you mean offline_after?",
            "DIR/local.toml: mqtt.subscriptions[0].machine_segment: expected a whole number from -128 to 128, not 0, found the number 0",
            "DIR/local.toml: mqtt.subscriptions[1].filer: unknown key; did you mean filter?",
            "DIR/local.toml: mqtt.subscriptions[2]: filter is missing",
            "DIR/local.toml: payload.fields.humidity: expected a JSON pointer, such as \"/sensors/t\", found the text \"h\"",
            "DIR/local.toml: payload.fields.temprature: unknown key; did you mean temperature?",
            "DIR/local.toml: payload.fields.vibration: expected a JSON pointer, such as \"/sensors/t\", found the text \"/a~2\"",
        ]
    );
}

#[test]
fn a_machine_that_is_named_twice_or_has_no_valid_id_is_refused() {
    let text = "[liveness.machines.Press]\nexpected = true\n[liveness.machines.press]\nexpected = true\n[liveness.machines.\" \"]";
    assert_eq!(
        complaints_of_local(text),
        [
            "DIR/local.toml: liveness.machines.\" \": machine id is empty",
            "DIR/local.toml: liveness.machines.press: machine \"press\" is named twice (ids are lower-cased)",
        ]
    );
}

#[test]
fn invalid_toml_is_reported_with_its_line() {
    let complaints = complaints_of_local("[mqtt]\nhost = \"a\"\nhost = \"b\"\n");
    assert_eq!(complaints, ["DIR/local.toml: line 3, column 1: invalid TOML: duplicate key"]);
}

#[test]
fn a_section_in_place_of_a_key_is_reported() {
    assert_eq!(complaints_of_local("mqtt = 5"), ["DIR/local.toml: mqtt: is a section; write [mqtt]"]);
    assert_eq!(complaints_of_set("mqtt.tls=x"), ["--set: mqtt.tls: is a section, not a key"]);
    assert_eq!(
        complaints_of_env("ANDON__MQTT", "x"),
        ["environment variable ANDON__MQTT: mqtt is a section; add the key: ANDON__MQTT__<KEY>"]
    );
    let complaints = complaints_of_local("mqtt.host.name = \"x\"");
    assert_eq!(
        complaints,
        [
            "DIR/local.toml: mqtt.host: expected a host name or an IP address, without scheme and port, found a table"
        ]
    );
    assert_eq!(complaints_of_set("=x"), ["--set: is not a key; a key looks like mqtt.host"]);
}

#[test]
fn an_unknown_key_like_no_other_is_reported_with_the_known_keys() {
    assert_eq!(
        complaints_of_local("[http]\nxyzzy = 1\n[xyzzy]\na = 1"),
        [
            "DIR/local.toml: http.xyzzy: unknown key; the keys of [http] are: bind, health_bind, token, token_file, tokens, anonymous, trusted_proxies, proxy_user_header, proxy_user_role, proxy_operators, session_max, connections_max, connections_per_address, streams_max, streams_per_address",
            "DIR/local.toml: xyzzy: unknown section; the sections are: site, mqtt, journal, store, payload, liveness, http, metrics, supervisor, log",
        ]
    );
}

#[test]
fn a_site_without_file_is_reported_with_the_sites_that_have_one() {
    let mut scene = Scene::new();
    scene.file("sites/south.toml", "");
    scene.file("sites/north.toml", "");
    scene.file("sites/notes.txt", "");
    scene.sources.site = Some("nroth".to_owned());
    assert_eq!(
        scene.complaints(),
        ["DIR/sites/nroth.toml: site \"nroth\" has no file; sites with a file: north, south"]
    );
    scene.sources.site = Some("../north".to_owned());
    let complaints = scene.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].starts_with("--site: site.id: expected 1 to 64 characters"), "{complaints:?}");
}

#[test]
fn a_given_directory_must_exist() {
    let mut scene = Scene::new();
    scene.sources.config_dir = Some(scene.path().join("missing"));
    assert_eq!(scene.complaints(), ["--config-dir: DIR/missing is not a directory"]);
}

#[test]
fn variables_of_existing_deployments_with_wrong_values_are_named() {
    let table = [
        ("MQTT_BROKER_PORT", "mqtt.port: expected a whole number from 1 to 65535, found the text \"x\""),
        ("MQTT_USE_TLS", "mqtt.transport: expected true or false, found the text \"x\""),
        (
            "MACHINE_OFFLINE_AFTER_SECONDS",
            "liveness.offline_after: expected a number of seconds, found the text \"x\"",
        ),
        (
            "DATABASE_URL",
            "store.url: it has no scheme; expected \"sqlite://<path>\" or \"postgres://<user>@<host>/<database>\"",
        ),
        ("RUN_MQTT_WORKER", "expected true or false, found the text \"x\""),
    ];
    for (name, expected) in table {
        assert_eq!(complaints_of_env(name, "x"), [format!("environment variable {name}: {expected}")]);
    }
    assert_eq!(complaints_of_env("MACHINE_OFFLINE_AFTER_SECONDS", "0").len(), 1);
    assert_eq!(complaints_of_env("MQTT_KEEPALIVE_SECONDS", "nan").len(), 1);
}
