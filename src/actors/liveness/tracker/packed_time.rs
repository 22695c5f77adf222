//! Optional instants in eight bytes, so that a machine's entry fits into one cache line.

use crate::clock::Mono;
use crate::domain::Timestamp;

/// `Option<Timestamp>`; the smallest timestamp, 292,000 years ago, stands for `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackedTimestamp(i64);

impl PackedTimestamp {
    pub(super) const NONE: Self = Self(i64::MIN);

    pub(super) fn get(self) -> Option<Timestamp> {
        (self != Self::NONE).then(|| Timestamp::from_micros(self.0))
    }
}

impl From<Option<Timestamp>> for PackedTimestamp {
    fn from(instant: Option<Timestamp>) -> Self {
        instant.map_or(Self::NONE, |instant| Self(instant.as_micros()))
    }
}

/// `Option<Mono>`: 0 is `None`, everything else one more than the instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackedMono(u64);

impl PackedMono {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn get(self) -> Option<Mono> {
        self.0.checked_sub(1).map(Mono)
    }
}

impl From<Option<Mono>> for PackedMono {
    fn from(instant: Option<Mono>) -> Self {
        instant.map_or(Self::NONE, |instant| Self(instant.0.saturating_add(1)))
    }
}
