//! The bodies of the fuzz targets in `fuzz/`: bytes in, a panic if an invariant is broken.
//!
//! `make test` runs them on the corpus and mutations of it, with stable Rust; `cargo fuzz` runs them for as long as you like.
//! Put every finding into `fuzz/corpus`, so that it stays tested.

use std::time::Duration;

use crate::domain::{
    Message, Qos, REJECTED_PAYLOAD_BYTES_MAX, Reading, RejectReason, TimeSource, Timestamp, TopicFilter,
};
use crate::payload::{DETAIL_CHARS_MAX, Outcome, PayloadOptions, PayloadRules, digest};

pub use crate::journal::fuzz_record;

const RECEIVED_AT: Timestamp = Timestamp::from_micros(1_767_595_199_000_001);
const MAX_AHEAD: Duration = Duration::from_secs(86_400);
const MAX_PAYLOAD: usize = 256 * 1024;
/// 2025-01-01T00:00:00Z: no older device time is used.
const EARLIEST: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);

/// Checks that any payload keeps the invariants of [`crate::payload`]: each element once and in order, bounded, finite, and
/// the same in an array and alone (as `andon rejected retry` reads it). Runs with plain and with mapped fields.
pub fn fuzz_payload(bytes: &[u8]) {
    for fields in [&[][..], &[("temperature", "/a/0"), ("timestamp", "/a/1/t"), ("machine_id", "/dev/id")]] {
        let rules = rules(fields);
        let outcomes = interpret(&rules, bytes);
        assert_eq!(outcomes, interpret(&rules, bytes), "the same bytes mean the same");
        assert!(
            !outcomes.is_empty() && outcomes.len() <= bytes.len().max(1),
            "PAY-1: at least one, and none from nothing"
        );
        let mut end = 0;
        for (place, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.element as usize, place, "PAY-1: each element once");
            assert!(
                outcome.raw.start >= end && outcome.raw.end <= bytes.len(),
                "PAY-2: apart, in order and inside"
            );
            end = outcome.raw.end;
            check_outcome(&rules, outcome, &bytes[outcome.raw.clone()]);
        }
    }
}

fn rules(fields: &[(&str, &str)]) -> PayloadRules {
    PayloadRules::new(PayloadOptions {
        max_ahead: MAX_AHEAD,
        max_payload: MAX_PAYLOAD,
        segments: Vec::new(),
        machine_id_from: crate::domain::MachineIdFrom::Payload,
        fields: fields.iter().map(|(field, pointer)| ((*field).to_owned(), (*pointer).to_owned())).collect(),
    })
    .expect("the pointers are valid")
}

fn interpret(rules: &PayloadRules, payload: &[u8]) -> Vec<Outcome> {
    let topic = "factory/machine/press-1/telemetry";
    let mut outcomes = Vec::new();
    let message = Message {
        received_at: RECEIVED_AT,
        qos: Qos::AtLeastOnce,
        retained: false,
        clock_unset: false,
        topic: topic.into(),
        payload,
    };
    rules.interpret(&message, &mut outcomes);
    outcomes
}

fn check_outcome(rules: &PayloadRules, outcome: &Outcome, raw: &[u8]) {
    match &outcome.result {
        Ok(reading) => {
            check_reading(reading, raw, outcome.element);
            let alone = interpret(rules, raw);
            assert_eq!(alone.len(), 1, "an element is one element");
            let alone_as = Reading { digest: digest(raw, reading.time_source, 0), ..reading.clone() };
            assert_eq!(
                alone[0].result,
                Ok(alone_as),
                "an element reads alone as in its array, but for its place"
            );
        }
        Err(rejection) => {
            assert_eq!(rejection.payload, raw[..raw.len().min(REJECTED_PAYLOAD_BYTES_MAX)]);
            assert!(!rejection.detail.is_empty() && !rejection.detail.contains('\0'));
            assert!(rejection.detail.chars().count() <= DETAIL_CHARS_MAX);
            assert_eq!(rejection.reason == RejectReason::TooLarge, raw.len() > MAX_PAYLOAD);
        }
    }
}

