//! Publishing: every transition in order, then current statuses (LIV-4).
//!
//! Messages go to the mqtt actor in numbered parts of a stream. A few parts are in flight at a time, and the
//! next one follows when the oldest is acknowledged, so that something more urgent (a proof of the link, a
//! new transition while all statuses are published) waits for little. A missing acknowledgement ends the
//! stream; the next stream begins with what was not acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use actix::prelude::*;

use super::status_message::{cleared_status, current_status, transition_status};
use super::status_outbox::StatusOutbox;
use super::transition_outbox::{Item, TransitionNumber};
use super::{Liveness, PublishStatuses};
use crate::actors::mqtt::messages::{StatusMessage, StreamId};
use crate::domain::MachineId;

/// Status messages of one part.
const PART_MAX: usize = 64;
/// Parts in flight: enough to keep the client and the broker busy, and little to wait for.
const PARTS_IN_FLIGHT_MAX: usize = 4;
/// Longest wait for the acknowledgement of a part.
const PUBLISH_ANSWER_MAX: Duration = Duration::from_secs(60);

/// What is to be published beside new transitions, and what is in flight.
#[derive(Debug)]
pub(super) struct Publishing {
    /// Oldest first.
    in_flight: VecDeque<Part>,
    stream: u64,
    next_part: u64,
    /// Transitions up to here are in flight or published.
    sent_upto: TransitionNumber,
    /// Machines whose status is published again although it did not change.
    republish: StatusOutbox,
    /// If all statuses are to be published: the next machine, by its number in the tracker.
    all_from: Option<usize>,
    /// Counts the requests for all statuses.
    round: u64,
}

impl Default for Publishing {
    fn default() -> Self {
        Self {
            in_flight: VecDeque::new(),
            stream: 1,
            next_part: 0,
            sent_upto: 0,
            republish: StatusOutbox::default(),
            all_from: None,
            round: 0,
        }
    }
}

#[derive(Debug)]
struct Part {
    number: u64,
    count: usize,
    content: Content,
    /// How many of its messages, from the first, the broker has acknowledged; `None` before the answer.
    acknowledged: Option<usize>,
}

/// What a part holds.
#[derive(Debug)]
enum Content {
    /// The number of each message's transition.
    Transitions(Vec<TransitionNumber>),
    /// The machines whose status is published again.
    Republish(Vec<MachineId>),
    /// The round, and the number of each message's machine.
    AllStatuses(u64, Vec<usize>),
}

impl Publishing {
    /// Requests the current status of every machine, from the first.
    pub(super) fn request_all_statuses(&mut self) {
        self.all_from = Some(0);
        self.round += 1;
    }

    /// Requests the current status of this machine.
    pub(super) fn request_status(&mut self, machine_id: MachineId) {
        self.republish.push(machine_id);
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < PARTS_IN_FLIGHT_MAX
    }

    /// Adds a part to the stream and returns its number.
    fn begin(&mut self, count: usize, content: Content) -> u64 {
        match &content {
            Content::Transitions(numbers) => {
                self.sent_upto = numbers.last().copied().unwrap_or(self.sent_upto);
            }
            Content::Republish(_) => {}
            Content::AllStatuses(_, indexes) => self.all_from = indexes.last().map(|last| last + 1),
        }
        let number = self.next_part;
        self.next_part += 1;
        self.in_flight.push_back(Part { number, count, content, acknowledged: None });
        number
    }

    /// The broker has the first `acknowledged` messages of a part. Returns the newest published transition,
    /// if that moved.
    fn on_acknowledged(&mut self, stream: u64, number: u64, acknowledged: usize) -> Option<TransitionNumber> {
        let part = self.in_flight.iter_mut().find(|part| part.number == number);
        part.filter(|_| stream == self.stream)?.acknowledged = Some(acknowledged);
        let mut published = None;
        // Answers may arrive out of order. No part counts before the parts in front of it.
        while let Some(acknowledged) = self.in_flight.front().and_then(|oldest| oldest.acknowledged)
            && let Some(part) = self.in_flight.pop_front()
        {
            if let (Content::Transitions(numbers), Some(last)) = (&part.content, acknowledged.checked_sub(1))
            {
                published = numbers.get(last).copied().or(published);
            }
            if acknowledged < part.count {
                self.break_off(part, acknowledged);
            }
        }
        published
    }

