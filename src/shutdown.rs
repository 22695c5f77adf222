//! How the process ends: its exit codes, and the way out that is not a return from `main`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use slog::{Logger, error};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
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
    /// The exit code.
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

/// Ends the process at once, without destructors, C exit handlers or a DISCONNECT to the broker: for the callback that must not
/// return, and for a second signal. Everything acknowledged is in the journal.
///
/// Waits a moment so that the asynchronous log can write what led here.
#[expect(clippy::disallowed_methods, reason = "the one place that ends the process")]
pub fn halt(exit_code: i32) -> ! {
    std::thread::sleep(Duration::from_millis(200));
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(exit_code) }
}

/// An orderly stop takes no longer than this; with the pause of [`halt`] the process is gone within 10 s of the decision.
const STOP_MAX: Duration = Duration::from_millis(9_500);

/// Ends the process if its orderly stop takes too long: a disk that stalls, or a database library that hangs, keeps threads
/// that nobody can end. The deadline runs on a thread of its own, outside of everything that may hang.
///
/// What is acknowledged and not yet on the disk survives such an end as it survives kill -9: the kernel has it.
#[derive(Clone)]
pub struct StopDeadline {
    shared: Arc<Shared>,
}

struct Shared {
    is_armed: AtomicBool,
    /// Whether all that was acknowledged is on the disk. Must not wait for anything. Not set: nobody knows.
    is_at_rest: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    logger: Logger,
}

impl StopDeadline {
    /// Not armed yet.
    #[must_use]
    pub fn new(logger: &Logger) -> Self {
        let shared =
            Shared { is_armed: AtomicBool::new(false), is_at_rest: OnceLock::new(), logger: logger.clone() };
        Self { shared: Arc::new(shared) }
    }

    /// Names the question that decides the exit code: whether all that was acknowledged is on the disk. Only the first counts.
    pub fn ask_at_the_end(&self, is_at_rest: impl Fn() -> bool + Send + Sync + 'static) {
        self.shared.is_at_rest.get_or_init(|| Box::new(is_at_rest));
    }

    /// The process is about to stop, with `exit_code`; only the first decision counts. If it still runs in [`STOP_MAX`] it ends at
    /// once: with `exit_code` if everything is on the disk, or else with 1.
    pub fn arm(&self, exit_code: i32) {
        if self.shared.is_armed.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("stop-deadline".to_owned())
            .spawn(move || shared.wait(exit_code));
        if let Err(error) = thread {
            error!(self.shared.logger, "no thread for the deadline of the stop: if it hangs, end it with SIGKILL; nothing \
                acknowledged is lost"; "error" => %error);
        }
    }
}

impl Shared {
    fn wait(&self, exit_code: i32) -> ! {
        std::thread::sleep(STOP_MAX);
        let is_at_rest = self.is_at_rest.get().is_some_and(|is_at_rest| is_at_rest());
        let code = if is_at_rest { exit_code } else { i32::from(Exit::Failure.code()) };
        error!(self.logger, "the stop takes too long, ending at once; nothing acknowledged is lost unless the power fails now: \
            look at the disk"; "on_the_disk" => is_at_rest, "exit_code" => code);
        halt(code)
    }
}
