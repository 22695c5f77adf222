//! The signals that stop the service.
//!
//! A separate thread watches them. So even while the journal is being opened on a disk that stalls, the first
//! signal starts the deadline of the stop and the second ends the process at once.

use std::sync::mpsc;

use actix::Addr;
use slog::{Logger, error, info, warn};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::actors::supervisor::{Shutdown, Supervisor};
use crate::shutdown::{StopDeadline, halt};

/// Watches SIGTERM and SIGINT. Keeps a signal that arrives before [`StopSignals::first`] is called.
pub struct StopSignals {
    first: oneshot::Receiver<()>,
}

impl StopSignals {
    /// Starts to watch.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn watch(deadline: StopDeadline, logger: Logger) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (first_out, first) = oneshot::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let watching = move || {
            runtime.block_on(async move {
                let (mut terminate, mut interrupt) = match both() {
                    Ok(signals) => signals,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                drop(ready.send(Ok(())));
                either(&mut terminate, &mut interrupt).await;
                deadline.arm(0);
                info!(
                    logger,
                    "stopping: leaving the broker, then storing what is pending; a second signal ends the \
                     process at once"
                );
                let _may_be_opening_yet = first_out.send(());
                either(&mut terminate, &mut interrupt).await;
                warn!(logger, "second signal: ending at once; nothing acknowledged is lost");
                halt(1);
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watching)?;
        is_ready.recv().map_err(std::io::Error::other)??;
        Ok(Self { first })
    }

    /// Waits for the first signal.
    pub async fn first(self) {
        if self.first.await.is_err() {
            // The thread has ended: no signal will come.
            std::future::pending::<()>().await;
        }
    }
}

/// Stops in order at the first SIGTERM or SIGINT.
pub async fn stop_on_signal(
    signals: std::io::Result<StopSignals>,
    supervisor: Addr<Supervisor>,
    logger: Logger,
) {
    match signals {
        Ok(signals) => {
            signals.first().await;
            #[expect(
                clippy::disallowed_methods,
                reason = "one message per process, which a full mailbox must not refuse"
            )]
            supervisor.do_send(Shutdown { exit_code: 0 });
        }
        Err(error) => {
            error!(logger, "cannot handle signals: only SIGKILL stops the service; nothing acknowledged is lost";
                "error" => %error);
        }
    }
}

fn both() -> std::io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    std::future::poll_fn(|waker| {
        use std::task::Poll;
        let terminated = terminate.poll_recv(waker).is_ready();
        let interrupted = interrupt.poll_recv(waker).is_ready();
        if terminated || interrupted { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
