//! The machine that a reading belongs to.

use crate::domain::{MachineId, MachineIdError, RejectReason, TopicFilter, topic_segment};

use super::MACHINE_SEGMENT_DEFAULT;
use super::fields::Use;
use super::json::Node;
use super::rules::Problem;

/// Reads the id in the payload: a string, or a number as it was written. Any other value names no machine.
pub(super) fn read(node: &Node<'_>) -> Use<Result<MachineId, Problem>> {
    let text = match node {
        Node::String(text) => text.as_ref(),
        Node::Number(text) => text,
        Node::Null | Node::Bool(_) | Node::Array(_) | Node::Object(_) => return Use::Nothing,
    };
    match MachineId::parse(text) {
        Ok(id) => Use::Used(Ok(id)),
        Err(MachineIdError::Empty) => Use::Nothing,
        Err(error) => Use::Used(Err(Problem::new(RejectReason::InvalidMachineId, error.to_string()))),
    }
}

/// Reads the id in the topic, at the position that the first matching subscription configures.
pub(super) fn from_topic(segments: &[(TopicFilter, i32)], topic: &str) -> Result<MachineId, Problem> {
    let position = segments
        .iter()
        .find(|(filter, _)| filter.matches(topic))
        .map_or(MACHINE_SEGMENT_DEFAULT, |(_, position)| *position);
    let missing = || {
        let detail = match position {
            0 => "no machine_id in the payload, and the topic is not asked for it (machine_segment = 0)"
                .to_owned(),
            _ => format!("no machine_id in the payload, and the topic has none as its segment {position}"),
        };
        Problem::new(RejectReason::MissingMachineId, detail)
    };
    let segment = topic_segment(topic, position).ok_or_else(missing)?;
    MachineId::parse(segment).map_err(|error| match error {
        MachineIdError::Empty => missing(),
        other => Problem::new(RejectReason::InvalidMachineId, format!("topic segment {position}: {other}")),
    })
}
