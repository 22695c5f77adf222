//! The mqtt actor: owns the broker link and lets messages into the journal.
//!
//! Receives [`SpaceChanged`] from the journal, [`LinkEnded`] from paho's callbacks, [`PublishStatuses`] and [`ProveLink`] from
//! liveness. Sends [`LinkChanged`] to liveness and [`JournalGrew`] to the parser. A message never
//! passes through this actor: the callback ([`callback`]) appends it to the journal on paho's thread.
//!
//! Invariants
//! - MQTT-1 A message is acknowledged only after it is in the journal: the callback is set before `connect`, and does
//!   not return unless the append succeeded.
//! - MQTT-2 One session: stable client id, never a clean start. Every connect subscribes again and checks what was granted.
//! - MQTT-3 With the link goes what the broker refuses: a refused filter blinds the machines that come through it, and nobody else. It is
//!   asked for again, and another broker is tried after a while ([`session`]).
//! - MQTT-4 While the journal is full (policy `hold`) Andon is not connected: the broker keeps the messages.
//! - MQTT-5 Attempts are paced by a capped, jittered backoff that starts over only after the link was up for a while. Of several
//!   brokers each is asked once between two waits (rule HOST-1 of [`session::failover`]).
//! - MQTT-6 A broker that does not answer is noticed within one and a half keep-alives (rule LINK-5 of [`link_health`]).
//! - MQTT-7 Statuses go out in streams ([`status_publisher`]): in order, all on one connection, and nothing after what could not be sent or
//!   was not answered. So no status overtakes one that has to be published again.
//! - MQTT-8 The link is proven by our echo, behind everything that the broker had queued for us, and by nothing else
//!   ([`link_health`]): while a backlog drains, and until a broker that was frozen has caught up, no silence is believed.
//! - MQTT-9 No actor waits for the library's lock: a thread of its own calls it (`client::client_thread`), and whether we are connected is what its
//!   callbacks said last.
//!
//! A broker that is away, refuses, or takes the session over is an expected state: one line for each new
//! reason, then patience.

mod actor;
pub mod callback;
mod certificate_checks;
pub mod checks;
pub mod client;
mod effects;
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
