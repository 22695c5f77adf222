//! What a message says: bytes in, readings or rejections out. Pure: no I/O, no clock, no panic on any input.
//!
//! Receives a [`Message`](crate::domain::Message) as the broker handed it over; gives one [`Outcome`] for each
//! element (a message is one, an array as many as it has), in order. Map of the code, in the order the data flows:
//!
//! | file | what |
//! |---|---|
//! | `rules` | the whole way of one message |
//! | `bare_tokens` | `NaN`, `inf`, … where a value should stand become `null` |
//! | `json` | text → tree, over the syntax check of `serde_json` |
//! | `fields` | where the five fields lie: plain names or JSON pointers |
//! | `machine`, `measurement`, `timestamp` | the rule of each field |
//! | `extra` | what is left → JSON text that both databases accept |
//!
//! Invariants, cited by tests:
//! - **PAY-1** Every element ends as exactly one outcome; a message never ends as none.
//! - **PAY-2** `raw` and the digest refer to the bytes as they were received, and depend on nothing else; the digest of an
//!   element without usable time also on its place in the array.
//! - **PAY-3** Measurements are finite; `recorded_at` is usable device time or the time of receipt.
//! - **PAY-4** `extra` is a JSON object without U+0000, without duplicate keys, without a number that PostgreSQL's
//!   `jsonb` refuses or writes out at length, nested at most [`NESTING_MAX`] levels.
//! - **PAY-5** Work and memory are proportional to the payload's length, which `max_payload` bounds.
//!
//! `serde_json` checks the syntax, but its `Value` is not used, for two reasons found in its source (1.0.154): a number
//! loses its spelling (`1E5` becomes `1e+5`), and the object keys `$serde_json::private::Number` and
//! `$serde_json::private::RawValue`, which anybody can send, are taken for its own markers. (Who embeds `extra` in
//! other JSON takes `RawValue` for the same reason.)

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

use crate::domain::{Reading, Rejection, TimeSource, TopicFilter};

pub use fields::PayloadRulesError;
pub use json::NESTING_MAX;
pub use rules::PayloadRules;

/// Position of the machine's segment in the topic where no subscription says another: the second to last.
pub const MACHINE_SEGMENT_DEFAULT: i32 = -2;

/// Longest `detail` of a rejection, in characters.
pub const DETAIL_CHARS_MAX: usize = 500;

/// What the rules can be told.
#[derive(Debug, Clone)]
pub struct PayloadOptions {
    /// How far a device's timestamp may lie ahead of the time of receipt and still be used.
    pub max_ahead: Duration,
    /// Largest payload that is looked at, in bytes.
    pub max_payload: usize,
    /// Which segment of the topic names the machine, by subscription; the first filter that matches counts.
    /// Positions as in [`topic_segment`](crate::domain::topic_segment).
    pub segments: Vec<(TopicFilter, i32)>,
    /// Fields that lie elsewhere than under their plain name: field → JSON pointer (RFC 6901) into the object.
    ///
    /// A mapped field is read from there and nowhere else: a top-level field that happens to have its plain name is
    /// then "any other field". What was read is taken out of `extra`; an object that is empty afterwards goes too, an
    /// element of an array becomes `null` so that its neighbours keep their places. A value that cannot be used is
    /// moved to `extra` under the field's plain name, or stays where it was if that name is taken.
    pub fields: BTreeMap<String, String>,
}

/// What became of one element of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Place in the array, from 0; 0 if the message is not an array.
    pub element: u32,
    /// Where the element's bytes lie in the payload; the whole payload if it is not an array.
    pub raw: Range<usize>,
    /// The reading, or why there is none.
    pub result: Result<Reading, Rejection>,
}

/// Identity of a payload, or of an element's own bytes in an array: 64-bit xxh3.
///
/// The seed is 0, but for an element that is dated with its receipt: then it is the element's place in the array, from 0.
/// Three equal elements without a time of their own are three readings.
#[must_use]
pub fn digest(bytes: &[u8], time_source: TimeSource, element: u32) -> u64 {
    let seed = match time_source {
        TimeSource::Device => 0,
        TimeSource::Server => u64::from(element),
    };
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}
