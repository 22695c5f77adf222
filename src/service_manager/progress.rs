//! What Andon reports to the service manager, and when it feeds the watchdog.

/// Where the service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not every actor has answered yet.
    Starting,
    /// Journal and actors work. Broker and database may be away.
    Running,
    /// A signal or the supervisor ends the service.
    Stopping,
}

/// The progress of supervisor and actors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beat {
    /// Changes each time the supervisor has checked its actors.
    pub checked: u64,
    /// How many heartbeats the actors have answered.
    pub answered: u64,
    /// No actor can answer, and that is known: the disk stalls, or every actor waits for its restart.
    pub is_excused: bool,
}

/// The service at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its progress.
    pub beat: Beat,
    /// What works and what does not, without numbers: when this changes, the status is sent at once.
    pub state: String,
    /// The status, for people.
    pub line: String,
}

/// Remembers the beat at which the watchdog was last fed (NTF-2).
#[derive(Debug, Default)]
pub(super) struct WatchdogFeed {
    fed_at: Beat,
}

impl WatchdogFeed {
    /// Returns true if there was progress since the last time that this returned true.
    pub(super) fn is_due(&mut self, beat: &Beat) -> bool {
        let is_supervised = beat.checked != self.fed_at.checked;
        let is_due = is_supervised && (beat.answered != self.fed_at.answered || beat.is_excused);
        if is_due {
            self.fed_at = *beat;
        }
        is_due
    }
}
