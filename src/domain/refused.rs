//! Rows beside the readings that the database refused.

/// The kind of a refused row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedKind {
    /// A status change, in `machine_event`.
    Event,
    /// A machine's status, in `machine`.
    Machine,
    /// The mark that an event was published, in `machine_event`.
    Mark,
    /// An outage of Andon's sight, in `link_outage`.
    Outage,
    /// Up to when Andon provably could see, in `link_sight`.
    Sight,
    /// When a machine was last seen, in `machine`.
    Sighting,
}

impl RefusedKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Event, Self::Machine, Self::Mark, Self::Outage, Self::Sight, Self::Sighting];

    /// Returns its word in metrics and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Machine => "machine",
            Self::Mark => "mark",
            Self::Outage => "outage",
            Self::Sight => "sight",
            Self::Sighting => "sighting",
        }
    }

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
