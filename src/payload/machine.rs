//! The machine that a reading belongs to.

use crate::domain::{MachineId, MachineIdError, MachineIdFrom, RejectReason, TopicFilter, topic_segment};

use super::MACHINE_SEGMENT_DEFAULT;
use super::fields::{Place, Use};
use super::json::{Members, Node};
use super::rules::Problem;

/// Finds the machine of an element whose id lies at `place` in `object`.
pub(super) fn identify(
    from: MachineIdFrom,
    place: &Place,
    object: &mut Members<'_>,
    from_topic: impl FnOnce() -> Result<MachineId, Problem>,
) -> Result<MachineId, Problem> {
    match from {
        MachineIdFrom::Payload => place.take(object, read).unwrap_or_else(from_topic),
        MachineIdFrom::Topic => {
            let _kept: Option<()> = place.take(object, keep);
            from_topic()
        }
        MachineIdFrom::MustMatch => both(place.take(object, read).transpose()?, from_topic()),
    }
}

fn both(named: Option<MachineId>, of_topic: Result<MachineId, Problem>) -> Result<MachineId, Problem> {
    let mismatch = |detail: String| {
        let rule = "payload.machine_id_from = \"must_match\"";
        Err(Problem::new(RejectReason::MachineIdMismatch, format!("{detail} ({rule})")))
    };
    match (named, of_topic) {
        (Some(named), Ok(of_topic)) if named == of_topic => Ok(named),
        (Some(named), Ok(of_topic)) => {
            mismatch(format!("the payload names \"{named}\", the topic \"{of_topic}\""))
        }
        (None, Ok(of_topic)) => mismatch(format!("the payload names no machine, the topic \"{of_topic}\"")),
        (Some(named), Err(problem)) if problem.reason == RejectReason::MissingMachineId => {
            mismatch(format!("the payload names \"{named}\", the topic no machine"))
        }
        (_, Err(problem)) => Err(problem),
    }
}

/// Leaves a value where `extra` keeps it.
fn keep(node: &Node<'_>) -> Use<()> {
    if matches!(node, Node::Null) { Use::Nothing } else { Use::Unusable }
}

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
