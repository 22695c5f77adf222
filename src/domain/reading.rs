//! One measurement of one machine.

use super::{MachineId, Timestamp};

/// Which clock `recorded_at` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeSource {
    /// The payload's own usable timestamp.
    Device,
    /// The time of receipt, because the payload had none that could be used.
    Server,
}

impl TimeSource {
    /// The word stored in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Server => "server",
        }
    }
}

/// What a valid payload (or a valid element of an array) says. Topic and time of receipt stay with the message.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Who measured.
    pub machine_id: MachineId,
    /// Always finite.
    pub temperature: Option<f64>,
    /// Always finite.
    pub humidity: Option<f64>,
    /// Always finite.
    pub vibration: Option<f64>,
    /// Everything else the payload held, as the text of a JSON object free of U+0000; `None` if nothing.
    pub extra: Option<String>,
    /// When it was measured.
    pub recorded_at: Timestamp,
    /// Where `recorded_at` comes from.
    pub time_source: TimeSource,
    /// 64-bit xxh3 of the payload, or of the element's own bytes in an array; without usable time also of its place there.
    pub digest: u64,
}
