//! How to reach a broker and what to ask it for, and the client library's form of that.

use std::path::PathBuf;
use std::time::Duration;

use paho_mqtt as paho;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::{LinkError, explain};
use crate::domain::{Endpoint, ProtocolChoice, Transport};

impl Transport {
    /// Returns the library's form of an address. The library compares the host, brackets included, with the
    /// certificate, so that an IPv6 address in brackets matches none (paho C 1.3.16, `SSLSocket_connect`).
    /// Without brackets it still finds the port.
    pub(super) fn library_uri(self, endpoint: &Endpoint) -> String {
        let Endpoint { host, port } = endpoint;
        match self {
            Self::Tcp => format!("tcp://{}", endpoint.address()),
            Self::Ws => format!("ws://{}", endpoint.address()),
            Self::Tls => format!("ssl://{host}:{port}"),
            Self::Wss => format!("wss://{host}:{port}"),
        }
    }
}

/// TLS towards the broker. Not `Debug`: it holds a passphrase.
#[derive(Clone)]
pub struct TlsOptions {
    /// Certificates of the accepted authorities; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Own certificate chain.
    pub cert_file: Option<PathBuf>,
    /// Own private key.
    pub key_file: Option<PathBuf>,
    /// Passphrase of the key.
    pub key_password: Option<String>,
    /// Application protocols to offer, e.g. `x-amzn-mqtt-ca`.
    pub alpn: Vec<String>,
    /// Check the broker's certificate and name.
    pub verify: bool,
}

/// An HTTP proxy for WebSocket. Not `Debug`: it holds a password.
#[derive(Clone)]
pub struct ProxyOptions {
    /// Where it listens.
    pub at: Endpoint,
    /// User name, without ":".
    pub username: Option<String>,
    /// Password; never logged.
    pub password: Option<String>,
}

/// Which session to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The session of the client id, with the messages that the broker kept.
    Persistent,
    /// A new one that ends with the connection.
    ThrowAway,
}

/// How to reach the broker and what to ask it for. Not `Debug`: it holds a password.
#[derive(Clone)]
pub struct LinkOptions {
    /// What carries MQTT.
    pub transport: Transport,
    /// Names the persistent session; must be stable and unique at the broker.
    pub client_id: String,
    /// Persistent for the service, thrown away for a check.
    pub session: Session,
    /// User name, if the broker wants one.
    pub username: Option<String>,
    /// Password; never logged.
    pub password: Option<String>,
    /// Longest silence on the link before a ping.
    pub keep_alive: Duration,
    /// How long the broker keeps session and messages while we are away (MQTT 5).
    pub session_expiry: Duration,
    /// How many messages of QoS 1 and 2 the broker may have in flight to us (MQTT 5).
    pub receive_maximum: u16,
    /// The largest packet that the broker may send, in bytes (MQTT 5). The library itself accepts any length.
    pub max_packet: u32,
    /// Longest wait for a connection, and for each answer of the broker.
    pub connect_timeout: Duration,
    /// Protocol.
    pub protocol: ProtocolChoice,
    /// For `tls` and `wss`.
    pub tls: Option<TlsOptions>,
    /// For `ws` and `wss`.
    pub proxy: Option<ProxyOptions>,
    /// Topic of our own availability (retained, also the last will); `None`: publish nothing.
    pub availability_topic: Option<String>,
}

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How many of our messages (status, availability) are in flight at once.
const PUBLISH_INFLIGHT_MAX: i32 = 1000;
/// The cipher suites of TLS 1.2; those of 1.3 have a separate list. The library leaves the lowest version to
/// the system, but without a cipher suite for an older version none can be negotiated.
const CIPHERS_OF_TLS_1_2: &str = "DEFAULT:!TLSv1.0:!SSLv3";

