//! The values of the domain and their rules: pure data, without I/O, clock or any other module of Andon.
//!
//! A [`Message`] from the broker becomes [`Reading`]s or [`Rejection`]s. A machine's silence or return becomes a
//! [`Transition`]. [`Seq`] is a message's place in the journal.

mod availability;
mod broker_link;
mod clock_record;
pub mod duration_text;
mod filter_set;
mod history;
mod ip_range;
mod journal_policy;
mod ledger;
mod listen_address;
mod liveness;
mod machine_id;
mod message;
mod nearest;
mod outage;
mod reading;
mod refused;
mod rejection;
mod reload_outcome;
mod role;
mod seq;
mod timestamp;
mod topic;
mod word_enum;

pub use availability::{Availability, Span, StatusChange, availability, merged};
pub use broker_link::{Endpoint, ProtocolChoice, Transport};
pub use clock_record::ClockRecord;
pub use filter_set::{FilterPlace, FilterSet};
pub use history::{JournalHistory, Open, OpenId};
pub use ip_range::{IpRange, IpRangeError};
pub use journal_policy::{SyncMode, WhenFull};
pub use ledger::Ledger;
pub use listen_address::{ListenAddress, NoListenAddress};
pub use liveness::{DisplayStatus, LastWillRule, MachineRule, MachineStatus, Transition, TransitionReason};
pub use machine_id::{MACHINE_ID_CHARS_MAX, MachineId, MachineIdError, MachineIdFrom, is_invisible};
pub use message::{Message, Qos, Topic};
pub use nearest::nearest;
pub use outage::{LinkOutage, OutageReason};
pub use reading::{Reading, TimeSource};
pub use refused::RefusedKind;
pub use rejection::{REJECTED_PAYLOAD_BYTES_MAX, RejectReason, Rejection, journaled_payload_bytes_max};
pub use reload_outcome::ReloadOutcome;
pub use role::Role;
pub use seq::{JournalId, Seq};
pub use timestamp::{Timestamp, signed_micros};
pub use topic::{TopicFilter, TopicFilterError, second_to_last_segment, topic_segment};

pub(crate) use word_enum::word_enum;
