//! What one commit writes, and its outcome.

use std::fmt;
use std::sync::Arc;

use super::liveness_rows::LivenessRows;
use super::refused::RefusedRow;
use crate::domain::{
    JournalId, Ledger, MachineId, OpenId, Qos, REJECTED_PAYLOAD_BYTES_MAX, Reading, RejectReason, Rejection,
    Seq, Timestamp, Transition,
};

/// All that a range of the journal became: `after` (exclusive) to `upto` (inclusive).
///
/// A batch with `upto == after` carries only transitions (deadlines that passed) or gaps. A batch built on a
/// stale position is harmless: the commit refuses it as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The journal of the range.
    pub journal_id: JournalId,
    /// The opening of the journal that claimed the position (see [`Store::claim`](super::Store::claim)).
    pub open_id: OpenId,
    /// The position that it is built on.
    pub after: Seq,
    /// The position that it moves to; not before `after`.
    pub upto: Seq,
    /// Messages in the range, without records lost in gaps.
    pub messages: u64,
    /// Elements that are neither readings nor rejections, such as last wills.
    pub control: u64,
    /// Elements that are readings; may contain duplicates.
    pub readings: Vec<ReadingRow>,
    /// Elements that are rejected.
    pub rejections: Vec<RejectionRow>,
    /// Records that the journal dropped.
    pub gaps: Vec<GapRow>,
    /// Status changes, oldest first for each machine.
    pub transitions: Vec<Transition>,
    /// When machines were last seen. Ignored for a machine that no transition created.
    pub sightings: Vec<(MachineId, Timestamp)>,
    /// Outages, and events that reached the broker.
    pub liveness: LivenessRows,
}

impl Batch {
    /// Returns an empty batch at `after`.
    #[must_use]
    pub fn new(journal_id: JournalId, open_id: OpenId, after: Seq) -> Self {
        Self {
            journal_id,
            open_id,
            after,
            upto: after,
            messages: 0,
            control: 0,
            readings: Vec::new(),
            rejections: Vec::new(),
            gaps: Vec::new(),
            transitions: Vec::new(),
            sightings: Vec::new(),
            liveness: LivenessRows::default(),
        }
    }
}

/// One reading and the message it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadingRow {
    /// The message's place in the journal.
    pub seq: Seq,
    /// Which element of the message, from 0.
    pub element: u32,
    /// When the message was received.
    pub received_at: Timestamp,
    /// The message's topic.
    pub topic: Arc<str>,
    /// The message's quality of service.
    pub qos: Qos,
    /// The message was a retained one.
    pub retained: bool,
    /// Andon's clock was unset when it came ([`Message::clock_unset`](crate::domain::Message::clock_unset)).
    pub clock_unset: bool,
    /// Its content.
    pub reading: Reading,
    /// The element's bytes, needed only if the database refuses the row: then the first
    /// [`REJECTED_PAYLOAD_BYTES_MAX`] are kept.
    pub payload: Vec<u8>,
}

impl ReadingRow {
    /// Returns the rejection to store when the database refuses the row with the message `refusal`.
    pub(super) fn refused(&self, refusal: &str) -> RejectionRow {
        let kept = self.payload.len().min(REJECTED_PAYLOAD_BYTES_MAX);
        RejectionRow {
            seq: self.seq,
            element: self.element,
            received_at: self.received_at,
            topic: Arc::clone(&self.topic),
            qos: self.qos,
            retained: self.retained,
            clock_unset: self.clock_unset,
            rejection: Rejection {
                reason: RejectReason::StoreRejected,
                detail: refusal.to_owned(),
                payload: self.payload[..kept].to_vec(),
            },
        }
    }

    /// Returns roughly how many bytes of text the row sends to the database.
    pub(super) fn size(&self) -> usize {
        self.topic.len()
            + self.reading.machine_id.as_str().len()
            + self.reading.extra.as_ref().map_or(0, String::len)
    }
}

/// Names the row for a person.
impl fmt::Display for ReadingRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { machine_id, recorded_at, .. } = &self.reading;
        let (seq, element) = (self.seq, self.element);
        write!(
            f,
            "the reading of {machine_id:?} recorded at {recorded_at} (seq {seq}, element {element})",
            machine_id = machine_id.as_str()
        )
    }
}