impl LinkOptions {
    /// Returns the library's options to connect.
    pub(super) fn connect_options(&self, v5: bool) -> Result<paho::ConnectOptions, LinkError> {
        let mut builder = match (self.transport.is_websocket(), v5) {
            (false, false) => paho::ConnectOptionsBuilder::new_v3(),
            (false, true) => paho::ConnectOptionsBuilder::new_v5(),
            (true, false) => paho::ConnectOptionsBuilder::new_ws(),
            (true, true) => paho::ConnectOptionsBuilder::new_ws_v5(),
        };
        builder
            .keep_alive_interval(self.keep_alive)
            .connect_timeout(self.connect_timeout)
            .max_inflight(PUBLISH_INFLIGHT_MAX);
        let fresh = self.session == Session::ThrowAway;
        if v5 {
            builder.clean_start(fresh).properties(self.connect_properties()?);
        } else {
            builder.clean_session(fresh);
        }
        if let Some(username) = &self.username {
            builder.user_name(username);
        }
        if let Some(password) = &self.password {
            builder.password(password.as_str());
        }
        if let Some(topic) = &self.availability_topic {
            builder.will_message(paho::Message::new_retained(topic, "offline", paho::QoS::AtLeastOnce));
        }
        if let Some(tls) = &self.tls {
            builder.ssl_options(ssl_options(tls)?);
        }
        if let Some(proxy) = &self.proxy {
            let uri = proxy.library_uri();
            builder.http_proxy(uri.as_str()).https_proxy(uri.as_str());
        }
        Ok(builder.finalize())
    }

    fn connect_properties(&self) -> Result<paho::Properties, LinkError> {
        let create = |error: paho::Error| LinkError::Create(explain(&error));
        let mut properties = paho::Properties::new();
        let expiry = match self.session {
            Session::Persistent => u32::try_from(self.session_expiry.as_secs()).unwrap_or(u32::MAX),
            Session::ThrowAway => 0,
        };
        properties.push_u32(paho::PropertyCode::SessionExpiryInterval, expiry).map_err(create)?;
        properties.push_u16(paho::PropertyCode::ReceiveMaximum, self.receive_maximum).map_err(create)?;
        properties.push_u32(paho::PropertyCode::MaximumPacketSize, self.max_packet).map_err(create)?;
        Ok(properties)
    }
}

impl ProxyOptions {
    /// Returns the library's form of the proxy. The library takes the first "@" for the end of the login, and
    /// hangs on a "%" without two digits after it.
    fn library_uri(&self) -> String {
        let address = self.at.address();
        match &self.username {
            None => format!("http://{address}"),
            Some(username) => {
                let password = self.password.as_deref().unwrap_or_default();
                let encoded = |text| utf8_percent_encode(text, RESERVED);
                format!("http://{}:{}@{address}", encoded(username), encoded(password))
            }
        }
    }
}

fn ssl_options(tls: &TlsOptions) -> Result<paho::SslOptions, LinkError> {
    let create = |error: paho::Error| LinkError::Create(explain(&error));
    let mut builder = paho::SslOptionsBuilder::new();
    builder.enabled_cipher_suites(CIPHERS_OF_TLS_1_2).verify(tls.verify).enable_server_cert_auth(tls.verify);
    match &tls.ca_file {
        Some(ca_file) => {
            builder.trust_store(ca_file).map_err(create)?;
        }
        None => {
            builder.disable_default_trust_store(false);
        }
    }
    if let Some(cert_file) = &tls.cert_file {
        builder.key_store(cert_file).map_err(create)?;
    }
    if let Some(key_file) = &tls.key_file {
        builder.private_key(key_file).map_err(create)?;
    }
    if let Some(password) = &tls.key_password {
        builder.private_key_password(password.as_str());
    }
    if !tls.alpn.is_empty() {
        let protocols: Vec<&str> = tls.alpn.iter().map(String::as_str).collect();
        builder.alpn_protos(&protocols);
    }
    Ok(builder.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_for_the_proxy_is_percent_encoded() {
        let at = Endpoint { host: "proxy".to_owned(), port: 3128 };
        let proxy = |username: &str, password: &str| ProxyOptions {
            at: at.clone(),
            username: Some(username.to_owned()),
            password: Some(password.to_owned()),
        };
        let uri = proxy("a-Z_9.~", "p@s:s%/ä").library_uri();
        assert_eq!(uri, "http://a-Z_9.~:p%40s%3As%25%2F%C3%A4@proxy:3128");
        assert_eq!(ProxyOptions { username: None, ..proxy("", "") }.library_uri(), "http://proxy:3128");
    }
}
