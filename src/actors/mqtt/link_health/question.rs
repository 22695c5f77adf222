//! The questions of one link: echoes and UNSUBSCRIBEs, numbered, one in flight at a time (LINK-1).

use std::time::Duration;

use crate::clock::Mono;

/// The link that is up.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) since: Mono,
    /// Distinguishes our echoes on this link from all others. `None` without an echo.
    pub(super) nonce: Option<u64>,
    /// Numbers the questions.
    pub(super) newest: u64,
    pub(super) question: Option<Question>,
    /// Liveness waits for a proof.
    pub(super) wanted: bool,
}

/// A question to the broker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) number: u64,
    pub(super) by_echo: bool,
    pub(super) asked: Mono,
    /// The newest sign of life since then.
    pub(super) sign: Mono,
    /// The longest time without one.
    pub(super) gap: Duration,
    pub(super) acknowledged: bool,
    /// The answer may be a proof: it was asked after the time to settle.
    pub(super) proves: bool,
}

impl Up {
    /// Returns the number of the next question.
    pub(super) fn next_number(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// Returns the payload of the echo with this number; `None` if this link has no echo.
    pub(super) fn echo_payload(&self, number: u64) -> Option<String> {
        let nonce = self.nonce?;
        Some(format!("{nonce:016x}-{number}"))
    }

    /// Returns the number of an echo of this link; `None` for a foreign or an older one.
    pub(super) fn number_of(&self, payload: &[u8]) -> Option<u64> {
        let (nonce, number) = std::str::from_utf8(payload).ok()?.split_once('-')?;
        let nonce = u64::from_str_radix(nonce, 16).ok().filter(|nonce| Some(*nonce) == self.nonce);
        nonce.and(number.parse().ok())
    }
}
