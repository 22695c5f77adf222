//! Decides when an orderly stop of the parser is over. Pure.

/// What the parser still has to do, and whether it can do it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// Liveness has not answered yet, and may have something to record.
    pub(super) asks_liveness: bool,
    /// The batch being built is not empty.
    pub(super) is_building: bool,
    /// A batch is with the writer.
    pub(super) is_in_flight: bool,
    /// Liveness may have something to record.
    pub(super) transitions_pending: bool,
    /// The journal holds records that storage has not read yet.
    pub(super) is_behind: bool,
    /// The position is claimed.
    pub(super) is_attached: bool,
    /// The last commit succeeded.
    pub(super) database_works: bool,
}

impl Drain {
    /// True if nothing is left to commit, or nothing can be: then the journal keeps the rest for the next
    /// start.
    pub(super) fn is_over(self) -> bool {
        let something_left = self.asks_liveness
            || self.is_building
            || self.is_in_flight
            || self.transitions_pending
            || self.is_behind;
        !something_left || !self.is_attached || !self.database_works
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING_LEFT: Drain = Drain {
        asks_liveness: false,
        is_building: false,
        is_in_flight: false,
        transitions_pending: false,
        is_behind: false,
        is_attached: true,
        database_works: true,
    };

    #[test]
    fn a_stop_is_over_when_nothing_is_left_or_nothing_can_be_committed() {
        assert!(NOTHING_LEFT.is_over());
        let left = [
            Drain { asks_liveness: true, ..NOTHING_LEFT },
            Drain { is_building: true, ..NOTHING_LEFT },
            Drain { is_in_flight: true, ..NOTHING_LEFT },
            Drain { transitions_pending: true, ..NOTHING_LEFT },
            Drain { is_behind: true, ..NOTHING_LEFT },
        ];
        for drain in left {
            assert!(!drain.is_over(), "{drain:?}");
            assert!(Drain { is_attached: false, ..drain }.is_over(), "{drain:?}");
            assert!(Drain { database_works: false, ..drain }.is_over(), "{drain:?}");
        }
    }
}
