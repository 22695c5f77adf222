//! Publishing statuses for liveness, in streams of parts of which several are under way at once (invariant MQTT-7 of [`super`]).
//!
//! A part is handed to the library whole, and its answers are counted later, while the parts behind it go out: waiting for
//! each answer first, the broker's TCP stack would hold the last ones of each part back for 40 ms (it sends small segments
//! only when those before are acknowledged, and ours acknowledges late when it has nothing to send).

use actix::prelude::*;
use slog::warn;

use super::actor::Mqtt;
use super::client::Delivery;
use super::client::error::LinkError;
use super::client::link::{Link, Published, own_message};
use super::messages::{PublishStatuses, StatusMessage, StreamId};
use crate::clock::mono_now;

/// The newest stream, and whether it may go on.
#[derive(Debug, Default)]
pub(super) struct StatusStream {
    id: StreamId,
    /// The attempt to connect that made the connection on which it began.
    connection: Option<u64>,
    /// `None`: it is over.
    next_part: Option<u64>,
}

impl StatusStream {
    /// Whether this part may be sent on `connection` (`None`: the link is down). A part that may not ends its stream.
    fn admits(&mut self, id: StreamId, part: u64, connection: Option<u64>) -> bool {
        if id > self.id {
            *self = Self { id, connection, next_part: Some(0) };
        }
        if id < self.id {
            return false;
        }
        let goes_on = connection.is_some() && connection == self.connection && self.next_part == Some(part);
        self.next_part = goes_on.then_some(part + 1);
        goes_on
    }

    /// Something of that stream was not answered.
    fn end(&mut self, id: StreamId) {
        if id == self.id {
            self.next_part = None;
        }
    }
}

impl Handler<PublishStatuses> for Mqtt {
    type Result = ResponseActFuture<Self, usize>;

    fn handle(&mut self, publish: PublishStatuses, _: &mut Context<Self>) -> ResponseActFuture<Self, usize> {
        let PublishStatuses { messages, stream, part } = publish;
        let asked = messages.len();
        let link = self.link.clone().filter(|_| self.may_publish(stream, part));
        // Here, not in the future: the library keeps the order in which it is asked.
        let handed_over = link.as_ref().map(|link| hand_over(link, messages));
        let counting = async move {
            let (Some(link), Some(handed_over)) = (link, handed_over) else { return Counted::default() };
            count(&link, handed_over.await.unwrap_or_default()).await
        };
        Box::pin(counting.into_actor(self).map(move |counted, actor, _| {
            if counted.answered > 0 {
                actor.health().sign_of_life(mono_now());
            }
            if counted.answered < asked {
                actor.status_stream.end(stream);
            }
            if let Some(reason) = counted.refusal {
                actor.tell_refusal(&reason);
            }
            counted.answered
        }))
    }
}

impl Mqtt {
    fn may_publish(&mut self, stream: StreamId, part: u64) -> bool {
        let connection = self.session.is_up().then_some(self.session.attempt());
        self.wires.fence.admits(stream.generation) && self.status_stream.admits(stream, part, connection)
    }

    fn tell_refusal(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.logged_status_refusal, true) {
            warn!(self.logger, "the broker refuses our status messages; allow liveness.publish_prefix in its access control \
                list, or set it to \"\""; "reason" => reason);
        }
    }
}

/// What became of a part.
#[derive(Default)]
struct Counted {
    /// So many, from the first.
    answered: usize,
    /// A reason why one of them was refused.
    refusal: Option<String>,
}

/// Up to the first that the library does not take.
fn hand_over(
    link: &Link,
    messages: Vec<StatusMessage>,
) -> impl Future<Output = Result<Vec<Delivery>, LinkError>> + use<> {
    let retained = messages.into_iter().map(|message| own_message(&message.topic, message.payload, true));
    link.hand_over(retained.collect())
}

/// The answers come in the order of the messages, so they are waited for one after the other.
async fn count(link: &Link, inflight: Vec<Delivery>) -> Counted {
    let mut counted = Counted::default();
    for delivery in inflight {
        match link.delivered(delivery, link.answer_max()).await {
            Ok(Published::Accepted) => {}
            Ok(Published::Refused { reason, .. }) => counted.refusal = Some(reason),
            Err(_) => break,
        }
        counted.answered += 1;
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: StreamId = StreamId { generation: 1, number: 1 };
    const SECOND: StreamId = StreamId { generation: 1, number: 2 };

    #[test]
    fn m7_a_stream_goes_on_part_by_part_on_the_connection_on_which_it_began() {
        let mut stream = StatusStream::default();
        assert!(stream.admits(FIRST, 0, Some(7)) && stream.admits(FIRST, 1, Some(7)));
        assert!(!stream.admits(FIRST, 2, Some(8)), "part 1 may have gone down with connection 7");
        assert!(!stream.admits(FIRST, 2, Some(7)) && !stream.admits(FIRST, 3, Some(7)), "it is over");
        assert!(stream.admits(SECOND, 0, Some(8)));
    }

    #[test]
    fn m7_a_part_that_cannot_be_sent_ends_its_stream() {
        let mut stream = StatusStream::default();
        assert!(!stream.admits(FIRST, 0, None));
        assert!(!stream.admits(FIRST, 1, Some(7)), "the link is back, but part 0 is missing");
        assert!(stream.admits(SECOND, 0, Some(7)));
        assert!(!stream.admits(SECOND, 2, Some(7)), "a gap");
        assert!(!stream.admits(SECOND, 1, Some(7)));
    }

    #[test]
    fn m7_what_was_not_answered_ends_its_own_stream_only() {
        let mut stream = StatusStream::default();
        assert!(stream.admits(FIRST, 0, Some(7)));
        assert!(stream.admits(SECOND, 0, Some(7)));
        assert!(!stream.admits(FIRST, 1, Some(7)), "an older one");
        stream.end(FIRST);
        assert!(stream.admits(SECOND, 1, Some(7)));
        stream.end(SECOND);
        assert!(!stream.admits(SECOND, 2, Some(7)));
    }
}
