//! The environment variables that existing deployments use. They rank below `ANDON__SECTION__KEY`. An empty one counts
//! as absent, because compose files pass on unset variables as empty text.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};

use super::check::found_text;
use super::keys;
use super::layers::{Layer, insert, segments, variable_origin};
use super::problem::Problems;
use super::values::{flag_from_text, from_text, text, text_value};

/// How the text of a variable becomes the value of its key.
#[derive(Clone, Copy)]
enum Meaning {
    /// Unchanged.
    Value,
    /// One topic filter, also with commas in it.
    Topic,
    /// A number of seconds.
    Seconds,
    /// Whether the transport is encrypted.
    Encrypted,
}

const NAMES: [(&str, &str, Meaning); 10] = [
    ("MQTT_BROKER_HOST", "mqtt.host", Meaning::Value),
    ("MQTT_BROKER_PORT", "mqtt.port", Meaning::Value),
    ("MQTT_USERNAME", "mqtt.username", Meaning::Value),
    ("MQTT_PASSWORD", "mqtt.password", Meaning::Value),
    ("MQTT_TOPIC", "mqtt.subscriptions", Meaning::Topic),
    ("MQTT_CLIENT_ID", "mqtt.client_id", Meaning::Value),
    ("MQTT_KEEPALIVE_SECONDS", "mqtt.keep_alive", Meaning::Seconds),
    ("MQTT_USE_TLS", "mqtt.transport", Meaning::Encrypted),
    ("MACHINE_OFFLINE_AFTER_SECONDS", "liveness.offline_after", Meaning::Seconds),
    ("DATABASE_URL", "store.url", Meaning::Value),
];

/// `RUN_MQTT_WORKER=false` keeps `run` from running.
const RUN_WORKER: &str = "RUN_MQTT_WORKER";

/// Reads the layer of these variables; `lower` are the layers below it.
pub(super) fn layer(
    variables: &BTreeMap<String, String>,
    lower: &[Layer],
    problems: &mut Problems,
) -> Map<String, Value> {
    let mut table = Map::new();
    for (name, key, meaning) in NAMES {
        let Some(given) = variables.get(name).filter(|text| !text.trim().is_empty()) else {
            continue;
        };
        let origin = variable_origin(name);
        let value = match meaning {
            Meaning::Value => keys::find(key).map(|key| from_text(key.kind, given, &origin)),
            Meaning::Topic => {
                let topics = vec![text_value(given.trim(), &origin)];
                Some(Value::new(Some(&origin), ValueKind::Array(topics)))
            }
            Meaning::Seconds => seconds(given).map(|duration| text_value(&duration, &origin)),
            Meaning::Encrypted => flag_from_text(given).map(|encrypted| {
                let transport = lower.iter().rev().find_map(|layer| text(layer.get(key)?));
                text_value(with_encryption(transport, encrypted), &origin)
            }),
        };
        match (value, meaning) {
            (Some(value), _) => insert(&mut table, &segments(key), value),
            (None, Meaning::Seconds) => {
                problems.add(
                    origin,
                    key,
                    format!("expected a number of seconds, found {}", found_text(given)),
                );
            }
            (None, _) => {
                problems.add(origin, key, format!("expected true or false, found {}", found_text(given)))
            }
        }
    }
    table
}

/// True unless `RUN_MQTT_WORKER` keeps `run` from running.
pub(super) fn worker_enabled(variables: &BTreeMap<String, String>, problems: &mut Problems) -> bool {
    let Some(given) = variables.get(RUN_WORKER).filter(|text| !text.trim().is_empty()) else {
        return true;
    };
    flag_from_text(given).unwrap_or_else(|| {
        let message = format!("expected true or false, found {}", found_text(given));
        problems.add(variable_origin(RUN_WORKER), "", message);
        true
    })
}

/// Turns seconds, with a fraction down to milliseconds, into the text of a duration.
fn seconds(text: &str) -> Option<String> {
    let seconds: f64 = text.trim().parse().ok()?;
    let millis = (seconds * 1000.0).round();
    // 2^53: above it a float cannot hold every millisecond. No key allows as much.
    (0.0..9e15).contains(&millis).then(|| format!("{millis}ms"))
}

fn with_encryption(transport: Option<&str>, encrypted: bool) -> &'static str {
    match (transport, encrypted) {
        (Some("ws" | "wss"), true) => "wss",
        (Some("ws" | "wss"), false) => "ws",
        (_, true) => "tls",
        (_, false) => "tcp",
    }
}

/// Warns about variables that look like one of Andon's but are not: `ANDON_MQTT_HOST` for `ANDON__MQTT__HOST`.
pub(super) fn misspelt(variables: &BTreeMap<String, String>) -> Vec<String> {
    let squeezed = |name: &str| name.to_ascii_uppercase().replace('_', "");
    let known: Vec<String> = keys::KEYS.iter().map(|key| keys::variable(key.path)).collect();
    variables
        .keys()
        .filter(|name| name.starts_with("ANDON_") && !name.starts_with("ANDON__"))
        .filter_map(|name| {
            let meant = known.iter().find(|known| squeezed(known) == squeezed(name))?;
            Some(format!("environment variable {name} has no effect; did you mean {meant}?"))
        })
        .collect()
}
