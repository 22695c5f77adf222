//! How the process ends: its exit codes, and the way out that is not a return from `main`.

use std::process::ExitCode;
use std::time::Duration;

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
pub fn halt(exit_code: i32) -> ! {
    std::thread::sleep(Duration::from_millis(200));
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(exit_code) }
}
