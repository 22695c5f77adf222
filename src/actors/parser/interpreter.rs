//! Interprets messages: readings and rejections, sightings of machines, or control. Pure.

use serde::Deserialize;
use serde_json::Value;

use crate::actors::liveness::messages::{Sighting, SightingKind};
use crate::domain::{FilterSet, LastWillRule, MachineId, MachineStatus, Topic, TopicFilter, topic_segment};
use crate::journal::Record;
use crate::payload::{Outcome, PayloadRules};

/// The rules that decide what a message means.
#[derive(Debug)]
pub struct Interpreter {
    /// From payload to reading.
    pub rules: PayloadRules,
    /// The filters of the telemetry subscriptions.
    pub telemetry: Vec<TopicFilter>,
    /// `[[liveness.last_will]]`.
    pub last_wills: Vec<LastWillRule>,
    /// `<publish_prefix>/`. Topics below it are published by Andon, by this site or another, and reach us if a
    /// subscription is wide.
    pub control_prefix: Option<String>,
}

impl Interpreter {
    /// Interprets one record. Replaces the content of `outcomes` by its readings and rejections, and appends
    /// its sightings to `sightings`. Returns `true` if the record is control: neither reading nor rejection.
    pub fn interpret(
        &self,
        record: &Record<'_>,
        outcomes: &mut Vec<Outcome>,
        sightings: &mut Vec<Sighting>,
    ) -> bool {
        outcomes.clear();
        let message = &record.message;
        let Topic::Text(topic) = message.topic else {
            // A topic that is not UTF-8 matches neither our own topics nor last wills.
            self.rules.interpret(message, outcomes);
            return false;
        };
        if self.is_control(topic) {
            return true;
        }
        let mut sighted = |machine_id: MachineId, element, kind, filters| {
            let received_at = message.received_at;
            sightings.push(Sighting { machine_id, received_at, seq: record.seq, element, kind, filters });
        };
        let mut on_last_will_topic = false;
        for rule in self.last_wills.iter().filter(|rule| rule.filter.matches(topic)) {
            on_last_will_topic = true;
            if rule.payload.as_bytes() != message.payload {
                continue;
            }
            let machine = topic_segment(topic, rule.machine_segment).map(MachineId::parse);
            if let (Some(Ok(machine_id)), false) = (machine, message.retained) {
                sighted(machine_id, 0, SightingKind::LastWill, FilterSet::EMPTY);
            }
            return true;
        }
        if on_last_will_topic && !self.telemetry.iter().any(|filter| filter.matches(topic)) {
            return true;
        }
        self.rules.interpret(message, outcomes);
        if !message.retained {
            let filters = FilterSet::of(&self.telemetry, |filter| filter.matches(topic));
            for outcome in outcomes.iter() {
                if let Ok(reading) = &outcome.result {
                    sighted(reading.machine_id.clone(), outcome.element, SightingKind::Message, filters);
                }
            }
        }
        false
    }

    fn is_control(&self, topic: &str) -> bool {
        self.control_prefix.as_deref().is_some_and(|prefix| topic.starts_with(prefix))
    }

    /// Returns the topic if this is a machine status of an Andon with another publish prefix. Such a message is
    /// stored as a reading.
    #[must_use]
    pub fn foreign_status_topic<'a>(&self, record: &Record<'a>) -> Option<&'a str> {
        #[derive(Deserialize)]
        struct Status {
            #[serde(rename = "machine_id")]
            _machine_id: String,
            status: String,
            #[serde(rename = "since")]
            _since: String,
            last_seen: Value,
            reason: Value,
        }
        let Topic::Text(topic) = record.message.topic else { return None };
        let mut levels = topic.rsplit('/');
        let looks_alike = levels.next() == Some("status") && levels.nth(1) == Some("machine");
        if !looks_alike || self.is_control(topic) {
            return None;
        }
        let status: Status = serde_json::from_slice(record.message.payload).ok()?;
        let text_or_null = |value: &Value| value.is_string() || value.is_null();
        let is_one = MachineStatus::from_word(&status.status).is_some()
            && text_or_null(&status.last_seen)
            && text_or_null(&status.reason);
        is_one.then_some(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Message, Qos, Seq, Timestamp};
    use crate::payload::PayloadOptions;

    fn interpreter(prefix: &str) -> Interpreter {
        let options = PayloadOptions {
            max_ahead: std::time::Duration::ZERO,
            max_payload: 1024,
            segments: Vec::new(),
            machine_id_from: crate::domain::MachineIdFrom::Payload,
            fields: std::collections::BTreeMap::new(),
        };
        let rules = PayloadRules::new(options).expect("nothing is mapped");
        let everything = TopicFilter::parse("#").expect("a filter");
        let control_prefix = Some(prefix.to_owned());
        Interpreter { rules, telemetry: vec![everything], last_wills: Vec::new(), control_prefix }
    }

    fn record<'a>(topic: &'a str, payload: &'a str) -> Record<'a> {
        let (topic, payload) = (Topic::Text(topic), payload.as_bytes());
        let received_at = Timestamp::from_micros(1);
        Record {
            seq: Seq(1),
            message: Message {
                received_at,
                qos: Qos::AtLeastOnce,
                retained: false,
                clock_unset: false,
                topic,
                payload,
            },
        }
    }

    #[test]
    fn everything_below_the_prefix_is_control_for_every_site() {
        let interpreter = interpreter("andon/");
        let is_control = |topic: &str| {
            interpreter.interpret(&record(topic, r#"{"machine_id":"m"}"#), &mut Vec::new(), &mut Vec::new())
        };
        for topic in ["andon/a/status", "andon/b/machine/m/status", "andon/b/echo", "andon/"] {
            assert!(is_control(topic), "{topic}");
        }
        for topic in ["andon", "andonx/a/status", "x/andon/a/status", "/andon/a"] {
            assert!(!is_control(topic), "{topic}");
        }
    }

    #[test]
    fn a_status_under_another_prefix_is_recognised_by_its_topic_and_its_fields() {
        let interpreter = interpreter("andon/");
        let status = r#"{"machine_id":"m","status":"offline","since":"t","last_seen":null,"reason":"silence","flapping":false}"#;
        let table = [
            ("elsewhere/b/machine/m/status", status, true),
            ("a/b/c/machine/m/status", status, true),
            ("andon/b/machine/m/status", status, false),
            ("elsewhere/b/machine/m/state", status, false),
            ("elsewhere/machine/status", status, false),
            ("elsewhere/b/machine/m/status", r#"{"machine_id":"m","status":"offline"}"#, false),
            ("elsewhere/b/machine/m/status", &status.replace("offline", "running"), false),
            ("elsewhere/b/machine/m/status", &status.replace("null", "7"), false),
            ("elsewhere/b/machine/m/status", "online", false),
        ];
        for (topic, payload, expected) in table {
            assert_eq!(
                interpreter.foreign_status_topic(&record(topic, payload)).is_some(),
                expected,
                "{topic} {payload}"
            );
        }
    }
}
