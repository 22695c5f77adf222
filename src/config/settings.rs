//! From the merged layers to [`Settings`]: what was left open is derived, then every value is put into its type.
//!
//! Only checked values get here (CFG-2), and `default.toml` sets every required key (a test says so): a getter
//! that finds nothing has found a broken invariant.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use config::{Config, Map, Value, ValueKind};

use super::keys::{KEYS, Kind};
use super::layers::{Layer, insert, lookup, segments};
use super::log_levels::LogLevels;
use super::problem::Problems;
use super::secret::{DatabaseUrl, Secret};
use super::sections::{
    HostAndPort, Http, Journal, LastWill, Liveness, Log, LogFormat, MachineRule, Metrics, Mqtt, Payload,
    Protocol, Proxy, Settings, Site, Store, Subscription, Supervisor, SyncMode, Tls, Transport, WhenFull,
};
use super::units::{show_duration, show_size};
use super::values::{duration, host_and_port, integer, size, text, text_value};
use crate::domain::{MachineId, Qos, TopicFilter};

/// Position of the machine id in a topic unless told otherwise: the second to last segment.
const MACHINE_SEGMENT: i32 = -2;
/// Bound on a packet unless told otherwise, or payloads may be larger.
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

/// All values in effect, each with its origin.
pub(super) struct Values {
    table: Map<String, Value>,
}

impl Values {
    /// Takes out what is set to nothing, and derives what was left open.
    pub(super) fn normalised(mut table: Map<String, Value>) -> Self {
        drop_empty(&mut table);
        humanise(&mut table);
        let mut values = Self { table };
        if values.get("mqtt.port").is_none() {
            let transport = values.transport();
            let origin = format!("default of transport {}", transport.as_str());
            let port = ValueKind::I64(i64::from(transport.default_port()));
            values.derive("mqtt.port", Value::new(Some(&origin), port));
        }
        if values.get("mqtt.client_id").is_none() {
            let client_id = format!("andon-{}", values.required_text("site.id"));
            values.derive("mqtt.client_id", text_value(&client_id, "derived from site.id"));
        }
        if values.get("mqtt.max_packet").is_none() {
            let bytes = PACKET_BYTES_DEFAULT.max(2 * values.size("mqtt.max_payload"));
            values.derive("mqtt.max_packet", text_value(&show_size(bytes), "derived from mqtt.max_payload"));
        }
        values
    }

    fn derive(&mut self, key: &str, value: Value) {
        insert(&mut self.table, &segments(key), value);
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        lookup(&self.table, key)
    }

    /// Where the value of a key comes from; empty if it has none.
    pub(super) fn origin(&self, key: &str) -> &str {
        self.get(key).and_then(Value::origin).unwrap_or_default()
    }

    /// The merged table.
    pub(super) fn into_table(self) -> Map<String, Value> {
        self.table
    }

