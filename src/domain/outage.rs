//! Our own blindness: stretches in which no machine's silence could be judged.

use super::Timestamp;

/// Why we could not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutageReason {
    /// The broker link was down, or could not be used.
    LinkDown,
    /// The broker refused a subscription: the machines that come through it could not be seen.
    FilterRefused,
    /// The journal was full: Andon had left the broker.
    Hold,
    /// Andon was stopped in order.
    Stopped,
    /// Found at a start: the process (or its liveness) had ended without a word.
    Start,
}

impl OutageReason {
    /// The word stored in the database.
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

    /// From the stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::LinkDown, Self::FilterRefused, Self::Hold, Self::Stopped, Self::Start]
            .into_iter()
            .find(|reason| reason.as_str() == word)
    }
}

/// One such stretch: a row of `link_outage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkOutage {
    /// The last moment of sight before it; names it within its site.
    pub began_at: Timestamp,
    /// When sight was back; `None` while it lasts.
    pub ended_at: Option<Timestamp>,
    /// Why.
    pub reason: OutageReason,
}
