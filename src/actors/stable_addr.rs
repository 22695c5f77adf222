//! The wire between two actors: an address that survives a restart of either end.
//!
//! The composition root makes one wire for each edge of the picture. It gives one end to the sender's factory
//! and the other to the receiver's. A restarted receiver connects again, and the sender notices nothing. While
//! the receiver is away a send fails with an error; the wire buffers nothing.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use actix::Recipient;
use actix::dev::SendError;
use actix::prelude::Message;
use thiserror::Error;
use tokio::sync::Notify;

/// One edge of the actor graph, for messages of type `M`. Clones share the edge.
pub struct StableAddr<M>
where
    M: Message + Send,
    M::Result: Send,
{
    receiver: Arc<Mutex<Option<Recipient<M>>>>,
    replaced: Arc<Notify>,
}

/// Why a message was not accepted or not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StableAddrError {
    /// No receiver is connected, or it has died.
    #[error("the receiving actor is not running")]
    Disconnected,
    /// Its mailbox is full.
    #[error("the receiving actor's mailbox is full")]
    Full,
    /// It did not answer in time.
    #[error("the receiving actor did not answer in time")]
    NoAnswer,
}

impl<M> StableAddr<M>
where
    M: Message + Send,
    M::Result: Send,
{
    /// Makes a wire without a receiver.
    #[must_use]
    pub fn new() -> Self {
        Self { receiver: Arc::new(Mutex::new(None)), replaced: Arc::new(Notify::new()) }
    }

    /// Connects the receiver. It replaces an earlier one; calls that wait for the earlier one fail.
    pub fn connect(&self, receiver: Recipient<M>) {
        *self.receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver);
        self.replaced.notify_waiters();
    }

    fn receiver(&self) -> Option<Recipient<M>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a receiver is connected and alive.
    #[cfg(test)]
    pub fn is_connected(&self) -> bool
    where
        M: 'static,
    {
        self.receiver().is_some_and(|receiver| receiver.connected())
    }

    /// Puts a message into the receiver's mailbox without waiting.
    ///
    /// # Errors
    /// [`StableAddrError::Disconnected`] or [`StableAddrError::Full`]; the message is not delivered then.
    pub fn try_send(&self, message: M) -> Result<(), StableAddrError>
    where
        M: 'static,
    {
        let receiver = self.receiver().ok_or(StableAddrError::Disconnected)?;
        receiver.try_send(message).map_err(|error| match error {
            SendError::Full(_) => StableAddrError::Full,
            SendError::Closed(_) => StableAddrError::Disconnected,
        })
    }

    /// Sends a message and waits for the answer, at most `within`. Unless the mailbox is full the message is in
    /// it before this returns, so the receiver gets messages in the order of the calls.
    ///
    /// # Errors
    /// [`StableAddrError::Disconnected`] if there is no receiver, or it dies or is replaced before it answers,
    /// [`StableAddrError::NoAnswer`] if it does not answer in time (it may still act on the message).
    pub fn call(
        &self,
        message: M,
        within: Duration,
    ) -> impl Future<Output = Result<M::Result, StableAddrError>> + use<M>
    where
        M: 'static,
    {
        // Listens from here on, so that no replacement is missed.
        let replaced = Arc::clone(&self.replaced).notified_owned();
        let request = self.receiver().map(|receiver| receiver.send(message));
        async move {
            let (mut replaced, mut answer) =
                (pin!(replaced), pin!(request.ok_or(StableAddrError::Disconnected)?));
            let answer_or_replaced = poll_fn(|waker| match answer.as_mut().poll(waker) {
                // The receiver's mailbox is closed, or it dropped the message.
                Poll::Ready(answer) => Poll::Ready(answer.map_err(|_mailbox| StableAddrError::Disconnected)),
                Poll::Pending => replaced.as_mut().poll(waker).map(|()| Err(StableAddrError::Disconnected)),
            });
            actix_rt::time::timeout(within, answer_or_replaced)
                .await
                .unwrap_or(Err(StableAddrError::NoAnswer))
        }
    }
}

impl<M> Default for StableAddr<M>
where
    M: Message + Send,
    M::Result: Send,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for StableAddr<M>
where
    M: Message + Send,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self { receiver: Arc::clone(&self.receiver), replaced: Arc::clone(&self.replaced) }
    }
}
