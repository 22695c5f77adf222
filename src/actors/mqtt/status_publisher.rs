//! Publishes statuses for liveness, in streams of parts of which several are in flight at once (MQTT-7).
//!
//! A part is handed to the client library as a whole, and its answers are counted while the next parts go
//! out. Waiting for the answers of each part would cost 40 ms a part: the broker's TCP stack sends a small
//! segment only after the earlier ones are acknowledged, and ours delays that acknowledgement while it has
//! nothing to send.

use actix::prelude::*;
use slog::warn;

use super::actor::Mqtt;
use super::client::Delivery;
use super::client::error::LinkError;
use super::client::link::{Link, Published, own_message};
use super::messages::{PublishStatuses, StatusMessage, StreamId};
use crate::clock::mono_now;

/// The newest stream, and whether it may continue.
#[derive(Debug, Default)]
pub(super) struct StatusStream {
    id: StreamId,
    /// The attempt that made the connection on which the stream began.
    connection: Option<u64>,
    /// `None` once the stream is over.
    next_part: Option<u64>,
}

impl StatusStream {
    /// Returns whether this part may be sent on `connection` (`None`: the link is down). A part that may not
    /// ends its stream.
    fn admits(&mut self, id: StreamId, part: u64, connection: Option<u64>) -> bool {
        if id > self.id {
            *self = Self { id, connection, next_part: Some(0) };
        }
        if id < self.id {
            return false;
        }
        let continues = connection.is_some() && connection == self.connection && self.next_part == Some(part);
        self.next_part = continues.then_some(part + 1);
        continues
    }

    /// Ends that stream: a part of it was not answered.
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
        // Now, not inside the future: the library publishes in the order of these calls.
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
                actor.log_refusal(&reason);
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

    fn log_refusal(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.logged_status_refusal, true) {
            warn!(self.logger, "the broker refuses Andon's status messages; allow liveness.publish_prefix in \
                its access control list, or set it to \"\""; "reason" => reason);
        }
    }
}

/// The outcome of a part.
#[derive(Default)]
struct Counted {
    /// How many, from the first, the broker answered.
    answered: usize,
    /// Why one of them was refused.
    refusal: Option<String>,
}

/// Hands messages over, up to the first that the library does not take.
fn hand_over(
    link: &Link,
    messages: Vec<StatusMessage>,
) -> impl Future<Output = Result<Vec<Delivery>, LinkError>> + use<> {
    let retained = messages.into_iter().map(|message| own_message(&message.topic, message.payload, true));
    link.hand_over(retained.collect())
}

/// Waits for the answers, which come in the order of the messages.
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

    /// Proves MQTT-7.
    #[test]
    fn a_stream_continues_part_by_part_on_the_connection_on_which_it_began() {
        let mut stream = StatusStream::default();
        assert!(stream.admits(FIRST, 0, Some(7)) && stream.admits(FIRST, 1, Some(7)));
        assert!(!stream.admits(FIRST, 2, Some(8)), "part 1 may have gone down with connection 7");
        assert!(!stream.admits(FIRST, 2, Some(7)) && !stream.admits(FIRST, 3, Some(7)), "it is over");
        assert!(stream.admits(SECOND, 0, Some(8)));
    }

    /// Proves MQTT-7.
    #[test]
    fn a_part_that_cannot_be_sent_ends_its_stream() {
        let mut stream = StatusStream::default();
        assert!(!stream.admits(FIRST, 0, None));
        assert!(!stream.admits(FIRST, 1, Some(7)), "the link is back, but part 0 is missing");
        assert!(stream.admits(SECOND, 0, Some(7)));
        assert!(!stream.admits(SECOND, 2, Some(7)), "a gap");
        assert!(!stream.admits(SECOND, 1, Some(7)));
    }

    /// Proves MQTT-7.
    #[test]
    fn a_missing_answer_ends_its_own_stream_only() {
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
