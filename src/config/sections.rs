//! The settings as the rest of the program sees them: typed, within bounds, free of contradictions.
//!
//! A value of [`Settings`] only comes out of [`load`](super::load); whoever holds one need not check again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::log_levels::LogLevels;
use super::secret::{DatabaseUrl, Secret};
use crate::domain::{MachineId, Qos, TopicFilter};

/// Everything that can be set, by section.
#[derive(Debug, Clone, PartialEq)]
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

/// `[site]`: which plant, hall or line this instance serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// In every row and every status topic; 1 to 64 of `a-z 0-9 _ . -`.
    pub id: String,
    /// Whose midnight divides today from yesterday.
    pub time_zone: chrono_tz::Tz,
}

/// `[mqtt]`: the broker and what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mqtt {
    /// Host name or IP address (IPv6 without brackets) of the first broker.
    pub host: String,
    /// Its port; the transport's usual one unless set.
    pub port: u16,
    /// All brokers, the first included, in the order in which they are tried; one to 16, none twice.
    pub hosts: Vec<HostAndPort>,
    /// Leads the transports `ws` and `wss` through an HTTP proxy.
    pub proxy: Option<Proxy>,
    /// What carries MQTT.
    pub transport: Transport,
    /// Which version is spoken.
    pub protocol: Protocol,
    /// Names the persistent session; `andon-<site>` unless set.
    pub client_id: String,
    /// User name, if the broker wants one.
    pub username: Option<String>,
    /// Password, if the broker wants one.
    pub password: Option<Secret>,
    /// Keep-alive interval, whole seconds.
    pub keep_alive: Duration,
    /// Of subscriptions that name none.
    pub qos: Qos,
    /// How long the broker keeps the session while we are away, whole seconds.
    pub session_expiry: Duration,
    /// Messages of QoS 1 and 2 that the broker may have under way to us at once (MQTT 5); 1 to 65535.
    pub receive_maximum: u16,
    /// Bytes of a payload above which a message is rejected as `too_large`.
    pub max_payload: usize,
    /// Bytes of a packet above which the broker keeps it back (MQTT 5); `max_payload` and what goes with it fit.
    pub max_packet: u32,
    /// Bound on one attempt to connect.
    pub connect_timeout: Duration,
    /// First wait between attempts to connect.
    pub backoff_min: Duration,
    /// Longest wait between attempts to connect.
    pub backoff_max: Duration,
    /// At least one; no filter twice.
    pub subscriptions: Vec<Subscription>,
    /// TLS, used by the transports `tls` and `wss`.
    pub tls: Tls,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAndPort {
    /// Host name or IP address (IPv6 without brackets).
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// `mqtt.proxy`, `mqtt.proxy_username`, `mqtt.proxy_password`
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Where it listens.
    pub at: HostAndPort,
    /// User name, if it wants one.
    pub username: Option<String>,
    /// Password, if it wants one.
    pub password: Option<Secret>,
}

/// One entry of `mqtt.subscriptions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// What is subscribed to.
    pub filter: TopicFilter,
    /// Quality of service asked for.
    pub qos: Qos,
    /// Position of the machine id in the topic: 1 is the first segment, −1 the last; never 0.
    pub machine_segment: i32,
}

/// `[mqtt.tls]`
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// PEM file of the authorities that may have signed the broker's certificate; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate (with its chain); set together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of our private key.
    pub key_file: Option<PathBuf>,
    /// Opens `key_file`.
    pub key_password: Option<Secret>,
    /// Protocol names offered by ALPN, in order of preference.
    pub alpn: Vec<String>,
    /// Whether the broker's certificate and host name are checked.
    pub verify: bool,
}

/// `mqtt.transport`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// The port a broker listens on for this transport unless told otherwise.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// As written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// `mqtt.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 5, and 3.1.1 if the broker refuses it.
    Auto,
    /// MQTT 5 only.
    V5,
    /// MQTT 3.1.1 only.
    V311,
}

/// `[journal]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Its directory.
    pub dir: PathBuf,
    /// Bound on all segments together, in bytes; at least four segments.
    pub max_bytes: u64,
    /// Size of one segment, in bytes; every allowed message fits.
    pub segment_bytes: u64,
    /// When written records are forced to the disk.
    pub sync: SyncMode,
    /// What happens at `max_bytes`.
    pub when_full: WhenFull,
}

/// `journal.sync`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Synced before the broker gets its acknowledgement.
    BeforeAck,
    /// Synced by a thread of its own, back to back.
    Background,
    /// Left to the operating system.
    Os,
}

/// `journal.when_full`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Leave the broker, which keeps the messages.
    Hold,
    /// Give up the oldest segment, and record the gap.
    DropOldest,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// Which database.
    pub url: DatabaseUrl,
    /// Most readings in one transaction.
    pub batch_max: usize,
    /// Age at which readings are deleted; `None`: never.
    pub retention: Option<Duration>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// How far a device's clock may run ahead of ours.
    pub max_ahead: Duration,
    /// Where fields lie in other layouts: field → JSON pointer.
    pub fields: BTreeMap<String, String>,
}

/// `[liveness]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// Silence after which a machine is offline.
    pub offline_after: Duration,
    /// First levels of the topics that the status is published to; `None`: it is not published.
    pub publish_prefix: Option<String>,
    /// Most machines that are watched.
    pub machines_max: usize,
    /// More transitions than this within `flapping_window`: the machine is flapping.
    pub flapping_changes: u32,
    /// See `flapping_changes`.
    pub flapping_window: Duration,
    /// Rules of single machines.
    pub machines: BTreeMap<MachineId, MachineRule>,
    /// The machines' own last wills.
    pub last_will: Vec<LastWill>,
}

impl Liveness {
    /// The shortest `offline_after` of any machine.
    #[must_use]
    pub fn offline_after_min(&self) -> Duration {
        let own = self.machines.values().filter_map(|rule| rule.offline_after);
        own.fold(self.offline_after, Duration::min)
    }
}

/// `[liveness.machines.<id>]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineRule {
    /// In place of [`Liveness::offline_after`].
    pub offline_after: Option<Duration>,
    /// The machine should exist: it is listed, and reported when it never speaks.
    pub expected: bool,
}

/// One `[[liveness.last_will]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWill {
    /// Topics of the last wills.
    pub filter: TopicFilter,
    /// The payload that means "gone", compared exactly.
    pub payload: String,
    /// Position of the machine id in the topic, as in [`Subscription`].
    pub machine_segment: i32,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where the server listens.
    pub bind: SocketAddr,
    /// What clients must present.
    pub token: Option<Secret>,
    /// Nothing is asked of clients, also not from other hosts.
    pub anonymous: bool,
    /// Most connections at a time; further ones wait.
    pub connections_max: usize,
    /// Most event streams at a time, of all connections; further ones are refused.
    pub streams_max: usize,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Whether there are metrics with a label for each machine.
    pub per_machine: bool,
}

/// `[supervisor]`
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged.
    pub level: LogLevels,
    /// How often a line tells how things are; `None`: never.
    pub status_interval: Option<Duration>,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}
