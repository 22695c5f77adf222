//! The settings as the rest of the program sees them: typed, within bounds, free of contradictions.
//!
//! Each struct is a section of the configuration file, each field one of its keys; serde fills them. Only
//! [`load`](super::load) returns a [`Settings`], so no other code has to check its values again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::expand::time_zone;
use super::log_levels::LogLevels;
use super::secret::Secret;
use crate::database_url::{DatabaseUrl, SchemaName};
use crate::domain::{
    Endpoint, IpRange, LastWillRule, ListenAddress, MachineId, MachineIdFrom, MachineRule, ProtocolChoice,
    Qos, Role, SyncMode, TopicFilter, Transport, WhenFull, second_to_last_segment, word_enum,
};

/// Everything that can be set, by section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Settings {
    /// `[site]`
    pub site: Site,
    /// `[mqtt]`
    pub mqtt: Mqtt,
    /// `[journal]`
    pub journal: Journal,
    /// `[store]`
    pub store: Store,
    /// `[payload]`
    pub payload: Payload,
    /// `[liveness]`
    pub liveness: Liveness,
    /// `[http]`
    pub http: Http,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[supervisor]`
    pub supervisor: Supervisor,
    /// `[log]`
    pub log: Log,
}

/// `[site]`: the plant, building or line that this instance serves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Site {
    /// In every row and every status topic; 1 to 64 of `a-z 0-9 _ . -`.
    pub id: String,
    /// Its midnight divides today from yesterday.
    #[serde(deserialize_with = "time_zone")]
    pub time_zone: chrono_tz::Tz,
}

/// `[mqtt]`: the broker and what Andon asks of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Mqtt {
    /// Host name or IP address (IPv6 without brackets) of the first broker.
    pub host: String,
    /// Its port; the usual one of the transport unless set.
    pub port: u16,
    /// All brokers, the first included, in the order in which Andon tries them; 1 to 16, none twice.
    pub hosts: Vec<Endpoint>,
    /// HTTP proxy for the transports `ws` and `wss`.
    pub proxy: Option<Endpoint>,
    /// User name at the proxy; only with `proxy`.
    pub proxy_username: Option<String>,
    /// Password at the proxy; only with `proxy_username`.
    pub proxy_password: Option<Secret>,
    /// What carries MQTT.
    pub transport: Transport,
    /// Which version to speak.
    pub protocol: ProtocolChoice,
    /// Names the persistent session; `andon-<site>` unless set.
    pub client_id: String,
    /// User name, if the broker wants one.
    pub username: Option<String>,
    /// Password, if the broker wants one.
    pub password: Option<Secret>,
    /// Keep-alive interval, whole seconds.
    pub keep_alive: Duration,
    /// Quality of service of subscriptions that do not set their own.
    pub qos: Qos,
    /// How long the broker keeps the session while Andon is away, whole seconds.
    pub session_expiry: Duration,
    /// How many messages of QoS 1 and 2 the broker may have in flight to Andon (MQTT 5); 1 to 65535.
    pub receive_maximum: u16,
    /// Largest payload in bytes; a larger one is rejected as `too_large`.
    pub max_payload: usize,
    /// Largest packet in bytes that the broker may send (MQTT 5); `max_payload` with topic and header fits.
    pub max_packet: u32,
    /// Bound on one attempt to connect.
    pub connect_timeout: Duration,
    /// First wait between attempts to connect.
    pub backoff_min: Duration,
    /// Longest wait between attempts to connect.
    pub backoff_max: Duration,
    /// At least one; no filter twice.
    pub subscriptions: Vec<Subscription>,
    /// `[mqtt.tls]`, used by the transports `tls` and `wss`.
    pub tls: Tls,
}

/// One entry of `mqtt.subscriptions`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subscription {
    /// What to subscribe to.
    pub filter: TopicFilter,
    /// Quality of service to ask for.
    pub qos: Qos,
    /// Position of the machine id in the topic: 1 is the first segment, −1 the last; never 0.
    #[serde(default = "second_to_last_segment")]
    pub machine_segment: i32,
}

/// `[mqtt.tls]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Tls {
    /// PEM file of the authorities that may have signed the broker's certificate; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file of Andon's certificate with its chain; set together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of Andon's private key.
    pub key_file: Option<PathBuf>,
    /// Opens `key_file`.
    pub key_password: Option<Secret>,
    /// Protocol names to offer by ALPN, in order of preference.
    pub alpn: Vec<String>,
    /// Whether to check the broker's certificate and host name.
    pub verify: bool,
}

