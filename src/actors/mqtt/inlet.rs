//! The message callback: from paho's receive thread into the journal.
//!
//! It runs on paho's one receive thread, under its global lock, before the PUBACK of the message. It appends
//! and returns; except while we leave, it never waits for anything but the disk, never calls into the client, never allocates for
//! long. If the append fails it does not return at all (invariant M1 of [`super`]). In mode `before_ack` the PUBACKs of messages that
//! arrived together leave after one sync of the journal ([`super::group_sync`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fail::fail_point;
use slog::{Logger, error, warn};

use super::link_health::SharedLinkHealth;
use super::raw_callback::Incoming;
use crate::actors::failpoint::{failpoint, sabotaged};
use crate::actors::parser::JournalGrew;
use crate::actors::wire::Wire;
use crate::clock::{mono_now, wall_now};
use crate::domain::{Message, Qos, Topic, TopicFilter};
use crate::journal::{Journal, JournalError};
use crate::logging::{causes, last_panic_message};
use crate::metrics::Metrics;
use crate::shutdown::halt;
use crate::socket_layer;

/// Long enough for an acknowledgement to be read by the broker.
const LEAVING_PAUSE: Duration = Duration::from_millis(10);

/// Everything the callback needs; shared by all clients the actor ever makes.
pub struct Inlet {
    /// Where messages go.
    pub journal: Journal,
    /// Told of each message, and of our echo.
    pub health: Arc<SharedLinkHealth>,
    /// The topic on which our echo comes back; nothing on it is journaled.
    pub echo_topic: Option<TopicFilter>,
    /// Told of a newer proof of the link.
    pub parser: Wire<JournalGrew>,
    /// Counts messages and bytes.
    pub metrics: Arc<Metrics>,
    /// Payloads are journaled up to one byte more than this, so that the parser can tell they are too large.
    pub payload_bytes_max: usize,
    /// For the line before a halt.
    pub logger: Logger,
    /// A message is in the callback, or a group of them waits for the disk.
    pub receiving: AtomicBool,
    /// That a connection is not buffered has been said.
    pub unbuffered_told: AtomicBool,
    /// Counts for [`Inlet::skips_on_purpose`].
    pub skipped_turn: AtomicU64,
}

impl Inlet {
    /// Whether a message is in the callback, or a group waits for the disk: the broker has just spoken, and calls into the library would wait.
    pub fn is_receiving(&self) -> bool {
        self.receiving.load(Ordering::Relaxed)
    }

    /// Journals one message. Returns only when it is in the journal; `Err` carries a panic that was survived.
    ///
    /// While its connection is `leaving`, messages come in one by one, slowly. A broker that is sending when the connection closes
    /// does not read any more what had come before, our acknowledgements among it, and delivers those messages again; one
    /// without a usable time would be stored twice.
    pub fn receive(self: &Arc<Self>, message: &Incoming<'_>, leaving: bool) -> Result<(), String> {
        self.receiving.store(true, Ordering::Relaxed);
        let buffered = socket_layer::begin_message(message.qos > 0, leaving);
        self.metrics.socket_layer_active.set(buffered);
        if !buffered && !self.unbuffered_told.swap(true, Ordering::Relaxed) {
            warn!(self.logger, "this connection is not buffered: each message is read, made durable and acknowledged alone, which is \
                slower and loses nothing; it is so in a build for another system than 64-bit Linux with glibc, or with a client \
                library that Andon does not know yet"; "metric" => "andon_mqtt_socket_layer_active");
        }
        if leaving {
            std::thread::sleep(LEAVING_PAUSE);
        }
        let outcome = self.receive_now(message);
        self.receiving.store(false, Ordering::Relaxed);
        outcome
    }

    fn receive_now(self: &Arc<Self>, message: &Incoming<'_>) -> Result<(), String> {
        let survived = match catch_unwind(AssertUnwindSafe(|| self.fail_point())) {
            Ok(()) => Ok(()),
            Err(_) => Err(last_panic_message()),
        };
        match catch_unwind(AssertUnwindSafe(|| self.append(message))) {
            Ok(Ok(())) => survived,
            // We are ending in order; a client that connected late must neither acknowledge nor disturb that.
            Ok(Err(JournalError::Closed)) => loop {
                std::thread::park();
            },
            Ok(Err(error)) => {
                error!(self.logger, "a message could not be journaled and will not be acknowledged: stopping, the broker \
                    keeps it; mend what is named here, then start again"; "error" => causes(&error));
                halt(1)
            }
            Err(_) => {
                error!(self.logger, "the journal panicked and the message will not be acknowledged: stopping, the broker \
                    keeps it"; "error" => last_panic_message());
                halt(1)
            }
        }
    }

    /// Everything that the broker had for us before it is in the journal.
    fn receive_echo(&self, payload: &[u8]) {
        let upto = self.journal.positions().appended;
        if self.health.lock().echo(payload, mono_now(), upto) {
            // If the parser is away it looks at the proof when it is back.
            let _looks_itself = self.parser.try_send(JournalGrew);
        }
    }

    fn fail_point(&self) {
        fail_point!("mqtt::callback");
    }

    /// Every thousandth message, for a test that has to notice.
    fn skips_on_purpose(&self) -> bool {
        sabotaged("sabotage::skip_append") && self.skipped_turn.fetch_add(1, Ordering::Relaxed) % 1000 == 999
    }

    fn append(self: &Arc<Self>, message: &Incoming<'_>) -> Result<(), JournalError> {
        let began = mono_now();
        if self.echo_topic.as_ref().is_some_and(|topic| topic.as_str().as_bytes() == message.topic) {
            self.receive_echo(message.payload);
            return Ok(());
        }
        if self.skips_on_purpose() {
            return Ok(());
        }
        let payload = message.payload;
        let kept = payload.len().min(self.payload_bytes_max + 1);
        let seq = self.journal.append_unsynced(&Message {
            received_at: wall_now(),
            qos: Qos::from_u8(message.qos).unwrap_or(Qos::ExactlyOnce),
            retained: message.retained,
            topic: Topic::from_bytes(message.topic),
            payload: &payload[..kept],
        })?;
        self.sync_before_ack(seq)?;
        self.health.lock().message(began, mono_now());
        self.metrics.messages_received.add(1);
        self.metrics.bytes_received.add(payload.len() as u64);
        // Whatever a test wants here but to hold: the message is journaled and will be acknowledged.
        let _acknowledged_all_the_same = failpoint("mqtt::before_ack");
        Ok(())
    }
}
