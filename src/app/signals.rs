//! The signals that stop the service, and the one that has it read its configuration again.
//!
//! A separate thread watches them. So even while the journal is being opened on a disk that stalls, the first
//! signal starts the deadline of the stop and the second ends the process at once. SIGHUP never ends it: what arrives
//! before the watch begins waits for it (see [`hold_hangup`]). A terminal that is closed sends it, too, and stops the
//! service: nobody would see that it goes on.

use std::io::IsTerminal;
use std::sync::mpsc;

use actix::Addr;
use slog::{Logger, error, info, warn};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::reload::ReloadRequests;
use crate::actors::supervisor::{Shutdown, Supervisor};
use crate::shutdown::{StopDeadline, halt};

/// Watches SIGTERM, SIGINT and SIGHUP. Keeps a signal that arrives before [`StopSignals::first`] is called.
pub struct StopSignals {
    first: oneshot::Receiver<()>,
}

impl StopSignals {
    /// Starts to watch.
    ///
    /// # Errors
    /// The operating system's error.
    pub(super) fn watch(
        deadline: StopDeadline,
        reloads: ReloadRequests,
        logger: Logger,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (first_out, first) = oneshot::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let watching = move || {
            runtime.block_on(async move {
                let mut signals = match Signals::register() {
                    Ok(signals) => signals,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let _held_until_now = mask_hangup(libc::SIG_UNBLOCK);
                drop(ready.send(Ok(())));
                let had_terminal = has_terminal();
                while signals.next().await == Received::Hangup {
                    if had_terminal && !has_terminal() {
                        info!(logger, "the terminal was closed");
                        break;
                    }
                    reloads.request();
                }
                deadline.arm(0);
                info!(
                    logger,
                    "stopping: leaving the broker, then storing what is pending; a second signal ends the \
                     process at once"
                );
                let _may_be_opening_yet = first_out.send(());
                while signals.next().await == Received::Hangup {
                    info!(logger, "stopping: the reload is left out");
                }
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

/// True if a person at a terminal started the service; no longer once that terminal is closed.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stderr().is_terminal()
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

/// Holds SIGHUP back in this thread and those that it starts, until the watch is there to take it. Call it first of all:
/// the signal would end the process.
pub fn hold_hangup() {
    // Fails for no known reason; then a SIGHUP within the first milliseconds ends the process.
    let _not_held = mask_hangup(libc::SIG_BLOCK);
}

fn mask_hangup(how: libc::c_int) -> std::io::Result<()> {
    // SAFETY: `sigemptyset` initialises the set before it is used, and the old mask is not asked for.
    let code = unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut())
    };
    if code == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(code)) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Stop,
    Hangup,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn register() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal; a stop comes first.
    async fn next(&mut self) -> Received {
        std::future::poll_fn(|waker| {
            use std::task::Poll;
            let terminated = self.terminate.poll_recv(waker).is_ready();
            let interrupted = self.interrupt.poll_recv(waker).is_ready();
            if terminated || interrupted {
                return Poll::Ready(Received::Stop);
            }
            self.hangup.poll_recv(waker).map(|_| Received::Hangup)
        })
        .await
    }
}
