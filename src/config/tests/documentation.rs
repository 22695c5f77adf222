//! `config/default.toml` is the reference, the first layer, and complete.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{Scene, load};
use crate::config::keys::{KEYS, find, variable};
use crate::config::layers::DEFAULT_TOML;
use crate::config::*;
use crate::domain::{Qos, TopicFilter};

/// Every key of default.toml, set or commented out, with the comment lines above it.
fn documented() -> Vec<(String, Vec<&'static str>, bool)> {
    let mut section = String::new();
    let mut comment = Vec::new();
    let mut keys = Vec::new();
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            if find(name).is_some() {
                keys.push((section.clone(), std::mem::take(&mut comment), true));
            }
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ")
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            keys.push((format!("{section}.{name}"), std::mem::take(&mut comment), !line.starts_with('#')));
        } else if line.starts_with('#') {
            comment.push(line);
        } else {
            comment.clear();
        }
    }
    keys
}

#[test]
fn every_key_is_documented_once_with_what_is_allowed() {
    let documented = documented();
    for key in KEYS {
        let entries: Vec<_> = documented.iter().filter(|(path, ..)| path == key.path).collect();
        let [(_, comment, is_set)] = entries.as_slice() else {
            panic!("{} is documented {} times", key.path, entries.len());
        };
        let allowed = format!("# Allowed: {}", key.kind.allowed());
        assert_eq!(comment.last().copied(), Some(allowed.as_str()), "{}", key.path);
        assert!(comment.len() >= 2, "{} has no meaning", key.path);
        assert!(*is_set || key.optional, "{} is required but has no default", key.path);
    }
}

#[test]
fn nothing_is_documented_that_there_is_not() {
    for (path, ..) in documented() {
        assert!(find(&path).is_some(), "{path} is no key");
    }
}

#[test]
fn keys_stand_in_the_order_of_the_table() {
    let order: Vec<&str> = KEYS.iter().map(|key| key.path.split('.').next().unwrap_or_default()).collect();
    let mut sections = order.clone();
    sections.dedup();
    let mut documented: Vec<String> = documented()
        .into_iter()
        .map(|(path, ..)| path.split('.').next().unwrap_or_default().to_owned())
        .collect();
    documented.dedup();
    assert_eq!(documented, sections);
}

