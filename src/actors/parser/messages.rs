//! What the parser receives from other actors.

use actix::prelude::*;

/// Fact from the journal: it has more to read; or from mqtt: there is a newer proof of the link.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct JournalGrew;

/// Fact from liveness: there are transitions to record, even if no message follows.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct TransitionsPending;
