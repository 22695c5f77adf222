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
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;

use super::reload::ReloadRequests;
use crate::actors::supervisor::{Shutdown, Supervisor};
use crate::shutdown::{StopDeadline, halt};

/// Hangups that wait to be looked at; the kernel keeps one more.
const HANGUPS_MAX: usize = 16;

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
                drop(ready.send(Ok(())));
                let had_terminal = has_terminal();
                while let Received::Hangup(sender) = signals.next().await {
                    if had_terminal && !has_terminal() {
                        info!(logger, "the terminal was closed");
                        break;
                    }
                    reloads.request(sender);
                }
                deadline.arm(0);
                info!(
                    logger,
                    "stopping: leaving the broker, then storing what is pending; a second signal ends the \
                     process at once"
                );
                let _may_be_opening_yet = first_out.send(());
                while matches!(signals.next().await, Received::Hangup(_)) {
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

/// Holds SIGHUP back in this thread and those that it starts: it would end the process, and waits for [`next_hangup`]
/// instead. Call it first of all.
pub fn hold_hangup() {
    // SAFETY: the old mask is not asked for.
    unsafe {
        // Fails for no known reason; then a SIGHUP ends the process.
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const *hangup_alone(), std::ptr::null_mut());
    }
}

fn hangup_alone() -> Box<libc::sigset_t> {
    // SAFETY: `sigemptyset` initialises the set before it is used.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
        Box::new(set.assume_init())
    }
}

/// The user whose process sent a signal; `None`: the kernel did, for a terminal.
pub(super) type Sender = Option<u32>;

/// Waits for the next SIGHUP, and returns who sent it.
fn next_hangup() -> std::io::Result<Sender> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: both pointers are valid for the call, which fills in `info` if it succeeds.
    if unsafe { libc::sigwaitinfo(&raw const *hangup_alone(), info.as_mut_ptr()) } == -1 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded.
    let info = unsafe { info.assume_init() };
    let is_from_process = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&info.si_code);
    // SAFETY: the kernel sets the sender for these codes.
    Ok(is_from_process.then(|| unsafe { info.si_uid() }))
}

/// Starts the thread that waits for SIGHUP: unlike tokio, it learns who sent it.
fn watch_hangups() -> std::io::Result<Receiver<Sender>> {
    let (hangups, received) = channel(HANGUPS_MAX);
    let watching = move || loop {
        match next_hangup() {
            Ok(sender) if hangups.blocking_send(sender).is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    };
    std::thread::Builder::new().name("hangups".to_owned()).spawn(watching)?;
    Ok(received)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Stop,
    Hangup(Sender),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangups: Receiver<Sender>,
}

impl Signals {
    fn register() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangups: watch_hangups()?,
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
            match self.hangups.poll_recv(waker) {
                Poll::Ready(Some(sender)) => Poll::Ready(Received::Hangup(sender)),
                // The thread has ended; no more will come.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}
