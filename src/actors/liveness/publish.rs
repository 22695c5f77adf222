//! Publishing: every transition in order, then present statuses (invariant LIV-4 of [`super`]).
//!
//! Parts of a stream are handed to the mqtt actor, several at a time, and the next one when the oldest is answered. What is
//! under way is bounded, so whatever else has to be published (a proof of the link, a new transition while everybody's present
//! status is said) waits for little. What was not answered ends the stream, here and there: the next one begins with it.

use std::collections::VecDeque;
use std::time::Duration;

use actix::prelude::*;

use super::outbox::Order;
use super::status_message::{present_status, transition_status};
use super::status_outbox::StatusOutbox;
use super::{Liveness, PublishStatuses};
use crate::actors::mqtt::messages::{StatusMessage, StreamId};
use crate::domain::MachineId;

/// Status messages of one part.
const PART_MAX: usize = 64;
/// Parts under way at once: enough to keep the library and the broker busy, and little to wait for.
const PARTS_UNDER_WAY_MAX: usize = 4;
/// Longest wait for a part to be acknowledged.
const PUBLISH_ANSWER_MAX: Duration = Duration::from_secs(60);

/// What is to be published beside transitions, and what is on its way.
#[derive(Debug)]
pub(super) struct Publishing {
    /// Oldest first.
    under_way: VecDeque<Part>,
    /// The present stream, and the number of its next part.
    stream: u64,
    next_part: u64,
    /// Transitions up to here are under way, or published.
    handed_over: Order,
    single: StatusOutbox,
    /// All machines' statuses, from this one on in the tracker's order.
    everything_from: Option<usize>,
    /// How often everything was asked for.
    round: u64,
}

impl Default for Publishing {
    fn default() -> Self {
        Self {
            under_way: VecDeque::new(),
            stream: 1,
            next_part: 0,
            handed_over: 0,
            single: StatusOutbox::default(),
            everything_from: None,
            round: 0,
        }
    }
}

#[derive(Debug)]
struct Part {
    number: u64,
    count: usize,
    content: Content,
    /// So many of its messages, from the first, the broker has answered.
    answered: Option<usize>,
}

/// What a part consists of.
#[derive(Debug)]
enum Content {
    /// Up to which transition each message is.
    Transitions(Vec<Order>),
    /// The machines.
    Single(Vec<MachineId>),
    /// The round it belongs to, and the place of each message's machine.
    Everything(u64, Vec<usize>),
}

impl Publishing {
    /// The present status of every machine, from the first.
    pub(super) fn everything(&mut self) {
        self.everything_from = Some(0);
        self.round += 1;
    }

    /// The present status of this machine.
    pub(super) fn push(&mut self, machine_id: MachineId) {
        self.single.push(machine_id);
    }

    fn has_room(&self) -> bool {
        self.under_way.len() < PARTS_UNDER_WAY_MAX
    }

    /// A part is handed over; returns its number.
    fn begin(&mut self, count: usize, content: Content) -> u64 {
        match &content {
            Content::Transitions(orders) => {
                self.handed_over = orders.last().copied().unwrap_or(self.handed_over);
            }
            Content::Single(_) => {}
            Content::Everything(_, places) => self.everything_from = places.last().map(|last| last + 1),
        }
        let number = self.next_part;
        self.next_part += 1;
        self.under_way.push_back(Part { number, count, content, answered: None });
        number
    }

    /// The broker has the first `answered` messages of a part. Returns up to where it has the transitions now, if that moved.
    fn on_answered(&mut self, stream: u64, number: u64, answered: usize) -> Option<Order> {
        let part = self.under_way.iter_mut().find(|part| part.number == number);
        part.filter(|_| stream == self.stream)?.answered = Some(answered);
        let mut published = None;
        // Answers may come in another order than they were given; what is not answered may not be passed over.
        while let Some(answered) = self.under_way.front().and_then(|oldest| oldest.answered)
            && let Some(part) = self.under_way.pop_front()
        {
            if let (Content::Transitions(orders), Some(last)) = (&part.content, answered.checked_sub(1)) {
                published = orders.get(last).copied().or(published);
            }
            if answered < part.count {
                self.break_off(part, answered);
            }
        }
        published
    }

