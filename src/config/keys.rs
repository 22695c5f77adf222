//! The table of keys: each with what its value may be. Unknown keys, nearest keys, types, bounds, environment names and
//! the "Allowed" lines of the documentation all follow from it.
//!
//! To add a key, add a line here (with `at_reload` if `app::live` applies it), a field in [`sections`](super::sections) and a paragraph in `config/default.toml`.
//! Tests compare the three.

use std::time::Duration;

use super::effect::Effect;
use super::sections::LogFormat;
use crate::domain::{MachineIdFrom, ProtocolChoice, Role, SyncMode, Transport, WhenFull, nearest};

/// One key of the configuration.
#[derive(Debug)]
pub(super) struct Key {
    /// Section and name, joined by dots.
    pub(super) path: &'static str,
    /// What its value may be.
    pub(super) kind: Kind,
    /// True if it may have no value. The empty text then means "none", also over a lower layer's value.
    pub(super) optional: bool,
    /// The name among systemd's credentials, if it is a secret. Its value can also stand in the file that
    /// `<path>_file` names.
    pub(super) credential: Option<&'static str>,
    /// When a new value takes effect in a running service.
    pub(super) effect: Effect,
}

impl Key {
    /// True if a reload replaces the value.
    pub(super) fn is_reloaded(&self) -> bool {
        self.effect != Effect::Restart
    }

    const fn at_reload(self) -> Self {
        Self { effect: Effect::Reload, ..self }
    }

    const fn at_next_connection(self) -> Self {
        Self { effect: Effect::NextConnection, ..self }
    }

    /// Returns the key that names this secret's file.
    pub(super) fn file_key(&self) -> String {
        format!("{}_file", self.path)
    }
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Integer { min: i64, max: i64 },
    /// A position among a topic's segments.
    Segment,
    /// A duration within bounds.
    Duration { min: Duration, max: Duration, whole_seconds: bool },
    /// A size in bytes within bounds.
    Size { min: u64, max: u64 },
    /// One word of a list.
    Choice(&'static [&'static str]),
    /// Text without control characters, with a bound on its bytes.
    Text { bytes_max: usize },
    /// A password or the like: never shown.
    Secret,
    /// A path of the file system.
    Path,
    /// The path of a file that exists and can be read.
    ReadableFile,
    /// The name of a site.
    SiteId,
    /// Host name or address, alone.
    Host,
    /// Host name or address, with or without a port.
    HostAndPort { port_required: bool },
    /// A list of hosts, each with or without a port.
    Hosts,
    /// IP address with port.
    Address,
    /// IP address with port, or a Unix socket.
    ListenAddress,
    /// The name of a time zone in the IANA database.
    TimeZone,
    /// The URL of the database, which may hold a password.
    DatabaseUrl,
    /// The name of a schema of PostgreSQL.
    SchemaName,
    /// `log.level`.
    LogLevels,
    /// The first levels of a topic to publish to.
    TopicPrefix,
    /// An MQTT topic filter.
    TopicFilter,
    /// A JSON pointer.
    JsonPointer,
    /// A list of texts.
    Texts,
    /// An IP address, or a range of them.
    Network,
    /// A list of [`Kind::Network`].
    Networks,
    /// The name of an HTTP header.
    HeaderName,
    /// A list of topic filters, or of tables of [`SUBSCRIPTION`].
    Subscriptions,
    /// A list of tables of [`LAST_WILL`].
    LastWills,
    /// A list of tables of [`TOKEN`].
    Tokens,
    /// A table: one of [`FIELDS`] → JSON pointer.
    Fields,
    /// A table: machine id → table of [`MACHINE`].
    Machines,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Text that MQTT can carry: its length is written in two bytes.
const MQTT_TEXT: Kind = Kind::Text { bytes_max: u16::MAX as usize };
/// Longest user name for an HTTP proxy, so that its header stays short.
const PROXY_TEXT_BYTES_MAX: usize = 255;
const QOS: Kind = Kind::Integer { min: 0, max: 2 };
const OFFLINE_AFTER: Kind = between(Duration::from_millis(100), YEAR);
const BACKOFF: Kind = between(MILLISECOND, HOUR);
const RETENTION: Kind = between(Duration::from_secs(60), Duration::from_secs(36_500 * 86_400));
const TIMEOUT: Kind = between(Duration::from_millis(100), HOUR);

