//! What the supervisor needs from outside: the state of the disk, and someone to call when everything stops.

use std::time::Duration;

use slog::{info, warn};

use super::{Supervisor, SupervisorOptions};

/// The supervisor's surroundings.
pub struct Environment {
    /// How long the oldest disk operation under way has taken so far (SUP-7).
    pub disk_busy_for: Box<dyn Fn() -> Duration + Send>,
    /// Called once, when the supervisor decides to stop everything, with the exit code.
    pub on_stop: Box<dyn Fn(i32) + Send>,
}

impl SupervisorOptions {
    /// How long a disk operation takes before the disk counts as stalled: well below `hang_after`.
    fn stall_min(&self) -> Duration {
        (self.hang_after / 2).min(Duration::from_secs(1))
    }
}

impl Supervisor {
    /// Returns whether the disk stalls (SUP-7). Logs the beginning and the end of a stall.
    pub(super) fn look_at_disk(&mut self) -> bool {
        let busy_for = (self.outside.disk_busy_for)();
        let stalls = busy_for >= self.options.stall_min();
        match self.stalled_for {
            None if stalls => {
                warn!(self.logger, "the disk does not respond: check it; Andon waits for it and restarts \
                    nothing meanwhile";
                    "waits_ms" => busy_for.as_millis());
            }
            Some(stalled_for) if !stalls => {
                info!(self.logger, "the disk responds again"; "waited_at_least_ms" => stalled_for.as_millis());
            }
            _ => {}
        }
        self.stalled_for = stalls.then_some(busy_for);
        stalls
    }
}
