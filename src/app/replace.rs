//! `andon run --replace`: takes over from the Andon that has the journal open.
//!
//! Asks it to stop (SIGTERM to the process that the lock names), then waits for the lock: the old one leaves the broker
//! first, which keeps the messages of QoS 1 for the session that both share, stores what is pending, and ends. Nothing
//! of the new one runs before that: the lock alone decides.

use std::path::Path;
use std::time::{Duration, Instant};

use slog::{Logger, info, warn};

use crate::host_process::ProcessInfo;
use crate::journal::{Holder, holder};
use crate::shutdown::{STOP_MAX, StopDeadline};

/// How long the old one may take: its own deadline, and then some.
const WAIT_MAX: Duration = STOP_MAX.saturating_add(Duration::from_secs(20));
/// Pause between two looks at the lock. Messages of QoS 0 are lost meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until no process has the journal in `dir` open.
///
/// # Errors
/// The old one does not end in time, in words; `None`: a signal stops this process.
pub(super) fn take_over(dir: &Path, deadline: &StopDeadline, logger: &Logger) -> Result<(), Option<String>> {
    let Some(first) = holder(dir) else {
        info!(logger, "no other Andon has this journal open: nothing to replace");
        return Ok(());
    };
    let (begun, mut asked) = (Instant::now(), None);
    info!(logger, "replacing the Andon that has this journal open: it stores what is pending and ends";
        "old" => words(first));
    while let Some(now) = holder(dir) {
        if deadline.is_armed() {
            return Err(None);
        }
        if begun.elapsed() > WAIT_MAX {
            return Err(Some(format!(
                "{} still has the journal open after {} s",
                words(now),
                WAIT_MAX.as_secs()
            )));
        }
        // Once each: a second signal would end it at once. Another one may have started in between.
        if now.pid.is_some() && asked != now.pid {
            asked = now.pid;
            if let Err(error) = ask_to_stop(now) {
                warn!(logger, "cannot ask the old Andon to stop: stop it by hand; waiting for it"; "old" => words(now),
                    "error" => error);
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let waited = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    info!(logger, "the old Andon has ended: taking over"; "waited_ms" => waited);
    Ok(())
}

/// Names who has a journal open.
pub(super) fn words(holder: Holder) -> String {
    holder.pid.map_or_else(|| "a process of unknown id".to_owned(), |pid| ProcessInfo::of(pid).to_string())
}

fn ask_to_stop(holder: Holder) -> Result<(), String> {
    let pid = holder.pid.and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.ok_or("its process id is unknown")?;
    // The lock is held by a process that wrote its own id: it is an Andon.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| error.to_string())
}