/// `[journal]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Journal {
    /// Its directory.
    pub dir: PathBuf,
    /// Bound on all segments together, in bytes; at least four segments.
    pub max_bytes: u64,
    /// Size of one segment, in bytes; every allowed message fits.
    pub segment_bytes: u64,
    /// When records are forced to the disk.
    pub sync: SyncMode,
    /// What happens at `max_bytes`.
    pub when_full: WhenFull,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Store {
    /// Which database.
    pub url: DatabaseUrl,
    /// The schema of Andon's tables, on PostgreSQL only; `None`: the role's own search path decides.
    pub schema: Option<SchemaName>,
    /// Most readings in one transaction.
    pub batch_max: usize,
    /// Age at which readings are deleted; `None`: never.
    pub retention: Option<Duration>,
    /// Age at which events and our own outages are deleted; `None`: never.
    pub retention_events: Option<Duration>,
    /// Age at which rejected messages are deleted; `None`: never.
    pub retention_rejected: Option<Duration>,
    /// Bound on the payload bytes of the site's rejected messages; `None`: none.
    pub rejected_max_bytes: Option<u64>,
    /// Age at which rows of the audit log are deleted; `None`: never.
    pub retention_audit: Option<Duration>,
    /// Readings go into a hypertable of TimescaleDB, where it is installed.
    pub timescale: bool,
    /// Bound on connecting to the database.
    pub connect_timeout: Duration,
    /// Bound on one statement.
    pub statement_timeout: Duration,
    /// Bound on waiting for a lock.
    pub lock_timeout: Duration,
    /// First wait after a transient error.
    pub backoff_min: Duration,
    /// Longest wait after a transient error.
    pub backoff_max: Duration,
}

/// `[payload]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Payload {
    /// How far a device's clock may run ahead of ours.
    pub max_ahead: Duration,
    /// What names the machine of a reading.
    pub machine_id_from: MachineIdFrom,
    /// Where fields lie in other layouts: field → JSON pointer.
    pub fields: BTreeMap<String, String>,
}

/// `[liveness]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Liveness {
    /// Silence after which a machine is offline.
    pub offline_after: Duration,
    /// First levels of the topics to publish to; `None`: publish nothing.
    pub publish_prefix: Option<String>,
    /// Most machines to watch.
    pub machines_max: usize,
    /// A machine with more transitions than this within `flapping_window` is flapping.
    pub flapping_changes: u32,
    /// See `flapping_changes`.
    pub flapping_window: Duration,
    /// Rules of single machines.
    pub machines: BTreeMap<MachineId, MachineRule>,
    /// The machines' own last wills.
    pub last_will: Vec<LastWillRule>,
}

impl Liveness {
    /// Returns the shortest `offline_after` of any machine.
    #[must_use]
    pub fn offline_after_min(&self) -> Duration {
        let own = self.machines.values().filter_map(|rule| rule.offline_after);
        own.fold(self.offline_after, Duration::min)
    }
}

/// One of `http.tokens`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct NamedToken {
    /// Who holds it; unique.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The token itself, from its file.
    pub token: Secret,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Http {
    /// Where the server listens.
    pub bind: SocketAddr,
    /// Where health checks and metrics have a listener of their own; `None`: nowhere.
    pub health_bind: Option<ListenAddress>,
    /// What clients must present.
    pub token: Option<Secret>,
    /// Further tokens.
    pub tokens: Vec<NamedToken>,
    /// Clients, also those on other computers, need no token.
    pub anonymous: bool,
    /// Proxies that are believed about the client.
    pub trusted_proxies: Vec<IpRange>,
    /// The header in which they name the user.
    pub proxy_user_header: Option<String>,
    /// What their users may do.
    pub proxy_user_role: Role,
    /// Users that may change something.
    pub proxy_operators: Vec<String>,
    /// How long a browser stays logged in after its last page.
    pub session_max: Duration,
    /// Most connections at a time. The oldest idle one gives way to a further one.
    pub connections_max: usize,
    /// Most connections from one address at a time. Its oldest idle one gives way to a further one.
    pub connections_per_address: usize,
    /// Most event streams at a time, over all connections; further ones are refused.
    pub streams_max: usize,
    /// Most event streams of one address; further ones are refused.
    pub streams_per_address: usize,
    /// `[http.tls]`
    pub tls: HttpTls,
}

impl Http {
    /// True if only programs on this computer can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.bind.ip().is_loopback() && self.health_bind.as_ref().is_none_or(ListenAddress::is_local)
    }

    /// True if somebody has to say who it is.
    #[must_use]
    pub fn wants_a_name(&self) -> bool {
        self.token.is_some() || !self.tokens.is_empty() || self.proxy_user_header.is_some()
    }

    /// Returns a token with which a command may ask the service for what needs `role`.
    #[must_use]
    pub fn token_for(&self, role: Role) -> Option<&Secret> {
        let plain = self.token.as_ref().filter(|_| role != Role::Operate);
        let named = self.tokens.iter().find(|each| each.role.allows(role));
        plain.or(named.map(|each| &each.token))
    }
}

/// `[http.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HttpTls {
    /// PEM file of the certificate with its chain; `None`: plain HTTP.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its private key; set together with `cert_file`.
    pub key_file: Option<PathBuf>,
    /// PEM file of the authorities that must have signed a client's certificate; `None`: clients need none.
    pub client_ca_file: Option<PathBuf>,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Metrics {
    /// Whether there are metrics with a label for each machine.
    pub per_machine: bool,
}

/// `[supervisor]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Supervisor {
    /// More restarts than this within `period` end the process.
    pub restarts_max: u32,
    /// See `restarts_max`.
    pub period: Duration,
    /// Wait before the first restart.
    pub backoff_min: Duration,
    /// Longest wait before a restart.
    pub backoff_max: Duration,
    /// An actor that has not answered for this long hangs.
    pub hang_after: Duration,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What to log.
    pub level: LogLevels,
    /// How often to log a status line; `None`: never.
    pub status_interval: Option<Duration>,
}

word_enum! {
    /// How log lines look.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// For machines: one object a line.
        Json = "json",
    }
}
