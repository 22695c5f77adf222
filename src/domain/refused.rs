//! Rows beside the readings that the database refused.

use super::word_enum::word_enum;

word_enum! {
    /// The kind of a refused row. The word stands in metrics and the log.
    pub enum RefusedKind {
        /// A status change, in `machine_event`.
        Event = "event",
        /// A machine's status, in `machine`.
        Machine = "machine",
        /// The mark that an event was published, in `machine_event`.
        Mark = "mark",
        /// An outage of Andon's sight, in `link_outage`.
        Outage = "outage",
        /// Up to when Andon provably could see, in `link_sight`.
        Sight = "sight",
        /// When a machine was last seen, in `machine`.
        Sighting = "sighting",
    }
}

impl RefusedKind {
    /// Returns the table that refused it.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Event | Self::Mark => "machine_event",
            Self::Machine | Self::Sighting => "machine",
            Self::Outage => "link_outage",
            Self::Sight => "link_sight",
        }
    }

    /// Returns whether the next batch repeats the row with a newer value, so that a refusal loses nothing but freshness. A
    /// mark is written once for each event: an event without it is published again at every start.
    #[must_use]
    pub const fn is_repeated(self) -> bool {
        matches!(self, Self::Sight | Self::Sighting)
    }
}
