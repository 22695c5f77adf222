//! The path of one message through all rules.

use std::ops::Range;
use std::time::Duration;

use crate::domain::{
    MachineIdFrom, Message, REJECTED_PAYLOAD_BYTES_MAX, Reading, RejectReason, Rejection, TimeSource,
    Timestamp, Topic, TopicFilter, journaled_payload_bytes_max,
};

use super::bare_tokens::{self, Replaced};
use super::fields::{PayloadRulesError, Places};
use super::json::{self, Document, SyntaxError};
use super::{DETAIL_CHARS_MAX, Outcome, PayloadOptions, digest, extra, machine, measurement, timestamp};

/// The byte order mark that some systems write before UTF-8.
const BYTE_ORDER_MARK: &str = "\u{FEFF}";

/// The rules for payloads, ready to use.
#[derive(Debug)]
pub struct PayloadRules {
    max_ahead: Duration,
    max_payload: usize,
    segments: Vec<(TopicFilter, i32)>,
    machine_id_from: MachineIdFrom,
    places: Places,
}

/// Why an element is rejected.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) reason: RejectReason,
    detail: String,
}

impl Problem {
    pub(super) fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The parsed text, and the map from its offsets to the payload's bytes.
struct Source<'a> {
    payload: &'a [u8],
    text: &'a str,
    /// Bytes before the text: a byte order mark or nothing.
    skipped: usize,
    /// Set if `text` is a copy with bare tokens replaced.
    replaced: Option<&'a Replaced>,
}

impl Source<'_> {
    /// Returns the offset in the payload of `offset` in the text.
    fn in_payload(&self, offset: usize) -> usize {
        self.skipped + self.replaced.map_or(offset, |replaced| replaced.original_offset(offset))
    }

    /// Returns the range in the payload of `part`, a slice of the text.
    fn range(&self, part: &str) -> Range<usize> {
        let start = self.offset(part);
        self.in_payload(start)..self.in_payload(start + part.len())
    }

    fn offset(&self, part: &str) -> usize {
        part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr())
    }

    /// Converts the error, with line and column (from 1, in bytes) in the payload as received.
    fn invalid_json(&self, error: &SyntaxError) -> Problem {
        let end = self.payload.len();
        let before =
            self.payload.get(self.skipped..self.in_payload(error.offset).min(end)).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        let detail = format!("{} at line {line} column {column}", error.message);
        Problem::new(RejectReason::InvalidJson, detail)
    }
}

impl PayloadRules {
    /// Builds the rules from the options.
    ///
    /// # Errors
    /// [`PayloadRulesError`] names the field with the wrong mapping.
    pub fn new(options: PayloadOptions) -> Result<Self, PayloadRulesError> {
        let places = Places::new(&options.fields)?;
        let PayloadOptions { max_ahead, max_payload, segments, machine_id_from, fields: _ } = options;
        Ok(Self { max_ahead, max_payload, segments, machine_id_from, places })
    }

    /// Turns a message into readings and rejections, and appends one outcome for each element to `outcomes`, in order.
    /// Appends at least one, whatever the bytes.
    pub fn interpret(&self, message: &Message<'_>, outcomes: &mut Vec<Outcome>) {
        let whole = 0..message.payload.len();
        if let Err(problem) = self.interpret_text(message, outcomes) {
            outcomes.push(rejected(message, 0, whole, problem));
        }
    }

    /// Does the same; an error rejects the whole message, and then nothing was appended.
    fn interpret_text(&self, message: &Message<'_>, outcomes: &mut Vec<Outcome>) -> Result<(), Problem> {
        if let Topic::Invalid(topic) = message.topic {
            return Err(invalid_topic(topic));
        }
        let payload = message.payload;
        if payload.len() > self.max_payload {
            let (bytes, allowed) = (payload.len(), self.max_payload);
            // The journal cuts a payload one byte past its bound, so the real length of a longer one is unknown.
            let at_least = if bytes > journaled_payload_bytes_max(allowed) { "at least " } else { "" };
            let detail = format!("{at_least}{bytes} bytes, at most {allowed} are allowed (mqtt.max_payload)");
            return Err(Problem::new(RejectReason::TooLarge, detail));
        }
        let text = std::str::from_utf8(payload).map_err(|error| {
            let detail = format!("not UTF-8 at byte {}", error.valid_up_to());
            Problem::new(RejectReason::InvalidUtf8, detail)
        })?;
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        if text.trim().is_empty() {
            let detail =
                if payload.is_empty() { "the payload is empty" } else { "the payload is white space only" };
            return Err(Problem::new(RejectReason::InvalidJson, detail));
        }
        let source = Source { payload, text, skipped: payload.len() - text.len(), replaced: None };
        let first_error = match json::document(text) {
            Ok(document) => return self.interpret_document(message, &source, document, outcomes),
            Err(error) => error,
        };
        let Some(replaced) = bare_tokens::replace(text) else {
            return Err(source.invalid_json(&first_error));
        };
        let source = Source { text: &replaced.text, replaced: Some(&replaced), ..source };
        let document = json::document(source.text).map_err(|error| source.invalid_json(&error))?;
        self.interpret_document(message, &source, document, outcomes)
    }

