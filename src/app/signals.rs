//! The signals that stop the service.

use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, watched from the moment this is made: one that comes before [`StopSignals::next`] is asked is kept.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to watch. Within a runtime only.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn watch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        std::future::poll_fn(|waker| {
            let terminated = self.terminate.poll_recv(waker).is_ready();
            let interrupted = self.interrupt.poll_recv(waker).is_ready();
            if terminated || interrupted { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
