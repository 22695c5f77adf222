//! The mqtt actor: owns the link to the broker. Its callback appends each message to the journal.
//!
//! | part | what it is |
//! |---|---|
//! | [`actor`], [`messages`], `effects`, `log_lines` | the actor: turns messages into events, carries effects out, logs |
//! | [`session`] | pure: which broker is next, when to connect, what a loss or a refusal means |
//! | [`link_health`] | pure: is the link alive, and what proves it |
//! | [`callback`], `group_sync` | from the client library's thread into the journal; a PUBACK follows |
//! | [`client`] | everything that knows the client library (paho) |
//! | [`checks`] | probe, TLS diagnosis, certificates, echo: shared with `andon config check --connect` |
//!
//! Receives `SpaceChanged` from the journal, `PublishStatuses`, `ProveLink` and `TellLink` from liveness,
//! `LinkEnded` from the client. Sends `LinkChanged` to liveness and `JournalGrew` to the parser. A message
//! never passes through the actor: the callback runs on the client library's own thread.
//!
//! Invariants
//! - MQTT-1 A message is acknowledged only after it is in the journal: the callback is set before `connect`,
//!   and returns only if the append succeeded. In mode `before_ack` the PUBACK leaves only after the record is
//!   durable, too (ACK-1). "Acknowledged" means that the PUBACK's bytes have left, which may be a little later
//!   than the callback returns.
//! - MQTT-2 One session: stable client id, never a clean start. Every connect subscribes again and checks
//!   what was granted.
//! - MQTT-3 A refused filter blinds only the machines that come through it. The link stays up without it;
//!   Andon asks for it again, and tries another broker after a while.
//! - MQTT-4 While the journal is full (policy `hold`) Andon is not connected: the broker keeps the messages.
//! - MQTT-5 A capped, jittered backoff paces the attempts and starts over only after a link that lasted. Of
//!   several brokers each is asked once between two waits (HOST-1).
//! - MQTT-6 A broker that does not answer is noticed within one and a half keep-alives (LINK-5).
//! - MQTT-7 Statuses go out in streams: in order, on one connection, and nothing after a status that was not
//!   sent or not answered. So no status overtakes one that has to be published again.
//! - MQTT-8 Only our echo proves the link (LINK-1). While a backlog drains, and until a broker that was
//!   frozen has caught up, no silence of a machine is believed.
//! - MQTT-9 No actor waits for the client library's lock: a thread of its own makes the calls, and the
//!   library's callbacks say whether we are connected.
//!
//! On failure: a broker that is away, refuses, or gives the session to another client is an expected state.
//! Each new reason is one line in the log, and Andon keeps trying.

mod actor;
pub mod callback;
mod certificate_checks;
pub mod checks;
pub mod client;
mod effects;
mod group_sync;
mod link_checks;
pub mod link_health;
mod log_lines;
pub mod messages;
pub mod publish_fence;
pub mod session;
pub mod session_filters;
mod status_publisher;
mod stopping;
mod subscribing;
#[cfg(test)]
mod tests;

pub use self::actor::{Mqtt, MqttOptions, MqttWires};
