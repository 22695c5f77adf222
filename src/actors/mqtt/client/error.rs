//! What goes wrong with a broker, for the operator: what, why, and the configuration key to check.
//!
//! A broker's own words (MQTT 5 reason strings) follow in brackets. For a refused CONNECT the library passes
//! on the code only (paho C 1.3.16, `nextOrClose`).

use std::time::Duration;

use paho_mqtt as paho;
use thiserror::Error;

use crate::domain::TopicFilter;

/// What went wrong with a broker, in one line that names the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The client library refused to make a client.
    #[error("create the MQTT client: {0}")]
    Create(String),
    /// No connection.
    #[error("connect: {0}")]
    Connect(String),
    /// The broker answered, and refused.
    #[error("connect: {0}")]
    Refused(String),
    /// The broker closed the connection instead of answering CONNECT; some refuse MQTT 5 in this way.
    #[error(
        "connect: the broker ends the connection in place of an answer; is the port right, does it speak this protocol?"
    )]
    HungUp,
    /// The broker accepted the connection and left CONNECT unanswered; some refuse MQTT 5 in this way.
    #[error(
        "connect: the broker accepts the connection but does not answer; is the port right, does it speak this protocol, is it stuck?"
    )]
    Silent,
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
    /// The broker refused to end a subscription.
    #[error("unsubscribe from '{filter}': {reason}")]
    Unsubscribe {
        /// The filter.
        filter: TopicFilter,
        /// The broker's reason.
        reason: String,
    },
    /// A message could not be published.
    #[error("publish: {0}")]
    Publish(String),
    /// A call into the library panicked.
    #[error("the MQTT client library failed; see the log")]
    Library,
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

/// Returns whether the broker says that it does not speak MQTT 5.
pub(super) fn refuses_v5(error: &paho::Error) -> bool {
    match error {
        paho::Error::ConnectReturn(code) => *code == paho::ConnectReturnCode::UnacceptableProtocolVersion,
        paho::Error::ReasonCode(code, _) => *code == paho::ReasonCode::UnsupportedProtocolVersion,
        _ => false,
    }
}

/// Explains the code with which a broker refuses a subscription.
pub(super) fn subscribe_reason(code: i32) -> String {
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

/// Returns the broker's own words, if any. They come from outside, so they are bounded and put on one line.
pub(super) fn brokers_words(properties: &paho::Properties) -> Option<String> {
    const SHOWN_CHARS_MAX: usize = 200;
    let words = properties.get_string(paho::PropertyCode::ReasonString)?;
    let one_line = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    Some(one_line.take(SHOWN_CHARS_MAX).collect::<String>()).filter(|words| !words.trim().is_empty())
}

/// Appends the broker's own words, if any, to `reason`.
pub(super) fn with_brokers_words(reason: String, properties: &paho::Properties) -> String {
    match brokers_words(properties) {
        Some(words) => format!("{reason} (the broker says: {words})"),
        None => reason,
    }
}

/// Explains an error of the library, and names the key to check.
pub(super) fn explain(error: &paho::Error) -> String {
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
            format!("{}{hint}", with_brokers_words(code.to_string(), properties))
        }
        Error::TcpConnectTimeout => "no answer; is the host right, is a firewall between?".to_owned(),
        Error::SocketError(_) => {
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
