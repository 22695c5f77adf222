//! A message as the broker delivered it.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _, Unexpected};

use super::Timestamp;

/// MQTT quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: delivered at most once.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: acknowledged with a PUBACK.
    AtLeastOnce = 1,
    /// QoS 2: acknowledged in two steps.
    ExactlyOnce = 2,
}

impl Qos {
    /// Converts the protocol's number; `None` above 2.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// Returns the protocol's number.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

impl<'de> Deserialize<'de> for Qos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        let wrong = || D::Error::invalid_value(Unexpected::Unsigned(number.into()), &"0, 1 or 2");
        Self::from_u8(number).ok_or_else(wrong)
    }
}

/// The topic of a message, as the broker sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic<'a> {
    /// UTF-8 without U+0000.
    Text(&'a str),
    /// Anything else. MQTT forbids it (MQTT 5 §1.5.4), but some brokers pass it on.
    Invalid(&'a [u8]),
}

impl<'a> Topic<'a> {
    /// Classifies the bytes.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if !bytes.contains(&0) => Self::Text(text),
            _ => Self::Invalid(bytes),
        }
    }

    /// Returns the bytes as they were sent.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Invalid(bytes) => bytes,
        }
    }

    /// Returns the topic for people and databases, with U+FFFD in place of invalid bytes.
    #[must_use]
    pub fn to_text(&self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Invalid(bytes) => Cow::Owned(String::from_utf8_lossy(bytes).replace('\0', "\u{FFFD}")),
        }
    }
}

impl<'a> From<&'a str> for Topic<'a> {
    fn from(text: &'a str) -> Self {
        Self::from_bytes(text.as_bytes())
    }
}

/// One MQTT message as received, borrowed from its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// When the client library delivered it.
    pub received_at: Timestamp,
    /// Our clock was never set, or is known to be far behind. Then `received_at` is the trusted time, which may be late by as
    /// long as the machine was off; a device's clock is better.
    pub clock_unset: bool,
    /// Quality of service of the delivery.
    pub qos: Qos,
    /// True if the broker sent it as a retained message (an old one, kept for new subscribers).
    pub retained: bool,
    /// Topic it was published to; at most 65,535 bytes (MQTT's limit).
    pub topic: Topic<'a>,
    /// Its bytes, untouched.
    pub payload: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_text_only_without_bad_bytes_and_without_nul() {
        let table: [(&[u8], &str, bool); 6] = [
            (b"a/b", "a/b", true),
            (b"", "", true),
            ("a/ü".as_bytes(), "a/ü", true),
            (b"a/\xff\xfe/b", "a/\u{FFFD}\u{FFFD}/b", false),
            (b"a/\xed\xa0\x80", "a/\u{FFFD}\u{FFFD}\u{FFFD}", false),
            (b"a\0b", "a\u{FFFD}b", false),
        ];
        for (bytes, text, is_text) in table {
            let topic = Topic::from_bytes(bytes);
            assert_eq!(topic.to_text(), text);
            assert_eq!((topic.as_bytes(), matches!(topic, Topic::Text(_))), (bytes, is_text));
        }
    }
}
