//! What the mqtt actor is sent: by the journal, by liveness, and by the client library's callbacks.

use actix::prelude::*;

use crate::actors::supervisor::Generation;
use crate::journal::Space;

/// Fact from the journal: there is room again, or there is none and Andon may not be connected.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SpaceChanged(pub Space);

/// Fact from paho's callbacks: the link is gone.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LinkEnded {
    /// The broker's or the library's reason.
    pub reason: String,
    /// The broker said that another client has taken the session over.
    pub taken_over: bool,
}

/// Fact from the callback: it panicked, after the message was journaled all the same.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(super) struct CallbackPanicked {
    pub(super) message: String,
}

/// Say again whether the link is up: a restarted liveness actor does not know.
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
    /// Where to.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
}

/// Names a stream of statuses; a later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct StreamId {
    /// The sender's.
    pub generation: Generation,
    /// From 1 on.
    pub number: u64,
}

/// Publish these, in order, retained, with QoS 1. Answers how many of them the broker has answered (a refusal is
/// an answer), counted from the first; fewer than all if the link is down, none if the stream is over (MQTT-7), or its sender
/// was replaced.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub struct PublishStatuses {
    /// Which.
    pub messages: Vec<StatusMessage>,
    /// Part of this stream.
    pub stream: StreamId,
    /// Its place in it, from 0 on.
    pub part: u64,
}
