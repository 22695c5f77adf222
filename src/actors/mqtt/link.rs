//! One connection to the broker: the paho client with its options, and its errors in words.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use paho_mqtt as paho;
use thiserror::Error;

use super::tls_diagnosis::handshake_failure;
use crate::domain::{Qos, TopicFilter};

/// MQTT protocol to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolChoice {
    /// 5 first; a broker that refuses it is asked for 3.1.1 for the rest of the run.
    Auto,
    /// 5 only.
    V5,
    /// 3.1.1 only.
    V311,
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

/// How to reach the broker and what to ask it for.
#[derive(Clone)]
pub struct LinkOptions {
    /// `tcp://host:port`, `ssl://…`, `ws://…` or `wss://…`.
    pub uri: String,
    /// Its host, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Names the persistent session; must be stable and unique at the broker.
    pub client_id: String,
    /// User name, if the broker wants one.
    pub username: Option<String>,
    /// Password; never logged.
    pub password: Option<String>,
    /// Longest silence on the link before a ping.
    pub keep_alive: Duration,
    /// How long the broker keeps session and messages while we are away (MQTT 5).
    pub session_expiry: Duration,
    /// Longest wait for a connection, and for each answer of the broker.
    pub connect_timeout: Duration,
    /// Protocol.
    pub protocol: ProtocolChoice,
    /// For `ssl` and `wss`.
    pub tls: Option<TlsOptions>,
    /// Topic of our own availability (retained, also the last will); `None`: publish nothing.
    pub availability_topic: Option<String>,
}

/// What went wrong with the broker, in one line that names the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The client library refused to make a client.
    #[error("create the MQTT client: {0}")]
    Create(String),
    /// No connection, or the broker refused it.
    #[error("connect: {0}")]
    Connect(String),
    /// The broker speaks an older protocol.
    #[error("connect: the broker refuses MQTT 5")]
    ProtocolRefused,
    /// The broker refused a subscription.
    #[error("subscribe to '{filter}': {reason}")]
    Subscribe {
        /// The filter.
        filter: TopicFilter,
        /// The broker's reason.
        reason: String,
    },
    /// A message could not be published.
    #[error("publish: {0}")]
    Publish(String),
    /// The connection was lost before the answer came.
    #[error("{what}: the connection was lost")]
    Lost {
        /// The operation.
        what: &'static str,
    },
    /// No answer within the time allowed.
    #[error("{what}: no answer from the broker within {} s", within.as_secs())]
    NoAnswer {
        /// The operation.
        what: &'static str,
        /// The time allowed.
        within: Duration,
    },
}

/// What the broker answered to a message of ours; either proves that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It took it.
    Accepted,
    /// It refused it, with this reason.
    Refused(String),
}

/// A paho client for one protocol version; connects and reconnects under the same session.
pub struct Link {
    client: ManuallyDrop<paho::AsyncClient>,
    options: LinkOptions,
    v5: bool,
    /// The newest attempt to connect has ended well, or there was none.
    may_destroy: Cell<bool>,
}

impl Drop for Link {
    /// A pending CONNECT holds the client, and so does one that is just failing. Were ours the last handle but that one,
    /// the client would be destroyed on paho's own thread, which then waits for itself, with every client of the process.
    /// So such a client is left alone: a bounded leak, as it happens once for each restart of the actor.
    fn drop(&mut self) {
        if self.may_destroy.get() {
            // SAFETY: the field is not used again.
            unsafe { ManuallyDrop::drop(&mut self.client) }
        }
    }
}

impl Link {
    /// A client that is not connected yet. `v5` chooses the protocol.
    ///
    /// # Errors
    /// [`LinkError::Create`] for options the library cannot take (a NUL in the client id, say).
    pub fn create(options: LinkOptions, v5: bool) -> Result<Self, LinkError> {
        let version = if v5 { paho::MqttVersion::V5 } else { paho::MqttVersion::V3_1_1 };
        let create = paho::CreateOptionsBuilder::new()
            .server_uri(&options.uri)
            .client_id(&options.client_id)
            // What must survive is in our journal; the library's own store would only slow it down.
            .persistence(paho::PersistenceType::None)
            .mqtt_version(version)
            .max_buffered_messages(PUBLISH_BUFFERED_MAX)
            .finalize();
        let client = paho::AsyncClient::new(create).map_err(|error| LinkError::Create(explain(&error)))?;
        Ok(Self { client: ManuallyDrop::new(client), options, v5, may_destroy: Cell::new(true) })
    }