/// Most entries of a list.
pub(super) const LIST_MAX: usize = 1000;
/// Most entries of `mqtt.hosts`.
pub(super) const HOSTS_MAX: usize = 16;
/// Longest text of a list, in bytes (ALPN's bound).
pub(super) const LISTED_TEXT_BYTES_MAX: usize = 255;
/// Longest `liveness.publish_prefix`, in bytes.
pub(super) const TOPIC_PREFIX_BYTES_MAX: usize = 1024;
/// Longest name of a token.
const TOKEN_NAME_BYTES_MAX: usize = 64;
/// Longest `site.id`.
pub(super) const SITE_ID_CHARS_MAX: usize = 64;
/// Furthest position of a topic segment.
pub(super) const SEGMENT_MAX: i64 = 128;

const fn between(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max, whole_seconds: false }
}

const fn seconds_between(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max, whole_seconds: true }
}

const fn required(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, optional: false, credential: None, effect: Effect::Restart }
}

const fn optional(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, optional: true, credential: None, effect: Effect::Restart }
}

const fn secret(path: &'static str, credential: &'static str) -> Key {
    Key { path, kind: Kind::Secret, optional: true, credential: Some(credential), effect: Effect::Restart }
}

/// Room in a packet for all but the payload: a topic of 65,535 bytes, the header, and some properties.
pub(super) const AROUND_PAYLOAD_BYTES: u64 = 66 * KIB;
/// The largest remaining length that MQTT can encode.
const PACKET_BYTES_MAX: u64 = 268_435_455;

