//! Our messages in the library's hands, and whether the library still holds a message that it has already
//! freed.
//!
//! The leak of PAHO-1, in one place. When the connection breaks just as a QoS 1 PUBLISH is written, the
//! library frees the message but keeps it in its list of messages to resend: `MQTTProtocol_startPublish`
//! (paho C 1.3.16, `MQTTProtocolClient.c`) puts topic and payload into `outboundMsgs`, and after the
//! `SOCKET_ERROR` `MQTTAsync_processCommand` (`MQTTAsyncUtils.c`) frees the command with both. If that client
//! connects again, it sends whatever is in that memory by then: malformed packets. If it is destroyed, it
//! frees the memory again (`MQTTProtocol_removePublication`). Its issues 1621 and 1622 are about this. A
//! client whose session ends with its connection would do so at the loss itself (`MQTTAsync_closeSession`).
//! Ours never does: `mqtt.session_expiry` is at least a second, and Andon never asks for a clean start.
//!
//! - PAHO-1 A client that holds such a message is neither connected again nor destroyed, but leaked: 3 KiB,
//!   and half a KiB for each message that it still had to send (measured; at most one hand-over). That
//!   happens at most once for each connection that was up, and only if the connection broke during a publish.
//!   A broker that is away costs nothing.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use paho_mqtt as paho;

/// The messages of one client.
#[derive(Default)]
pub(super) struct InFlight {
    /// Deliveries that were dropped before their outcome was known.
    abandoned: Mutex<Vec<paho::DeliveryToken>>,
    /// A message could not be written.
    broken: AtomicBool,
}

/// A message in flight. Resolves to the broker's answer, or to the reason why there is none.
pub(in super::super) struct Delivery {
    of: Arc<InFlight>,
    token: Option<paho::DeliveryToken>,
}

impl InFlight {
    pub(super) fn hand_over(self: &Arc<Self>, token: paho::DeliveryToken) -> Delivery {
        Delivery { of: Arc::clone(self), token: Some(token) }
    }

    /// Returns whether the client may be destroyed. While it is connected, a message in flight may still
    /// break it.
    pub(super) fn are_sound(&self, connected: bool) -> bool {
        self.poll_abandoned();
        !self.broken.load(Ordering::SeqCst) && (!connected || self.abandoned().is_empty())
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<paho::DeliveryToken>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: &paho::Result<()>) {
        // The library's `SOCKET_ERROR`; a refusal by the broker is another error.
        if matches!(outcome, Err(paho::Error::Failure)) {
            self.broken.store(true, Ordering::SeqCst);
        }
    }

    /// Notes the outcome of abandoned deliveries that have ended, and keeps the others. Their number is
    /// bounded by the library's buffer.
    fn poll_abandoned(&self) {
        let mut context = Context::from_waker(Waker::noop());
        self.abandoned().retain_mut(|token| match Pin::new(token).poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                self.note(&outcome);
                false
            }
        });
    }
}

impl Future for Delivery {
    type Output = paho::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(token) = self.token.as_mut() else { return Poll::Pending };
        let outcome = ready!(Pin::new(token).poll(context));
        self.token = None;
        self.of.note(&outcome);
        Poll::Ready(outcome)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.of.poll_abandoned();
            self.of.abandoned().push(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> paho::Message {
        paho::Message::new("t", "x", paho::QoS::AtLeastOnce)
    }

    fn ended(code: i32) -> paho::DeliveryToken {
        paho::DeliveryToken::from_error(message(), code)
    }

    fn wait_for(delivery: Delivery) -> Poll<paho::Result<()>> {
        std::pin::pin!(delivery).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Proves PAHO-1, PAHO-3.
    #[test]
    fn a_client_with_a_message_that_could_not_be_written_is_not_destroyed() {
        let inflight = Arc::new(InFlight::default());
        assert!(wait_for(inflight.hand_over(ended(-12))).is_ready());
        assert!(inflight.are_sound(true), "a full buffer breaks nothing");
        assert!(wait_for(inflight.hand_over(ended(-1))).is_ready());
        assert!(!inflight.are_sound(true) && !inflight.are_sound(false));
    }

    /// Proves PAHO-1, PAHO-3.
    #[test]
    fn an_abandoned_delivery_counts_as_soon_as_it_has_ended() {
        let inflight = Arc::new(InFlight::default());
        drop(inflight.hand_over(ended(-1)));
        assert!(!inflight.are_sound(false));
    }

    #[test]
    fn a_message_in_flight_may_still_break_while_connected() {
        let inflight = Arc::new(InFlight::default());
        assert!(wait_for(inflight.hand_over(paho::DeliveryToken::new(message()))).is_pending());
        assert!(!inflight.are_sound(true));
        assert!(inflight.are_sound(false), "without a connection it is no longer sent");
    }
}