    /// Ends the stream at `part`, of which only the first `acknowledged` messages arrived for certain. The
    /// rest is sent again; a status that arrives twice is harmless.
    fn break_off(&mut self, part: Part, acknowledged: usize) {
        let mut lost = std::mem::take(&mut self.in_flight);
        lost.push_front(part);
        (self.stream, self.next_part, self.sent_upto) = (self.stream + 1, 0, 0);
        let mut skipped = acknowledged;
        let mut all_from = None;
        for part in &lost {
            // An earlier round does not count: a newer request starts from the first machine anyhow.
            if let Content::AllStatuses(round, indexes) = &part.content
                && *round == self.round
            {
                all_from = all_from.or(indexes.get(skipped).copied());
            }
            skipped = 0;
        }
        self.all_from = all_from.or(self.all_from);
        for part in lost.into_iter().rev() {
            if let Content::Republish(machines) = part.content {
                self.republish.put_back(machines);
            }
        }
    }
}

impl Liveness {
    /// Publishes what is out of date, a bounded part at a time.
    pub(super) fn publish(&mut self, context: &mut Context<Self>) {
        while self.replay.link_is_up() && self.publishing.has_room() {
            let Some((messages, content)) = self.next_part() else { return };
            let part = self.publishing.begin(messages.len(), content);
            let number = self.publishing.stream;
            let stream = StreamId { generation: self.exit_guard.generation(), number };
            let call =
                self.wires.publish.call(PublishStatuses { messages, stream, part }, PUBLISH_ANSWER_MAX);
            context.spawn(call.into_actor(self).map(move |answer, liveness, context| {
                liveness.on_acknowledged(number, part, answer.unwrap_or(0), context);
            }));
        }
    }

    fn on_acknowledged(&mut self, stream: u64, part: u64, acknowledged: usize, context: &mut Context<Self>) {
        if let Some(published) = self.publishing.on_acknowledged(stream, part, acknowledged) {
            self.transitions.on_published(published);
            self.notify_parser();
        }
        if self.publishing.stream == stream {
            self.publish(context);
        }
        // After a broken stream the next one waits for the next tick: the link may be about to go down.
    }

    fn next_part(&mut self) -> Option<(Vec<StatusMessage>, Content)> {
        self.next_transitions().or_else(|| self.next_republished()).or_else(|| self.next_of_all_statuses())
    }

    fn next_transitions(&mut self) -> Option<(Vec<StatusMessage>, Content)> {
        let (prefix, tracker) = (self.options.topic_prefix.as_ref()?, self.replay.tracker()?);
        let mut messages = Vec::new();
        let mut numbers = Vec::new();
        for (number, item) in self.transitions.to_publish(self.publishing.sent_upto, PART_MAX) {
            let is_flapping = |machine_id: &MachineId| {
                tracker.status_of(machine_id.as_str()).is_some_and(|view| view.flapping)
            };
            messages.push(match item {
                Item::Transition(transition) => {
                    transition_status(prefix, transition, is_flapping(&transition.machine_id))
                }
                Item::Forget(forget) => cleared_status(prefix, &forget.machine_id),
            });
            numbers.push(number);
        }
        (!messages.is_empty()).then_some((messages, Content::Transitions(numbers)))
    }

    fn next_republished(&mut self) -> Option<(Vec<StatusMessage>, Content)> {
        let prefix = self.options.topic_prefix.as_ref()?;
        let tracker = self.replay.tracker().filter(|_| self.replay.history_is_known())?;
        let machines = self.publishing.republish.take(PART_MAX);
        let views = machines.iter().filter_map(|machine_id| tracker.status_of(machine_id.as_str()));
        let messages: Vec<_> = views.filter_map(|view| current_status(prefix, &view)).collect();
        // Every machine in that outbox has changed its status, and so has one.
        (!messages.is_empty()).then_some((messages, Content::Republish(machines)))
    }

