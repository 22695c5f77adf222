//! `config/default.toml` is the reference, the first layer, and complete.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::{Scene, load};
use crate::config::keys::{self, KEYS, find, variable};
use crate::config::layers::DEFAULT_TOML;
use crate::config::*;
use crate::database_url::DatabaseUrl;
use crate::domain::{Endpoint, Qos};

/// Returns every key of default.toml, set or commented out, with the comment lines above it.
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

/// Proves CFG-1.
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
        let effect = comment.iter().rev().nth(1).filter(|line| line.starts_with("# Takes effect"));
        let expected = key.effect.documented().map(|text| format!("# {text}"));
        assert_eq!(effect.map(|line| (*line).to_owned()), expected, "{}", key.path);
        let mentions = comment.iter().filter(|line| line.contains("Takes effect"));
        assert_eq!(mentions.count(), usize::from(expected.is_some()), "{}", key.path);
    }
}

#[test]
fn only_keys_that_exist_are_documented() {
    for (path, ..) in documented() {
        assert!(find(&path).is_some(), "{path} is no key");
    }
}

#[test]
fn sections_stand_in_the_order_of_the_table() {
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

/// Records the names of a struct's fields, which serde hands to the deserializer.
struct FieldNames<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields);
        Err(Self::Error::custom("nothing but the names is wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("a section is a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
    let mut names = Vec::new();
    assert!(T::deserialize(FieldNames(&mut names)).is_err());
    names
}

/// Proves CFG-1.
#[test]
fn every_key_fills_a_field_and_every_field_is_filled_by_a_key() {
    let sections = [
        ("site", fields::<Site>()),
        ("mqtt", fields::<Mqtt>()),
        ("mqtt.tls", fields::<Tls>()),
        ("journal", fields::<Journal>()),
        ("store", fields::<Store>()),
        ("payload", fields::<Payload>()),
        ("liveness", fields::<Liveness>()),
        ("http", fields::<Http>()),
        ("http.tls", fields::<HttpTls>()),
        ("metrics", fields::<Metrics>()),
        ("supervisor", fields::<Supervisor>()),
        ("log", fields::<Log>()),
    ];
    let of_fields = sections.iter().flat_map(|(section, names)| {
        names.iter().map(move |name| format!("{section}.{name}")).filter(|path| !path.ends_with(".tls"))
    });
    let files: BTreeSet<String> = keys::secrets().map(keys::Key::file_key).collect();
    let of_keys = KEYS.iter().map(|key| key.path.to_owned()).filter(|path| !files.contains(path));
    assert_eq!(of_fields.collect::<BTreeSet<_>>(), of_keys.collect());
    let top: Vec<&str> = sections.iter().map(|(name, _)| *name).filter(|name| !name.contains('.')).collect();
    assert_eq!(top, fields::<Settings>());
}

#[test]
fn defaults_alone_are_a_valid_configuration() {
    let loaded = Scene::new().loaded();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert!(loaded.worker_enabled);
    let settings = loaded.settings;
    // What default.toml leaves open.
    assert_eq!((settings.mqtt.port, settings.mqtt.max_packet), (1883, 4 << 20));
    assert_eq!(settings.mqtt.hosts, [Endpoint { host: "localhost".to_owned(), port: 1883 }]);
    assert_eq!(settings.mqtt.client_id, "andon-default");
    assert_eq!(settings.mqtt.subscriptions[0].qos, Qos::AtLeastOnce);
    assert_eq!(settings.mqtt.subscriptions[0].machine_segment, -2);
    // What it writes in another form than the settings have.
    assert_eq!(settings.journal.dir, Path::new("data/default/journal"));
    assert_eq!(settings.store.url, DatabaseUrl::parse("sqlite://data/default/andon.db").expect("valid"));
    assert_eq!(settings.journal.max_bytes, 1 << 30);
    assert_eq!(settings.liveness.offline_after, Duration::from_secs(15));
    assert_eq!(settings.http.bind, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(settings.log.level, LogLevels::all(slog::Level::Info));
    assert_eq!((settings.store.retention, settings.mqtt.proxy), (None, None));
}

/// Loads one of the sites in the repository.
fn shipped(site: &str, set: &[&str]) -> Result<Loaded, ConfigError> {
    let config_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let set = set.iter().map(|argument| (*argument).to_owned()).collect();
    load(&Sources { config_dir: Some(config_dir), site: Some(site.to_owned()), set, ..Sources::default() })
}

#[test]
fn the_demo_site_is_valid_and_uses_only_its_directory() {
    let settings = shipped("demo", &["mqtt.port=18830"]).expect("valid").settings;
    assert_eq!((settings.site.id.as_str(), settings.mqtt.port), ("demo", 18830));
    assert_eq!(settings.liveness.offline_after, Duration::from_secs(10));
    assert_eq!(settings.log.status_interval, Some(Duration::from_secs(5)));
    assert_eq!(settings.journal.dir, Path::new("data/demo/journal"));
    assert_eq!(settings.store.url.expose(), "sqlite://data/demo/andon.db");
}

#[test]
fn the_example_site_is_valid_once_its_files_exist() {
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

    // In the repository exactly its files are missing.
    let complaints = shipped("example-postgres-tls", &[]).expect_err("its files are missing").problems;
    let keys: Vec<&str> = complaints.iter().map(|problem| problem.key.as_str()).collect();
    let expected = ["mqtt.password_file", "store.url_file", "mqtt.tls.ca_file"];
    assert_eq!(keys, expected);
}

#[test]
fn every_configuration_in_the_guides_is_valid_once_its_files_exist() {
    for (guide, at_least) in
        [("README.md", 1), ("docs/brokers.md", 7), ("docs/liveness.md", 1), ("docs/payload.md", 1)]
    {
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
            // Placeholders stand in angle brackets.
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
