//! How the process ends: its exit codes, and the exit without a return from `main`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use slog::{Logger, error};

/// Exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Clean = 0,
    /// Something failed.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The journal is damaged.
    JournalDamaged = 3,
    /// The supervisor gave up.
    GaveUp = 4,
}

impl Exit {
    /// Returns the exit code as a number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Ends the process at once, without destructors, C exit handlers or a DISCONNECT to the broker: for a callback that must
/// not return, and for a second signal. Everything acknowledged is in the journal.
///
/// Waits a moment for the asynchronous log to write the reason.
#[expect(clippy::disallowed_methods, reason = "the one place that ends the process")]
pub fn halt(exit_code: i32) -> ! {
    std::thread::sleep(Duration::from_millis(200));
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(exit_code) }
}

/// Longest orderly stop. With the pause of [`halt`], the process ends within 10 s of the decision.
pub const STOP_MAX: Duration = Duration::from_millis(9_500);

/// Ends the process if its orderly stop takes too long: threads cannot be ended while a disk stalls or a database library
/// hangs. The deadline runs on its own thread, so nothing that hangs delays it.
///
/// Acknowledged messages that are not yet on disk survive this as they survive kill -9: the kernel has them.
#[derive(Clone)]
pub struct StopDeadline {
    shared: Arc<Shared>,
}

struct Shared {
    is_armed: AtomicBool,
    /// Returns whether everything acknowledged is on disk. Must not wait for anything. Unset if that is not known.
    is_at_rest: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    logger: Logger,
}

impl StopDeadline {
    /// Creates a deadline that is not armed yet.
    #[must_use]
    pub fn new(logger: &Logger) -> Self {
        let shared =
            Shared { is_armed: AtomicBool::new(false), is_at_rest: OnceLock::new(), logger: logger.clone() };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the check that decides the exit code: whether everything acknowledged is on disk. Only the first call counts.
    pub fn ask_at_the_end(&self, is_at_rest: impl Fn() -> bool + Send + Sync + 'static) {
        self.shared.is_at_rest.get_or_init(|| Box::new(is_at_rest));
    }

    /// The exit code if the stop took too long now.
    #[cfg(test)]
    pub fn exit_code_at_the_end(&self, exit_code: i32) -> i32 {
        self.shared.exit_code(exit_code).0
    }

    /// True once a stop has been decided.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.shared.is_armed.load(Ordering::SeqCst)
    }

    /// Starts the deadline for a stop with `exit_code`; only the first call counts. If the process still runs after
    /// [`STOP_MAX`], ends it: with `exit_code` if everything is on disk, otherwise with 1.
    pub fn arm(&self, exit_code: i32) {
        if self.shared.is_armed.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("stop-deadline".to_owned())
            .spawn(move || shared.wait(exit_code));
        if let Err(error) = thread {
            error!(self.shared.logger, "cannot start the thread that enforces the deadline of the stop: if \
                the process hangs, end it with SIGKILL; nothing acknowledged is lost"; "error" => %error);
        }
    }
}

impl Shared {
    /// The exit code of a stop that takes too long, and whether everything is on the disk.
    fn exit_code(&self, exit_code: i32) -> (i32, bool) {
        let is_at_rest = self.is_at_rest.get().is_some_and(|is_at_rest| is_at_rest());
        (if is_at_rest { exit_code } else { i32::from(Exit::Failure.code()) }, is_at_rest)
    }

    fn wait(&self, exit_code: i32) -> ! {
        std::thread::sleep(STOP_MAX);
        let (code, is_at_rest) = self.exit_code(exit_code);
        error!(self.logger, "stopping takes too long, ending at once; nothing acknowledged is lost unless the \
            power fails now: check the disk"; "on_the_disk" => is_at_rest, "exit_code" => code);
        halt(code)
    }
}
