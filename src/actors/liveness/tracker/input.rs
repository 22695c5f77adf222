//! What the tracker is given: its options, what the database knows, and what records say.

use std::collections::HashMap;
use std::time::Duration;

use super::flapping::FlappingRule;
pub use crate::domain::MachineRule;
use crate::domain::{FilterSet, MachineId, MachineStatus, Seq, Timestamp, TransitionReason};

/// How machines are judged.
#[derive(Debug, Clone)]
pub struct TrackerOptions {
    /// How long a machine may be silent, unless its rule says otherwise. Cut to whole microseconds.
    pub offline_after: Duration,
    /// Machines with rules of their own.
    pub machines: HashMap<MachineId, MachineRule>,
    /// How many machines are tracked; those of the database and the expected ones are tracked in any case.
    pub machines_max: usize,
    /// When a machine changes its status too often.
    pub flapping: FlappingRule,
}

/// A row of table `machine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMachine {
    /// Which.
    pub machine_id: MachineId,
    /// Status of its newest event.
    pub status: MachineStatus,
    /// When that event occurred.
    pub status_since: Timestamp,
    /// Reason of that event, if it was looked up; only shown.
    pub reason: Option<TransitionReason>,
    /// `None`: it was expected and never spoke.
    pub first_seen_at: Option<Timestamp>,
    /// `None`: it was expected and never spoke.
    pub last_seen_at: Option<Timestamp>,
}

/// What a record says about a machine. Retained messages and rejected elements are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Which.
    pub machine_id: MachineId,
    /// The record's time of receipt.
    pub received_at: Timestamp,
    /// The record.
    pub seq: Seq,
    /// The element of the record's array; 0 if it is none.
    pub element: u32,
    /// What it says.
    pub kind: SightingKind,
    /// The telemetry filters that match its topic; of a last will they do not count.
    pub filters: FilterSet,
}

/// What a record says about a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SightingKind {
    /// A valid, non-retained message: it is alive.
    Message,
    /// The device's own last will, not retained: it is gone.
    LastWill,
}
