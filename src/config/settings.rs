//! From the merged layers to [`Settings`]: values that were taken back go, values that were left open are derived,
//! durations and sizes are written as a person writes them, and serde reads all of it.
//!
//! Only checked values get here (CFG-2), and `default.toml` sets every required key (a test proves it): a value that
//! is missing or does not fit its field is a bug.

use config::{Config, Map, Value, ValueKind};
use serde::Deserialize;

use super::expand::expanded;
use super::keys::{KEYS, Kind, LIVENESS_MACHINES, MACHINE, PAYLOAD_FIELDS};
use super::layers::{Layer, insert, lookup, segments};
use super::problem::Problems;
use super::sections::Settings;
use super::units::show_size;
use super::values::{duration, size, text, text_value};
use crate::domain::{Transport, duration_text};

/// Default of `mqtt.max_packet`, unless payloads may be larger.
const PACKET_BYTES_DEFAULT: u64 = 4 << 20;
const CHECKED: &str = "values were checked layer by layer, and default.toml sets every required key";

/// Lays the layers over one another; later ones win, tables are merged, lists are replaced.
pub(super) fn merge(layers: &[Layer], problems: &mut Problems) -> Map<String, Value> {
    let builder = layers.iter().fold(Config::builder(), |builder, layer| builder.add_source(layer.clone()));
    let merged = builder.build().and_then(|config| config.cache.into_table());
    merged.unwrap_or_else(|error| {
        problems.add("configuration", "", error.to_string());
        Map::new()
    })
}

/// All values in effect, each with its origin; secrets included.
#[derive(Clone)]
pub(super) struct Values {
    table: Map<String, Value>,
}

impl std::fmt::Debug for Values {
    /// Shows nothing: some are secrets (CFG-4).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Values").finish_non_exhaustive()
    }
}

impl Values {
    /// Removes what a later layer took back, and derives what was left open.
    pub(super) fn normalised(mut table: Map<String, Value>) -> Self {
        drop_empty(&mut table);
        humanise(&mut table);
        let mut values = Self { table };
        values.derive_port();
        values.derive_client_id();
        values.derive_max_packet();
        values
    }

    fn derive_port(&mut self) {
        let transport = self.get("mqtt.transport").cloned().map(Transport::deserialize);
        if let (None, Some(Ok(transport))) = (self.get("mqtt.port"), transport) {
            let origin = format!("default of transport {}", transport.as_str());
            let port = ValueKind::I64(transport.default_port().into());
            self.put("mqtt.port", Value::new(Some(&origin), port));
        }
    }

    fn derive_client_id(&mut self) {
        let site = self.get("site.id").and_then(text);
        if let (None, Some(site)) = (self.get("mqtt.client_id"), site) {
            let client_id = format!("andon-{site}");
            self.put("mqtt.client_id", text_value(&client_id, "derived from site.id"));
        }
    }

    fn derive_max_packet(&mut self) {
        let max_payload = self.get("mqtt.max_payload").and_then(size);
        if let (None, Some(max_payload)) = (self.get("mqtt.max_packet"), max_payload) {
            let bytes = show_size(PACKET_BYTES_DEFAULT.max(2 * max_payload));
            self.put("mqtt.max_packet", text_value(&bytes, "derived from mqtt.max_payload"));
        }
    }

    fn put(&mut self, key: &str, value: Value) {
        insert(&mut self.table, &segments(key), value);
    }

    /// Takes over the value that a key has in `newer`, or that it has none.
    pub(super) fn take_over(&mut self, key: &str, newer: &Self) {
        match newer.get(key) {
            Some(value) => self.put(key, value.clone()),
            None => remove(&mut self.table, key),
        }
    }

    /// Returns the value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        lookup(&self.table, key)
    }

    /// Returns where the value of a key comes from; empty if it has none.
    pub(super) fn origin(&self, key: &str) -> &str {
        self.get(key).and_then(Value::origin).unwrap_or_default()
    }

    /// Returns the merged table.
    pub(super) fn table(&self) -> &Map<String, Value> {
        &self.table
    }

    /// Returns all of it, typed.
    pub(super) fn settings(&self) -> Settings {
        let table = ValueKind::Table(expanded(&self.table));
        Settings::deserialize(Value::new(None, table)).expect(CHECKED)
    }
}

/// Removes optional values that are empty: so a layer takes back what a lower one set.
fn drop_empty(table: &mut Map<String, Value>) {
    for key in KEYS.iter().filter(|key| key.optional) {
        if lookup(table, key.path).is_some_and(is_blank) {
            remove(table, key.path);
        }
    }
    for free_keys in [PAYLOAD_FIELDS, LIVENESS_MACHINES] {
        if let Some(table) = table_mut(table, free_keys) {
            drop_empty_below(table);
        }
    }
}

fn drop_empty_below(table: &mut Map<String, Value>) {
    table.retain(|_, value| !is_blank(value));
    for value in table.values_mut() {
        if let ValueKind::Table(below) = &mut value.kind {
            drop_empty_below(below);
        }
    }
}

fn is_blank(value: &Value) -> bool {
    text(value).is_some_and(|text| text.trim().is_empty())
}

/// Writes durations and sizes as a person would: `37s` for what came as `37000ms`.
fn humanise(table: &mut Map<String, Value>) {
    for key in KEYS {
        if let Some(value) = value_mut(table, key.path) {
            humanise_value(key.kind, value);
        }
    }
    let rules = table_mut(table, LIVENESS_MACHINES).into_iter().flat_map(Map::values_mut);
    for rule in rules {
        let ValueKind::Table(rule) = &mut rule.kind else { continue };
        for key in MACHINE {
            if let Some(value) = rule.get_mut(key.path) {
                humanise_value(key.kind, value);
            }
        }
    }
}

fn humanise_value(kind: Kind, value: &mut Value) {
    let written = match (kind, &value.kind) {
        (Kind::Duration { .. }, _) => duration(value).map(duration_text::exact),
        (Kind::Size { .. }, _) => size(value).map(show_size),
        (Kind::Choice(_), ValueKind::I64(number)) => Some(number.to_string()),
        _ => None,
    };
    if let Some(written) = written {
        value.kind = ValueKind::String(written);
    }
}

fn value_mut<'a>(table: &'a mut Map<String, Value>, path: &str) -> Option<&'a mut Value> {
    let (section, name) = path.rsplit_once('.')?;
    table_mut(table, section)?.get_mut(name)
}

fn table_mut<'a>(table: &'a mut Map<String, Value>, path: &str) -> Option<&'a mut Map<String, Value>> {
    path.split('.').try_fold(table, |table, name| match &mut table.get_mut(name)?.kind {
        ValueKind::Table(below) => Some(below),
        _ => None,
    })
}

fn remove(table: &mut Map<String, Value>, path: &str) {
    if let Some((section, name)) = path.rsplit_once('.')
        && let Some(section) = table_mut(table, section)
    {
        section.remove(name);
    }
}
