//! Rows beside the readings that the database refuses for what they hold: events, machines, sightings,
//! outages.
//!
//! They are no elements of a message, so the ledger does not count them and no table keeps them. A
//! [`RefusedRow`] reports one to the log and the metrics.

use std::fmt;

use super::batch::Batch;
use super::machine_changes::MachineChange;
use crate::domain::{MachineId, MachineStatus, RefusedKind, Timestamp};

/// A row beside the readings that the database refused for what it holds. It is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// What it should have recorded.
    pub kind: RefusedKind,
    /// Its machine; an outage has none.
    pub machine_id: Option<MachineId>,
    /// The status in it.
    pub status: Option<MachineStatus>,
    /// The time in it.
    pub at: Option<Timestamp>,
    /// The database's message.
    pub detail: String,
}

/// Names the row for a person.
impl fmt::Display for RefusedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of {}", self.kind.as_str(), self.kind.table())?;
        if let Some(machine_id) = &self.machine_id {
            write!(f, ", machine {:?}", machine_id.as_str())?;
        }
        if let Some(status) = self.status {
            write!(f, ", {}", status.as_str())?;
        }
        self.at.map_or(Ok(()), |at| write!(f, ", {at}"))
    }
}

/// Where a row is in its batch. In the order in which rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowLocation {
    Reading(usize),
    Forget(usize),
    Event(usize),
    Machine(usize),
    PublishedMark(usize),
    Outage(usize),
    SeenUntil,
    Sighting(usize),
}

impl RowLocation {
    /// Returns the row at this place as refused with the message `detail`; `None` for a reading, which a
    /// table keeps.
    pub fn refused(self, batch: &Batch, changes: &[MachineChange<'_>], detail: String) -> Option<RefusedRow> {
        let bare = |kind, at| RefusedRow { kind, machine_id: None, status: None, at, detail: detail.clone() };
        let row = match self {
            // Nothing that it writes can be refused for what it holds.
            Self::Reading(_) | Self::Forget(_) => return None,
            Self::Event(index) => {
                let event = batch.transitions.get(index)?;
                let bare = bare(RefusedKind::Event, Some(event.occurred_at));
                RefusedRow { machine_id: Some(event.machine_id.clone()), status: Some(event.status), ..bare }
            }
            Self::Machine(index) => {
                let change = changes.get(index)?;
                let bare = bare(RefusedKind::Machine, Some(change.status_since));
                let machine_id = MachineId::parse(change.machine_id).ok();
                RefusedRow { machine_id, status: Some(change.status), ..bare }
            }
            Self::PublishedMark(index) => {
                let event = batch.liveness.published.get(index)?;
                let bare = bare(RefusedKind::Mark, Some(event.occurred_at));
                RefusedRow { machine_id: Some(event.machine_id.clone()), status: Some(event.status), ..bare }
            }
            Self::Outage(index) => {
                bare(RefusedKind::Outage, batch.liveness.outages.get(index).map(|row| row.began_at))
            }
            Self::SeenUntil => bare(RefusedKind::Sight, batch.liveness.seen_until),
            Self::Sighting(index) => {
                let (machine_id, seen_at) = batch.sightings.get(index)?;
                let bare = bare(RefusedKind::Sighting, Some(*seen_at));
                RefusedRow { machine_id: Some(machine_id.clone()), ..bare }
            }
        };
        Some(row)
    }
}