/// One rejected element and the message it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectionRow {
    /// The message's place in the journal.
    pub seq: Seq,
    /// Which element of the message, from 0.
    pub element: u32,
    /// When the message was received.
    pub received_at: Timestamp,
    /// The message's topic.
    pub topic: Arc<str>,
    /// The message's quality of service.
    pub qos: Qos,
    /// The message was a retained one.
    pub retained: bool,
    /// Andon's clock was unset when it came ([`Message::clock_unset`](crate::domain::Message::clock_unset)).
    pub clock_unset: bool,
    /// Why, and what is kept of the element.
    pub rejection: Rejection,
}

impl RejectionRow {
    /// Returns roughly how many bytes the row sends to the database.
    pub(super) fn size(&self) -> usize {
        self.topic.len() + self.rejection.detail.len() + self.rejection.payload.len()
    }
}

/// Records that the journal dropped before they were stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    /// The first missing record.
    pub from: Seq,
    /// The last missing record.
    pub to: Seq,
    /// Why, as a word of the journal.
    pub reason: String,
    /// When Andon noticed.
    pub at: Timestamp,
}

/// A reading that the database refused for what it holds. It is in `rejected_message` as `store_rejected`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoisonedRow {
    /// The message's place in the journal.
    pub seq: Seq,
    /// Which element of the message, from 0.
    pub element: u32,
    /// The database's message.
    pub detail: String,
}

/// What a commit did with the elements of its batch: `stored + duplicate + rejected` is all of them except
/// `control`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitOutcome {
    /// Readings that are new in the database.
    pub stored: u64,
    /// Readings that the database had already, from this batch or an earlier one.
    pub duplicate: u64,
    /// The batch's rejections plus the poisoned rows.
    pub rejected: u64,
    /// Readings that the database refused.
    pub poisoned: Vec<PoisonedRow>,
    /// Other rows that the database refused. They are stored nowhere, and count for no element.
    pub refused: Vec<RefusedRow>,
    /// The journal's ledger after this commit.
    pub ledger: Ledger,
}

/// Longest kept message of a refusal, in bytes.
const REFUSAL_BYTES_MAX: usize = 2_000;

impl CommitOutcome {
    /// Records that the database refused `row` with the message `refusal`. Returns the rejection to store.
    pub(super) fn poison(&mut self, row: &ReadingRow, mut refusal: String) -> RejectionRow {
        shorten(&mut refusal);
        let rejection = row.refused(&refusal);
        self.poisoned.push(PoisonedRow { seq: row.seq, element: row.element, detail: refusal });
        self.rejected += 1;
        rejection
    }

    /// Records rows beside the readings that the database refused.
    pub(super) fn refuse(&mut self, rows: impl IntoIterator<Item = RefusedRow>) {
        self.refused.extend(rows.into_iter().map(|mut row| {
            shorten(&mut row.detail);
            row
        }));
    }
}

fn shorten(refusal: &mut String) {
    let cut = (0..=REFUSAL_BYTES_MAX.min(refusal.len())).rev().find(|&at| refusal.is_char_boundary(at));
    refusal.truncate(cut.unwrap_or(0));
}

/// Cuts `rows` into runs of at most `rows_max` rows and about `bytes_max` bytes. A larger row is a run by
/// itself.
pub(super) fn runs<T>(
    rows: &[T],
    rows_max: usize,
    bytes_max: usize,
    size: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut end = 0;
        while end < rest.len() && end < rows_max {
            bytes += size(&rest[end]);
            if bytes > bytes_max && end > 0 {
                break;
            }
            end += 1;
        }
        let (run, after) = rest.split_at(end);
        rest = after;
        (!run.is_empty()).then_some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_keep_every_row_in_order_within_both_bounds() {
        let rows = [3, 3, 3, 50, 1, 1, 1, 1, 1];
        let cut: Vec<&[usize]> = runs(&rows, 4, 7, |&size| size).collect();
        assert_eq!(cut, [&[3, 3][..], &[3], &[50], &[1, 1, 1, 1], &[1]]);
        assert_eq!(runs(&[] as &[usize], 4, 7, |&size| size).count(), 0);
    }
}