/// All keys, section by section, in the order of the documentation.
pub(super) const KEYS: &[Key] = &[
    required("site.id", Kind::SiteId),
    required("site.time_zone", Kind::TimeZone).at_reload(),
    required("mqtt.host", Kind::Host),
    required("mqtt.hosts", Kind::Hosts),
    optional("mqtt.port", Kind::Integer { min: 1, max: 65_535 }),
    required("mqtt.transport", Kind::Choice(Transport::WORDS)),
    optional("mqtt.proxy", Kind::HostAndPort { port_required: true }),
    optional("mqtt.proxy_username", Kind::Text { bytes_max: PROXY_TEXT_BYTES_MAX }).at_next_connection(),
    secret("mqtt.proxy_password", "mqtt_proxy_password").at_next_connection(),
    optional("mqtt.proxy_password_file", Kind::Path).at_next_connection(),
    required("mqtt.protocol", Kind::Choice(ProtocolChoice::WORDS)),
    optional("mqtt.client_id", MQTT_TEXT),
    optional("mqtt.username", MQTT_TEXT).at_next_connection(),
    secret("mqtt.password", "mqtt_password").at_next_connection(),
    optional("mqtt.password_file", Kind::Path).at_next_connection(),
    required("mqtt.keep_alive", seconds_between(SECOND, Duration::from_secs(u16::MAX as u64))),
    required("mqtt.qos", QOS),
    required("mqtt.session_expiry", seconds_between(SECOND, Duration::from_secs(49_710 * 86_400))),
    required("mqtt.receive_maximum", Kind::Integer { min: 1, max: 65_535 }),
    required("mqtt.max_payload", Kind::Size { min: 1, max: 64 * MIB }),
    optional("mqtt.max_packet", Kind::Size { min: AROUND_PAYLOAD_BYTES, max: PACKET_BYTES_MAX }),
    required("mqtt.connect_timeout", between(SECOND, HOUR)),
    required("mqtt.backoff_min", BACKOFF),
    required("mqtt.backoff_max", BACKOFF),
    required("mqtt.subscriptions", Kind::Subscriptions),
    optional("mqtt.tls.ca_file", Kind::ReadableFile).at_next_connection(),
    optional("mqtt.tls.cert_file", Kind::ReadableFile).at_next_connection(),
    optional("mqtt.tls.key_file", Kind::ReadableFile).at_next_connection(),
    secret("mqtt.tls.key_password", "mqtt_key_password").at_next_connection(),
    optional("mqtt.tls.key_password_file", Kind::Path).at_next_connection(),
    required("mqtt.tls.alpn", Kind::Texts).at_next_connection(),
    required("mqtt.tls.verify", Kind::Flag).at_next_connection(),
    required("journal.dir", Kind::Path),
    required("journal.max_bytes", Kind::Size { min: 256 * KIB, max: 64 * TIB }),
    required("journal.segment_bytes", Kind::Size { min: 64 * KIB, max: 1024 * MIB }),
    required("journal.sync", Kind::Choice(SyncMode::WORDS)),
    required("journal.when_full", Kind::Choice(WhenFull::WORDS)),
    Key { credential: Some("store_url"), ..required("store.url", Kind::DatabaseUrl) },
    optional("store.url_file", Kind::Path),
    optional("store.schema", Kind::SchemaName),
    required("store.batch_max", Kind::Integer { min: 1, max: 65_536 }),
    optional("store.retention", RETENTION).at_reload(),
    optional("store.retention_events", RETENTION).at_reload(),
    optional("store.retention_rejected", RETENTION).at_reload(),
    optional("store.rejected_max_bytes", Kind::Size { min: MIB, max: 64 * TIB }).at_reload(),
    optional("store.retention_audit", RETENTION).at_reload(),
    required("store.timescale", Kind::Flag),
    required("store.connect_timeout", seconds_between(Duration::from_secs(2), HOUR)),
    required("store.statement_timeout", TIMEOUT),
    required("store.lock_timeout", TIMEOUT),
    required("store.backoff_min", BACKOFF),
    required("store.backoff_max", BACKOFF),
    required("payload.max_ahead", between(Duration::ZERO, Duration::from_secs(36_500 * 86_400))),
    required("payload.machine_id_from", Kind::Choice(MachineIdFrom::WORDS)),
    required(PAYLOAD_FIELDS, Kind::Fields),
    required("liveness.offline_after", OFFLINE_AFTER).at_reload(),
    optional("liveness.publish_prefix", Kind::TopicPrefix),
    required("liveness.machines_max", Kind::Integer { min: 1, max: 10_000_000 }).at_reload(),
    required("liveness.flapping_changes", Kind::Integer { min: 1, max: 1000 }).at_reload(),
    required("liveness.flapping_window", between(SECOND, DAY)).at_reload(),
    required(LIVENESS_MACHINES, Kind::Machines).at_reload(),
    required("liveness.last_will", Kind::LastWills),
    required("http.bind", Kind::Address),
    optional("http.health_bind", Kind::ListenAddress),
    secret("http.token", "http_token").at_reload(),
    optional("http.token_file", Kind::Path).at_reload(),
    required(HTTP_TOKENS, Kind::Tokens).at_reload(),
    required("http.anonymous", Kind::Flag).at_reload(),
    required("http.trusted_proxies", Kind::Networks).at_reload(),
    optional("http.proxy_user_header", Kind::HeaderName).at_reload(),
    required("http.proxy_user_role", Kind::Choice(Role::WORDS)).at_reload(),
    required("http.proxy_operators", Kind::Texts).at_reload(),
    required("http.session_max", between(Duration::from_secs(300), Duration::from_secs(90 * 86_400)))
        .at_reload(),
    required("http.connections_max", Kind::Integer { min: 8, max: 10_000 }),
    required("http.connections_per_address", Kind::Integer { min: 8, max: 10_000 }).at_reload(),
    required("http.streams_max", Kind::Integer { min: 1, max: 5_000 }).at_reload(),
    required("http.streams_per_address", Kind::Integer { min: 1, max: 5_000 }).at_reload(),
    optional("http.tls.cert_file", Kind::ReadableFile),
    optional("http.tls.key_file", Kind::ReadableFile),
    optional("http.tls.client_ca_file", Kind::ReadableFile),
    required("metrics.per_machine", Kind::Flag).at_reload(),
    required("supervisor.restarts_max", Kind::Integer { min: 0, max: 1000 }),
    required("supervisor.period", between(SECOND, DAY)),
    required("supervisor.backoff_min", BACKOFF),
    required("supervisor.backoff_max", BACKOFF),
    required("supervisor.hang_after", between(SECOND, HOUR)),
    required("log.format", Kind::Choice(LogFormat::WORDS)),
    required("log.level", Kind::LogLevels).at_reload(),
    optional("log.status_interval", between(SECOND, DAY)).at_reload(),
];

