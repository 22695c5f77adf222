//! Which layer wins, and how text becomes a value.

use std::path::PathBuf;
use std::time::Duration;

use super::{Scene, environment};
use crate::config::{Sources, load};
use crate::database_url::DatabaseUrl;
use crate::domain::{MachineId, ProtocolChoice, Qos, Transport};

#[test]
fn each_layer_beats_the_one_below() {
    let scene = Scene::new();
    let host = |scene: &Scene| scene.loaded().settings.mqtt.host;
    assert_eq!(host(&scene), "localhost");
    let scene = scene.site("north", "[mqtt]\nhost = \"of-site\"");
    assert_eq!(host(&scene), "of-site");
    let scene = scene.local("mqtt.host = \"of-local\"");
    assert_eq!(host(&scene), "of-local");
    let scene = scene.env("MQTT_BROKER_HOST", "of-old-name");
    assert_eq!(host(&scene), "of-old-name");
    let scene = scene.env("ANDON__MQTT__HOST", "of-environment");
    assert_eq!(host(&scene), "of-environment");
    let scene = scene.set("mqtt.host=of-set");
    assert_eq!(host(&scene), "of-set");
    let scene = scene.set("mqtt.host=of-last-set");
    assert_eq!(host(&scene), "of-last-set");
}

#[test]
fn the_origin_of_each_value_is_shown() {
    let scene = Scene::new()
        .site("north", "mqtt.keep_alive = \"20s\"\n[liveness.machines.press-1]\noffline_after = \"2m\"")
        .local("mqtt.qos = 2\nliveness.machines.press-1.expected = true")
        .env("MQTT_USERNAME", "ann")
        .env("ANDON__STORE__BATCH_MAX", "7")
        .set("log.level=debug");
    let table = [
        ("site", "id", "id = \"north\"  # --site"),
        ("mqtt", "host", "host = \"localhost\"  # default"),
        ("mqtt", "port", "port = 1883  # default of transport tcp"),
        ("mqtt", "client_id", "client_id = \"andon-north\"  # derived from site.id"),
        ("mqtt", "keep_alive", "keep_alive = \"20s\"  # DIR/sites/north.toml"),
        ("mqtt", "qos", "qos = 2  # DIR/local.toml"),
        ("mqtt", "username", "username = \"ann\"  # environment variable MQTT_USERNAME"),
        ("mqtt", "password", "# password is not set"),
        ("store", "batch_max", "batch_max = 7  # environment variable ANDON__STORE__BATCH_MAX"),
        ("log", "level", "level = \"debug\"  # --set"),
        (
            "liveness",
            "machines.press-1.offline_after",
            "machines.press-1.offline_after = \"2m\"  # DIR/sites/north.toml",
        ),
        ("liveness", "machines.press-1.expected", "machines.press-1.expected = true  # DIR/local.toml"),
    ];
    for (section, key, expected) in table {
        assert_eq!(scene.shown(section, key), expected, "{section}.{key}");
    }
}

#[test]
fn durations_and_sizes_are_shown_as_a_person_writes_them() {
    let scene = Scene::new()
        .env("MACHINE_OFFLINE_AFTER_SECONDS", "37")
        .set("liveness.machines.m.offline_after=90000ms")
        .set("store.retention=17520h")
        .set("mqtt.backoff_min=1500ms")
        .set("journal.max_bytes=1073741824")
        .set("mqtt.max_payload=10MB")
        .set("supervisor.period=90m");
    let table = [
        ("liveness", "offline_after", "\"37s\"  # environment variable MACHINE_OFFLINE_AFTER_SECONDS"),
        ("liveness", "machines.m.offline_after", "\"1m30s\"  # --set"),
        ("store", "retention", "\"730d\"  # --set"),
        ("mqtt", "backoff_min", "\"1s500ms\"  # --set"),
        ("journal", "max_bytes", "\"1GiB\"  # --set"),
        ("mqtt", "max_payload", "\"10MB\"  # --set"),
        ("mqtt", "max_packet", "\"20MB\"  # derived from mqtt.max_payload"),
        ("supervisor", "period", "\"1h30m\"  # --set"),
        ("http", "connections_max", "256  # default"),
    ];
    for (section, key, shown) in table {
        assert_eq!(scene.shown(section, key), format!("{key} = {shown}"));
    }
}

