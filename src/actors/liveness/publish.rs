//! Publishing: every transition in order, then present statuses (invariant L4 of [`super`]).

use std::time::Duration;

use actix::prelude::*;

use super::announce::{present_status, transition_status};
use super::outbox::Order;
use super::status_outbox::StatusOutbox;
use super::{Liveness, PublishStatuses};
use crate::actors::mqtt::StatusMessage;
use crate::domain::MachineId;

/// Status messages handed to the mqtt actor at once.
const PUBLISH_MAX: usize = 500;
/// Longest wait for these to be acknowledged.
const PUBLISH_ANSWER_MAX: Duration = Duration::from_secs(60);

/// What is to be published beside transitions, and whether something is on its way.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    /// One chunk at a time, so that order is kept.
    busy: bool,
    single: StatusOutbox,
    /// All machines' statuses, from this one on in the tracker's order.
    everything_from: Option<usize>,
    /// How often everything was asked for.
    round: u64,
}

/// What a chunk on its way consists of.
enum Chunk {
    /// Up to which transition each message is.
    Transitions(Vec<Order>),
    /// The machines, and how many of them have a message.
    Single(Vec<MachineId>, usize),
    /// The round it belongs to, the first one's place, and the places of all.
    Everything(u64, usize, Vec<usize>),
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

    /// The broker has the first `answered` of a chunk.
    fn on_answered_everything(&mut self, round: u64, first: usize, places: &[usize], answered: usize) {
        // Asked for anew meanwhile, it begins from the first again.
        if self.round == round {
            self.everything_from = Some(match answered.checked_sub(1) {
                Some(last) => places[last] + 1,
                None => first,
            });
        }
    }
}

impl Liveness {
    /// Publishes what is out of date, a bounded part at a time.
    pub(super) fn publish(&mut self, context: &mut Context<Self>) {
        if self.publishing.busy || !self.watch.link_is_up() {
            return;
        }
        let Some((messages, chunk)) = self.next_chunk() else { return };
        let count = messages.len();
        self.publishing.busy = true;
        let wire = self.wires.publish.clone();
        let publish = PublishStatuses { messages, generation: self.lifeline.generation() };
        let call = async move { wire.call(publish, PUBLISH_ANSWER_MAX).await };
        context.spawn(call.into_actor(self).map(move |answer, liveness, context| {
            liveness.publishing.busy = false;
            // Of those without an answer some may have arrived; saying them again is harmless.
            let answered = answer.unwrap_or(0).min(count);
            liveness.on_answered(chunk, answered);
            if answered == count {
                liveness.publish(context);
            }
        }));
    }

    fn next_chunk(&mut self) -> Option<(Vec<StatusMessage>, Chunk)> {
        let (prefix, tracker) = (self.options.topic_prefix.as_ref()?, self.watch.tracker()?);
        let mut messages = Vec::new();
        let mut orders = Vec::new();
        for (order, transition) in self.transitions.to_publish(PUBLISH_MAX) {
            let flapping =
                tracker.status_of(transition.machine_id.as_str()).is_some_and(|view| view.flapping);
            messages.push(transition_status(prefix, transition, flapping));
            orders.push(order);
        }
        if !messages.is_empty() {
            return Some((messages, Chunk::Transitions(orders)));
        }
        if !self.watch.knows_the_past() {
            return None;
        }
        let machines = self.publishing.single.take(PUBLISH_MAX);
        if !machines.is_empty() {
            let views = machines.iter().filter_map(|machine_id| tracker.status_of(machine_id.as_str()));
            messages.extend(views.filter_map(|view| present_status(prefix, &view)));
            let count = messages.len();
            return Some((messages, Chunk::Single(machines, count)));
        }
        let first = self.publishing.everything_from?;
        let mut places = Vec::new();
        for (place, view) in (first..).zip(tracker.views_from(first)) {
            if let Some(message) = present_status(prefix, &view) {
                messages.push(message);
                places.push(place);
            }
            if messages.len() == PUBLISH_MAX {
                break;
            }
        }
        if messages.is_empty() {
            self.publishing.everything_from = None;
            return None;
        }
        Some((messages, Chunk::Everything(self.publishing.round, first, places)))
    }

    fn on_answered(&mut self, chunk: Chunk, answered: usize) {
        match chunk {
            Chunk::Transitions(orders) => {
                if let Some(last) = answered.checked_sub(1).and_then(|last| orders.get(last)) {
                    self.transitions.on_published(*last);
                    self.tell_parser();
                }
            }
            Chunk::Single(machines, count) if answered < count => self.publishing.single.put_back(machines),
            Chunk::Single(..) => {}
            Chunk::Everything(round, first, places) => {
                self.publishing.on_answered_everything(round, first, &places, answered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_goes_on_behind_what_was_answered_and_begins_anew_when_asked() {
        let mut publishing = Publishing::default();
        publishing.everything();
        publishing.on_answered_everything(1, 0, &[0, 1, 5, 6], 3);
        assert_eq!(publishing.everything_from, Some(6));
        publishing.on_answered_everything(1, 6, &[6, 7], 0);
        assert_eq!(publishing.everything_from, Some(6), "nothing was answered");
        publishing.everything();
        publishing.on_answered_everything(1, 6, &[6, 7], 2);
        assert_eq!(publishing.everything_from, Some(0), "the link came up again meanwhile");
        publishing.everything();
        publishing.on_answered_everything(2, 0, &[0, 1], 2);
        assert_eq!(publishing.everything_from, Some(0), "it came up while the first chunk was on its way");
    }
}
