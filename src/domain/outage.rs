//! Outages of Andon's own sight: times in which it could not tell whether a machine was silent.

use super::Timestamp;
use super::word_enum::word_enum;

word_enum! {
    /// Why Andon was blind. The word is stored in `link_outage`.
    #[derive(Hash)]
    pub enum OutageReason {
        /// The broker link was down, or could not be used.
        LinkDown = "link_down",
        /// The broker refused a subscription: machines that come through it could not be seen.
        FilterRefused = "filter_refused",
        /// The journal was full: Andon had left the broker.
        Hold = "hold",
        /// Andon was stopped cleanly.
        Stopped = "stopped",
        /// Found at a start: the process, or its liveness actor, had ended without recording it.
        Start = "start",
    }
}

/// One outage: a row of `link_outage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkOutage {
    /// The last moment at which Andon could see; identifies the outage within its site.
    pub began_at: Timestamp,
    /// When Andon could see again; `None` while it lasts.
    pub ended_at: Option<Timestamp>,
    /// Why.
    pub reason: OutageReason,
}