#[test]
fn the_shown_settings_are_a_configuration_with_the_same_meaning() {
    let scene = Scene::new()
        .site(
            "north",
            "mqtt.subscriptions = [\"a/+/b\", { filter = \"c/+/d\", qos = 0, machine_segment = 1 }]",
        )
        .local("[liveness.machines.\"press 1.5\"]\nexpected = true\n[payload.fields]\ntemperature = \"/s/t\"")
        .set("liveness.publish_prefix=")
        .set(r#"liveness.last_will=[{ filter = "a/+/s", payload = '{"on":false}' }]"#);
    let loaded = scene.loaded();
    let mut shown = loaded.show(true);
    // An unset key is shown as a comment; this one has a default.
    shown = shown.replace("# publish_prefix is not set", "publish_prefix = \"\"");
    assert_eq!(Scene::new().local(&shown).loaded().settings, loaded.settings);
}

#[test]
fn the_name_of_a_site_is_its_id_unless_its_file_says_otherwise() {
    assert_eq!(Scene::new().site("north", "").loaded().settings.site.id, "north");
    assert_eq!(Scene::new().site("north", "site.id = \"n1\"").loaded().settings.mqtt.client_id, "andon-n1");
}

#[test]
fn files_are_listed_in_order_of_rank() {
    let scene = Scene::new().local("").site("north", "");
    let names: Vec<PathBuf> = scene
        .loaded()
        .files
        .iter()
        .map(|file| file.strip_prefix(scene.path()).expect("in it").into())
        .collect();
    assert_eq!(names, [PathBuf::from("sites/north.toml"), PathBuf::from("local.toml")]);
}

#[test]
fn without_a_directory_the_defaults_are_used() {
    // The tests run in the repository, whose config/ has no local.toml.
    let loaded = load(&Sources::default()).expect("valid");
    assert_eq!(loaded.settings.site.id, "default");
}

#[test]
fn the_variables_of_existing_deployments_set_their_keys() {
    let mut scene = Scene::new();
    scene.sources.environment = environment(&[
        ("MQTT_BROKER_HOST", "broker"),
        ("MQTT_BROKER_PORT", "1884"),
        ("MQTT_USERNAME", "ann"),
        ("MQTT_PASSWORD", "hunter2"),
        ("MQTT_TOPIC", "plant/a,b/+/data"),
        ("MQTT_CLIENT_ID", "worker-7"),
        ("MQTT_KEEPALIVE_SECONDS", "45"),
        ("MQTT_USE_TLS", "True"),
        ("MACHINE_OFFLINE_AFTER_SECONDS", "7.5"),
        ("DATABASE_URL", "postgresql+psycopg2://u:p@h/d"),
    ]);
    let loaded = scene.loaded();
    let (mqtt, settings) = (&loaded.settings.mqtt, &loaded.settings);
    assert_eq!((mqtt.host.as_str(), mqtt.port), ("broker", 1884));
    assert_eq!(mqtt.username.as_deref(), Some("ann"));
    assert_eq!(mqtt.password.as_ref().map(|password| password.expose()), Some("hunter2"));
    let filters: Vec<&str> = mqtt.subscriptions.iter().map(|entry| entry.filter.as_str()).collect();
    assert_eq!(filters, ["plant/a,b/+/data"]);
    assert_eq!(mqtt.client_id, "worker-7");
    assert_eq!(mqtt.keep_alive, Duration::from_secs(45));
    assert_eq!(mqtt.transport, Transport::Tls);
    assert_eq!(settings.liveness.offline_after, Duration::from_millis(7500));
    assert_eq!(settings.store.url, DatabaseUrl::parse("postgresql://u:p@h/d").expect("valid"));
}

#[test]
fn the_database_url_of_existing_deployments_is_read_whatever_driver_it_names() {
    let expected = DatabaseUrl::parse("postgresql://u:p%40ss@db:5433/plant?sslmode=require").expect("valid");
    for scheme in ["postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"] {
        let url = format!("{scheme}://u:p%40ss@db:5433/plant?sslmode=require");
        let scene = Scene::new().env("DATABASE_URL", &url).env("ANDON__STORE__SCHEMA", "andon");
        let store = scene.loaded().settings.store;
        assert_eq!(
            (store.url, store.schema.map(|name| name.to_string())),
            (expected.clone(), Some("andon".to_owned()))
        );
    }
    let short = Scene::new().env("DATABASE_URL", "postgres+psycopg://u@h/d").loaded().settings.store.url;
    assert_eq!(short, DatabaseUrl::parse("postgres://u@h/d").expect("valid"));
}

#[test]
fn an_empty_variable_of_existing_deployments_counts_as_absent() {
    let loaded = Scene::new()
        .local("mqtt.username = \"ann\"")
        .env("MQTT_USERNAME", "")
        .env("MQTT_BROKER_PORT", " ")
        .env("RUN_MQTT_WORKER", "")
        .loaded();
    assert_eq!(loaded.settings.mqtt.username.as_deref(), Some("ann"));
    assert!(loaded.worker_enabled);
}

#[test]
fn use_tls_changes_the_encryption_and_keeps_the_rest_of_the_transport() {
    let table = [
        ("tcp", "1", Transport::Tls, 8883),
        ("ws", "yes", Transport::Wss, 443),
        ("wss", "true", Transport::Wss, 443),
        ("tls", "false", Transport::Tcp, 1883),
        ("wss", "0", Transport::Ws, 80),
        ("tcp", "off", Transport::Tcp, 1883),
    ];
    for (transport, use_tls, expected, port) in table {
        let scene =
            Scene::new().local(&format!("mqtt.transport = {transport:?}")).env("MQTT_USE_TLS", use_tls);
        let mqtt = scene.loaded().settings.mqtt;
        assert_eq!((mqtt.transport, mqtt.port), (expected, port), "{transport} {use_tls}");
    }
}

#[test]
fn run_mqtt_worker_switches_the_service_off() {
    for (text, expected) in [("false", false), ("0", false), ("no", false), ("true", true), ("1", true)] {
        assert_eq!(Scene::new().env("RUN_MQTT_WORKER", text).loaded().worker_enabled, expected, "{text}");
    }
}

#[test]
fn text_is_typed_by_the_key_that_it_sets() {
    let settings = Scene::new()
        .env("ANDON__MQTT__SUBSCRIPTIONS", "a/+/b, c/+/d")
        .env("ANDON__MQTT__TLS__VERIFY", "true")
        .env("ANDON__MQTT__PROTOCOL", "5")
        .env("ANDON__MQTT__CLIENT_ID", "007")
        .env("ANDON__JOURNAL__MAX_BYTES", "4194304")
        .env("ANDON__PAYLOAD__FIELDS__TEMPERATURE", "/t")
        .env("ANDON__LIVENESS__MACHINES__PRESS-1__EXPECTED", "yes")
        .set("liveness.machines.\"Press.2\".offline_after=1m")
        .set(r#"mqtt.tls.alpn=[]"#)
        .loaded()
        .settings;
    let filters: Vec<&str> = settings.mqtt.subscriptions.iter().map(|entry| entry.filter.as_str()).collect();
    assert_eq!(filters, ["a/+/b", "c/+/d"]);
    assert_eq!(settings.mqtt.protocol, ProtocolChoice::V5);
    assert_eq!(Scene::new().local("mqtt.protocol = 5").loaded().settings.mqtt.protocol, ProtocolChoice::V5);
    assert_eq!(settings.mqtt.client_id, "007");
    assert_eq!(settings.journal.max_bytes, 4 << 20);
    assert_eq!(settings.payload.fields["temperature"], "/t");
    let machine = |id: &str| &settings.liveness.machines[&MachineId::parse(id).expect("valid")];
    assert!(machine("press-1").expected);
    assert_eq!(machine("press.2").offline_after, Some(Duration::from_secs(60)));
}

#[test]
fn a_list_in_the_environment_may_be_toml() {
    let list = r#"["a,b/+/c", { filter = "d/+/e", qos = 2, machine_segment = -1 }]"#;
    let mqtt = Scene::new().env("ANDON__MQTT__SUBSCRIPTIONS", list).loaded().settings.mqtt;
    let entries: Vec<(&str, Qos, i32)> = mqtt
        .subscriptions
        .iter()
        .map(|entry| (entry.filter.as_str(), entry.qos, entry.machine_segment))
        .collect();
    assert_eq!(entries, [("a,b/+/c", Qos::AtLeastOnce, -2), ("d/+/e", Qos::ExactlyOnce, -1)]);
}

#[test]
fn subscriptions_without_qos_take_that_of_the_section() {
    let mqtt = Scene::new().set("mqtt.qos=2").set("mqtt.subscriptions=a/+/b").loaded().settings.mqtt;
    assert_eq!(mqtt.subscriptions[0].qos, Qos::ExactlyOnce);
}

#[test]
fn a_later_layer_can_take_an_optional_value_back() {
    let settings = Scene::new()
        .local("mqtt.username = \"ann\"\nmqtt.port = 99\nstore.retention = \"30d\"\nliveness.machines.m.offline_after = \"1m\"")
        .set("mqtt.username=")
        .set("mqtt.port=")
        .set("store.retention=")
        .set("liveness.publish_prefix=")
        .set("log.status_interval=")
        .set("liveness.machines.m.offline_after=")
        .loaded()
        .settings;
    assert_eq!((settings.mqtt.username, settings.mqtt.port), (None, 1883));
    assert_eq!((settings.store.retention, settings.log.status_interval), (None, None));
    assert_eq!(settings.liveness.publish_prefix, None);
    assert_eq!(settings.liveness.machines.values().next().and_then(|rule| rule.offline_after), None);
}

#[test]
fn machines_of_all_layers_are_merged_whatever_their_case() {
    let machines = Scene::new()
        .site("north", "[liveness.machines.Press-1]\noffline_after = \"2m\"")
        .local("[liveness.machines.press-1]\nexpected = true\n[liveness.machines.saw]\nexpected = true")
        .loaded()
        .settings
        .liveness
        .machines;
    assert_eq!(machines.len(), 2);
    let press = &machines[&MachineId::parse("press-1").expect("valid")];
    assert_eq!((press.offline_after, press.expected), (Some(Duration::from_secs(120)), true));
}

#[test]
fn variables_of_others_are_ignored_but_a_misspelt_one_is_reported() {
    let loaded = Scene::new()
        .env("ANDON_SERVICE_HOST", "10.0.0.1")
        .env("ANDON_PORT_8080_TCP", "tcp://10.0.0.1")
        .env("MQTT_SOMETHING", "x")
        .env("ANDON_MQTT_HOST", "broker")
        .loaded();
    assert_eq!(
        loaded.warnings,
        ["environment variable ANDON_MQTT_HOST has no effect; did you mean ANDON__MQTT__HOST?"]
    );
}
