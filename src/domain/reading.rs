//! One measurement of one machine.

use super::word_enum::word_enum;
use super::{MachineId, Timestamp};

word_enum! {
    /// Which clock `recorded_at` comes from. The word is stored.
    #[derive(Hash)]
    pub enum TimeSource {
        /// The usable timestamp in the payload.
        Device = "device",
        /// The time of receipt, because the payload has no usable timestamp.
        Server = "server",
    }
}

/// The reading in a valid payload, or in a valid element of an array. Topic and time of receipt stay with the message.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The machine that measured.
    pub machine_id: MachineId,
    /// Always finite.
    pub temperature: Option<f64>,
    /// Always finite.
    pub humidity: Option<f64>,
    /// Always finite.
    pub vibration: Option<f64>,
    /// The other fields, as the text of a JSON object without U+0000; `None` if there are none.
    pub extra: Option<String>,
    /// When it was measured.
    pub recorded_at: Timestamp,
    /// The clock of `recorded_at`.
    pub time_source: TimeSource,
    /// 64-bit xxh3 of the payload, or of the element's bytes in an array; without a usable time, its place there counts too.
    pub digest: u64,
}