    /// `part` was answered only in part: it and all behind it have to be handed over again. Of those without an answer some
    /// may have arrived; saying them again is harmless.
    fn break_off(&mut self, part: Part, answered: usize) {
        let mut lost = std::mem::take(&mut self.under_way);
        lost.push_front(part);
        (self.stream, self.next_part, self.handed_over) = (self.stream + 1, 0, 0);
        let mut skipped = answered;
        let mut everything_from = None;
        for part in &lost {
            if let Content::Everything(round, places) = &part.content
                && *round == self.round
            {
                // Asked for anew meanwhile, it begins from the first anyhow.
                everything_from = everything_from.or(places.get(skipped).copied());
            }
            skipped = 0;
        }
        self.everything_from = everything_from.or(self.everything_from);
        for part in lost.into_iter().rev() {
            if let Content::Single(machines) = part.content {
                self.single.put_back(machines);
            }
        }
    }
}

impl Liveness {
    /// Publishes what is out of date, a bounded part at a time.
    pub(super) fn publish(&mut self, context: &mut Context<Self>) {
        while self.watch.link_is_up() && self.publishing.has_room() {
            let Some((messages, content)) = self.next_part() else { return };
            let part = self.publishing.begin(messages.len(), content);
            let number = self.publishing.stream;
            let stream = StreamId { generation: self.exit_guard.generation(), number };
            let call =
                self.wires.publish.call(PublishStatuses { messages, stream, part }, PUBLISH_ANSWER_MAX);
            context.spawn(call.into_actor(self).map(move |answer, liveness, context| {
                liveness.on_answered(number, part, answer.unwrap_or(0), context);
            }));
        }
    }

    fn on_answered(&mut self, stream: u64, part: u64, answered: usize, context: &mut Context<Self>) {
        if let Some(published) = self.publishing.on_answered(stream, part, answered) {
            self.transitions.on_published(published);
            self.tell_parser();
        }
        if self.publishing.stream == stream {
            self.publish(context);
        }
        // A stream that broke off is followed by another at the next tick, not at once: the link may be about to go down.
    }

    fn next_part(&mut self) -> Option<(Vec<StatusMessage>, Content)> {
        self.next_transitions().or_else(|| self.next_single()).or_else(|| self.next_of_everything())
    }

    fn next_transitions(&mut self) -> Option<(Vec<StatusMessage>, Content)> {
        let (prefix, tracker) = (self.options.topic_prefix.as_ref()?, self.watch.tracker()?);
        let mut messages = Vec::new();
        let mut orders = Vec::new();
        for (order, transition) in self.transitions.to_publish(self.publishing.handed_over, PART_MAX) {
            let flapping =
                tracker.status_of(transition.machine_id.as_str()).is_some_and(|view| view.flapping);
            messages.push(transition_status(prefix, transition, flapping));
            orders.push(order);
        }
        (!messages.is_empty()).then_some((messages, Content::Transitions(orders)))
    }

    fn next_single(&mut self) -> Option<(Vec<StatusMessage>, Content)> {
        let prefix = self.options.topic_prefix.as_ref()?;
        let tracker = self.watch.tracker().filter(|_| self.watch.knows_the_past())?;
        let machines = self.publishing.single.take(PART_MAX);
        let views = machines.iter().filter_map(|machine_id| tracker.status_of(machine_id.as_str()));
        let messages: Vec<_> = views.filter_map(|view| present_status(prefix, &view)).collect();
        // Whoever is in that outbox changed its status, and so has one.
        (!messages.is_empty()).then_some((messages, Content::Single(machines)))
    }

