//! What the broker handed over.

use super::Timestamp;

/// MQTT quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// Fire and forget.
    AtMostOnce = 0,
    /// Acknowledged.
    AtLeastOnce = 1,
    /// Acknowledged in two steps.
    ExactlyOnce = 2,
}

impl Qos {
    /// From the protocol's number; `None` above 2.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The protocol's number.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

/// One MQTT message as it was received, borrowed from where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// When the client library handed it over.
    pub received_at: Timestamp,
    /// Quality of service of the delivery.
    pub qos: Qos,
    /// The broker sent it as a retained message (an old one, kept for new subscribers).
    pub retained: bool,
    /// Topic it was published to; at most 65,535 bytes (MQTT's limit).
    pub topic: &'a str,
    /// Its bytes, untouched.
    pub payload: &'a [u8],
}