    /// The client, to set callbacks on before [`Link::connect`].
    pub fn client(&self) -> &paho::AsyncClient {
        &self.client
    }

    /// Whether the library holds the link for up.
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// Connects; `Ok(true)` if the broker still had our session.
    ///
    /// # Errors
    /// [`LinkError`], in words for the operator.
    pub async fn connect(&self) -> Result<bool, LinkError> {
        let options = self.connect_options()?;
        // The library's own timeout comes first, once for each address of the host; ours is the outer bound.
        let within = self.options.connect_timeout * 3;
        self.may_destroy.set(false);
        let answer = actix_rt::time::timeout(within, self.client.connect(options)).await;
        self.may_destroy.set(matches!(answer, Ok(Ok(_))));
        match answer {
            Err(_elapsed) => Err(LinkError::NoAnswer { what: "connect", within }),
            Ok(Err(error)) if self.v5 && refuses_v5(&error) => Err(LinkError::ProtocolRefused),
            Ok(Err(error)) => Err(LinkError::Connect(self.reason_of(&error).await)),
            Ok(Ok(response)) => {
                Ok(response.connect_response().is_some_and(|connect| connect.session_present))
            }
        }
    }

    /// For TLS the library knows no reason; we look ourselves, on a thread that may block.
    async fn reason_of(&self, error: &paho::Error) -> String {
        let plain = explain(error);
        let Some(tls) = self.options.tls.clone() else { return plain };
        let refused_by_mqtt = matches!(error, paho::Error::ConnectReturn(_) | paho::Error::ReasonCode(..));
        if refused_by_mqtt {
            return plain;
        }
        let (reply, answer) = tokio::sync::oneshot::channel();
        let (host, port) = (self.options.host.clone(), self.options.port);
        let within = self.options.connect_timeout;
        std::thread::spawn(move || {
            let _nobody_waits = reply.send(handshake_failure(&host, port, &tls, within));
        });
        let answer = actix_rt::time::timeout(within * 3, answer).await;
        answer.ok().and_then(Result::ok).flatten().unwrap_or(plain)
    }

    fn connect_options(&self) -> Result<paho::ConnectOptions, LinkError> {
        let options = &self.options;
        let websocket = options.uri.starts_with("ws");
        let mut builder = match (websocket, self.v5) {
            (false, false) => paho::ConnectOptionsBuilder::new_v3(),
            (false, true) => paho::ConnectOptionsBuilder::new_v5(),
            (true, false) => paho::ConnectOptionsBuilder::new_ws(),
            (true, true) => paho::ConnectOptionsBuilder::new_ws_v5(),
        };
        builder
            .keep_alive_interval(options.keep_alive)
            .connect_timeout(options.connect_timeout)
            .max_inflight(PUBLISH_INFLIGHT_MAX);
        if self.v5 {
            let mut properties = paho::Properties::new();
            let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
            let pushed = properties.push_u32(paho::PropertyCode::SessionExpiryInterval, expiry);
            pushed.map_err(|error| LinkError::Create(explain(&error)))?;
            builder.clean_start(false).properties(properties);
        } else {
            builder.clean_session(false);
        }
        if let Some(username) = &options.username {
            builder.user_name(username);
        }
        if let Some(password) = &options.password {
            builder.password(password.as_str());
        }
        if let Some(topic) = &options.availability_topic {
            builder.will_message(paho::Message::new_retained(topic, "offline", paho::QoS::AtLeastOnce));
        }
        if let Some(tls) = &options.tls {
            builder.ssl_options(ssl_options(tls)?);
        }
        Ok(builder.finalize())
    }

    /// The QoS that is really asked for. With 3.1.1 the library hands a QoS 2 message over only at its PUBREL, after
    /// the broker has been told to forget the payload (paho C 1.3.16, `MQTTProtocol_handlePublishes`): a process
    /// killed between would lose it. QoS 1 and the digest are exactly-once without that gap. With 5 the library
    /// hands it over before the PUBREC.
    pub fn granted_at_most(&self, qos: Qos) -> Qos {
        if self.v5 { qos } else { qos.min(Qos::AtLeastOnce) }
    }

