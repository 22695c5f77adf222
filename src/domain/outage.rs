//! Outages of Andon's own sight: times in which it could not tell whether a machine was silent.

use super::Timestamp;

/// Why Andon was blind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutageReason {
    /// The broker link was down, or could not be used.
    LinkDown,
    /// The broker refused a subscription: machines that come through it could not be seen.
    FilterRefused,
    /// The journal was full: Andon had left the broker.
    Hold,
    /// Andon was stopped cleanly.
    Stopped,
    /// Found at a start: the process, or its liveness actor, had ended without recording it.
    Start,
}

impl OutageReason {
    /// Returns the word stored in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LinkDown => "link_down",
            Self::FilterRefused => "filter_refused",
            Self::Hold => "hold",
            Self::Stopped => "stopped",
            Self::Start => "start",
        }
    }

    /// Parses the stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::LinkDown, Self::FilterRefused, Self::Hold, Self::Stopped, Self::Start]
            .into_iter()
            .find(|reason| reason.as_str() == word)
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
