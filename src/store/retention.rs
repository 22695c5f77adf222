//! What is kept for how long: the settings of retention, and what they say at one moment.

use std::time::Duration;

use super::prune::{PruneCursor, PruneTable};
use crate::clock::trusted::cutoff;
use crate::domain::Timestamp;

/// How long each kind of rows is kept. The service may replace it while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Readings and their rollups; `None`: for ever.
    pub readings: Option<Duration>,
    /// Events and our own outages; `None`: for ever.
    pub events: Option<Duration>,
    /// Rejected messages; `None`: for ever.
    pub rejected: Option<Duration>,
    /// Payload bytes of the site's rejected messages; `None`: any number.
    pub rejected_bytes_max: Option<u64>,
    /// The audit log; `None`: for ever.
    pub audit: Option<Duration>,
}

impl Retention {
    /// Returns the shortest time for which anything is kept; `None` if everything is kept for ever.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        [self.readings, self.events, self.rejected, self.audit].into_iter().flatten().min()
    }

    /// Returns what may be deleted at `trusted_now`.
    #[must_use]
    pub fn limits(&self, trusted_now: Timestamp) -> PruneLimits {
        let before = |kept: Option<Duration>| kept.map(|kept| cutoff(trusted_now, kept));
        PruneLimits {
            readings: before(self.readings),
            rollups: before(self.readings),
            events: before(self.events),
            rejected: before(self.rejected),
            rejected_bytes_max: self.rejected_bytes_max,
            audit: before(self.audit),
        }
    }
}

/// What a run of deletion deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneLimits {
    /// Readings recorded and received before this; `None`: none.
    pub readings: Option<Timestamp>,
    /// Rollups that end by then, and retained messages that came last before it; `None`: none. It is that of the
    /// readings, unless all of those are gone with their partitions.
    pub rollups: Option<Timestamp>,
    /// Events and outages of before this; `None`: none.
    pub events: Option<Timestamp>,
    /// Rejected messages received before this; `None`: none.
    pub rejected: Option<Timestamp>,
    /// Beyond so many payload bytes, the oldest rejected messages; `None`: none.
    pub rejected_bytes_max: Option<u64>,
    /// Rows of the audit log from before this; `None`: none.
    pub audit: Option<Timestamp>,
}

impl PruneLimits {
    /// Limits only the readings, and what belongs to them.
    #[must_use]
    pub fn readings_before(before: Timestamp) -> Self {
        Self { readings: Some(before), rollups: Some(before), ..Self::default() }
    }

    /// Returns the instant before which rows of `table` are old.
    #[must_use]
    pub fn before(&self, table: PruneTable) -> Option<Timestamp> {
        match table {
            PruneTable::Readings => self.readings,
            PruneTable::Rollups | PruneTable::ExtraRollups | PruneTable::RetainedSeen => self.rollups,
            PruneTable::Events | PruneTable::Outages => self.events,
            PruneTable::Rejected => self.rejected,
            PruneTable::Audit => self.audit,
        }
    }

    fn concerns(&self, table: PruneTable) -> bool {
        let is_too_large = table == PruneTable::Rejected && self.rejected_bytes_max.is_some();
        is_too_large || self.before(table).is_some()
    }

    /// Returns where a run goes on after it is done with `table`, or begins.
    pub(super) fn start_after(&self, table: Option<PruneTable>) -> Option<PruneCursor> {
        let done = table.map_or(0, |table| table as usize + 1);
        let next = PruneTable::ALL.into_iter().skip(done).find(|table| self.concerns(*table));
        next.map(PruneCursor::start_of)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_run_visits_only_the_tables_with_a_limit() {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        let visited = |retention: Retention| {
            let limits = retention.limits(Timestamp::from_micros(0));
            let (mut visited, mut at) = (Vec::new(), limits.start_after(None));
            while let Some(cursor) = at {
                visited.push(cursor.table());
                at = limits.start_after(Some(cursor.table()));
            }
            visited
        };
        assert_eq!(visited(Retention::default()), []);
        let bytes_only = Retention { rejected_bytes_max: Some(1), ..Retention::default() };
        assert_eq!(visited(bytes_only), [PruneTable::Rejected]);
        let all = Retention {
            readings: days(730),
            events: days(365),
            rejected: days(90),
            rejected_bytes_max: Some(1),
            audit: days(365),
        };
        assert_eq!(visited(all), PruneTable::ALL);
        assert_eq!((all.shortest(), bytes_only.shortest()), (days(90), None));
        let limits = all.limits(Timestamp::from_micros(0));
        assert_eq!(limits.rejected.unwrap().as_micros(), -90 * 86_400 * 1_000_000);
    }
}
