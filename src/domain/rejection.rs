//! A message, or an element of one, that could not become a reading.

use std::fmt;

use super::word_enum::word_enum;

/// How much of a rejected payload is kept: 64 KiB.
pub const REJECTED_PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Returns the most bytes of a payload that the journal keeps for this `max_payload`; one more byte marks a longer payload.
/// Never less than is kept of a rejected payload, so that a retry under a larger `max_payload` can make it a reading.
#[must_use]
pub const fn journaled_payload_bytes_max(max_payload: usize) -> usize {
    if max_payload > REJECTED_PAYLOAD_BYTES_MAX { max_payload } else { REJECTED_PAYLOAD_BYTES_MAX }
}

word_enum! {
    /// Why an element was rejected; the word is stored in `rejected_message.reason`.
    #[derive(Hash)]
    pub enum RejectReason {
        /// The topic is not UTF-8, or holds U+0000.
        InvalidTopic = "invalid_topic",
        /// The payload is not UTF-8.
        InvalidUtf8 = "invalid_utf8",
        /// The payload is not JSON, or nested beyond the parser's limit.
        InvalidJson = "invalid_json",
        /// Neither an object nor an array of objects; or an empty array.
        NotAnObject = "not_an_object",
        /// Neither the payload nor the topic names the machine.
        MissingMachineId = "missing_machine_id",
        /// The machine's name is too long, or holds control characters or invisible ones.
        InvalidMachineId = "invalid_machine_id",
        /// The payload and the topic do not name the same machine, and `payload.machine_id_from` asks for that.
        MachineIdMismatch = "machine_id_mismatch",
        /// The payload is larger than `mqtt.max_payload`.
        TooLarge = "too_large",
        /// The database refuses the row.
        StoreRejected = "store_rejected",
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One rejected element, with everything needed to examine it later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub reason: RejectReason,
    /// The same in words for a person: position, limit, the parser's message. Never holds U+0000.
    pub detail: String,
    /// The first [`REJECTED_PAYLOAD_BYTES_MAX`] bytes of the message, or of the element in an array.
    pub payload: Vec<u8>,
}
