//! Expands what people write into what serde reads into [`Settings`](super::Settings): `"15s"` becomes a duration,
//! `"64MiB"` a number of bytes, `"broker:1884"` a host with a port.

use config::{Map, Value, ValueKind};
use serde::{Deserialize, Deserializer, de};

use super::keys::{KEYS, Kind, MACHINE};
use super::layers::{insert, lookup, segments};
use super::values::{duration, host_and_port, size, text};

/// Expands the value of every key. Values have been checked; those that are in their final form do not change.
pub(super) fn expanded(table: &Map<String, Value>) -> Map<String, Value> {
    let mut full = table.clone();
    for key in KEYS {
        if let Some(value) = lookup(table, key.path) {
            insert(&mut full, &segments(key.path), expand(key.kind, value));
        }
    }
    hosts_in_full(&mut full);
    subscriptions_in_full(&mut full);
    full
}

fn expand(kind: Kind, value: &Value) -> Value {
    let expanded = match kind {
        Kind::Duration { .. } => duration(value).map(|duration| {
            table([
                ("secs", ValueKind::U64(duration.as_secs())),
                ("nanos", ValueKind::U64(duration.subsec_nanos().into())),
            ])
        }),
        Kind::Size { .. } => size(value).map(ValueKind::U64),
        Kind::HostAndPort { .. } => {
            text(value).and_then(host_and_port).map(|(host, port)| endpoint(host, port))
        }
        Kind::Hosts => expand_items(value, |host| expand(Kind::HostAndPort { port_required: false }, host)),
        Kind::Subscriptions => expand_items(value, |entry| match &entry.kind {
            ValueKind::String(filter) => bare(table([("filter", ValueKind::String(filter.clone()))])),
            _ => entry.clone(),
        }),
        Kind::Machines => expand_machines(value),
        _ => None,
    };
    expanded.map_or_else(|| value.clone(), bare)
}

fn bare(kind: ValueKind) -> Value {
    Value::new(None, kind)
}

fn table<const N: usize>(entries: [(&str, ValueKind); N]) -> ValueKind {
    ValueKind::Table(entries.into_iter().map(|(name, kind)| (name.to_owned(), bare(kind))).collect())
}

fn endpoint(host: &str, port: Option<u16>) -> ValueKind {
    let host = ValueKind::String(host.to_owned());
    match port {
        Some(port) => table([("host", host), ("port", ValueKind::U64(port.into()))]),
        None => table([("host", host)]),
    }
}

fn expand_items(list: &Value, expand_item: impl Fn(&Value) -> Value) -> Option<ValueKind> {
    match &list.kind {
        ValueKind::Array(items) => Some(ValueKind::Array(items.iter().map(expand_item).collect())),
        _ => None,
    }
}

fn expand_machines(machines: &Value) -> Option<ValueKind> {
    let ValueKind::Table(machines) = &machines.kind else { return None };
    let mut full = machines.clone();
    for (id, rule) in machines {
        let ValueKind::Table(rule) = &rule.kind else { continue };
        for (key, value) in MACHINE.iter().filter_map(|key| Some((key, rule.get(key.path)?))) {
            insert(&mut full, &[id.clone(), key.path.to_owned()], expand(key.kind, value));
        }
    }
    Some(ValueKind::Table(full))
}

/// Gives every host a port, and `mqtt.hosts` at least the one of `mqtt.host`. The first of them is `mqtt.host`.
fn hosts_in_full(settings: &mut Map<String, Value>) {
    let (host, port) = (lookup(settings, "mqtt.host").cloned(), lookup(settings, "mqtt.port").cloned());
    let (Some(host), Some(port)) = (host, port) else { return };
    let mut hosts = list_of_tables(settings, "mqtt.hosts");
    if hosts.is_empty() {
        hosts.push(Map::from_iter([("host".to_owned(), host)]));
    }
    for each in &mut hosts {
        each.entry("port".to_owned()).or_insert_with(|| port.clone());
    }
    for name in ["host", "port"] {
        insert(settings, &segments(&format!("mqtt.{name}")), hosts[0][name].clone());
    }
    put_list(settings, "mqtt.hosts", hosts);
}

/// Gives every subscription a quality of service.
fn subscriptions_in_full(settings: &mut Map<String, Value>) {
    let Some(qos) = lookup(settings, "mqtt.qos").cloned() else { return };
    let mut subscriptions = list_of_tables(settings, "mqtt.subscriptions");
    for each in &mut subscriptions {
        each.entry("qos".to_owned()).or_insert_with(|| qos.clone());
    }
    put_list(settings, "mqtt.subscriptions", subscriptions);
}

fn list_of_tables(settings: &Map<String, Value>, key: &str) -> Vec<Map<String, Value>> {
    let items = match lookup(settings, key).map(|value| &value.kind) {
        Some(ValueKind::Array(items)) => items.as_slice(),
        _ => &[],
    };
    items
        .iter()
        .filter_map(|item| match &item.kind {
            ValueKind::Table(table) => Some(table.clone()),
            _ => None,
        })
        .collect()
}

fn put_list(settings: &mut Map<String, Value>, key: &str, tables: Vec<Map<String, Value>>) {
    let items = tables.into_iter().map(|table| bare(ValueKind::Table(table))).collect();
    insert(settings, &segments(key), bare(ValueKind::Array(items)));
}

/// Reads a time zone by its name.
pub(super) fn time_zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<chrono_tz::Tz, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}
