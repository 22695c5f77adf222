//! What the supervisor asks of, and tells to, the world outside of its children.

use std::time::Duration;

use slog::{info, warn};

use super::{Supervisor, SupervisorOptions};

/// The world outside.
pub struct Environment {
    /// How long the disk has kept somebody waiting who still waits (SUP-7).
    pub disk_busy_for: Box<dyn Fn() -> Duration + Send>,
    /// Everything is about to stop, with this exit code. Called once, at the decision.
    pub on_stop: Box<dyn Fn(i32) + Send>,
}

impl SupervisorOptions {
    /// The disk stalls if it has kept somebody waiting for so long: well before that looks like a hang.
    fn stall_min(&self) -> Duration {
        (self.hang_after / 2).min(Duration::from_secs(1))
    }
}

impl Supervisor {
    /// Whether the disk stalls (SUP-7). Says so once, and once when it is over.
    pub(super) fn look_at_disk(&mut self) -> bool {
        let busy_for = (self.outside.disk_busy_for)();
        let stalls = busy_for >= self.options.stall_min();
        match self.stalled_for {
            None if stalls => {
                warn!(self.logger, "the disk does not answer: waiting for it, nobody is taken for hung meanwhile; look at the disk";
                    "waits_ms" => busy_for.as_millis());
            }
            Some(stalled_for) if !stalls => {
                info!(self.logger, "the disk answers again"; "waited_at_least_ms" => stalled_for.as_millis());
            }
            _ => {}
        }
        self.stalled_for = stalls.then_some(busy_for);
        stalls
    }
}
