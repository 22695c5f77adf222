//! Own messages in the library's hands, and whether it still holds one that it has already freed.
//!
//! A PUBLISH of QoS 1 that cannot be written, as the connection has just broken, is freed and stays among the messages to
//! send again: `MQTTProtocol_startPublish` (paho C 1.3.16, `MQTTProtocolClient.c`) puts its topic and payload into
//! `outboundMsgs`, and after the `SOCKET_ERROR` `MQTTAsync_processCommand` (`MQTTAsyncUtils.c`) frees the command with both. A client
//! that connects again sends what stands there by then: malformed packets. One that is destroyed frees it again
//! (`MQTTProtocol_removePublication`). Its issues 1621 and 1622 are about this.
//! One whose session ends with its connection does so at the loss itself (`MQTTAsync_closeSession`): ours never does, as
//! `mqtt.session_expiry` is at least a second and a clean start is never asked for.
//!
//! - PAHO-1 A client that holds such a message is neither connected again nor destroyed. It is leaked: 3 KiB, and half a KiB for each
//!   message that it still had to send (measured; at most as many as are handed over at once). That is at most once for each
//!   connection that was up, and only if that broke in the moment of a publish. A broker that is away costs nothing.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use paho_mqtt as paho;

/// The messages of one client.
#[derive(Default)]
pub(super) struct InFlight {
    /// Nobody waits for these any more, and their end is not known.
    unheard: Mutex<Vec<paho::DeliveryToken>>,
    /// One could not be written.
    broken: AtomicBool,
}

/// One message under way: the broker's answer, or why there is none.
pub(in super::super) struct Delivery {
    of: Arc<InFlight>,
    token: Option<paho::DeliveryToken>,
}

impl InFlight {
    pub(super) fn hand_over(self: &Arc<Self>, token: paho::DeliveryToken) -> Delivery {
        Delivery { of: Arc::clone(self), token: Some(token) }
    }

    /// Whether none of them forbids to destroy the client. While it is connected one that is under way may still break.
    pub(super) fn are_sound(&self, connected: bool) -> bool {
        self.look_after_unheard();
        !self.broken.load(Ordering::SeqCst) && (!connected || self.unheard().is_empty())
    }

    fn unheard(&self) -> MutexGuard<'_, Vec<paho::DeliveryToken>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: &paho::Result<()>) {
        // The library's `SOCKET_ERROR`. A refusal by the broker is another.
        if matches!(outcome, Err(paho::Error::Failure)) {
            self.broken.store(true, Ordering::SeqCst);
        }
    }

    /// Keeps only those that have still not ended; the library holds no more than it buffers.
    fn look_after_unheard(&self) {
        let mut nobody = Context::from_waker(Waker::noop());
        self.unheard().retain_mut(|token| match Pin::new(token).poll(&mut nobody) {
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
            self.of.look_after_unheard();
            self.of.unheard().push(token);
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

    #[test]
    fn a_message_that_could_not_be_written_forbids_the_end_of_its_client() {
        let inflight = Arc::new(InFlight::default());
        assert!(wait_for(inflight.hand_over(ended(-12))).is_ready());
        assert!(inflight.are_sound(true), "a full buffer breaks nothing");
        assert!(wait_for(inflight.hand_over(ended(-1))).is_ready());
        assert!(!inflight.are_sound(true) && !inflight.are_sound(false));
    }

    #[test]
    fn one_that_nobody_waits_for_counts_as_soon_as_it_has_ended() {
        let inflight = Arc::new(InFlight::default());
        drop(inflight.hand_over(ended(-1)));
        assert!(!inflight.are_sound(false));
    }

    #[test]
    fn one_under_way_may_still_break_while_there_is_a_connection() {
        let inflight = Arc::new(InFlight::default());
        assert!(wait_for(inflight.hand_over(paho::DeliveryToken::new(message()))).is_pending());
        assert!(!inflight.are_sound(true));
        assert!(inflight.are_sound(false), "without one it is not sent any more");
    }
}
