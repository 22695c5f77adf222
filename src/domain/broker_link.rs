//! How to reach a broker: where it listens, what carries MQTT, and which version is spoken.

use super::word_enum::word_enum;

word_enum! {
    /// What carries MQTT.
    pub enum Transport {
        /// Plain TCP.
        Tcp = "tcp",
        /// TLS over TCP.
        Tls = "tls",
        /// WebSocket.
        Ws = "ws",
        /// WebSocket over TLS.
        Wss = "wss",
    }
}

impl Transport {
    /// The port on which a broker usually listens for this transport.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// True for TLS, with or without WebSocket.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// True for WebSocket, with or without TLS.
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

word_enum! {
    /// Which version of MQTT to speak.
    pub enum ProtocolChoice {
        /// MQTT 5, and 3.1.1 with a broker that refuses 5.
        Auto = "auto",
        /// MQTT 5 only.
        V5 = "5",
        /// MQTT 3.1.1 only.
        V311 = "3.1.1",
    }
}

/// Where a broker or a proxy listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize)]
pub struct Endpoint {
    /// Host name or IP address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// Returns `host:port`, an IPv6 address in brackets.
    #[must_use]
    pub fn address(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}
