//! The rules of the contract as tables over whole messages, properties over arbitrary ones, and a corpus of hostile payloads.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::{
    Message, Qos, REJECTED_PAYLOAD_BYTES_MAX, Reading, RejectReason, Rejection, TimeSource, Timestamp, Topic,
    TopicFilter,
};

use super::*;

mod corpus;
mod machine_id_from;
mod mapping;
mod properties;
mod rejections;
mod table;

/// 2025-11-22T10:11:12Z
const RECEIVED_AT: Timestamp = Timestamp::from_micros(1_763_806_272_000_000);
const TOPIC: &str = "factory/machine/m-topic/telemetry";
const MAX_PAYLOAD: usize = 256 * 1024;

fn options() -> PayloadOptions {
    PayloadOptions {
        max_ahead: Duration::from_secs(86_400),
        max_payload: MAX_PAYLOAD,
        segments: vec![(TopicFilter::parse("factory/machine/+/telemetry").unwrap(), -2)],
        machine_id_from: crate::domain::MachineIdFrom::Payload,
        fields: BTreeMap::new(),
    }
}

fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Message<'a> {
    let (received_at, qos) = (RECEIVED_AT, Qos::AtLeastOnce);
    Message { received_at, qos, retained: false, clock_unset: false, topic: topic.into(), payload }
}

fn interpret_with(options: PayloadOptions, topic: &str, payload: &[u8]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    PayloadRules::new(options).unwrap().interpret(&message(topic, payload), &mut outcomes);
    outcomes
}

fn interpret(payload: impl AsRef<[u8]>) -> Vec<Outcome> {
    interpret_with(options(), TOPIC, payload.as_ref())
}

/// The only reading in `payload`.
#[track_caller]
fn reading(payload: impl AsRef<[u8]>) -> Reading {
    let mut outcomes = interpret(&payload);
    assert_eq!(outcomes.len(), 1);
    match outcomes.remove(0).result {
        Ok(reading) => reading,
        Err(rejection) => panic!("rejected as {}: {}", rejection.reason, rejection.detail),
    }
}

/// The only rejection of `payload`.
#[track_caller]
fn rejection(payload: impl AsRef<[u8]>) -> Rejection {
    let mut outcomes = interpret(&payload);
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0).result.expect_err("a rejection")
}

/// `extra` of the only reading in `payload`.
#[track_caller]
fn extra_of(payload: impl AsRef<[u8]>) -> Option<String> {
    reading(payload).extra
}