fn check_reading(reading: &Reading, raw: &[u8], element: u32) {
    assert_eq!(reading.digest, digest(raw, reading.time_source, element), "PAY-2");
    for value in [reading.temperature, reading.humidity, reading.vibration] {
        assert!(value.is_none_or(f64::is_finite), "PAY-3");
    }
    match reading.time_source {
        TimeSource::Server => assert_eq!(reading.recorded_at, RECEIVED_AT, "PAY-3"),
        TimeSource::Device => {
            assert!((EARLIEST..=RECEIVED_AT.plus(MAX_AHEAD)).contains(&reading.recorded_at), "PAY-3");
        }
    }
    if let Some(extra) = &reading.extra {
        // Not as a `Value`: it treats keys that any device can send as its own markers.
        serde_json::from_str::<serde::de::IgnoredAny>(extra).expect("PAY-4: JSON");
        assert!(
            extra.starts_with('{') && extra.len() > "{}".len(),
            "PAY-4: an object, None if nothing is left"
        );
        assert!(!extra.contains('\0'), "PAY-4");
        // A character of the payload becomes at most a six-character escape; a moved value gets a name.
        assert!(
            extra.len() <= 6 * raw.len() + 64,
            "PAY-5: {} bytes of extra from {}",
            extra.len(),
            raw.len()
        );
    }
}

/// Reads a topic filter up to the first line break and a topic after it, and checks that they match as the standard says.
pub fn fuzz_topic_filter(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (text, topic) = text.split_once('\n').unwrap_or((text, text));
    let Ok(filter) = TopicFilter::parse(text) else { return };
    assert_eq!(filter.as_str(), text);
    let levels = |text| str::split(text, '/').collect::<Vec<_>>();
    let hidden = topic.starts_with('$') && filter.unshared().starts_with(['+', '#']);
    let expected = !hidden && levels_match(&levels(filter.unshared()), &levels(topic));
    assert_eq!(filter.matches(topic), expected, "{text:?} against {topic:?}");
}

/// MQTT 5, section 4.7.1, written as directly as possible.
fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([wanted, filter @ ..], [level, topic @ ..]) => {
            (*wanted == "+" || wanted == level) && levels_match(filter, topic)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Mutations of each file of the corpus.
    const MUTATIONS: u32 = 1_000;

    /// A small generator, the same on every run (xorshift64*).
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
            usize::try_from(high).unwrap() % sides.max(1)
        }

        fn mutate(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
            const TOKENS: [&[u8]; 14] = [
                b"{", b"}", b"[", b"]", b",", b":", b"\"", b"\\u0000", b"NaN", b"-inf", b"1e999", b"null",
                b"/", b"\xff",
            ];
            let at = self.roll(bytes.len() + 1);
            match self.roll(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                1 if at < bytes.len() => bytes[at] = self.roll(256) as u8,
                2 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + self.roll(4)).min(bytes.len()))),
                3 => bytes.truncate(at),
                4 => {
                    let other = &others[self.roll(others.len())];
                    let from = self.roll(other.len() + 1);
                    bytes.splice(at..at, other[from..].iter().copied());
                }
                _ => drop(bytes.splice(at..at, TOKENS[self.roll(TOKENS.len())].iter().copied())),
            }
        }
    }

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 5, "the corpus of {target} is there");
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    fn run(target: &str, body: fn(&[u8])) {
        let corpus = corpus(target);
        let mut dice = Dice(0x616E_646F_6E21);
        for kept in &corpus {
            body(kept);
            for _ in 0..MUTATIONS {
                let mut bytes = kept.clone();
                (0..=dice.roll(4)).for_each(|_| dice.mutate(&mut bytes, &corpus));
                body(&bytes);
            }
        }
    }

    /// Proves PAY-1, PAY-2, PAY-3, PAY-4, PAY-5.
    #[test]
    fn payloads_keep_every_rule_whatever_the_bytes() {
        run("payload", fuzz_payload);
    }

    /// Proves JRN-7.
    #[test]
    fn records_keep_every_rule_whatever_the_bytes() {
        run("record", fuzz_record);
    }

    #[test]
    fn topic_filters_keep_every_rule_whatever_the_bytes() {
        run("topic_filter", fuzz_topic_filter);
    }
}
