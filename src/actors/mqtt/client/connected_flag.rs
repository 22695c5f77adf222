//! Whether a client is connected, from the library's callbacks: asking the library would wait for its lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use paho_mqtt as paho;

use super::error::with_brokers_words;

/// How a connection ended, from the library's callbacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// The connection is lost.
    Lost,
    /// The broker ended it and named a reason (MQTT 5).
    ByBroker {
        /// The reason, in words.
        reason: String,
        /// Another client took the session over.
        taken_over: bool,
    },
}

/// What the library last said of the connection.
#[derive(Debug, Default)]
pub(super) struct Connection(AtomicU8);

impl Connection {
    const UP: u8 = 1;
    const ENDED: u8 = 2;

    pub(super) fn end(&self) {
        self.set(Self::ENDED);
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::SeqCst);
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::UP
    }

    pub(super) fn has_been_up(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }
}

/// Updates `connection` from the library's callbacks, which come in order, under its lock.
pub(super) fn follow(
    client: &paho::AsyncClient,
    connection: &Arc<Connection>,
    on_end: impl Fn(LinkEnd) + Clone + Send + 'static,
) {
    let up = Arc::clone(connection);
    client.set_connected_callback(move |_| up.set(Connection::UP));
    let (lost, on_loss) = (Arc::clone(connection), on_end.clone());
    client.set_connection_lost_callback(move |_| {
        lost.set(Connection::ENDED);
        on_loss(LinkEnd::Lost);
    });
    let ended = Arc::clone(connection);
    client.set_disconnected_callback(move |_, properties, code| {
        ended.set(Connection::ENDED);
        let reason = with_brokers_words(format!("the broker ended the connection: {code}"), &properties);
        on_end(LinkEnd::ByBroker { reason, taken_over: code == paho::ReasonCode::SessionTakenOver });
    });
}