/// The table whose keys are machine ids.
pub(super) const LIVENESS_MACHINES: &str = "liveness.machines";
/// The table whose keys are fields of a reading.
pub(super) const PAYLOAD_FIELDS: &str = "payload.fields";
/// Names the file of a named token.
pub(super) const TOKEN_FILE: &str = "token_file";
/// The named tokens, whose secrets lie in files.
pub(super) const HTTP_TOKENS: &str = "http.tokens";
/// The fields that `payload.fields` can locate.
pub(super) const FIELDS: [&str; 5] = ["machine_id", "temperature", "humidity", "vibration", "timestamp"];
/// Keys of one table in `mqtt.subscriptions`; only the filter is required.
pub(super) const SUBSCRIPTION: &[Key] = &[
    required("filter", Kind::TopicFilter),
    optional("qos", QOS),
    optional("machine_segment", Kind::Segment),
];
/// Keys of one table in `liveness.last_will`.
pub(super) const LAST_WILL: &[Key] = &[
    required("filter", Kind::TopicFilter),
    required("payload", MQTT_TEXT),
    optional("machine_segment", Kind::Segment),
];
/// Keys of one table in `http.tokens`.
pub(super) const TOKEN: &[Key] = &[
    required("name", Kind::Text { bytes_max: TOKEN_NAME_BYTES_MAX }),
    required("role", Kind::Choice(Role::WORDS)),
    required(TOKEN_FILE, Kind::Path),
];
/// Keys of one table in `liveness.machines`.
pub(super) const MACHINE: &[Key] =
    &[optional("offline_after", OFFLINE_AFTER), optional("expected", Kind::Flag)];

/// Returns the keys that hold a secret.
pub(super) fn secrets() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.credential.is_some())
}

/// Returns the key of that path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Returns what the value at `path` may be. The path may lead into `payload.fields` or `liveness.machines`, where a
/// part of it is free.
pub(super) fn kind_at(path: &[String]) -> Option<Kind> {
    if let Some(key) = find(&path.join(".")) {
        return Some(key.kind);
    }
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["payload", "fields", _] => Some(Kind::JsonPointer),
        ["liveness", "machines", _, name] => MACHINE.iter().find(|key| key.path == *name).map(|key| key.kind),
        _ => None,
    }
}

/// True if there are keys below `path`.
pub(super) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Returns the environment variable of a key.
pub(super) fn variable(path: &str) -> String {
    format!("ANDON__{}", path.to_ascii_uppercase().replace('.', "__"))
}

/// Returns the known key that `unknown` was probably meant to be: the same name in another section, or the most
/// similar path.
pub(super) fn nearest_key(unknown: &str) -> Option<&'static str> {
    let name = unknown.rsplit('.').next().unwrap_or(unknown);
    let same_name = |key: &&Key| key.path.rsplit('.').next() == Some(name);
    let mut with_same_name = KEYS.iter().filter(same_name);
    if let (Some(only), None) = (with_same_name.next(), with_same_name.next()) {
        return Some(only.path);
    }
    nearest(unknown, KEYS.iter().map(|key| key.path))
}

/// Returns the section that `unknown` was probably meant to be.
pub(super) fn nearest_section(unknown: &str) -> Option<&'static str> {
    let sections = KEYS.iter().filter_map(|key| key.path.rsplit_once('.')).map(|(section, _)| section);
    nearest(unknown, sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intended_key_is_found() {
        let table = [
            ("mqtt.hst", Some("mqtt.host")),
            ("mqtt.hots", Some("mqtt.hosts")),
            ("mqtt.keepalive", Some("mqtt.keep_alive")),
            ("mqtt.ca_file", Some("mqtt.tls.ca_file")),
            ("mqtt.bind", Some("http.bind")),
            ("mqtt.offline_after", Some("liveness.offline_after")),
            ("mqtt.subscription", Some("mqtt.subscriptions")),
            ("retention", Some("store.retention")),
            ("zzz.qqq", None),
        ];
        for (unknown, expected) in table {
            assert_eq!(nearest_key(unknown), expected, "{unknown}");
        }
    }

    /// Proves CFG-1.
    #[test]
    fn every_key_is_named_once_and_every_secret_is_a_key() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.path != key.path), "{} twice", key.path);
        }
        for secret in secrets() {
            assert!(matches!(secret.kind, Kind::Secret | Kind::DatabaseUrl), "{}", secret.path);
            assert_eq!(find(&secret.file_key()).expect("a known key").kind, Kind::Path, "{}", secret.path);
        }
        let secret_keys = KEYS.iter().filter(|key| matches!(key.kind, Kind::Secret | Kind::DatabaseUrl));
        assert_eq!(secret_keys.count(), secrets().count());
    }
}