    /// Subscribes to one filter and returns the QoS the broker granted, which may be lower.
    ///
    /// # Errors
    /// [`LinkError::Subscribe`] with the broker's reason if it refused.
    pub async fn subscribe(&self, filter: &TopicFilter, qos: Qos) -> Result<Qos, LinkError> {
        let refused = |reason: String| LinkError::Subscribe { filter: filter.clone(), reason };
        let qos = i32::from(self.granted_at_most(qos).as_u8());
        let token = if self.v5 {
            // Retained messages only for a subscription that is new, not again at each reconnect.
            let options =
                paho::SubscribeOptions::with_retain_handling(paho::RetainHandling::SendRetainedOnNew);
            self.client.subscribe_with_options(filter.as_str(), qos, options, None)
        } else {
            self.client.subscribe(filter.as_str(), qos)
        };
        let response = match self.answer("subscribe", token).await? {
            Ok(response) => response,
            Err(paho::Error::ReasonCode(code, _)) => return Err(refused(subscribe_reason(code as i32))),
            Err(error) => return Err(refused(explain(&error))),
        };
        let code = response.subscribe_response();
        match (code, code.and_then(|code| u8::try_from(code).ok()).and_then(Qos::from_u8)) {
            (_, Some(granted)) => Ok(granted),
            (Some(code), None) => Err(refused(subscribe_reason(code))),
            (None, None) => Err(refused("the broker's answer cannot be read".to_owned())),
        }
    }

    /// Publishes with QoS 1 and waits for the broker's answer.
    ///
    /// # Errors
    /// [`LinkError::Publish`] or [`LinkError::NoAnswer`] if there is none.
    pub async fn publish(
        &self,
        topic: &str,
        payload: Vec<u8>,
        retained: bool,
    ) -> Result<Published, LinkError> {
        let message = if retained {
            paho::Message::new_retained(topic, payload, paho::QoS::AtLeastOnce)
        } else {
            paho::Message::new(topic, payload, paho::QoS::AtLeastOnce)
        };
        let token = self.client.try_publish(message).map_err(|error| LinkError::Publish(explain(&error)))?;
        match actix_rt::time::timeout(self.options.connect_timeout, token).await {
            Err(_elapsed) => {
                Err(LinkError::NoAnswer { what: "publish", within: self.options.connect_timeout })
            }
            Ok(Err(paho::Error::ReasonCode(code, _))) => Ok(Published::Refused(code.to_string())),
            Ok(Err(error)) => Err(LinkError::Publish(explain(&error))),
            Ok(Ok(())) => Ok(Published::Accepted),
        }
    }

    /// Asks the broker to end a subscription that we never had, which every broker answers, whatever its access rules:
    /// `true` if it does so in time.
    pub async fn round_trip(&self, within: Duration) -> bool {
        let token = self.client.unsubscribe(NEVER_SUBSCRIBED);
        match actix_rt::time::timeout(within, token).await {
            // A refusal is an answer, too.
            Ok(answer) => matches!(answer, Ok(_) | Err(paho::Error::ReasonCode(..))),
            Err(_elapsed) => false,
        }
    }

    /// Leaves the broker in order: the session stays, the last will is not sent.
    pub async fn disconnect(&self) {
        if self.client.is_connected() {
            let token = self.client.disconnect_after(Duration::from_millis(500));
            // Whether it was in order or not, the link is gone afterwards.
            let _ended = actix_rt::time::timeout(Duration::from_secs(2), token).await;
        }
    }

    async fn answer(
        &self,
        what: &'static str,
        token: paho::Token,
    ) -> Result<Result<paho::ServerResponse, paho::Error>, LinkError> {
        let within = self.options.connect_timeout;
        let mut token = token;
        let deadline = Instant::now() + within;
        loop {
            match actix_rt::time::timeout(LOOK_FOR_LOSS_EVERY, &mut token).await {
                Ok(answer) => return Ok(answer),
                Err(_) if Instant::now() >= deadline => return Err(LinkError::NoAnswer { what, within }),
                // The library never completes what went down with a connection.
                Err(_) if !self.client.is_connected() => return Err(LinkError::Lost { what }),
                Err(_) => {}
            }
        }
    }
}

