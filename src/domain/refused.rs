//! What a row beside the readings records, when the database does not take it.

/// What a refused row was to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedKind {
    /// A status change, in `machine_event`.
    Event,
    /// A machine's status, in `machine`.
    Machine,
    /// That an event has reached the broker, in `machine_event`.
    Mark,
    /// An outage of ours, in `link_outage`.
    Outage,
    /// How far sight is proven, in `link_sight`.
    Sight,
    /// When a machine was last seen, in `machine`.
    Sighting,
}

impl RefusedKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Event, Self::Machine, Self::Mark, Self::Outage, Self::Sight, Self::Sighting];

    /// Its word in metrics and the log.
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

    /// The table that does not take it.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Event | Self::Mark => "machine_event",
            Self::Machine | Self::Sighting => "machine",
            Self::Outage => "link_outage",
            Self::Sight => "link_sight",
        }
    }

    /// Whether the next batch says the same again, and newer: nothing is lost by its refusal but freshness. A mark is said
    /// once for each event, and never again: an event without one is published again at every start.
    #[must_use]
    pub const fn is_repeated(self) -> bool {
        matches!(self, Self::Sight | Self::Sighting)
    }
}
