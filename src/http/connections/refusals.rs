//! When to say that clients are refused: once as it begins, and once as it is over.

use std::time::Duration;

use crate::clock::Mono;

/// Without a refusal for this long, it is over.
const OVER_AFTER: Duration = Duration::from_secs(60);

/// A change worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum RefusalChange {
    /// The first refusal after a quiet time.
    Began,
    /// It is over; so many were refused.
    Ended { refused: u64 },
}

/// Watches the counter of refusals.
#[derive(Debug, Default)]
pub(in crate::http) struct Refusals {
    seen: u64,
    /// The counter as it began, and when it last moved; `None`: quiet.
    burst: Option<(u64, Mono)>,
}

impl Refusals {
    /// Looks at the counter.
    pub(in crate::http) fn observe(&mut self, refused: u64, now: Mono) -> Option<RefusalChange> {
        let before = std::mem::replace(&mut self.seen, refused);
        match self.burst {
            None if refused > before => {
                self.burst = Some((before, now));
                Some(RefusalChange::Began)
            }
            Some((first, _)) if refused > before => {
                self.burst = Some((first, now));
                None
            }
            Some((first, last)) if now.since(last) >= OVER_AFTER => {
                self.burst = None;
                Some(RefusalChange::Ended { refused: refused - first })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_refusals_is_two_lines() {
        let mut refusals = Refusals::default();
        let mut look = |second: u64, refused| refusals.observe(refused, Mono(second * 1_000_000));
        assert_eq!(look(0, 0), None);
        assert_eq!(look(1, 3), Some(RefusalChange::Began));
        assert_eq!(look(2, 500), None);
        assert_eq!(look(50, 501), None);
        assert_eq!(look(109, 501), None);
        assert_eq!(look(110, 501), Some(RefusalChange::Ended { refused: 501 }));
        assert_eq!(look(500, 501), None);
        assert_eq!(look(501, 502), Some(RefusalChange::Began));
    }
}
