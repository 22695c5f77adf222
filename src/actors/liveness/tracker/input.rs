//! What the tracker receives: its options, what the database knows, and what records say.

use std::collections::HashMap;
use std::time::Duration;

use super::flapping::FlappingRule;
use crate::domain::{FilterSet, MachineId, MachineRule, MachineStatus, Seq, Timestamp, TransitionReason};

/// The rules of liveness.
#[derive(Debug, Clone)]
pub struct TrackerOptions {
    /// How long a machine may be silent, unless its rule says otherwise. Cut to whole microseconds.
    pub offline_after: Duration,
    /// Machines with rules of their own.
    pub machines: HashMap<MachineId, MachineRule>,
    /// How many machines are tracked; machines of the database and expected ones are tracked in any case.
    pub machines_max: usize,
    /// When a machine changes its status too often.
    pub flapping: FlappingRule,
}

/// A row of table `machine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMachine {
    /// The machine.
    pub machine_id: MachineId,
    /// Status of its newest event.
    pub status: MachineStatus,
    /// When that event occurred.
    pub status_since: Timestamp,
    /// Reason of that event, if it was looked up; only for display.
    pub reason: Option<TransitionReason>,
    /// `None`: an expected machine that never sent a message.
    pub first_seen_at: Option<Timestamp>,
    /// `None`: an expected machine that never sent a message.
    pub last_seen_at: Option<Timestamp>,
}

/// What a record says about a machine. Retained messages and rejected elements make no sighting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The machine.
    pub machine_id: MachineId,
    /// The record's time of receipt.
    pub received_at: Timestamp,
    /// The record.
    pub seq: Seq,
    /// The element of the record's array; 0 if it holds no array.
    pub element: u32,
    /// What the record says.
    pub kind: SightingKind,
    /// The telemetry filters that match the topic; not used for a last will.
    pub filters: FilterSet,
}

/// The kind of a [`Sighting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SightingKind {
    /// A valid, non-retained message: the machine is alive.
    Message,
    /// The device's own last will, not retained: the machine is gone.
    LastWill,
}