    /// All of it, typed.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            site: Site {
                id: self.required_text("site.id"),
                time_zone: self.required_text("site.time_zone").parse().expect(CHECKED),
            },
            mqtt: self.mqtt(),
            journal: self.journal(),
            store: self.store(),
            payload: Payload { max_ahead: self.duration("payload.max_ahead"), fields: self.fields() },
            liveness: self.liveness(),
            http: Http {
                bind: self.required_text("http.bind").parse().expect(CHECKED),
                token: self.secret("http.token"),
                anonymous: self.flag("http.anonymous"),
                connections_max: self.number("http.connections_max"),
                streams_max: self.number("http.streams_max"),
            },
            metrics: Metrics { per_machine: self.flag("metrics.per_machine") },
            supervisor: Supervisor {
                restarts_max: self.number("supervisor.restarts_max"),
                period: self.duration("supervisor.period"),
                backoff_min: self.duration("supervisor.backoff_min"),
                backoff_max: self.duration("supervisor.backoff_max"),
                hang_after: self.duration("supervisor.hang_after"),
            },
            log: Log {
                format: self.choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
                level: LogLevels::parse(&self.required_text("log.level")).expect(CHECKED),
                status_interval: self.get("log.status_interval").and_then(duration),
            },
        }
    }

    fn mqtt(&self) -> Mqtt {
        let protocols = [("auto", Protocol::Auto), ("5", Protocol::V5), ("3.1.1", Protocol::V311)];
        let qos = qos(self.get("mqtt.qos")).expect(CHECKED);
        let hosts = self.hosts();
        let first = hosts.first().cloned().expect("mqtt.host is there if mqtt.hosts is empty");
        Mqtt {
            host: first.host,
            port: first.port,
            hosts,
            proxy: self.proxy(),
            transport: self.transport(),
            protocol: self.choice("mqtt.protocol", &protocols),
            client_id: self.required_text("mqtt.client_id"),
            username: self.text("mqtt.username"),
            password: self.secret("mqtt.password"),
            keep_alive: self.duration("mqtt.keep_alive"),
            qos,
            session_expiry: self.duration("mqtt.session_expiry"),
            receive_maximum: self.number("mqtt.receive_maximum"),
            max_payload: usize::try_from(self.size("mqtt.max_payload")).expect("at most 64 MiB"),
            max_packet: u32::try_from(self.size("mqtt.max_packet")).expect("at most 256 MiB"),
            connect_timeout: self.duration("mqtt.connect_timeout"),
            backoff_min: self.duration("mqtt.backoff_min"),
            backoff_max: self.duration("mqtt.backoff_max"),
            subscriptions: self
                .list("mqtt.subscriptions")
                .iter()
                .map(|item| subscription(item, qos))
                .collect(),
            tls: Tls {
                ca_file: self.path("mqtt.tls.ca_file"),
                cert_file: self.path("mqtt.tls.cert_file"),
                key_file: self.path("mqtt.tls.key_file"),
                key_password: self.secret("mqtt.tls.key_password"),
                alpn: self.list("mqtt.tls.alpn").iter().filter_map(text).map(str::to_owned).collect(),
                verify: self.flag("mqtt.tls.verify"),
            },
        }
    }

    /// Those of `mqtt.hosts`, or else the one of `mqtt.host`.
    fn hosts(&self) -> Vec<HostAndPort> {
        let usual: u16 = self.number("mqtt.port");
        let several = self.list("mqtt.hosts").iter().filter_map(text).filter_map(host_and_port);
        let mut hosts: Vec<HostAndPort> = several
            .map(|(host, port)| HostAndPort { host: host.to_owned(), port: port.unwrap_or(usual) })
            .collect();
        if hosts.is_empty() {
            hosts.push(HostAndPort { host: self.required_text("mqtt.host"), port: usual });
        }
        hosts
    }

    fn proxy(&self) -> Option<Proxy> {
        let at = self.text("mqtt.proxy")?;
        let (host, port) = host_and_port(&at).expect(CHECKED);
        Some(Proxy {
            at: HostAndPort { host: host.to_owned(), port: port.expect(CHECKED) },
            username: self.text("mqtt.proxy_username"),
            password: self.secret("mqtt.proxy_password"),
        })
    }

    fn journal(&self) -> Journal {
        let modes =
            [("before_ack", SyncMode::BeforeAck), ("background", SyncMode::Background), ("os", SyncMode::Os)];
        let policies = [("hold", WhenFull::Hold), ("drop_oldest", WhenFull::DropOldest)];
        Journal {
            dir: self.path("journal.dir").expect(CHECKED),
            max_bytes: self.size("journal.max_bytes"),
            segment_bytes: self.size("journal.segment_bytes"),
            sync: self.choice("journal.sync", &modes),
            when_full: self.choice("journal.when_full", &policies),
        }
    }

    fn store(&self) -> Store {
        Store {
            url: DatabaseUrl::parse(&self.required_text("store.url")).expect(CHECKED),
            batch_max: self.number("store.batch_max"),
            retention: self.get("store.retention").and_then(duration),
            connect_timeout: self.duration("store.connect_timeout"),
            statement_timeout: self.duration("store.statement_timeout"),
            lock_timeout: self.duration("store.lock_timeout"),
            backoff_min: self.duration("store.backoff_min"),
            backoff_max: self.duration("store.backoff_max"),
        }
    }

    fn liveness(&self) -> Liveness {
        Liveness {
            offline_after: self.duration("liveness.offline_after"),
            publish_prefix: self.text("liveness.publish_prefix"),
            machines_max: self.number("liveness.machines_max"),
            flapping_changes: self.number("liveness.flapping_changes"),
            flapping_window: self.duration("liveness.flapping_window"),
            machines: self.machines(),
            last_will: self.list("liveness.last_will").iter().map(last_will).collect(),
        }
    }

    fn fields(&self) -> BTreeMap<String, String> {
        let pointers = self.table_of("payload.fields");
        pointers
            .into_iter()
            .flatten()
            .filter_map(|(field, pointer)| Some((field.clone(), text(pointer)?.to_owned())))
            .collect()
    }

    fn machines(&self) -> BTreeMap<MachineId, MachineRule> {
        let rules = self.table_of("liveness.machines");
        rules
            .into_iter()
            .flatten()
            .map(|(id, rule)| {
                let rule = MachineRule {
                    offline_after: below(rule, "offline_after").and_then(duration),
                    expected: below(rule, "expected").is_some_and(is_true),
                };
                (MachineId::parse(id).expect(CHECKED), rule)
            })
            .collect()
    }

    fn transport(&self) -> Transport {
        let all = [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
        self.choice("mqtt.transport", &all.map(|transport| (transport.as_str(), transport)))
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(text).map(str::to_owned)
    }

    fn required_text(&self, key: &str) -> String {
        self.text(key).expect(CHECKED)
    }

    fn secret(&self, key: &str) -> Option<Secret> {
        self.text(key).map(Secret::new)
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    fn duration(&self, key: &str) -> Duration {
        self.get(key).and_then(duration).expect(CHECKED)
    }

    fn size(&self, key: &str) -> u64 {
        self.get(key).and_then(size).expect(CHECKED)
    }

    fn number<N: TryFrom<i64>>(&self, key: &str) -> N {
        self.get(key).and_then(integer).and_then(|number| N::try_from(number).ok()).expect(CHECKED)
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(is_true)
    }

    fn list(&self, key: &str) -> &[Value] {
        match self.get(key).map(|value| &value.kind) {
            Some(ValueKind::Array(items)) => items,
            _ => &[],
        }
    }

    fn table_of(&self, key: &str) -> Option<&Map<String, Value>> {
        match &self.get(key)?.kind {
            ValueKind::Table(table) => Some(table),
            _ => None,
        }
    }

    fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> T {
        // A number is also a word (`protocol = 5`).
        let given = self.get(key).map(|value| match &value.kind {
            ValueKind::I64(number) => number.to_string(),
            _ => text(value).unwrap_or_default().to_owned(),
        });
        let chosen = words.iter().find(|(word, _)| given.as_deref() == Some(*word));
        chosen.map(|(_, meaning)| *meaning).expect(CHECKED)
    }
}

/// An optional value set to the empty text is not set: so a layer can take back what a lower one gave.
fn drop_empty(table: &mut Map<String, Value>) {
    for key in KEYS.iter().filter(|key| key.optional) {
        let is_empty = lookup(table, key.path).and_then(text).is_some_and(|text| text.trim().is_empty());
        if is_empty {
            remove(table, key.path);
        }
    }
    for free_keys in [super::keys::PAYLOAD_FIELDS, super::keys::LIVENESS_MACHINES] {
        if let Some(table) = table_mut(table, free_keys) {
            drop_empty_below(table);
        }
    }
}

/// Writes durations and sizes as a person would: `37s` for what came as `37000ms`.
fn humanise(table: &mut Map<String, Value>) {
    for key in KEYS {
        humanise_value(table, &segments(key.path), key.kind);
    }
    let machines = lookup(table, super::keys::LIVENESS_MACHINES).map(|value| &value.kind);
    let Some(ValueKind::Table(machines)) = machines else { return };
    for id in machines.keys().cloned().collect::<Vec<_>>() {
        for key in super::keys::MACHINE {
            let mut path = segments(super::keys::LIVENESS_MACHINES);
            path.extend([id.clone(), key.path.to_owned()]);
            humanise_value(table, &path, key.kind);
        }
    }
}

fn humanise_value(table: &mut Map<String, Value>, path: &[String], kind: Kind) {
    let Some((name, sections)) = path.split_last() else { return };
    let section = sections.iter().try_fold(&*table, |table, name| match &table.get(name)?.kind {
        ValueKind::Table(below) => Some(below),
        _ => None,
    });
    let Some(value) = section.and_then(|section| section.get(name)) else { return };
    let shown = match kind {
        Kind::Duration { .. } => duration(value).map(show_duration),
        Kind::Size { .. } => size(value).map(show_size),
        _ => None,
    };
    if let Some(shown) = shown {
        let value = text_value(&shown, value.origin().unwrap_or_default());
        insert(table, path, value);
    }
}

fn drop_empty_below(table: &mut Map<String, Value>) {
    table.retain(|_, value| match &mut value.kind {
        ValueKind::String(text) => !text.trim().is_empty(),
        ValueKind::Table(below) => {
            drop_empty_below(below);
            true
        }
        _ => true,
    });
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

fn below<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(name),
        _ => None,
    }
}

fn is_true(value: &Value) -> bool {
    matches!(value.kind, ValueKind::Boolean(true))
}

fn qos(value: Option<&Value>) -> Option<Qos> {
    value.and_then(integer).and_then(|number| u8::try_from(number).ok()).and_then(Qos::from_u8)
}

fn machine_segment(entry: &Value) -> i32 {
    let given = below(entry, "machine_segment").and_then(integer);
    given.and_then(|number| i32::try_from(number).ok()).unwrap_or(MACHINE_SEGMENT)
}

fn filter(entry: Option<&Value>) -> TopicFilter {
    entry.and_then(text).and_then(|text| TopicFilter::parse(text).ok()).expect(CHECKED)
}

fn subscription(entry: &Value, default_qos: Qos) -> Subscription {
    Subscription {
        filter: filter(below(entry, "filter").or(Some(entry))),
        qos: qos(below(entry, "qos")).unwrap_or(default_qos),
        machine_segment: machine_segment(entry),
    }
}

fn last_will(entry: &Value) -> LastWill {
    LastWill {
        filter: filter(below(entry, "filter")),
        payload: below(entry, "payload").and_then(text).expect(CHECKED).to_owned(),
        machine_segment: machine_segment(entry),
    }
}