#[test]
fn defaults_alone_are_a_valid_configuration_with_the_documented_values() {
    let loaded = Scene::new().loaded();
    let day = Duration::from_secs(86_400);
    let seconds = Duration::from_secs;
    let expected = Settings {
        site: Site { id: "default".to_owned(), time_zone: chrono_tz::UTC },
        mqtt: Mqtt {
            host: "localhost".to_owned(),
            port: 1883,
            hosts: vec![HostAndPort { host: "localhost".to_owned(), port: 1883 }],
            proxy: None,
            transport: Transport::Tcp,
            protocol: Protocol::Auto,
            client_id: "andon-default".to_owned(),
            username: None,
            password: None,
            keep_alive: seconds(30),
            qos: Qos::AtLeastOnce,
            session_expiry: 7 * day,
            receive_maximum: 1000,
            max_payload: 256 * 1024,
            max_packet: 4 << 20,
            connect_timeout: seconds(10),
            backoff_min: Duration::from_millis(250),
            backoff_max: seconds(30),
            subscriptions: vec![Subscription {
                filter: TopicFilter::parse("factory/machine/+/telemetry").expect("valid"),
                qos: Qos::AtLeastOnce,
                machine_segment: -2,
            }],
            tls: Tls {
                ca_file: None,
                cert_file: None,
                key_file: None,
                key_password: None,
                alpn: Vec::new(),
                verify: true,
            },
        },
        journal: Journal {
            dir: "data/default/journal".into(),
            max_bytes: 1 << 30,
            segment_bytes: 16 << 20,
            sync: SyncMode::Background,
            when_full: WhenFull::Hold,
        },
        store: Store {
            url: DatabaseUrl::parse("sqlite://data/default/andon.db").expect("valid"),
            batch_max: 4096,
            retention: None,
            connect_timeout: seconds(10),
            statement_timeout: seconds(30),
            lock_timeout: seconds(10),
            backoff_min: Duration::from_millis(250),
            backoff_max: seconds(30),
        },
        payload: Payload { max_ahead: day, fields: [].into() },
        liveness: Liveness {
            offline_after: seconds(15),
            publish_prefix: Some("andon".to_owned()),
            machines_max: 100_000,
            flapping_changes: 6,
            flapping_window: seconds(600),
            machines: [].into(),
            last_will: Vec::new(),
        },
        http: Http {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            token: None,
            anonymous: false,
            connections_max: 256,
            streams_max: 64,
        },
        metrics: Metrics { per_machine: false },
        supervisor: Supervisor {
            restarts_max: 5,
            period: seconds(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: seconds(30),
            hang_after: seconds(10),
        },
        log: Log {
            format: LogFormat::Text,
            level: LogLevels::all(slog::Level::Info),
            status_interval: Some(seconds(60)),
        },
    };
    assert_eq!(loaded.settings, expected);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert!(loaded.worker_enabled);
}

/// The repository's own sites.
fn shipped(site: &str, set: &[&str]) -> Result<Loaded, ConfigError> {
    let config_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let set = set.iter().map(|argument| (*argument).to_owned()).collect();
    load(&Sources { config_dir: Some(config_dir), site: Some(site.to_owned()), set, ..Sources::default() })
}

#[test]
fn the_demo_site_is_valid_and_keeps_to_its_directory() {
    let settings = shipped("demo", &["mqtt.port=18830"]).expect("valid").settings;
    assert_eq!((settings.site.id.as_str(), settings.mqtt.port), ("demo", 18830));
    assert_eq!(settings.liveness.offline_after, Duration::from_secs(10));
    assert_eq!(settings.log.status_interval, Some(Duration::from_secs(5)));
    assert_eq!(settings.journal.dir, Path::new("data/demo/journal"));
    assert_eq!(settings.store.url.expose(), "sqlite://data/demo/andon.db");
}

#[test]
fn the_example_site_is_valid_once_its_files_are_there() {
    let scene = Scene::new();
    let ca = scene.file("ca.pem", "");
    let password = scene.file("password", "p\n");
    let url = scene.file("url", "postgres://andon:p@db/andon\n");
    let set = [
        format!("mqtt.tls.ca_file={}", ca.display()),
        format!("mqtt.password_file={}", password.display()),
        format!("store.url_file={}", url.display()),
    ];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let settings = shipped("example-postgres-tls", &set).expect("valid").settings;
    assert_eq!(settings.mqtt.port, 8883);
    assert_eq!(settings.mqtt.subscriptions.len(), 2);
    assert_eq!(settings.mqtt.subscriptions[1].machine_segment, 3);
    assert_eq!(settings.liveness.machines.len(), 2);

    // As it stands, exactly its files are missing.
    let complaints = shipped("example-postgres-tls", &[]).expect_err("its files are missing").problems;
    let keys: Vec<&str> = complaints.iter().map(|problem| problem.key.as_str()).collect();
    let expected = ["mqtt.password_file", "store.url_file", "mqtt.tls.ca_file"];
    assert_eq!(keys, expected);
}

#[test]
fn every_configuration_in_the_guides_is_valid_once_its_files_are_there() {
    for (guide, at_least) in [("README.md", 1), ("docs/brokers.md", 7)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(guide);
        let text = std::fs::read_to_string(path).expect("the guide");
        let blocks: Vec<&str> =
            text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(blocks.len() >= at_least, "{guide} has {} configurations", blocks.len());
        for block in blocks {
            let scene = Scene::new();
            let files = block.split("\"/etc/andon/").skip(1).filter_map(|rest| rest.split('"').next());
            for name in files {
                scene
                    .file(name, if name.ends_with("-url") { "postgres://andon:p@db/andon\n" } else { "p\n" });
            }
            // What the reader fills in stands in angle brackets.
            let here = scene.path().display().to_string();
            let filled_in = block.replace("/etc/andon", &here).replace(['<', '>'], "x");
            let scene = scene.local(&filled_in);
            assert!(load(&scene.sources).is_ok(), "{guide}:\n{block}\n{:?}", scene.complaints());
        }
    }
}

#[test]
fn the_environment_names_of_the_contract_hold() {
    assert_eq!(variable("mqtt.host"), "ANDON__MQTT__HOST");
    assert_eq!(variable("mqtt.tls.ca_file"), "ANDON__MQTT__TLS__CA_FILE");
}
