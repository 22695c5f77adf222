//! A machine's status and its changes.

use std::time::Duration;

use super::topic::second_to_last_segment;
use super::word_enum::word_enum;
use super::{MachineId, Seq, Timestamp, TopicFilter};

/// What the configuration says about one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
pub struct MachineRule {
    /// How long it may be silent; `None`: as long as every other machine.
    pub offline_after: Option<Duration>,
    /// It should exist: it is listed, and its silence from the start on is an event.
    #[serde(default)]
    pub expected: bool,
}

/// How to recognise the machines' own last wills.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct LastWillRule {
    /// Their topics.
    pub filter: TopicFilter,
    /// The payload that means "gone", compared exactly.
    pub payload: String,
    /// The topic's segment that names the machine: 1 is the first, −1 the last; never 0.
    #[serde(default = "second_to_last_segment")]
    pub machine_segment: i32,
}

word_enum! {
    /// Status of a machine as the database knows it. The word is stored and published.
    #[derive(Hash)]
    pub enum MachineStatus {
        /// Its newest message is younger than its `offline_after`.
        Online = "online",
        /// Silent, gone by its last will, or expected and never seen.
        Offline = "offline",
    }
}

word_enum! {
    /// A machine's status as the board and the API show it. The word is the API's.
    #[derive(Hash)]
    pub enum DisplayStatus {
        /// It sends messages, and Andon has seen it without a break.
        Online = "online",
        /// It is silent, or its last will was published, and Andon would have heard it.
        Offline = "offline",
        /// Not known: Andon is blind, or has seen it for less than its `offline_after`.
        Unknown = "unknown",
        /// Expected, silent since the start, and never seen before.
        NeverSeen = "never_seen",
    }
}

word_enum! {
    /// What caused a transition. The word is stored and published.
    #[derive(Hash)]
    pub enum TransitionReason {
        /// The machine's first message ever.
        FirstSeen = "first_seen",
        /// A message after a time offline.
        Message = "message",
        /// No message for `offline_after`.
        Silence = "silence",
        /// The device's own last will.
        LastWill = "last_will",
        /// Expected by the configuration and silent since the start.
        NeverSeen = "never_seen",
    }
}

/// One change of one machine's status: a row of `machine_event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The machine.
    pub machine_id: MachineId,
    /// The status from `occurred_at` on.
    pub status: MachineStatus,
    /// The status before; `None` if the machine was not known.
    pub previous_status: Option<MachineStatus>,
    /// Why.
    pub reason: TransitionReason,
    /// When it holds from: the message's time of receipt, or the deadline that passed.
    pub occurred_at: Timestamp,
    /// The machine's last message before or at the change; `None` if it never spoke.
    pub last_seen_at: Option<Timestamp>,
    /// The journal record that caused it; for a deadline, the newest record processed before.
    pub seq: Seq,
}
