//! Interprets a message: bytes in, readings or rejections out. Pure: no I/O, no clock, no panic on any input.
//!
//! Receives a [`Message`](crate::domain::Message) as the broker delivered it. Returns one [`Outcome`] for each element, in
//! order: a message is one element, an array as many as it has. The files, in the order the data flows:
//!
//! | file | content |
//! |---|---|
//! | `rules` | the path of one message through all rules |
//! | `bare_tokens` | replaces `NaN`, `inf`, … in place of a value with `null` |
//! | `json` | text → tree, after the syntax check of `serde_json` |
//! | `fields` | the places of the five fields: plain names or JSON pointers |
//! | `machine`, `measurement`, `timestamp` | the rule of each field |
//! | `extra` | the remaining fields → JSON text that both databases accept |
//!
//! Invariants, cited by tests:
//! - **PAY-1** Every element ends as exactly one outcome, and every message has at least one.
//! - **PAY-2** `raw` and the digest depend on the received bytes alone; the digest of an element without a usable time also
//!   on its place in the array.
//! - **PAY-3** Measurements are finite; `recorded_at` is a usable device time or the time of receipt.
//! - **PAY-4** `extra` is a JSON object without U+0000, without duplicate keys, without a number that PostgreSQL's `jsonb`
//!   refuses or expands, nested at most [`NESTING_MAX`] levels.
//! - **PAY-5** Time and memory are proportional to the payload's length, which `max_payload` bounds.
//!
//! `serde_json` checks the syntax, but its `Value` is not used, for two reasons found in its source (1.0.154): a number
//! loses its spelling (`1E5` becomes `1e+5`), and the object keys `$serde_json::private::Number` and
//! `$serde_json::private::RawValue`, which any device can send, act as its own markers. (Code that embeds `extra` in
//! other JSON uses `RawValue` for the same reason.)

mod bare_tokens;
mod extra;
mod fields;
mod json;
mod machine;
mod measurement;
mod rules;
mod timestamp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::domain::{MachineIdFrom, Reading, Rejection, TimeSource, TopicFilter};

pub use fields::PayloadRulesError;
pub use json::NESTING_MAX;
pub use rules::PayloadRules;
pub use timestamp::instant;

/// Default position of the machine's segment in the topic: the second to last.
pub const MACHINE_SEGMENT_DEFAULT: i32 = -2;

/// Longest `detail` of a rejection, in characters.
pub const DETAIL_CHARS_MAX: usize = 500;

/// Configuration of the rules.
#[derive(Debug, Clone)]
pub struct PayloadOptions {
    /// How far a usable device timestamp may be ahead of the time of receipt.
    pub max_ahead: Duration,
    /// Largest payload that is interpreted, in bytes.
    pub max_payload: usize,
    /// Segment of the topic that names the machine, by subscription; the first matching filter counts.
    /// Positions as in [`topic_segment`](crate::domain::topic_segment).
    pub segments: Vec<(TopicFilter, i32)>,
    /// What names the machine.
    pub machine_id_from: MachineIdFrom,
    /// Fields that are not under their plain name: field → JSON pointer (RFC 6901) into the object.
    ///
    /// A mapped field is read from its pointer only: a top-level field with its plain name is then "any other field". A
    /// value that was used is removed from `extra`, together with an object that is empty afterwards; an array element
    /// becomes `null`, so that its neighbours keep their places. An unusable value moves to `extra` under the field's
    /// plain name, or stays in place if that name is taken.
    pub fields: BTreeMap<String, String>,
}

/// Outcome of one element of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Place in the array, from 0; 0 if the message is not an array.
    pub element: u32,
    /// Range of the element's bytes in the payload; the whole payload if it is not an array.
    pub raw: Range<usize>,
    /// The reading, or why there is none.
    pub result: Result<Reading, Rejection>,
}

/// Returns the identity of a payload, or of an array element's own bytes: 64-bit xxh3.
///
/// The seed is 0, except for an element dated with its receipt: its seed is its place in the array, from 0. So three equal
/// elements without a time are three readings.
#[must_use]
pub fn digest(bytes: &[u8], time_source: TimeSource, element: u32) -> u64 {
    let seed = match time_source {
        TimeSource::Device => 0,
        TimeSource::Server => u64::from(element),
    };
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}