    fn next_of_all_statuses(&mut self) -> Option<(Vec<StatusMessage>, Content)> {
        let prefix = self.options.topic_prefix.as_ref()?;
        let tracker = self.replay.tracker().filter(|_| self.replay.history_is_known())?;
        let first = self.publishing.all_from?;
        let views = tracker.views_from(first);
        let with_status =
            views.filter_map(|(index, view)| Some((current_status(prefix, &view)?, index))).take(PART_MAX);
        let (messages, indexes): (Vec<_>, Vec<_>) = with_status.unzip();
        if messages.is_empty() {
            self.publishing.all_from = None;
            return None;
        }
        Some((messages, Content::AllStatuses(self.publishing.round, indexes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transitions(publishing: &mut Publishing, numbers: std::ops::RangeInclusive<TransitionNumber>) -> u64 {
        let numbers: Vec<_> = numbers.collect();
        publishing.begin(numbers.len(), Content::Transitions(numbers))
    }

    fn all_statuses(publishing: &mut Publishing, indexes: &[usize]) -> u64 {
        publishing.begin(indexes.len(), Content::AllStatuses(publishing.round, indexes.to_vec()))
    }

    fn republish(publishing: &mut Publishing, names: &[&str]) -> u64 {
        let machines = names.iter().map(|name| MachineId::parse(name).expect("a valid id")).collect();
        publishing.begin(names.len(), Content::Republish(machines))
    }

    /// Proves LIV-4.
    #[test]
    fn a_part_acknowledged_early_does_not_count_before_the_parts_in_front_of_it() {
        let mut publishing = Publishing::default();
        let (first, second) = (transitions(&mut publishing, 1..=3), transitions(&mut publishing, 4..=6));
        assert_eq!(publishing.on_acknowledged(1, second, 3), None);
        assert_eq!(publishing.on_acknowledged(1, first, 3), Some(6));
        assert_eq!((publishing.sent_upto, publishing.in_flight.len()), (6, 0));
    }

    /// Proves LIV-4.
    #[test]
    fn after_a_missing_acknowledgement_everything_behind_it_is_sent_again() {
        let mut publishing = Publishing::default();
        let (first, second) = (transitions(&mut publishing, 1..=3), transitions(&mut publishing, 4..=6));
        let third = transitions(&mut publishing, 7..=9);
        assert_eq!(publishing.on_acknowledged(1, third, 3), None);
        assert_eq!(publishing.on_acknowledged(1, first, 2), Some(2));
        assert_eq!((publishing.sent_upto, publishing.stream, publishing.in_flight.len()), (0, 2, 0));
        assert_eq!(publishing.on_acknowledged(1, second, 3), None, "an answer to the ended stream");
        let again = transitions(&mut publishing, 3..=5);
        assert_eq!(
            (again, publishing.on_acknowledged(1, again, 3)),
            (0, None),
            "parts are numbered from 0 again"
        );
        assert_eq!(publishing.on_acknowledged(2, again, 3), Some(5));
    }

    #[test]
    fn no_more_parts_are_in_flight_than_allowed() {
        let mut publishing = Publishing::default();
        let oldest = transitions(&mut publishing, 1..=1);
        (1..PARTS_IN_FLIGHT_MAX).for_each(|_| {
            republish(&mut publishing, &["a"]);
        });
        assert!(!publishing.has_room());
        publishing.on_acknowledged(1, oldest, 1);
        assert!(publishing.has_room());
    }

    /// Proves LIV-4.
    #[test]
    fn machines_of_a_broken_stream_go_back_in_their_order() {
        let mut publishing = Publishing::default();
        let first = republish(&mut publishing, &["a", "b"]);
        republish(&mut publishing, &["c"]);
        publishing.request_status(MachineId::parse("d").expect("a valid id"));
        publishing.on_acknowledged(1, first, 0);
        let names: Vec<_> = publishing.republish.take(9).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }

    /// Proves LIV-4.
    #[test]
    fn all_statuses_continue_behind_the_acknowledged_ones_and_start_over_on_request() {
        let mut publishing = Publishing::default();
        publishing.request_all_statuses();
        let (first, second) =
            (all_statuses(&mut publishing, &[0, 1, 5, 6]), all_statuses(&mut publishing, &[7, 9]));
        assert_eq!(publishing.all_from, Some(10));
        publishing.on_acknowledged(1, first, 4);
        publishing.on_acknowledged(1, second, 1);
        assert_eq!(publishing.all_from, Some(9), "from the first that was not acknowledged");
        let third = all_statuses(&mut publishing, &[9, 10]);
        publishing.request_all_statuses();
        publishing.on_acknowledged(2, third, 0);
        assert_eq!(publishing.all_from, Some(0), "a new request meanwhile");
        all_statuses(&mut publishing, &[0, 1]);
        assert_eq!(publishing.all_from, Some(2));
    }
}