    fn interpret_document(
        &self,
        message: &Message<'_>,
        source: &Source<'_>,
        document: Document<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Problem> {
        let elements = match document {
            Document::Object(text) => {
                let raw = 0..message.payload.len();
                let reading = self.interpret_object(message, source, text, &raw, 0)?;
                outcomes.push(Outcome { element: 0, raw, result: Ok(reading) });
                return Ok(());
            }
            Document::Other(kind) => return Err(not_an_object(kind)),
            Document::Array(elements) if elements.is_empty() => return Err(not_an_object("an empty array")),
            Document::Array(elements) => elements,
        };
        outcomes.reserve(elements.len());
        for (element, text) in (0_u32..).zip(elements) {
            let raw = source.range(text);
            outcomes.push(match self.interpret_object(message, source, text, &raw, element) {
                Ok(reading) => Outcome { element, raw, result: Ok(reading) },
                Err(problem) => rejected(message, element, raw, problem),
            });
        }
        Ok(())
    }

    /// Reads one element. `text` is a part of the source and lies at `raw` in the payload (all of it for a single object);
    /// `element` is its place in the array, from 0.
    fn interpret_object(
        &self,
        message: &Message<'_>,
        source: &Source<'_>,
        text: &str,
        raw: &Range<usize>,
        element: u32,
    ) -> Result<Reading, Problem> {
        if !text.starts_with('{') {
            return Err(not_an_object(json::kind(text)));
        }
        let mut object = json::object(text).map_err(|error| {
            let offset = source.offset(text) + error.offset;
            source.invalid_json(&SyntaxError { offset, ..error })
        })?;
        let places = &self.places;
        let from_topic = || machine::from_topic(&self.segments, &message.topic.to_text());
        let machine_id =
            machine::identify(self.machine_id_from, &places.machine_id, &mut object, from_topic)?;
        let temperature = places.temperature.take(&mut object, measurement::read);
        let humidity = places.humidity.take(&mut object, measurement::read);
        let vibration = places.vibration.take(&mut object, measurement::read);
        let latest = if message.clock_unset {
            Timestamp::from_micros(i64::MAX)
        } else {
            message.received_at.plus(self.max_ahead)
        };
        let measured_at = places.timestamp.take(&mut object, |node| timestamp::read(node, latest));
        let (recorded_at, time_source) = match measured_at {
            Some(device_time) => (device_time, TimeSource::Device),
            None => (message.received_at, TimeSource::Server),
        };
        Ok(Reading {
            machine_id,
            temperature,
            humidity,
            vibration,
            extra: extra::write(&object, text.len()),
            recorded_at,
            time_source,
            digest: digest(message.payload.get(raw.clone()).unwrap_or_default(), time_source, element),
        })
    }
}

/// Bytes of a topic in the detail, which stays below [`DETAIL_CHARS_MAX`].
const TOPIC_SHOWN_BYTES_MAX: usize = 200;

fn invalid_topic(topic: &[u8]) -> Problem {
    let what = match std::str::from_utf8(topic) {
        Err(error) => format!("the topic is not UTF-8 at byte {}", error.valid_up_to()),
        Ok(_) => "the topic contains a NUL".to_owned(),
    };
    let shown = &topic[..topic.len().min(TOPIC_SHOWN_BYTES_MAX)];
    let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    let rest = if shown.len() < topic.len() { format!("… ({} bytes)", topic.len()) } else { String::new() };
    Problem::new(RejectReason::InvalidTopic, format!("{what}; its bytes in hex: {hex}{rest}"))
}

fn not_an_object(found: &str) -> Problem {
    Problem::new(RejectReason::NotAnObject, format!("expected an object, found {found}"))
}

fn rejected(message: &Message<'_>, element: u32, raw: Range<usize>, problem: Problem) -> Outcome {
    let bytes = message.payload.get(raw.clone()).unwrap_or_default();
    let kept = bytes.get(..REJECTED_PAYLOAD_BYTES_MAX).unwrap_or(bytes);
    let rejection =
        Rejection { reason: problem.reason, detail: bounded(problem.detail), payload: kept.to_vec() };
    Outcome { element, raw, result: Err(rejection) }
}

/// Cuts `detail` to [`DETAIL_CHARS_MAX`] and replaces U+0000.
fn bounded(mut detail: String) -> String {
    if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
        detail.truncate(end);
    }
    if detail.contains('\0') { detail.replace('\0', "\u{FFFD}") } else { detail }
}