/// How soon an answer that can no longer come is given up.
const LOOK_FOR_LOSS_EVERY: Duration = Duration::from_millis(50);
/// A topic filter that nobody subscribes to.
const NEVER_SUBSCRIBED: &str = "$andon/are-you-there";

/// Own messages (status, availability) under way at once.
const PUBLISH_INFLIGHT_MAX: i32 = 1000;
/// Own messages the library keeps until they can be sent; its default of 100 is less than one hand-over of statuses.
const PUBLISH_BUFFERED_MAX: i32 = 10_000;

fn ssl_options(tls: &TlsOptions) -> Result<paho::SslOptions, LinkError> {
    let create = |error: paho::Error| LinkError::Create(explain(&error));
    let mut builder = paho::SslOptionsBuilder::new();
    builder.ssl_version(paho::SslVersion::Tls_1_2).verify(tls.verify).enable_server_cert_auth(tls.verify);
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
        builder.private_key_password(password);
    }
    if !tls.alpn.is_empty() {
        let protocols: Vec<&str> = tls.alpn.iter().map(String::as_str).collect();
        builder.alpn_protos(&protocols);
    }
    Ok(builder.finalize())
}

fn refuses_v5(error: &paho::Error) -> bool {
    match error {
        paho::Error::ConnectReturn(code) => *code == paho::ConnectReturnCode::UnacceptableProtocolVersion,
        paho::Error::ReasonCode(code, _) => *code == paho::ReasonCode::UnsupportedProtocolVersion,
        _ => false,
    }
}

fn subscribe_reason(code: i32) -> String {
    match code {
        0x80 => "refused by the broker (code 128); look at its access control list".to_owned(),
        0x83 => "refused: implementation specific error (code 131)".to_owned(),
        0x87 => "not authorised (code 135); look at the broker's access control list".to_owned(),
        0x8F => "topic filter invalid for this broker (code 143)".to_owned(),
        0x91 => "packet identifier in use (code 145)".to_owned(),
        0x97 => "quota exceeded (code 151)".to_owned(),
        0x9E => "shared subscriptions are not supported by the broker (code 158)".to_owned(),
        0xA2 => "wildcard subscriptions are not supported by the broker (code 162)".to_owned(),
        other => format!("refused by the broker (code {other})"),
    }
}

/// An error of the library as a reason in words, with what to look at.
fn explain(error: &paho::Error) -> String {
    use paho::{ConnectReturnCode as Code, Error, ReasonCode};
    match error {
        Error::ConnectReturn(code) => match code {
            Code::UnacceptableProtocolVersion => {
                "the broker refuses this protocol version; see mqtt.protocol".to_owned()
            }
            Code::IdentifierRejected => "the broker refuses the client id; see mqtt.client_id".to_owned(),
            Code::ServerUnavailable => "the broker is not available".to_owned(),
            Code::BadUserNameOrPassword => {
                "bad user name or password; see mqtt.username and mqtt.password".to_owned()
            }
            Code::NotAuthorized => "not authorised; see mqtt.username and mqtt.password".to_owned(),
            other => format!("refused by the broker ({other:?})"),
        },
        Error::ReasonCode(code, properties) => {
            let hint = match *code {
                ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => {
                    "; see mqtt.username and mqtt.password"
                }
                ReasonCode::ClientIdentifierNotValid => "; see mqtt.client_id",
                _ => "",
            };
            match properties.get_string(paho::PropertyCode::ReasonString) {
                Some(reason) => format!("{code} ({reason}){hint}"),
                None => format!("{code}{hint}"),
            }
        }
        Error::TcpConnectTimeout => "no answer; is the host right, is a firewall between?".to_owned(),
        Error::TcpConnectCompletionFailure | Error::SocketError(_) => {
            "connection refused or reset; is the broker running, is the port right?".to_owned()
        }
        Error::TcpTlsConnectFailure => {
            "no connection; is the broker running, are host, port and (for TLS) certificates right?"
                .to_owned()
        }
        Error::ReceivedDisconnect(code) => format!("the broker ended the connection (code {code})"),
        other => other.to_string(),
    }
}