    fn next_of_everything(&mut self) -> Option<(Vec<StatusMessage>, Content)> {
        let prefix = self.options.topic_prefix.as_ref()?;
        let tracker = self.watch.tracker().filter(|_| self.watch.knows_the_past())?;
        let first = self.publishing.everything_from?;
        let all = (first..).zip(tracker.views_from(first));
        let with_status =
            all.filter_map(|(place, view)| Some((present_status(prefix, &view)?, place))).take(PART_MAX);
        let (messages, places): (Vec<_>, Vec<_>) = with_status.unzip();
        if messages.is_empty() {
            self.publishing.everything_from = None;
            return None;
        }
        Some((messages, Content::Everything(self.publishing.round, places)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transitions(publishing: &mut Publishing, orders: std::ops::RangeInclusive<Order>) -> u64 {
        let orders: Vec<_> = orders.collect();
        publishing.begin(orders.len(), Content::Transitions(orders))
    }

    fn everything(publishing: &mut Publishing, places: &[usize]) -> u64 {
        publishing.begin(places.len(), Content::Everything(publishing.round, places.to_vec()))
    }

    fn single(publishing: &mut Publishing, names: &[&str]) -> u64 {
        let machines = names.iter().map(|name| MachineId::parse(name).expect("a valid id")).collect();
        publishing.begin(names.len(), Content::Single(machines))
    }

    #[test]
    fn l4_what_was_answered_early_is_not_believed_before_what_was_handed_over_before_it() {
        let mut publishing = Publishing::default();
        let (first, second) = (transitions(&mut publishing, 1..=3), transitions(&mut publishing, 4..=6));
        assert_eq!(publishing.on_answered(1, second, 3), None);
        assert_eq!(publishing.on_answered(1, first, 3), Some(6));
        assert_eq!((publishing.handed_over, publishing.under_way.len()), (6, 0));
    }

    #[test]
    fn l4_after_an_answer_that_is_missing_everything_behind_it_is_handed_over_again() {
        let mut publishing = Publishing::default();
        let (first, second) = (transitions(&mut publishing, 1..=3), transitions(&mut publishing, 4..=6));
        let third = transitions(&mut publishing, 7..=9);
        assert_eq!(publishing.on_answered(1, third, 3), None);
        assert_eq!(publishing.on_answered(1, first, 2), Some(2));
        assert_eq!((publishing.handed_over, publishing.stream, publishing.under_way.len()), (0, 2, 0));
        assert_eq!(publishing.on_answered(1, second, 3), None, "an answer to the stream that is over");
        let again = transitions(&mut publishing, 3..=5);
        assert_eq!((again, publishing.on_answered(1, again, 3)), (0, None), "parts are numbered anew");
        assert_eq!(publishing.on_answered(2, again, 3), Some(5));
    }

    #[test]
    fn no_more_is_under_way_than_allowed() {
        let mut publishing = Publishing::default();
        let oldest = transitions(&mut publishing, 1..=1);
        (1..PARTS_UNDER_WAY_MAX).for_each(|_| {
            single(&mut publishing, &["a"]);
        });
        assert!(!publishing.has_room());
        publishing.on_answered(1, oldest, 1);
        assert!(publishing.has_room());
    }

    #[test]
    fn machines_of_a_stream_that_broke_off_go_back_in_their_order() {
        let mut publishing = Publishing::default();
        let first = single(&mut publishing, &["a", "b"]);
        single(&mut publishing, &["c"]);
        publishing.push(MachineId::parse("d").expect("a valid id"));
        publishing.on_answered(1, first, 0);
        let names: Vec<_> = publishing.single.take(9).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }

    #[test]
    fn everything_goes_on_behind_what_was_answered_and_begins_anew_when_asked() {
        let mut publishing = Publishing::default();
        publishing.everything();
        let (first, second) =
            (everything(&mut publishing, &[0, 1, 5, 6]), everything(&mut publishing, &[7, 9]));
        assert_eq!(publishing.everything_from, Some(10));
        publishing.on_answered(1, first, 4);
        publishing.on_answered(1, second, 1);
        assert_eq!(publishing.everything_from, Some(9), "the rest of what was not answered");
        let third = everything(&mut publishing, &[9, 10]);
        publishing.everything();
        publishing.on_answered(2, third, 0);
        assert_eq!(publishing.everything_from, Some(0), "the link came up again meanwhile");
        everything(&mut publishing, &[0, 1]);
        assert_eq!(publishing.everything_from, Some(2));
    }
}
