//! Messages to the mqtt actor, from the journal, from liveness, and from the client library's callbacks.

use actix::prelude::*;

use crate::actors::supervisor::Generation;
use crate::journal::Space;

/// Fact from the journal: it is full, so that Andon may not be connected, or it has room again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SpaceChanged(pub Space);

/// Fact from the client: a connection has ended. It may be an older one.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkEnded {
    /// Why, in the words of the broker or the client library.
    pub reason: String,
    /// The broker said that another client took the session over.
    pub taken_over: bool,
}

/// Fact from the callback: it panicked, and still journaled the message.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(super) struct CallbackPanicked {
    pub(super) message: String,
}

/// Report the link again: liveness has restarted and does not know its state.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TellLink;

/// Prove that the link is alive now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ProveLink;

/// One retained status message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusMessage {
    /// Its topic.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
}

/// Names a stream of statuses; a later stream compares greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct StreamId {
    /// The sender's generation.
    pub generation: Generation,
    /// Counts the sender's streams, from 1.
    pub number: u64,
}

/// Publish these in order, retained, with QoS 1.
///
/// The reply is how many of them, from the first, the broker has answered; a refusal is an answer. It is
/// fewer than all if the link is down, and none if the stream is over (MQTT-7) or its sender was replaced.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub struct PublishStatuses {
    /// The statuses.
    pub messages: Vec<StatusMessage>,
    /// The stream they belong to.
    pub stream: StreamId,
    /// The place of this part in the stream, from 0.
    pub part: u64,
}
